//! TLS and logins against the clock, across restarts, and when files change.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_broker::server::{
    FirstUser, Listener, Options, Password, Protocol, Running, ServeError, TlsFiles, serve,
};
use pelton_certificates::{Authority, LOCAL, Validity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const PATIENCE: Duration = Duration::from_secs(20);

/// An `ApiVersions` request of version 0 with correlation id 7.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255];

fn issue(dir: &Path, authority: &Authority) {
    let issued = authority.issue(LOCAL, Validity::Now).unwrap();
    // The key first: for a moment the two do not belong together, as when somebody copies files.
    std::fs::write(dir.join("server.key"), issued.key).unwrap();
    std::fs::write(dir.join("server.crt"), issued.certificate).unwrap();
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { certificate: dir.join("server.crt"), key: dir.join("server.key"), client_ca: None }
}

fn listener(protocol: Protocol, dir: &Path) -> Listener {
    let tls = protocol.has_tls().then(|| files(dir));
    Listener { protocol, tls, ..Listener::plaintext("127.0.0.1:0") }
}

fn options(dir: &Path, protocols: &[Protocol]) -> Options {
    let mut options = Options::new("127.0.0.1:0", dir.join("data"));
    options.listeners = protocols.iter().map(|protocol| listener(*protocol, dir)).collect();
    options
}

fn connect(broker: &Running, protocol: Protocol) -> TcpStream {
    let all = broker.bootstraps();
    let (_, address) = all.iter().find(|(other, _)| *other == protocol).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn assert_answers(mut stream: impl Read + Write) {
    stream.write_all(&API_VERSIONS).unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], [0, 0, 0, 7, 0, 0], "correlation id and no error");
}

fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// Whether a client that trusts this authority alone is served.
fn is_served(broker: &Running, authority: &Authority) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = connect(broker, Protocol::Ssl);
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    if stream.write_all(&API_VERSIONS).is_err() {
        return false;
    }
    let mut head = [0; 10];
    stream.read_exact(&mut head).is_ok()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_changed_certificate_is_used_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old").unwrap(), Authority::new("new").unwrap());
    issue(dir.path(), &old);
    let broker = serve(options(dir.path(), &[Protocol::Ssl])).unwrap();
    assert!(is_served(&broker, &old) && !is_served(&broker, &new));
    issue(dir.path(), &new);
    until("the new certificate", || is_served(&broker, &new));
    assert!(!is_served(&broker, &old));
    std::fs::write(dir.path().join("server.crt"), "half a certifi").unwrap();
    // Longer than files are not looked at.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1100) {
        assert!(is_served(&broker, &new), "the one that works stays");
    }
    issue(dir.path(), &old);
    until("the good certificate after the broken one", || is_served(&broker, &old));
}

#[test]
fn certificates_that_do_not_work_are_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let start = || match serve(options(dir.path(), &[Protocol::Ssl])).unwrap_err() {
        ServeError::Tls(reason) => reason,
        other => panic!("{other}"),
    };
    let missing = start();
    assert!(missing.contains("no certificate in") && missing.contains("server.crt"), "{missing}");
    issue(dir.path(), &Authority::new("a").unwrap());
    let certificate = std::fs::read(dir.path().join("server.crt")).unwrap();
    issue(dir.path(), &Authority::new("b").unwrap());
    std::fs::write(dir.path().join("server.crt"), certificate).unwrap();
    let foreign = start();
    assert!(foreign.contains("server.key"), "the key of another certificate: {foreign}");
    std::fs::write(dir.path().join("server.key"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let encrypted = start();
    assert!(encrypted.contains("it must be PEM and not encrypted"), "{encrypted}");
}

#[test]
fn a_listener_that_others_reach_needs_a_login_or_permission() {
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path(), &Authority::new("a").unwrap());
    let everywhere = |protocol| {
        let mut options = options(dir.path(), &[protocol]);
        options.listeners[0].listen = "0.0.0.0:0".to_owned();
        options
    };
    let error = serve(everywhere(Protocol::Plaintext)).unwrap_err().to_string();
    assert!(error.starts_with("refusing to listen on 0.0.0.0:0 without TLS and login"), "{error}");
    assert!(error.contains("--allow-unsecured"), "{error}");
    for protocol in [Protocol::Ssl, Protocol::SaslPlaintext, Protocol::SaslSsl] {
        serve(everywhere(protocol)).unwrap().stop().unwrap();
    }
    serve(Options { allow_unsecured: true, ..everywhere(Protocol::Plaintext) }).unwrap().stop().unwrap();
}

