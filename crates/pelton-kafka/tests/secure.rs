//! Encryption and login at a real Apache Kafka: what works, and what is said of what does not.
#![allow(clippy::unwrap_used, missing_docs)]

mod kit;

use kit::{Executor, Kafka, block_on, commit, committed, fill, read, unique, until};
use pelton_kafka::{KafkaFactory, KafkaOptions};
use pelton_sdk::{
    Connection, ConnectorFactory, EndError, Secret,
    connection::{Given, Mechanism, Sasl, Tls, TokenEndpoint},
};
use pelton_types::{Code, Partition};
use serde_json::json;
use tempfile::TempDir;

fn tls(kafka: &Kafka) -> Tls {
    Tls { ca: Some(kafka.file("ca.pem")), ..Tls::default() }
}

fn with(brokers: String, tls: Option<Tls>, sasl: Option<Sasl>) -> Connection {
    Connection { brokers, tls, sasl, ..Connection::default() }
}

/// A file with a secret.
fn secret(dir: &TempDir, name: &str, text: &str) -> Secret {
    let file = dir.path().join(name);
    std::fs::write(&file, text).unwrap();
    Secret::File(file)
}

fn password(mechanism: Mechanism, username: &str, password: Secret) -> Sasl {
    Sasl::Password { mechanism, username: Given::Text(username.into()), password }
}

fn factory(connection: Connection) -> KafkaFactory {
    KafkaFactory::new(KafkaOptions::new("unused:1").client_id("test").connection("default", connection))
        .unwrap()
}

/// Writes, reads and commits through a connection.
fn works(name: &str, connection: Connection) {
    let factory = factory(connection);
    let topic = unique(&format!("secure-{name}"));
    block_on(factory.catalog(&json!({})).unwrap().create(&topic, 2))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut executor = Executor::of(&factory);
    fill(&mut executor, &topic, 2, 50);
    let mut source = executor.reading(&topic, [0, 1]);
    assert_eq!(read(&mut *source, 100).len(), 100, "{name}");
    let mut offsets = executor.offsets(&topic, "earliest");
    let p = Partition::new(topic.as_str(), 0);
    commit(&mut *offsets, &[(p.clone(), 50)], "done").unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(committed(&mut *offsets, &[p]).unwrap()[0].offset, Some(50), "{name}");
}

/// What a connection that does not work says when it is asked for a topic.
fn complaint(connection: Connection) -> EndError {
    let factory = factory(connection);
    block_on(factory.catalog(&json!({})).unwrap().partitions("any")).unwrap_err()
}

