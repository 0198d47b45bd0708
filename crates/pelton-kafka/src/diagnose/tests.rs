//! What librdkafka 2.12.1 said of a real Apache Kafka 4.3.1.
use super::*;

const NOT_VERIFIED: &str = "ssl://k:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify \
     failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured or root CA \
     certificates are installed (install ca-certificates package) (after 41ms in state SSL_HANDSHAKE)";

fn said(code: i32, text: &str) -> (Code, &'static str) {
    let found = diagnose(&Failure::new(code, text)).unwrap_or_else(|| panic!("no diagnosis of {text}"));
    (found.code, found.what)
}

fn of_certificate(reason: &str) -> &'static str {
    let (code, what) = said(code::SSL, &format!("{NOT_VERIFIED} [{reason}]"));
    assert_eq!(code, Code::TlsFailed);
    what
}

#[test]
fn a_certificate_is_refused_for_a_reason() {
    assert_eq!(of_certificate("certificate has expired"), "the broker's certificate has expired");
    assert_eq!(of_certificate("IP address mismatch"), "the broker's certificate is for another host name");
    assert_eq!(of_certificate("hostname mismatch"), "the broker's certificate is for another host name");
    let strange = "the broker's certificate is from an authority that is not trusted here";
    let reasons = [
        "unable to get local issuer certificate",
        "self-signed certificate",
        "self-signed certificate in certificate chain",
        "unable to verify the first certificate",
    ];
    for reason in reasons {
        assert_eq!(of_certificate(reason), strange);
    }
    assert_eq!(of_certificate("unsuitable certificate purpose"), "the broker's certificate is not accepted");
}

#[test]
fn what_the_broker_makes_of_our_certificate_is_told_apart_from_having_none() {
    let alert = "ssl://k:9094/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL \
                 alert number 42 (after 3ms in state APIVERSION_QUERY)";
    assert_eq!(said(code::SSL, alert).1, "the broker does not accept our client certificate");
    let none = format!("{alert} [we show no certificate]");
    assert_eq!(said(code::SSL, &none).1, "the broker asks for a client certificate");
}

#[test]
fn tls_on_one_side_only_is_named_from_both_sides() {
    let text = "ssl://k:9092/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a \
                PLAINTEXT broker listener? (after 2ms in state SSL_HANDSHAKE)";
    assert_eq!(
        said(code::TRANSPORT, text),
        (Code::TlsFailed, "the broker does not speak TLS at this address")
    );
    let text = "1/1 brokers are down [k:9093/bootstrap: Disconnected: connection closed by peer (after 18ms in state \
                APIVERSION_QUERY)] [hangs up on plain text]";
    let what = "the broker hangs up at once, as a listener with TLS does, and the connection has none";
    assert_eq!(said(code::ALL_BROKERS_DOWN, text), (Code::TlsFailed, what));
}

#[test]
fn logins_fail_for_the_password_the_mechanism_the_token_or_for_want_of_one() {
    let login = |text: &str| {
        let (code, what) = said(code::AUTHENTICATION, text);
        assert_eq!(code, Code::LoginFailed);
        what
    };
    let scram = "sasl_ssl://k:9094/bootstrap: SASL authentication error: Authentication failed during authentication due \
                 to invalid credentials with SASL mechanism SCRAM-SHA-256 (after 327ms in state AUTH_REQ)";
    assert_eq!(login(scram), "user or password is wrong");
    let plain =
        "SASL authentication error: Authentication failed: Invalid username or password (after 343ms)";
    assert_eq!(login(plain), "user or password is wrong");
    let mechanism = "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported \
                     mechanisms: SCRAM-SHA-512";
    assert_eq!(login(mechanism), "the broker does not know this way to log in");
    let token = "SASL authentication error: {\"status\":\"invalid_token\"} (after 312ms in state AUTH_REQ)";
    assert_eq!(login(token), "the broker does not accept the token");
    let none = "Failed to acquire SASL OAUTHBEARER token: token endpoint http://127.0.0.1:1/token: refused";
    assert_eq!(login(none), "there is no token to log in with");
    let text = "0/1 brokers are down [ssl://k:9094/bootstrap: Disconnected: SSL connection closed by peer (after 2ms in \
                state UP)] [hangs up without a login]";
    let what = "the broker hangs up at once, as one does that asks for a login, and the connection has none";
    assert_eq!(said(code::ALL_BROKERS_DOWN, text), (Code::LoginFailed, what));
}

#[test]
fn a_network_that_fails_is_no_matter_of_keys() {
    let refused =
        "k:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
    assert_eq!(said(code::TRANSPORT, refused), (Code::BrokerUnreachable, "nobody listens there"));
    let name =
        "nowhere.invalid:9092/bootstrap: Failed to resolve 'nowhere.invalid:9092': Name or service not known";
    assert_eq!(said(code::RESOLVE, name), (Code::BrokerUnreachable, "the host name is not known"));
    assert_eq!(diagnose(&Failure::new(code::ALL_BROKERS_DOWN, "1/1 brokers are down")), None);
}