#[test]
fn whoever_is_slow_to_shake_hands_or_log_in_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path(), &Authority::new("a").unwrap());
    let protocols = [Protocol::Plaintext, Protocol::Ssl, Protocol::SaslPlaintext, Protocol::SaslSsl];
    let mut options = options(dir.path(), &protocols);
    options.handshake_timeout = Duration::from_millis(200);
    let broker = serve(options).unwrap();
    let idle = connect(&broker, Protocol::Plaintext);
    for protocol in &protocols[1..] {
        let mut silent = connect(&broker, *protocol);
        // A record of TLS, or a request, that never ends.
        let mut trickling = connect(&broker, *protocol);
        trickling.write_all(&[22, 3, 1, 0x3f, 0xff]).unwrap();
        if !protocol.has_tls() {
            trickling = connect(&broker, *protocol);
            trickling.write_all(&1000_u32.to_be_bytes()).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while trickling.write_all(&[0]).is_ok() {
            assert!(Instant::now() < deadline, "a trickle keeps its connection");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_closed(&mut silent);
    }
    assert_answers(&idle);
}

#[test]
fn too_many_who_shake_hands_push_out_the_oldest_of_them_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("a").unwrap();
    issue(dir.path(), &authority);
    let mut options = options(dir.path(), &[Protocol::Ssl, Protocol::Plaintext]);
    (options.max_handshakes, options.handshake_timeout) = (3, Duration::from_secs(60));
    let broker = serve(options).unwrap();
    let plain = connect(&broker, Protocol::Plaintext);
    let mut slow: Vec<TcpStream> = (0..5).map(|_| connect(&broker, Protocol::Ssl)).collect();
    assert_closed(&mut slow[0]);
    assert_closed(&mut slow[1]);
    assert!(is_served(&broker, &authority), "in spite of them");
    assert_answers(&plain);
}

#[test]
fn the_first_user_is_made_once_and_its_password_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let start = |password: &str| {
        let mut options = options(dir.path(), &[Protocol::SaslPlaintext]);
        options.first_user = Some(FirstUser { name: "admin".to_owned(), password: Password::new(password) });
        assert!(!format!("{options:?}").contains(password));
        serve(options).unwrap()
    };
    let enters = |broker: &Running, password: &str| {
        let mut stream = connect(broker, Protocol::SaslPlaintext);
        stream.write_all(b"\0\0\0\x11\0\x11\0\x01\0\0\0\x01\xff\xff\0\x05PLAIN").unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize]).unwrap();
        let token = format!("\0admin\0{password}");
        let size = u8::try_from(token.len()).unwrap();
        let head = [0, 0, 0, size + 14, 0, 36, 0, 1, 0, 0, 0, 2, 255, 255, 0, 0, 0, size];
        stream.write_all(&[&head[..], token.as_bytes()].concat()).unwrap();
        let mut head = [0; 10];
        stream.read_exact(&mut head).unwrap();
        i16::from_be_bytes([head[8], head[9]])
    };
    let broker = start("hunter2");
    assert_eq!((enters(&broker, "hunter2"), enters(&broker, "hunter3")), (0, 58));
    until("the count", || broker.stats().refused_logins == 1);
    broker.stop().unwrap();
    let broker = start("hunter3");
    assert_eq!((enters(&broker, "hunter2"), enters(&broker, "hunter3")), (0, 58), "it existed already");
    broker.stop().unwrap();
    let journal = std::fs::read_dir(dir.path().join("data")).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.is_file().then(|| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
    });
    let journal: String = journal.collect();
    assert!(journal.contains("admin") && !journal.contains("hunter"), "{journal}");
}