fn token(claims: &str) -> String {
    // {"alg":"none"}
    format!("eyJhbGciOiJub25lIn0.{}.", base64url(claims.as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn in_seconds(seconds: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

#[test]
fn every_kind_of_encryption_and_login_carries_records_and_offsets() {
    let Some(kafka) = Kafka::secure() else { return };
    let dir = TempDir::new().unwrap();
    works("tls", with(kafka.at("SSL"), Some(tls(&kafka)), None));
    let own = Tls {
        certificate: Some(kafka.file("client.crt")),
        key: Some(kafka.file("client.key")),
        ..tls(&kafka)
    };
    works("mutual", with(kafka.at("MUTUAL"), Some(own), None));
    let alice = secret(&dir, "alice", "alice-secret\n");
    let mechanisms = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
    for mechanism in mechanisms {
        let sasl = password(mechanism, "alice", alice.clone());
        works(mechanism.name(), with(kafka.at("SASL_SSL"), Some(tls(&kafka)), Some(sasl)));
    }
    let sasl = password(Mechanism::ScramSha512, "alice", alice);
    works("login-without-tls", with(kafka.at("SASL_PLAINTEXT"), None, Some(sasl)));
    let claims = format!(r#"{{"sub":"alice","iat":{},"exp":{}}}"#, in_seconds(-1), in_seconds(600));
    let held = Sasl::Token(secret(&dir, "token", &token(&claims)));
    works("oauthbearer", with(kafka.at("SASL_SSL"), Some(tls(&kafka)), Some(held)));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of broken connections")]
fn what_does_not_work_says_which_and_what_to_do() {
    let Some(kafka) = Kafka::secure() else { return };
    let dir = TempDir::new().unwrap();
    let ca = |name: &str| Tls { ca: Some(kafka.file(name)), ..Tls::default() };
    let own = |name: &str| Tls {
        certificate: Some(kafka.file(&format!("{name}.crt"))),
        key: Some(kafka.file(&format!("{name}.key"))),
        ..tls(&kafka)
    };
    let wrong = |mechanism| password(mechanism, "alice", secret(&dir, "wrong", "sesame-open"));
    let nobody = password(Mechanism::ScramSha256, "nobody", secret(&dir, "nobody", "sesame-open"));
    let expired = format!(r#"{{"sub":"alice","exp":{}}}"#, in_seconds(-60));
    let expired = Sasl::Token(secret(&dir, "expired", &token(&expired)));
    let garbage = Sasl::Token(secret(&dir, "garbage", "sesame-open"));
    let sasl_ssl = |sasl| with(kafka.at("SASL_SSL"), Some(tls(&kafka)), Some(sasl));
    let gssapi = with(kafka.at("SASL_SSL"), Some(tls(&kafka)), None);
    let endpoint = Sasl::TokenEndpoint(TokenEndpoint {
        url: "http://127.0.0.1:1/token".into(),
        client_id: Given::Text("pelton".into()),
        client_secret: secret(&dir, "client", "sesame-open"),
        scope: None,
        ca: None,
    });
    let cases: Vec<(&str, Connection, Code, &[&str])> = vec![
        (
            "wrong CA",
            with(kafka.at("SSL"), Some(ca("stranger-ca.pem")), None),
            Code::TlsFailed,
            &["from an authority that is not trusted here", "set `tls.ca`"],
        ),
        (
            "the system's CAs",
            with(kafka.at("SSL"), Some(Tls::default()), None),
            Code::TlsFailed,
            &["from an authority that is not trusted here"],
        ),
        (
            "expired",
            with(kafka.at("EXPIRED"), Some(tls(&kafka)), None),
            Code::TlsFailed,
            &["certificate has expired"],
        ),
        (
            "host name",
            with(kafka.at("ELSEWHERE"), Some(tls(&kafka)), None),
            Code::TlsFailed,
            &["is for another host name"],
        ),
        (
            "no client certificate",
            with(kafka.at("MUTUAL"), Some(tls(&kafka)), None),
            Code::TlsFailed,
            &["asks for a client certificate", "`tls.certificate`"],
        ),
        (
            "strange client certificate",
            with(kafka.at("MUTUAL"), Some(own("stranger-client")), None),
            Code::TlsFailed,
            &["does not accept our client certificate"],
        ),
        (
            "no CA file",
            with(kafka.at("SSL"), Some(Tls { ca: Some("/nowhere/ca.pem".into()), ..Tls::default() }), None),
            Code::TlsFailed,
            &["/nowhere/ca.pem"],
        ),
        (
            "TLS at a plain listener",
            with(kafka.at("PLAINTEXT"), Some(tls(&kafka)), None),
            Code::TlsFailed,
            &["does not speak TLS"],
        ),
        (
            "plain at a TLS listener",
            with(kafka.at("SSL"), None, None),
            Code::TlsFailed,
            &["as a listener with TLS does", "add `tls: {}`"],
        ),
        (
            "PLAIN password",
            sasl_ssl(wrong(Mechanism::Plain)),
            Code::LoginFailed,
            &["user or password is wrong"],
        ),
        (
            "SCRAM-SHA-256 password",
            sasl_ssl(wrong(Mechanism::ScramSha256)),
            Code::LoginFailed,
            &["user or password is wrong"],
        ),
        (
            "SCRAM-SHA-512 password",
            sasl_ssl(wrong(Mechanism::ScramSha512)),
            Code::LoginFailed,
            &["user or password is wrong"],
        ),
        ("unknown user", sasl_ssl(nobody), Code::LoginFailed, &["user or password is wrong"]),
        (
            "no login",
            gssapi,
            Code::LoginFailed,
            &["asks for a login, and the connection has none", "add `sasl`"],
        ),
        ("expired token", sasl_ssl(expired), Code::LoginFailed, &["no token to log in with", "expired"]),
        ("garbage for a token", sasl_ssl(garbage), Code::LoginFailed, &["does not accept the token"]),
        (
            "no token endpoint",
            sasl_ssl(endpoint),
            Code::LoginFailed,
            &["no token to log in with", "http://127.0.0.1:1/token"],
        ),
        (
            "no secret",
            sasl_ssl(password(Mechanism::Plain, "alice", Secret::File("/nowhere/secret".into()))),
            Code::LoginFailed,
            &["the secret in /nowhere/secret cannot be read"],
        ),
        (
            "nobody there",
            with("127.0.0.1:1".into(), None, None),
            Code::BrokerUnreachable,
            &["no broker answers at 127.0.0.1:1: nobody listens there"],
        ),
        (
            "no such host",
            with("nowhere.invalid:9092".into(), None, None),
            Code::BrokerUnreachable,
            &["the host name is not known"],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, connection, code, words) in cases {
        let said = complaint(connection);
        println!("{name}: {} {:?} {}", said.code, said.kind, said.message);
        let fine = said.code == code && words.iter().all(|word| said.message.contains(word));
        if !fine || said.message.contains("sesame") {
            wrong.push(format!("{name}: {} {}", said.code, said.message));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_password_that_is_exchanged_in_its_file_counts_without_a_restart() {
    let Some(kafka) = Kafka::secure() else { return };
    let dir = TempDir::new().unwrap();
    let file = secret(&dir, "password", "not-yet-the-right-one");
    let sasl = password(Mechanism::ScramSha256, "alice", file);
    let factory = factory(with(kafka.at("SASL_SSL"), Some(tls(&kafka)), Some(sasl)));
    let catalog = factory.catalog(&json!({})).unwrap();
    assert_eq!(block_on(catalog.partitions("any")).unwrap_err().code, Code::LoginFailed);
    secret(&dir, "password", "alice-secret");
    until("the new password to count", || block_on(catalog.partitions("no-such-topic")).ok());
}

#[test]
fn tokens_are_fetched_from_their_endpoint_and_again_before_they_run_out() {
    let Some(kafka) = Kafka::secure() else { return };
    let dir = TempDir::new().unwrap();
    let endpoint = Endpoint::start();
    let sasl = Sasl::TokenEndpoint(TokenEndpoint {
        url: endpoint.url.clone(),
        client_id: Given::Text("pelton".into()),
        client_secret: secret(&dir, "client", "sesame-open"),
        scope: Some("kafka write".into()),
        ca: None,
    });
    let connection = with(kafka.at("SASL_SSL"), Some(tls(&kafka)), Some(sasl));
    let factory = factory(connection.clone());
    let catalog = factory.catalog(&json!({})).unwrap();
    assert_eq!(block_on(catalog.partitions("no-such-topic")).unwrap(), None);
    let asked = endpoint.asked.recv().unwrap();
    assert!(asked.contains("grant_type=client_credentials&scope=kafka+write"), "{asked}");
    // pelton:sesame-open
    assert!(asked.contains("Basic cGVsdG9uOnNlc2FtZS1vcGVu"), "{asked}");
    endpoint
        .asked
        .recv_timeout(std::time::Duration::from_secs(60))
        .expect("a second token before the first ran out");
    works("token-endpoint", connection);
}

/// An authorization server that gives alice tokens of two seconds, and tells what it was asked.
struct Endpoint {
    url: String,
    asked: std::sync::mpsc::Receiver<String>,
}

impl Endpoint {
    fn start() -> Endpoint {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let (tell, asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Ends with the test.
                if tell.send(Endpoint::answer(stream.unwrap())).is_err() {
                    return;
                }
            }
        });
        Endpoint { url, asked }
    }

    fn answer(mut stream: std::net::TcpStream) -> String {
        use std::io::{Read, Write};
        let mut asked = Vec::new();
        let mut chunk = [0; 1024];
        while !String::from_utf8_lossy(&asked).contains("scope=") {
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the request ended early: {}", String::from_utf8_lossy(&asked));
            asked.extend_from_slice(&chunk[..read]);
        }
        let claims = format!(r#"{{"sub":"alice","iat":{},"exp":{}}}"#, in_seconds(-1), in_seconds(600));
        let body = format!(r#"{{"access_token":"{}","expires_in":2}}"#, token(&claims));
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    }
}
