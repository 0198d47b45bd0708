//! Logins of private registries, from the file that `docker login` writes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::fmt;

/// Where images without a registry in their name come from, as that file calls it.
const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// A login.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The registry as the file calls it.
    pub registry: String,
    /// Who.
    pub user: String,
    /// Their password or token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} at {})", self.user, self.registry)
    }
}

/// The registry that an image's name begins with, by the rule of Docker's references: the part before the first `/`
/// if it has a dot or a port, or is `localhost`.
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DEFAULT_REGISTRY,
    }
}

/// The login for an image out of the text of a `config.json`; none where the file has none for its registry.
///
/// # Errors
/// A text that is no such file, or one that leaves the login to a helper program, which an image without a shell does
/// not have: with what to do.
pub fn credentials_for(image: &str, config: &str) -> Result<Option<Credentials>, String> {
    let config: Value = serde_json::from_str(config).map_err(|e| format!("it is no JSON: {e}"))?;
    let registry = registry_of(image);
    let entry = config["auths"].as_object().and_then(|auths| {
        let plain = |name: &str| name.trim_start_matches("https://").trim_end_matches('/').to_owned();
        auths.iter().find(|(name, _)| *name == registry || plain(name) == plain(registry))
    });
    let Some((name, entry)) = entry else { return Ok(None) };
    let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) else {
        return Err(format!(
            "it leaves the login for {name} to a helper program; write `auth`, the base64 of USER:PASSWORD, for it"
        ));
    };
    let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let both = decoded.as_deref().and_then(|text| text.split_once(':'));
    let Some((user, password)) = both else {
        return Err(format!("`auth` of {name} is not the base64 of USER:PASSWORD"));
    };
    Ok(Some(Credentials { registry: name.clone(), user: user.into(), password: password.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_read_from_the_image_as_docker_does() {
        assert_eq!(registry_of("pelton:1"), DEFAULT_REGISTRY);
        assert_eq!(registry_of("acme/pelton:1"), DEFAULT_REGISTRY);
        assert_eq!(registry_of("registry.acme.example/x/pelton@sha256:00"), "registry.acme.example");
        assert_eq!(registry_of("127.0.0.1:5000/pelton"), "127.0.0.1:5000");
        assert_eq!(registry_of("localhost/pelton:dev"), "localhost");
    }

    #[test]
    fn a_login_is_found_for_its_registry_alone_and_never_shown() {
        let file = r#"{"auths": {"https://r.example/": {"auth": "bWU6czNjcmV0OjE="}, "other.example": {}}}"#;
        let found = credentials_for("r.example/pelton:1", file).unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("me", "s3cret:1"));
        assert!(!format!("{found:?}").contains("s3cret"));
        assert_eq!(credentials_for("elsewhere.example/pelton:1", file).unwrap(), None);
        assert_eq!(credentials_for("pelton:1", "{}").unwrap(), None);
    }

    #[test]
    fn a_file_that_does_not_help_says_why() {
        let helper =
            credentials_for("r.example/p", r#"{"auths": {"r.example": {}}, "credsStore": "desktop"}"#);
        assert!(helper.unwrap_err().contains("helper program"));
        let broken = credentials_for("r.example/p", r#"{"auths": {"r.example": {"auth": "%%"}}}"#);
        assert!(broken.unwrap_err().contains("base64 of USER:PASSWORD"));
        assert!(credentials_for("p", "auths:").unwrap_err().contains("no JSON"));
    }
}
