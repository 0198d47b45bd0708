//! SCRAM (RFC 5802, with SHA-256 of RFC 7677 and SHA-512 likewise), the server's side, without channel binding.
//!
//! Bytes in, bytes out: the credential and the nonce are arguments. What is kept of a password proves that somebody
//! knows it and cannot be used to log in.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Fewest iterations, as in Kafka.
pub const MIN_ITERATIONS: u32 = 4096;
/// Most iterations, as in Kafka: each login with PLAIN costs so many.
pub const MAX_ITERATIONS: u32 = 16_384;

/// The hash a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hash {
    /// SCRAM-SHA-256, 1 in Kafka's requests.
    #[serde(rename = "SCRAM-SHA-256")]
    Sha256,
    /// SCRAM-SHA-512, 2 in Kafka's requests.
    #[serde(rename = "SCRAM-SHA-512")]
    Sha512,
}

impl Hash {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its number in Kafka's requests.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The hash with this number.
    #[must_use]
    pub fn from_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.number() == number)
    }

    fn digest(self, bytes: &[u8]) -> digest::Digest {
        match self {
            Self::Sha256 => digest::digest(&digest::SHA256, bytes),
            Self::Sha512 => digest::digest(&digest::SHA512, bytes),
        }
    }

    fn sign(self, key: &[u8], bytes: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), bytes)
    }

    /// `Hi` of RFC 5802: what is left of a password before keys are made of it.
    fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let (algorithm, length) = match self {
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, digest::SHA256_OUTPUT_LEN),
            Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, digest::SHA512_OUTPUT_LEN),
        };
        let mut salted = vec![0; length];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    #[serde(with = "text")]
    salt: Vec<u8>,
    #[serde(with = "text")]
    stored_key: Vec<u8>,
    #[serde(with = "text")]
    server_key: Vec<u8>,
    iterations: NonZeroU32,
}

impl fmt::Debug for Credential {
    /// Without the keys: who has them can try passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} iterations)", self.iterations)
    }
}

impl Credential {
    /// Of a password. Passwords are bytes of UTF-8 as they are, as in Kafka; SASLprep is left to the client.
    #[must_use]
    pub fn of_password(hash: Hash, password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        Self::of_salted(hash, &hash.salted(password.as_bytes(), salt, iterations), salt, iterations)
    }

    /// Of a password that was salted elsewhere, as in Kafka's `AlterUserScramCredentials`.
    #[must_use]
    pub fn of_salted(hash: Hash, salted: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let client_key = hash.sign(salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            stored_key: hash.digest(client_key.as_ref()).as_ref().to_vec(),
            server_key: hash.sign(salted, b"Server Key").as_ref().to_vec(),
            iterations,
        }
    }

