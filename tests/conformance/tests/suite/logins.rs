//! SASL: logins, sessions, and the users there are.

use std::io::{Read, Write};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, DescribeUserScramCredentialsRequest,
    MetadataRequest,
};
use pelton_conformance::client::COMMITTED;
use pelton_conformance::plain::{SHA_256, SHA_512, deletion, upsertion};
use pelton_conformance::refusals::refusal_of;
use pelton_conformance::wire::{Wire, frame, refusal, text};
use pelton_conformance::{Target, conform};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode::Authentication;

conform!(
    secured:
    records_pass_through_every_listener_with_every_mechanism,
    wrong_passwords_are_refused_and_others_are_served,
    a_wrong_password_is_told_with_code_58_and_the_connection_ends,
    an_unknown_mechanism_is_told_with_those_there_are,
    nothing_but_versions_is_answered_before_a_login,
    a_handshake_in_version_0_is_followed_by_bare_tokens,
    logins_out_of_place_are_an_illegal_state,
    a_session_that_is_not_renewed_ends,
    a_session_is_renewed_by_its_user_alone,
    users_are_made_described_and_deleted,
    credentials_that_kafka_would_not_take_are_refused,
);

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Through a listener with a login.
fn as_user(target: &Target, listener: &str, mechanism: &str, user: &str, password: &str) -> Target {
    let ca = target.certificate("ca.pem");
    let protocol = listener.to_lowercase();
    let settings = [
        ("security.protocol", protocol.as_str()),
        ("ssl.ca.location", ca.as_str()),
        ("sasl.mechanism", mechanism),
        ("sasl.username", user),
        ("sasl.password", password),
    ];
    target.through(listener, &settings)
}

fn clear(target: &Target) -> Wire {
    target.through("SASL_PLAINTEXT", &[]).wire()
}

fn metadata() -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(Vec::new()))
}

fn assert_ended(wire: &mut Wire) {
    let mut rest = Vec::new();
    // A reset where something was sent that nobody read.
    let _ = wire.stream().read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
}

fn assert_serves(target: &Target) {
    let alice = as_user(target, "SASL_SSL", "SCRAM-SHA-256", "alice", "alice-secret");
    alice.consumer(&[]).fetch_metadata(None, target.patience).unwrap();
}

fn records_pass_through_every_listener_with_every_mechanism(target: &Target) {
    let topic = target.topic("t", 1);
    for listener in ["SASL_PLAINTEXT", "SASL_SSL"] {
        for mechanism in MECHANISMS {
            let through = as_user(target, listener, mechanism, "alice", "alice-secret");
            let value = format!("{listener} {mechanism}");
            through.send(&through.producer(&[]), &topic, 0, &[&value]);
            assert_eq!(through.values(&topic, 0, COMMITTED).last(), Some(&value));
        }
    }
}

fn wrong_passwords_are_refused_and_others_are_served(target: &Target) {
    for listener in ["SASL_PLAINTEXT", "SASL_SSL"] {
        for mechanism in MECHANISMS {
            for (user, password) in [("alice", "alice-secre"), ("nobody", "alice-secret")] {
                let refused = as_user(target, listener, mechanism, user, password);
                assert_eq!(refusal_of(&refused).code, Authentication, "{listener} {mechanism} {user}");
            }
        }
    }
    assert_serves(target);
}

fn a_wrong_password_is_told_with_code_58_and_the_connection_ends(target: &Target) {
    for (user, password) in [("alice", "wrong"), ("nobody", "alice-secret")] {
        let mut wire = clear(target);
        let answer = wire.login(user, password);
        assert_eq!(refusal(answer.error_code), Some(ResponseError::SaslAuthenticationFailed));
        let told = answer.error_message.unwrap();
        assert_eq!(told.as_str(), "Authentication failed: Invalid username or password");
        assert_ended(&mut wire);
    }
    let mut wire = clear(target);
    wire.handshake(1, "SCRAM-SHA-512");
    let answer = wire.authenticate(b"no token of SCRAM");
    assert_eq!(refusal(answer.error_code), Some(ResponseError::SaslAuthenticationFailed));
    let told = answer.error_message.unwrap();
    assert_eq!(
        told.as_str(),
        "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512"
    );
    assert_ended(&mut wire);
}

