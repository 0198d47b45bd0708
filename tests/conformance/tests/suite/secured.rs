//! TLS: who gets in, who does not, and that the others do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;

use kafka_protocol::messages::ApiVersionsRequest;
use pelton_conformance::client::COMMITTED;
use pelton_conformance::refusals::refusal_of;
use pelton_conformance::wire::frame;
use pelton_conformance::{Target, conform};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, SSL};

conform!(
    secured:
    records_pass_through_tls,
    a_client_is_told_the_address_of_the_listener_it_came_through,
    tls_1_2_and_1_3_are_spoken_and_nothing_older,
    a_certificate_of_a_strange_authority_an_expired_and_a_misnamed_one_are_refused,
    a_client_without_a_certificate_is_turned_away_where_one_is_wanted,
    a_plain_client_on_a_tls_port_is_turned_away,
    a_tls_client_on_a_plain_port_is_turned_away,
);

/// Through a listener, trusting the authority of the tests.
fn tls(target: &Target, listener: &str, more: &[(&str, &str)]) -> Target {
    let ca = target.certificate("ca.pem");
    let trust = [("security.protocol", "ssl"), ("ssl.ca.location", ca.as_str())];
    target.through(listener, &[&trust[..], more].concat())
}

/// Somebody else is served.
fn assert_serves(target: &Target) {
    target.wire().call(0, &ApiVersionsRequest::default());
}

fn records_pass_through_tls(target: &Target) {
    let client = (target.certificate("client.crt"), target.certificate("client.key"));
    let certificate =
        [("ssl.certificate.location", client.0.as_str()), ("ssl.key.location", client.1.as_str())];
    for through in [tls(target, "SSL", &[]), tls(target, "MUTUAL", &certificate)] {
        let topic = through.topic("t", 1);
        target.remember(&topic);
        // More than one record of TLS holds.
        let long = "x".repeat(300_000);
        through.send(&through.producer(&[]), &topic, 0, &["a", &long, "b"]);
        assert_eq!(through.values(&topic, 0, COMMITTED), ["a", &long, "b"]);
        assert_eq!(target.values(&topic, 0, COMMITTED).len(), 3, "and through the plain listener");
    }
}

fn a_client_is_told_the_address_of_the_listener_it_came_through(target: &Target) {
    for through in [target.through("PLAINTEXT", &[]), tls(target, "SSL", &[])] {
        let metadata = through.consumer(&[]).fetch_metadata(None, through.patience).unwrap();
        let broker = &metadata.brokers()[0];
        assert_eq!(format!("{}:{}", broker.host(), broker.port()), through.bootstrap());
    }
}

/// The version that a ClientHello of TLS 1.2 format with this legacy version gets, or nothing.
fn tls_1_2_and_1_3_are_spoken_and_nothing_older(target: &Target) {
    // librdkafka has no setting for versions: a hello is enough. `supported_versions` names one, the rest is common.
    let answered = |version: u8| {
        let mut stream = TcpStream::connect(tls(target, "SSL", &[]).bootstrap()).unwrap();
        stream.set_read_timeout(Some(target.patience)).unwrap();
        stream.write_all(&hello(version)).unwrap();
        let mut head = [0; 1];
        stream.read_exact(&mut head).map_or(0, |()| head[0])
    };
    // 22 is a handshake message, 21 an alert.
    assert_eq!((answered(4), answered(3)), (22, 22));
    assert_eq!((answered(2), answered(1)), (21, 21));
}

fn a_certificate_of_a_strange_authority_an_expired_and_a_misnamed_one_are_refused(target: &Target) {
    let stranger = target.certificate("stranger-ca.pem");
    let refused = [
        tls(target, "SSL", &[("ssl.ca.location", &stranger)]),
        tls(target, "EXPIRED", &[]),
        tls(target, "ELSEWHERE", &[]),
    ];
    for through in refused {
        let refusal = refusal_of(&through);
        assert!(refusal.reason.contains("certificate verify failed"), "{refusal:?}");
        assert_serves(target);
    }
    let anywhere = tls(target, "ELSEWHERE", &[("ssl.endpoint.identification.algorithm", "none")]);
    anywhere.consumer(&[]).fetch_metadata(None, anywhere.patience).unwrap();
}

fn a_client_without_a_certificate_is_turned_away_where_one_is_wanted(target: &Target) {
    let stranger = (target.certificate("stranger-client.crt"), target.certificate("stranger-client.key"));
    let strange =
        [("ssl.certificate.location", stranger.0.as_str()), ("ssl.key.location", stranger.1.as_str())];
    for through in [tls(target, "MUTUAL", &[]), tls(target, "MUTUAL", &strange)] {
        let refusal = refusal_of(&through);
        assert!(matches!(refusal.code, SSL | BrokerTransportFailure | AllBrokersDown), "{refusal:?}");
        assert_serves(target);
    }
}

fn a_plain_client_on_a_tls_port_is_turned_away(target: &Target) {
    let through = target.through("SSL", &[]);
    assert!(matches!(refusal_of(&through).code, BrokerTransportFailure | AllBrokersDown));
    let mut stream = TcpStream::connect(through.bootstrap()).unwrap();
    stream.set_read_timeout(Some(target.patience)).unwrap();
    stream.write_all(&frame(0, 7, &ApiVersionsRequest::default())).unwrap();
    let mut rest = Vec::new();
    // An alert at most; a reset may take it away.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() <= 7, "{rest:?}");
    assert_serves(target);
}

fn a_tls_client_on_a_plain_port_is_turned_away(target: &Target) {
    for listener in ["PLAINTEXT", "SASL_PLAINTEXT"] {
        let refusal = refusal_of(&tls(target, listener, &[]));
        assert!(matches!(refusal.code, SSL | BrokerTransportFailure | AllBrokersDown), "{refusal:?}");
        assert_serves(target);
    }
}

/// A ClientHello that offers one version (its minor number plus one: 4 is TLS 1.3), and cipher suites for all.
fn hello(version: u8) -> Vec<u8> {
    let extension = |kind: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).unwrap();
        [&[0, kind, 0, length], body].concat()
    };
    let key = [&[0, 0x24, 0, 0x1d, 0, 0x20][..], &[9; 32]].concat();
    let extensions = [
        extension(10, &[0, 4, 0, 0x1d, 0, 0x17]), // groups: x25519, secp256r1
        extension(11, &[1, 0]),                   // point formats
        extension(13, &[0, 6, 4, 3, 8, 4, 4, 1]), // signatures
        extension(43, &[2, 3, version]),          // the version
        extension(51, &key),                      // a key share
    ]
    .concat();
    let suites = [0x13, 0x01, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
    let mut body = vec![3, version.min(3)];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 12]);
    body.extend_from_slice(&suites);
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1, 0][..], &length, &body].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &length, &message].concat()
}
