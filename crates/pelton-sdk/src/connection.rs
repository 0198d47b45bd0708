//! How to reach a queue, as the settings of a node say it. Secrets are references: where they are, never what they are.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Name of the connection of ends that name none.
pub const DEFAULT_CONNECTION: &str = "default";

/// One entry of `connections:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `host:port` by commas.
    pub brokers: String,
    /// Encryption; `None`: plain text.
    pub tls: Option<Tls>,
    /// Login; `None`: nobody asks who we are, or the client certificate says it.
    pub sasl: Option<Sasl>,
    /// Further properties of the client library; the connector says which.
    pub properties: BTreeMap<String, String>,
}

/// Encryption, and who is on the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust, PEM; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate with its chain, PEM, for a broker that asks for one.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// What the key is encrypted with.
    pub key_password: Option<Secret>,
    /// Believe whoever answers: encrypted, but open to anybody on the way.
    pub insecure_skip_verify: bool,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// A user with a password.
    Password {
        /// How the password travels.
        mechanism: Mechanism,
        /// The user.
        username: Given,
        /// The password.
        password: Secret,
    },
    /// OAUTHBEARER with a token that somebody else keeps fresh.
    Token(Secret),
    /// OAUTHBEARER with tokens fetched from an authorization server.
    TokenEndpoint(TokenEndpoint),
}

/// How a password travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is: only over TLS.
    Plain,
    /// As the proof that one knows it, by SHA-256.
    ScramSha256,
    /// The same by SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// Its name in SASL.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Client credentials at an authorization server (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// `https://...`.
    pub url: String,
    /// The client.
    pub client_id: Given,
    /// Its secret.
    pub client_secret: Secret,
    /// Scope to ask for.
    pub scope: Option<String>,
    /// Authorities to trust at this endpoint, PEM; `None`: those of the system.
    pub ca: Option<PathBuf>,
}

/// A text that is no secret, written out or by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// As written.
    Text(String),
    /// Elsewhere.
    From(Secret),
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In this environment variable.
    Env(String),
    /// In this file; a newline at its end is not part of it.
    File(PathBuf),
}

/// What a [`Secret`] held when it was read. Shown as `<redacted>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

/// Most that a file with a secret may hold, bytes: tokens have a few thousand.
const MOST_BYTES: u64 = 64 << 10;

impl Secret {
    /// Read it now.
    ///
    /// # Errors
    /// Where it should be and is not, and what to do.
    pub fn read(&self) -> Result<Revealed, String> {
        let text = match self {
            Secret::Env(name) => std::env::var(name).map_err(|_| {
                format!(
                    "the environment variable {name} is not set; set it, or name a file: {{ file: PATH }}"
                )
            })?,
            Secret::File(path) => {
                let failed = |why: String| format!("the secret in {} cannot be read: {why}", path.display());
                let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
                if size > MOST_BYTES {
                    return Err(failed(format!("it has {size} bytes, a secret has at most {MOST_BYTES}")));
                }
                let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
        };
        if text.is_empty() {
            return Err(format!("the secret in {self} is empty"));
        }
        Ok(Revealed(text))
    }

    /// Whether it may change while a process runs.
    pub fn may_change(&self) -> bool {
        matches!(self, Secret::File(_))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Env(name) => write!(f, "the environment variable {name}"),
            Secret::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

impl Given {
    /// Read it now.
    ///
    /// # Errors
    /// As [`Secret::read`].
    pub fn read(&self) -> Result<String, String> {
        match self {
            Given::Text(text) => Ok(text.clone()),
            Given::From(secret) => secret.read().map(|revealed| revealed.0),
        }
    }

    /// Whether it may change while a process runs.
    pub fn may_change(&self) -> bool {
        matches!(self, Given::From(secret) if secret.may_change())
    }
}

impl Revealed {
    /// A secret that was made here, such as a token that was fetched.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for whoever it is meant for, and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl fmt::Display for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_where_it_is_and_shown_nowhere() {
        let file = std::env::temp_dir().join(format!("pelton-secret-{}", std::process::id()));
        std::fs::write(&file, "hunter2\n").unwrap();
        let secret = Secret::File(file.clone());
        let revealed = secret.read().unwrap();
        assert_eq!(revealed.expose(), "hunter2");
        assert_eq!(format!("{revealed} {revealed:?}"), "<redacted> <redacted>");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(secret.read().unwrap_err(), format!("the secret in the file {} is empty", file.display()));
        std::fs::remove_file(&file).unwrap();
        let why = secret.read().unwrap_err();
        assert!(why.starts_with(&format!("the secret in {} cannot be read", file.display())), "{why}");
        let why = Secret::Env("PELTON_NOT_SET_ANYWHERE".into()).read().unwrap_err();
        assert!(
            why.starts_with("the environment variable PELTON_NOT_SET_ANYWHERE is not set; set it"),
            "{why}"
        );
    }
}
