//! Logins: whatever a stranger sends, nobody is in who does not know the password.

use std::num::NonZeroU32;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestKind, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::StrBytes;
use pelton_broker::api::{Request, encode_response};
use pelton_broker::sasl::{Answer, Facts, Login, Mechanism, Next, Session};
use pelton_broker::scram::{Credential, Hash};
use ring::{digest, hmac, pbkdf2};

use super::{alloc, seeds};

/// What a login may hold beside a small multiple of its input.
const FIXED: usize = 64 * 1024;
const FACTOR: usize = 64;
/// The names of [`Mechanism::ALL`].
pub const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
/// The user and the password, as PLAIN sends them.
pub const PLAIN: &[u8] = b"\0u\0p";
const SALT: &[u8] = b"salt";
const NONCE: &str = "of-the-server";
/// What the client says first, behind the header `n,,`.
const FIRST: &str = "n=u,r=of-the-client";

/// The first byte says what is enabled and whose session is renewed, the rest is frames as a client sends them. The same
/// frames go to a broker where `u` has the password `p`, and to one where it has another.
///
/// # Panics
/// The login did, or somebody got in at both, or got in as somebody else.
pub fn run(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let enabled: Vec<Mechanism> =
        (0..).zip(Mechanism::ALL).filter(|(bit, _)| first >> bit & 1 == 0).map(|(_, m)| m).collect();
    let renewed = (first >> 3 & 1 == 1).then(|| Session {
        user: if first >> 4 & 1 == 1 { "v" } else { "u" }.to_owned(),
        mechanism: Mechanism::ALL[usize::from(first >> 5) % 3],
    });
    let limit = FIXED + FACTOR * rest.len();
    let [right, wrong] = [&*RIGHT, &*WRONG]
        .map(|known| alloc::within(limit, "a login", || exchange(rest, &enabled, renewed.as_ref(), known)));
    assert_eq!(wrong, None, "somebody is in with a password that is none");
    if let Some(session) = right {
        assert_eq!(session.user, "u", "there is one user");
        assert!(enabled.contains(&session.mechanism), "{} is not enabled", session.mechanism);
        assert!(renewed.is_none_or(|renewed| renewed == session), "a session changed hands: {session:?}");
    }
}

type Credentials = [(Hash, Credential); 2];

static RIGHT: LazyLock<Credentials> = LazyLock::new(|| credentials("p"));
/// Of no password: no client of the seeds knows it.
static WRONG: LazyLock<Credentials> = LazyLock::new(|| credentials("\u{1}another\u{2}"));

fn credentials(password: &str) -> Credentials {
    Hash::ALL.map(|hash| (hash, Credential::of_password(hash, password, SALT, NonZeroU32::MIN)))
}

/// Who is in at the end.
fn exchange(
    input: &[u8],
    enabled: &[Mechanism],
    renewed: Option<&Session>,
    known: &Credentials,
) -> Option<Session> {
    let credential = |user: &str, asked: Hash| {
        let found = known.iter().find(|(hash, _)| user == "u" && *hash == asked);
        found.map(|(_, credential)| credential.clone())
    };
    let facts = Facts { credential: &credential, secret: b"secret", nonce: NONCE, lifetime_ms: 5_000 };
    let mut login = Login::new(enabled, renewed);
    for frame in seeds::frames(input) {
        let (step, id, version) = if login.wants_token() {
            (login.bare_token(frame, &facts), 0, 0)
        } else {
            let Ok(request) = Request::decode(Bytes::copy_from_slice(frame)) else { return None };
            let (id, version) = (request.correlation_id(), request.version());
            (login.request(request, &facts), id, version)
        };
        if let Some(Answer::Response(response)) = step.answer {
            encode_response(&response, id, version).expect("an answer that can be encoded");
        }
        match step.next {
            Next::GoOn => {}
            Next::LoggedIn(session) => return Some(session),
            Next::Refused(_) => return None,
        }
    }
    None
}

/// The choice of a mechanism.
pub fn handshake(mechanism: StrBytes) -> RequestKind {
    RequestKind::SaslHandshake(SaslHandshakeRequest::default().with_mechanism(mechanism))
}

/// A token in its request.
pub fn authenticate(token: Vec<u8>) -> RequestKind {
    RequestKind::SaslAuthenticate(SaslAuthenticateRequest::default().with_auth_bytes(token.into()))
}

/// What a client that knows the password says in SCRAM.
pub fn tokens(hash: Hash) -> [Vec<u8>; 2] {
    let (algorithm, key_of, digest) = match hash {
        Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        Hash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
    };
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(key_of, key), text);
    let mut salted = vec![0; digest.output_len()];
    pbkdf2::derive(algorithm, NonZeroU32::MIN, SALT, b"p", &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(digest, client_key.as_ref());
    let nonce = format!("of-the-client{NONCE}");
    let unproven = format!("c=biws,r={nonce}");
    let signed = format!("{FIRST},r={nonce},s={},i=1,{unproven}", BASE64.encode(SALT));
    let signature = sign(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let last = format!("{unproven},p={}", BASE64.encode(proof));
    [format!("n,,{FIRST}").into_bytes(), last.into_bytes()]
}

fn request(kind: &RequestKind, key: ApiKey, version: i16) -> Vec<u8> {
    let mut body = BytesMut::new();
    kind.encode(&mut body, version).expect("a valid request");
    seeds::framed(&seeds::frame(key, version, &body))
}

/// Whole logins with every mechanism, with bare tokens and without, new and renewed.
///
/// # Panics
/// One of them does not get in.
pub fn seeds() -> Vec<Vec<u8>> {
    let versions = request(&RequestKind::ApiVersions(ApiVersionsRequest::default()), ApiKey::ApiVersions, 0);
    let mut all = Vec::new();
    for (number, name) in (0..).zip(MECHANISMS) {
        let tokens = match number {
            0 => vec![PLAIN.to_vec()],
            _ => tokens(Hash::ALL[number - 1]).to_vec(),
        };
        for version in 0..=1 {
            let mut login =
                request(&handshake(StrBytes::from_static_str(name)), ApiKey::SaslHandshake, version);
            for token in &tokens {
                login.extend(match version {
                    0 => seeds::framed(token),
                    _ => request(&authenticate(token.clone()), ApiKey::SaslAuthenticate, 2),
                });
            }
            let session =
                exchange(&login, &Mechanism::ALL, None, &RIGHT).expect("a login with the right password");
            assert_eq!(session.mechanism, Mechanism::ALL[number]);
            let renewal = 0x08 | (number as u8) << 5;
            all.push([&[0][..], &login].concat());
            all.push([&[0][..], &versions, &login].concat());
            all.push([&[renewal][..], &login].concat());
        }
    }
    all
}
