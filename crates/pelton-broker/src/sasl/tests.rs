//! Every way through a login, and none past it.

use std::num::NonZeroU32;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use proptest::prelude::*;

use super::*;
use crate::api::Client;

fn request(kind: RequestKind, version: i16) -> Request {
    Request::Other { correlation_id: 1, version, kind: Box::new(kind), client: Client::default() }
}

fn versions() -> Request {
    request(RequestKind::ApiVersions(ApiVersionsRequest::default()), 0)
}

fn handshake(mechanism: &'static str, version: i16) -> Request {
    let asked = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    request(RequestKind::SaslHandshake(asked), version)
}

fn token(bytes: &[u8]) -> Request {
    let asked = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(bytes));
    request(RequestKind::SaslAuthenticate(asked), 2)
}

/// The one user is `u` with the password `p`.
fn credential(user: &str, hash: Hash) -> Option<Credential> {
    (user == "u").then(|| Credential::of_password(hash, "p", b"salt", NonZeroU32::MIN))
}

const FACTS: Facts<'_> =
    Facts { credential: &credential, secret: b"secret", nonce: "nonce", lifetime_ms: 5000 };

fn login() -> Login<'static> {
    Login::new(&Mechanism::ALL, None)
}

/// Code, message and lifetime of the answer.
fn authenticated(step: &Step) -> (i16, String, i64) {
    match &step.answer {
        Some(Answer::Response(kind)) => match &**kind {
            ResponseKind::SaslAuthenticate(r) => {
                let text = r.error_message.as_ref().map(ToString::to_string).unwrap_or_default();
                (r.error_code, text, r.session_lifetime_ms)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn plain_login(mut login: Login<'_>, bytes: &[u8]) -> Step {
    assert_eq!(login.request(versions(), &FACTS).next, Next::GoOn);
    assert_eq!(login.request(handshake("PLAIN", 1), &FACTS).next, Next::GoOn);
    login.request(token(bytes), &FACTS)
}

#[test]
fn a_user_with_the_right_password_is_in_and_told_for_how_long() {
    let step = plain_login(login(), b"\0u\0p");
    assert_eq!(authenticated(&step), (0, String::new(), 5000));
    assert_eq!(step.next, Next::LoggedIn(Session { user: "u".into(), mechanism: Mechanism::Plain }));
    assert!(matches!(plain_login(login(), b"u\0u\0p").next, Next::LoggedIn(_)));
}

#[test]
fn whoever_does_not_know_the_password_is_told_no_more_than_that() {
    let wrong = [&b"\0u\0q"[..], b"\0v\0p", b"\0\0p", b"\0u\0", b"\0v\0"];
    for bytes in wrong {
        let step = plain_login(login(), bytes);
        let text = "Authentication failed: Invalid username or password".to_owned();
        assert_eq!(authenticated(&step), (58, text.clone(), 0), "{bytes:?}");
        assert_eq!(step.next, Next::Refused(text));
    }
    for bytes in [&b""[..], b"u\0p", b"\0u\0p\0", b"v\0u\0p", &[0xff, 0, b'u', 0, b'p']] {
        assert!(matches!(plain_login(login(), bytes).next, Next::Refused(_)), "{bytes:?}");
    }
}

#[test]
fn an_unknown_mechanism_is_answered_with_those_there_are() {
    let step = login().request(handshake("GSSAPI", 1), &FACTS);
    let Some(Answer::Response(kind)) = step.answer else { panic!("no answer") };
    let ResponseKind::SaslHandshake(response) = *kind else { panic!("{kind:?}") };
    assert_eq!((response.error_code, response.mechanisms.len()), (33, 3));
    assert!(matches!(step.next, Next::Refused(_)));
    let only: Vec<Mechanism> = vec!["SCRAM-SHA-512".parse().unwrap()];
    assert!(matches!(Login::new(&only, None).request(handshake("PLAIN", 1), &FACTS).next, Next::Refused(_)));
}

#[test]
fn requests_out_of_turn_end_it() {
    let metadata = || request(RequestKind::Metadata(MetadataRequest::default()), 1);
    assert!(matches!(login().request(metadata(), &FACTS).next, Next::Refused(_)));
    assert!(matches!(login().request(token(b"\0u\0p"), &FACTS).next, Next::Refused(_)));
    let mut twice = login();
    twice.request(versions(), &FACTS);
    assert!(matches!(twice.request(versions(), &FACTS).next, Next::Refused(_)));
    let mut again = login();
    again.request(handshake("PLAIN", 1), &FACTS);
    let step = again.request(handshake("PLAIN", 1), &FACTS);
    assert!(matches!(step.next, Next::Refused(_)) && step.answer.is_some());
    let mut late = login();
    late.request(handshake("SCRAM-SHA-256", 1), &FACTS);
    late.request(token(b"n,,n=u,r=x"), &FACTS);
    assert!(matches!(late.request(metadata(), &FACTS).next, Next::Refused(_)));
    assert!(matches!(late.request(token(b"\0u\0p"), &FACTS).next, Next::Refused(_)), "it is over");
}

#[test]
fn a_version_of_the_future_may_be_asked_again() {
    let mut login = login();
    let future = Request::UnsupportedApiVersions { correlation_id: 1 };
    assert_eq!(login.request(future, &FACTS).next, Next::GoOn);
    assert!(matches!(plain_login(login, b"\0u\0p").next, Next::LoggedIn(_)));
}

#[test]
fn after_a_handshake_in_version_0_tokens_come_bare() {
    let mut login = login();
    login.request(handshake("PLAIN", 0), &FACTS);
    assert!(login.wants_token());
    let step = login.bare_token(b"\0u\0p", &FACTS);
    assert!(matches!((step.answer, step.next), (Some(Answer::Token(_)), Next::LoggedIn(_))));
}

#[test]
fn a_session_is_renewed_by_the_same_user_with_the_same_mechanism_only() {
    let session = |user: &str, mechanism| Session { user: user.into(), mechanism };
    let same = session("u", Mechanism::Plain);
    let renewed = plain_login(Login::new(&Mechanism::ALL, Some(&same)), b"\0u\0p");
    assert!(matches!(renewed.next, Next::LoggedIn(_)));
    for before in [session("v", Mechanism::Plain), session("u", Mechanism::Scram(Hash::Sha256))] {
        let step = plain_login(Login::new(&Mechanism::ALL, Some(&before)), b"\0u\0p");
        assert_eq!(authenticated(&step).0, 58, "{before:?}");
    }
}

proptest! {
    #[test]
    fn no_order_of_requests_and_no_bytes_let_anybody_in(
        steps in prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let mut login = login();
        for (what, bytes) in steps {
            let step = match what {
                _ if login.wants_token() => login.bare_token(&bytes, &FACTS),
                0 => login.request(versions(), &FACTS),
                1 => login.request(handshake("PLAIN", 1), &FACTS),
                2 => login.request(handshake("SCRAM-SHA-512", 0), &FACTS),
                3 => login.request(handshake("SCRAM-SHA-256", 1), &FACTS),
                4 => login.request(token(b"n,,n=u,r=x"), &FACTS),
                _ => login.request(token(&bytes), &FACTS),
            };
            prop_assert!(!matches!(step.next, Next::LoggedIn(_)));
        }
    }
}