    /// Of a user that does not exist: always the same one for a name, and no password fits. With it a stranger cannot
    /// learn who exists.
    #[must_use]
    pub fn decoy(hash: Hash, secret: &[u8], user: &str) -> Self {
        let part = |name: &str| hash.sign(secret, format!("{name} {user}").as_bytes()).as_ref().to_vec();
        let mut salt = part("salt");
        salt.truncate(16);
        let (stored_key, server_key) = (part("stored"), part("server"));
        Self {
            salt,
            stored_key,
            server_key,
            iterations: NonZeroU32::new(MIN_ITERATIONS).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// Rounds of hashing.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// Whether this is the password. Takes as long for a wrong one.
    #[must_use]
    pub fn fits(&self, hash: Hash, password: &str) -> bool {
        let given = Self::of_password(hash, password, &self.salt, self.iterations);
        given.stored_key.ct_eq(&self.stored_key).into()
    }
}

/// Bytes as base64 in the journal.
mod text {
    use base64::Engine as _;

    use super::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Why an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not the message that belongs here.
    #[error("not a message of SCRAM: {0}")]
    Malformed(&'static str),
    /// The client does not know the password.
    #[error("wrong user or password")]
    Proof,
}

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// Up to and with the second comma.
    gs2_header: String,
    bare: String,
    nonce: String,
    /// Who wants in.
    pub user: String,
}

impl ClientFirst {
    /// Reads it. A client that wants channel binding, or to act as somebody else, is refused.
    ///
    /// # Errors
    /// [`Refused::Malformed`].
    pub fn parse(message: &[u8]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed("no UTF-8"))?;
        let mut parts = text.splitn(3, ',');
        let (binding, authzid) = (parts.next(), parts.next());
        let bare = parts.next().ok_or(Refused::Malformed("three parts by commas are missing"))?;
        if !matches!(binding, Some("n" | "y")) {
            return Err(Refused::Malformed("channel binding is not supported"));
        }
        let mut attributes = bare.split(',');
        let attribute =
            |part: Option<&str>, name| part.and_then(|part| part.strip_prefix(name)).map(str::to_owned);
        let user = attribute(attributes.next(), "n=").and_then(|name| unescape(&name));
        let user = user.filter(|user| !user.is_empty()).ok_or(Refused::Malformed("no user name"))?;
        let nonce = attribute(attributes.next(), "r=").filter(|nonce| is_nonce(nonce));
        let nonce = nonce.ok_or(Refused::Malformed("no nonce"))?;
        match authzid.filter(|authzid| !authzid.is_empty()) {
            Some(authzid)
                if attribute(Some(authzid), "a=").and_then(|name| unescape(&name)) != Some(user.clone()) =>
            {
                return Err(Refused::Malformed("an authorization id that is not the user"));
            }
            _ => {}
        }
        let gs2_header = text[..text.len() - bare.len()].to_owned();
        Ok(Self { gs2_header, bare: bare.to_owned(), nonce, user })
    }
}

/// A name without `=2C` and `=3D`, which stand for a comma and an equals sign.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = part.split_at_checked(2)?;
        plain.push(match sign {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain)
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub struct Exchange {
    hash: Hash,
    credential: Credential,
    gs2_header: String,
    /// The client's and the server's.
    nonce: String,
    /// The beginning of what both sides sign.
    signed: String,
}

impl Exchange {
    /// Begins one; the second value is what the client gets. `nonce` must never come twice, printable and without
    /// commas.
    #[must_use]
    pub fn begin(hash: Hash, first: &ClientFirst, credential: Credential, nonce: &str) -> (Self, String) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = BASE64.encode(&credential.salt);
        let challenge = format!("r={nonce},s={salt},i={}", credential.iterations);
        let signed = format!("{},{challenge}", first.bare);
        let gs2_header = first.gs2_header.clone();
        (Self { hash, credential, gs2_header, nonce, signed }, challenge)
    }

    /// Checks the client's proof; gives what proves to the client that the server knows the credential.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn finish(self, message: &[u8]) -> Result<String, Refused> {
        let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed("no UTF-8"))?;
        let (unproven, proof) = text.rsplit_once(",p=").ok_or(Refused::Malformed("no proof"))?;
        let proof = BASE64.decode(proof).map_err(|_| Refused::Malformed("a proof that is no base64"))?;
        let mut attributes = unproven.split(',');
        let binding = format!("c={}", BASE64.encode(&self.gs2_header));
        if attributes.next() != Some(&binding) {
            return Err(Refused::Malformed("another header than at first"));
        }
        if attributes.next().and_then(|part| part.strip_prefix("r=")) != Some(&self.nonce) {
            return Err(Refused::Malformed("another nonce than at first"));
        }
        let signed = format!("{},{unproven}", self.signed);
        let signature = self.hash.sign(&self.credential.stored_key, signed.as_bytes());
        if proof.len() != signature.as_ref().len() {
            return Err(Refused::Proof);
        }
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let is_right = self.hash.digest(&client_key).as_ref().ct_eq(&self.credential.stored_key);
        if !bool::from(is_right) {
            return Err(Refused::Proof);
        }
        let answer = self.hash.sign(&self.credential.server_key, signed.as_bytes());
        Ok(format!("v={}", BASE64.encode(answer.as_ref())))
    }
}

#[cfg(test)]
mod tests;
