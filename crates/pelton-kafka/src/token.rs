//! Tokens of OAUTHBEARER: read where somebody keeps them, or fetched with client credentials (RFC 6749, section 4.4).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pelton_sdk::{Revealed, Secret, connection::TokenEndpoint};
use pelton_types::causes;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long the authorization server may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Life of a token that does not say how long it lives.
const LIFE: Duration = Duration::from_secs(300);
/// Most of an answer that is read, bytes.
const MOST_BYTES: usize = 256 << 10;
/// Most of a complaint that is quoted, characters.
const QUOTED: usize = 200;

/// A token and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub value: Revealed,
    /// Who it is for; only logs of the client show it.
    pub principal: String,
    pub expires: SystemTime,
}

/// What Pelton reads of a token; all else is the broker's business.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<f64>,
}

/// Errors as RFC 6749, section 5.2, has them.
#[derive(Deserialize)]
struct Complaint {
    error: String,
    error_description: Option<String>,
}

/// The token that somebody else keeps fresh.
pub(crate) fn held(secret: &Secret, now: SystemTime) -> Result<Token, String> {
    let token = token(secret.read()?, None, now).map_err(|why| format!("{secret}: {why}"))?;
    if token.expires <= now {
        let since = now.duration_since(token.expires).unwrap_or_default().as_secs();
        return Err(format!("the token in {secret} expired {since} s ago; put a new one there"));
    }
    Ok(token)
}

/// A new token from the authorization server. Waits for it.
pub(crate) fn fetch(endpoint: &TokenEndpoint, now: SystemTime) -> Result<Token, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime to fetch a token with: {e}"))?;
    let failed = |why: String| format!("token endpoint {}: {why}", endpoint.url);
    let (status, body) = runtime.block_on(ask(endpoint)).map_err(failed)?;
    answer(status, &body, now).map_err(failed)
}

async fn ask(endpoint: &TokenEndpoint) -> Result<(u16, Vec<u8>), String> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(trust(endpoint)?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(WITHIN)
        .build()
        .map_err(|e| causes::all(&e))?;
    let (id, secret) = (endpoint.client_id.read()?, endpoint.client_secret.read()?);
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(endpoint.scope.as_deref().map(|scope| ("scope", scope)));
    let request = client.post(&endpoint.url).basic_auth(id, Some(secret.expose()));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(encode(&form));
    let mut response = request.send().await.map_err(|e| causes::all(&e.without_url()))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| causes::all(&e.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(format!("the answer has more than {MOST_BYTES} bytes"));
        }
    }
    Ok((status, body))
}

/// `application/x-www-form-urlencoded`.
fn encode(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    char::from(b).to_string()
                }
                b' ' => "+".to_owned(),
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    pairs.join("&")
}

/// Authorities of the endpoint, with the process's one kind of cryptography.
fn trust(endpoint: &TokenEndpoint) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    match &endpoint.ca {
        Some(path) => {
            let failed = |why: String| format!("authorities in {}: {why}", path.display());
            let all = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
            for one in all {
                let one = one.map_err(|e| failed(e.to_string()))?;
                roots.add(one).map_err(|e| failed(e.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What the server's answer holds. Pure.
fn answer(status: u16, body: &[u8], now: SystemTime) -> Result<Token, String> {
    if status != 200 {
        let said = match serde_json::from_slice::<Complaint>(body) {
            Ok(complaint) => {
                let more = complaint.error_description.map(|more| format!(": {more}")).unwrap_or_default();
                format!("{}{more}", complaint.error)
            }
            Err(_) => "no reason that can be read".to_owned(),
        };
        let said: String = said.chars().filter(|c| !c.is_control()).take(QUOTED).collect();
        return Err(format!("it answers {status}: {said}; see to client id, secret and scope"));
    }
    // The cause is left out: it could quote the token.
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        "its answer is no JSON object with a text `access_token`; is it an OAuth 2 token endpoint?".to_owned()
    })?;
    let life =
        answer.expires_in.filter(|s| s.is_finite() && *s > 0.0).map(|s| Duration::from_secs_f64(s.min(1e9)));
    token(Revealed::new(answer.access_token), life, now)
}

/// A token by what it, or whoever gave it, says. Pure.
fn token(value: Revealed, life: Option<Duration>, now: SystemTime) -> Result<Token, String> {
    if !value.expose().bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Err(
            "the token has characters that no token may have; is there more in it than one line?".into()
        );
    }
    let claims = claims(value.expose());
    let exp = claims.exp.filter(|s| s.is_finite() && (0.0..1e12).contains(s)).map(Duration::from_secs_f64);
    let expires = match (exp, life) {
        (Some(exp), Some(life)) => (UNIX_EPOCH + exp).min(now + life),
        (Some(exp), None) => UNIX_EPOCH + exp,
        (None, life) => now + life.unwrap_or(LIFE),
    };
    Ok(Token { value, principal: claims.sub.unwrap_or_else(|| "unknown".into()), expires })
}

/// The claims of a JSON web token (RFC 7519); none of a token that is no such thing.
fn claims(token: &str) -> Claims {
    let payload = token.split('.').nth(1).unwrap_or_default().trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_900_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn jwt(claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_lives_as_long_as_the_shorter_of_what_it_and_its_giver_say() {
        let value = jwt(&format!(r#"{{"sub":"orders","exp":{}}}"#, NOW + 60));
        let read = token(Revealed::new(value.clone()), None, now()).unwrap();
        assert_eq!((read.principal.as_str(), read.expires), ("orders", now() + Duration::from_secs(60)));
        let body = format!(r#"{{"access_token":"{value}","token_type":"Bearer","expires_in":30}}"#);
        assert_eq!(answer(200, body.as_bytes(), now()).unwrap().expires, now() + Duration::from_secs(30));
        let opaque = token(Revealed::new("opaque"), None, now()).unwrap();
        assert_eq!((opaque.principal.as_str(), opaque.expires), ("unknown", now() + LIFE));
    }

    #[test]
    fn a_refusal_of_the_server_is_quoted_and_a_token_never() {
        let body = br#"{"error":"invalid_client","error_description":"wrong secret"}"#;
        assert_eq!(
            answer(401, body, now()).unwrap_err(),
            "it answers 401: invalid_client: wrong secret; see to client id, secret and scope"
        );
        assert!(answer(500, b"<html>", now()).unwrap_err().contains("it answers 500: no reason"));
        let why = answer(200, br#"{"access_token": ["sesame"]}"#, now()).unwrap_err();
        assert!(why.contains("access_token") && !why.contains("sesame"), "{why}");
        let why = token(Revealed::new("sesame\nopen"), None, now()).unwrap_err();
        assert!(!why.contains("sesame"), "{why}");
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(encode(&[("a", "x y&z"), ("b", "é*")]), "a=x+y%26z&b=%C3%A9*");
    }
}
