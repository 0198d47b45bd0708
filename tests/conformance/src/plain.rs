//! SASL by single requests, with PLAIN, and the salted passwords of SCRAM.

use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use crate::wire::{Wire, text};

/// SCRAM-SHA-256 in requests.
pub const SHA_256: i8 = 1;
/// SCRAM-SHA-512 in requests.
pub const SHA_512: i8 = 2;

impl Wire {
    /// Says how to log in.
    pub fn handshake(&mut self, version: i16, mechanism: &str) -> SaslHandshakeResponse {
        self.call(version, &SaslHandshakeRequest::default().with_mechanism(text(mechanism)))
    }

    /// Sends a token.
    pub fn authenticate(&mut self, token: &[u8]) -> SaslAuthenticateResponse {
        self.call(2, &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(token)))
    }

    /// Logs in with PLAIN.
    pub fn login(&mut self, user: &str, password: &str) -> SaslAuthenticateResponse {
        assert_eq!(self.handshake(1, "PLAIN").error_code, 0);
        self.authenticate(format!("\0{user}\0{password}").as_bytes())
    }
}

/// A new password as an administrator's client sends it.
pub fn upsertion(user: &str, mechanism: i8, password: &str, iterations: i32) -> ScramCredentialUpsertion {
    let (algorithm, length) = if mechanism == SHA_512 {
        (ring::pbkdf2::PBKDF2_HMAC_SHA512, 64)
    } else {
        (ring::pbkdf2::PBKDF2_HMAC_SHA256, 32)
    };
    let rounds = u32::try_from(iterations.max(1)).unwrap().try_into().unwrap();
    let mut salted = vec![0; length];
    ring::pbkdf2::derive(algorithm, rounds, b"some salt", password.as_bytes(), &mut salted);
    ScramCredentialUpsertion::default()
        .with_name(text(user))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(Bytes::from_static(b"some salt"))
        .with_salted_password(salted.into())
}

/// The end of a credential.
pub fn deletion(user: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(mechanism)
}