fn an_unknown_mechanism_is_told_with_those_there_are(target: &Target) {
    let mut wire = clear(target);
    let answer = wire.handshake(1, "GSSAPI");
    assert_eq!(refusal(answer.error_code), Some(ResponseError::UnsupportedSaslMechanism));
    let names: Vec<&str> = answer.mechanisms.iter().map(|name| name.as_str()).collect();
    // The Kafka of the kit has tokens beside them.
    let beside: Vec<&&str> = names.iter().filter(|name| !MECHANISMS.contains(name)).collect();
    assert!(MECHANISMS.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(beside.iter().all(|name| **name == "OAUTHBEARER"), "{names:?}");
    assert_ended(&mut wire);
}

fn nothing_but_versions_is_answered_before_a_login(target: &Target) {
    let mut wire = clear(target);
    let versions = wire.call(0, &ApiVersionsRequest::default());
    assert!(versions.api_keys.iter().any(|key| key.api_key == 36));
    wire.send(1, &metadata());
    assert_ended(&mut wire);
    let mut wire = clear(target);
    wire.send(1, &metadata());
    assert_ended(&mut wire);
    let mut wire = clear(target);
    wire.stream().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_ended(&mut wire);
    assert_serves(target);
}

fn a_handshake_in_version_0_is_followed_by_bare_tokens(target: &Target) {
    let mut wire = clear(target);
    assert_eq!(wire.handshake(0, "PLAIN").error_code, 0);
    let token = b"\0alice\0alice-secret";
    let length = u32::try_from(token.len()).unwrap().to_be_bytes();
    wire.stream().write_all(&[&length[..], token].concat()).unwrap();
    assert_eq!(wire.receive_frame(), b"");
    wire.call(1, &metadata());
}

fn logins_out_of_place_are_an_illegal_state(target: &Target) {
    let mut wire = target.wire();
    assert_eq!(refusal(wire.handshake(1, "PLAIN").error_code), Some(ResponseError::IllegalSaslState));
    let answer = wire.authenticate(b"\0alice\0alice-secret");
    assert_eq!(refusal(answer.error_code), Some(ResponseError::IllegalSaslState));
    wire.call(1, &metadata());
    let mut wire = clear(target);
    assert_eq!(wire.login("alice", "alice-secret").error_code, 0);
    let answer = wire.authenticate(b"\0alice\0alice-secret");
    assert_eq!(refusal(answer.error_code), Some(ResponseError::IllegalSaslState));
    wire.call(1, &metadata());
}

fn a_session_that_is_not_renewed_ends(target: &Target) {
    let mut wire = clear(target);
    let answer = wire.login("alice", "alice-secret");
    assert!((1..=2000).contains(&answer.session_lifetime_ms), "{}", answer.session_lifetime_ms);
    let request = frame(1, 7, &metadata());
    target.until("the end of the session", || {
        let mut byte = [0];
        let sent = wire.stream().write_all(&request);
        (sent.is_err() || !matches!(wire.stream().read(&mut byte), Ok(1))).then_some(())
    });
    assert_serves(target);
}

fn a_session_is_renewed_by_its_user_alone(target: &Target) {
    let mut wire = clear(target);
    assert_eq!(wire.login("alice", "alice-secret").error_code, 0);
    let began = std::time::Instant::now();
    // At once, and then as often as it may be. It is still there when the first session would have ended.
    target.until("the end of the first session", || {
        if wire.handshake(1, "PLAIN").error_code == 0 {
            assert_eq!(wire.authenticate(b"\0alice\0alice-secret").error_code, 0);
        }
        wire.call(1, &metadata());
        (began.elapsed().as_millis() > 2050).then_some(())
    });
    target.until("another renewal", || (wire.handshake(1, "PLAIN").error_code == 0).then_some(()));
    let answer = wire.authenticate(b"\0alice\0wrong");
    assert_eq!(refusal(answer.error_code), Some(ResponseError::SaslAuthenticationFailed));
    assert_ended(&mut wire);
}

fn alter(
    wire: &mut Wire,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
) -> Vec<(String, Option<ResponseError>)> {
    let request = AlterUserScramCredentialsRequest::default();
    let answer = wire.call(0, &request.with_deletions(deletions).with_upsertions(upsertions));
    let pair = |result: &kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult| {
        (result.user.to_string(), refusal(result.error_code))
    };
    let mut results: Vec<_> = answer.results.iter().map(pair).collect();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    results
}

/// Mechanisms and iterations of a user.
fn described(wire: &mut Wire, user: &str) -> Result<Vec<(i8, i32)>, ResponseError> {
    let asked = vec![UserName::default().with_name(text(user))];
    let answer = wire.call(0, &DescribeUserScramCredentialsRequest::default().with_users(Some(asked)));
    assert_eq!((answer.error_code, answer.results.len()), (0, 1));
    let result = &answer.results[0];
    // Kafka has them in no order.
    let mut infos: Vec<_> =
        result.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect();
    infos.sort_unstable();
    refusal(result.error_code).map_or(Ok(infos), Err)
}

fn users_are_made_described_and_deleted(target: &Target) {
    let (mut wire, user) = (target.wire(), target.unique("user"));
    for new in [upsertion(&user, SHA_256, "first", 4096), upsertion(&user, SHA_512, "second", 5000)] {
        assert_eq!(alter(&mut wire, vec![], vec![new]), [(user.clone(), None)]);
    }
    target.until("the user", || {
        (described(&mut wire, &user) == Ok(vec![(SHA_256, 4096), (SHA_512, 5000)])).then_some(())
    });
    let enters = |mechanism, password| {
        let through = as_user(target, "SASL_SSL", mechanism, &user, password);
        through.consumer(&[]).fetch_metadata(None, target.patience).unwrap();
    };
    enters("SCRAM-SHA-256", "first");
    enters("SCRAM-SHA-512", "second");
    let refused = as_user(target, "SASL_SSL", "SCRAM-SHA-256", &user, "second");
    assert_eq!(refusal_of(&refused).code, Authentication);
    assert_eq!(
        alter(&mut wire, vec![], vec![upsertion(&user, SHA_256, "third", 4096)]),
        [(user.clone(), None)]
    );
    enters("SCRAM-SHA-256", "third");
    for old in [deletion(&user, SHA_256), deletion(&user, SHA_512)] {
        assert_eq!(alter(&mut wire, vec![old], vec![]), [(user.clone(), None)]);
    }
    target.until("no user", || {
        (described(&mut wire, &user) == Err(ResponseError::ResourceNotFound)).then_some(())
    });
    let refused = as_user(target, "SASL_PLAINTEXT", "SCRAM-SHA-256", &user, "third");
    assert_eq!(refusal_of(&refused).code, Authentication);
    assert_serves(target);
}

fn credentials_that_kafka_would_not_take_are_refused(target: &Target) {
    use ResponseError::{
        DuplicateResource, ResourceNotFound, UnacceptableCredential, UnsupportedSaslMechanism,
    };
    let (mut wire, user) = (target.wire(), target.unique("user"));
    let good = || upsertion(&user, SHA_256, "password", 4096);
    let cases = [
        (vec![], vec![upsertion(&user, SHA_256, "password", 4095)], UnacceptableCredential),
        (vec![], vec![upsertion(&user, SHA_256, "password", 16_385)], UnacceptableCredential),
        (vec![], vec![upsertion(&user, SHA_256, "password", -1)], UnacceptableCredential),
        (vec![], vec![good().with_mechanism(3)], UnsupportedSaslMechanism),
        (vec![], vec![good().with_mechanism(0)], UnsupportedSaslMechanism),
        (vec![], vec![good(), good()], DuplicateResource),
        (vec![], vec![good(), upsertion(&user, SHA_512, "password", 4096)], DuplicateResource),
        (vec![deletion(&user, SHA_256)], vec![good()], ResourceNotFound),
        (vec![deletion(&user, SHA_256)], vec![], ResourceNotFound),
        (vec![deletion(&user, 7)], vec![], UnsupportedSaslMechanism),
    ];
    for (deletions, upsertions, error) in cases {
        let shown = format!("{deletions:?} {upsertions:?}");
        assert_eq!(alter(&mut wire, deletions, upsertions), [(user.clone(), Some(error))], "{shown}");
    }
    let nameless = good().with_name(text(""));
    assert_eq!(alter(&mut wire, vec![], vec![nameless]), [(String::new(), Some(UnacceptableCredential))]);
    assert_eq!(described(&mut wire, &user), Err(ResourceNotFound));
    let twice = vec![UserName::default().with_name(text("alice")); 2];
    let answer = wire.call(0, &DescribeUserScramCredentialsRequest::default().with_users(Some(twice)));
    assert_eq!(answer.results.len(), 1);
    assert_eq!(refusal(answer.results[0].error_code), Some(DuplicateResource));
}
