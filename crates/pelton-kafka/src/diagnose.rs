//! From the client library's words to what is wrong with a connection, and who has to do what. Pure.
//!
//! The texts are those of librdkafka 2.12 and OpenSSL 3, of brokers of Apache Kafka 4; tests hold captured ones.

use crate::{errors::code, native::Failure};
use pelton_types::Code;

/// What is wrong, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub code: Code,
    pub what: &'static str,
    pub remedy: &'static str,
}

/// A row: any of the words, what they mean, what to do.
type Row = (&'static [&'static str], &'static str, &'static str);

/// Why TLS failed. First match wins.
const TLS: &[Row] = &[
    (&["[certificate has expired]"], "the broker's certificate has expired", "have it renewed at the broker"),
    (
        &["[certificate is not yet valid]"],
        "the broker's certificate is not valid yet",
        "compare the clocks of this host and the broker's",
    ),
    (
        &["[hostname mismatch]", "[IP address mismatch]"],
        "the broker's certificate is for another host name",
        "name the brokers as the certificate does, or have it issued for this name",
    ),
    (
        &[
            "self-signed certificate]",
            "issuer certificate]",
            "unable to verify the first certificate]",
            "certificate in certificate chain]",
        ],
        "the broker's certificate is from an authority that is not trusted here",
        "set `tls.ca` to the certificate of the authority that signed it",
    ),
    (
        &["certificate verify failed", "Failed to verify broker certificate"],
        "the broker's certificate is not accepted",
        "have it mended at the broker, or set `tls.ca` to the authority that signed it",
    ),
    (
        &[
            "[we show no certificate]",
            "alert certificate required",
            "client SSL authentication might be required",
        ],
        "the broker asks for a client certificate",
        "set `tls.certificate` and `tls.key`",
    ),
    (
        &["alert certificate expired"],
        "the broker refuses our client certificate as expired",
        "renew the file at `tls.certificate`",
    ),
    (
        &["alert unknown ca", "alert bad certificate", "alert certificate unknown", "alert access denied"],
        "the broker does not accept our client certificate",
        "have it signed by an authority that the broker trusts",
    ),
    (
        &["alert handshake failure", "alert protocol version", "unsupported protocol", "no shared cipher"],
        "the broker and this client have no version or cipher of TLS in common, or it asks for a client certificate",
        "set `tls.certificate` and `tls.key`, or compare the versions of TLS",
    ),
    (
        &["connecting to a PLAINTEXT broker listener?", "wrong version number"],
        "the broker does not speak TLS at this address",
        "name its TLS listener, or remove `tls` from the connection",
    ),
    (
        &[
            "[hangs up on plain text]",
            "connecting to a SSL listener?",
            // A TLS alert, read as a length.
            "Invalid response size 352518912",
        ],
        "the broker hangs up at once, as a listener with TLS does, and the connection has none",
        "add `tls: {}` to the connection, or name the plain listener",
    ),
];

/// Why a login failed.
const LOGIN: &[Row] = &[
    (
        &["mechanism handshake failed"],
        "the broker does not know this way to log in",
        "set `sasl.mechanism` to one that it lists",
    ),
    (
        &["Failed to acquire SASL OAUTHBEARER token", "no token"],
        "there is no token to log in with",
        "see to where the token comes from",
    ),
    (
        &["[hangs up without a login]", "broker might require SASL authentication"],
        "the broker hangs up at once, as one does that asks for a login, and the connection has none",
        "add `sasl` to the connection",
    ),
    (
        &["invalid_token", "OAUTHBEARER"],
        "the broker does not accept the token",
        "compare issuer, audience and expiry of the token with what the broker wants, and the clocks",
    ),
    (
        &[
            "Authentication failed",
            "authentication failed",
            "invalid credentials",
            "SASL authentication error",
        ],
        "user or password is wrong",
        "see to `sasl.username` and `sasl.password`, and that the user exists for this mechanism",
    ),
];

/// Why a broker is not reached.
const NETWORK: &[Row] = &[
    (&["Connection refused"], "nobody listens there", "see that the broker runs, and host and port"),
    (&["Failed to resolve"], "the host name is not known", "see to the name, and to DNS"),
    (&["Connection setup timed out"], "it does not answer in time", "see to the network and firewalls"),
];

/// What a failure means for a connection; `None` where the words say nothing more than that it failed.
pub(crate) fn diagnose(failure: &Failure) -> Option<Diagnosis> {
    let kinds: [(Code, &[Row], &[i32]); 3] = [
        (Code::TlsFailed, TLS, &[code::SSL, code::TRANSPORT, code::BAD_MSG, code::ALL_BROKERS_DOWN]),
        (
            Code::LoginFailed,
            LOGIN,
            &[code::AUTHENTICATION, code::SASL_AUTHENTICATION, code::TRANSPORT, code::ALL_BROKERS_DOWN],
        ),
        (Code::BrokerUnreachable, NETWORK, &[code::TRANSPORT, code::RESOLVE, code::ALL_BROKERS_DOWN]),
    ];
    let row = |(code, rows, of): &(Code, &'static [Row], &[i32])| {
        let (_, what, remedy) = rows
            .iter()
            .filter(|_| of.contains(&failure.code))
            .find(|(words, ..)| words.iter().any(|word| failure.text.contains(word)))?;
        Some(Diagnosis { code: *code, what, remedy })
    };
    let found = kinds.iter().find_map(row);
    let other = |code, what, remedy| Some(Diagnosis { code, what, remedy });
    found.or_else(|| match failure.code {
        code::SSL => {
            other(Code::TlsFailed, "no secure connection", "compare `tls` with what the broker wants")
        }
        code::AUTHENTICATION | code::SASL_AUTHENTICATION => {
            other(Code::LoginFailed, "the login failed", "compare `sasl` with what the broker wants")
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests;
