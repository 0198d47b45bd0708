//! Where a server listens, and what it asks of those who come there.

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroU16;
use std::str::FromStr;

use super::ServeError;
use super::tls::{Tls, TlsFiles};
use crate::api::Address;

/// Connections that may wait to be accepted; systems cap it, Linux at 4096.
const BACKLOG: i32 = 4096;

/// What a listener asks of clients, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing.
    Plaintext,
    /// TLS.
    Ssl,
    /// A login, in the clear.
    SaslPlaintext,
    /// TLS and a login.
    SaslSsl,
}

impl Protocol {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether clients log in.
    #[must_use]
    pub fn has_login(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];
        let found = all.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            format!("protocol {text:?} of a listener; use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
        })
    }
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What it asks of clients.
    pub protocol: Protocol,
    /// Address to listen on, e.g. `127.0.0.1:0`; port 0 picks a free one.
    pub listen: String,
    /// `HOST:PORT` that clients who came here are told to connect to, if it is not where the server listens.
    pub advertised: Option<String>,
    /// Needed where the protocol has TLS.
    pub tls: Option<TlsFiles>,
}

impl Listener {
    /// A plain one.
    pub fn plaintext(listen: impl Into<String>) -> Self {
        Self { protocol: Protocol::Plaintext, listen: listen.into(), advertised: None, tls: None }
    }

    /// From `[PROTOCOL://]HOST:PORT` by commas, each protocol once, PLAINTEXT if none is named. An advertised address
    /// belongs to the listener of its protocol, or to the first one if it names none.
    ///
    /// # Errors
    /// What is wrong with the lists.
    pub fn parse(
        listen: &str,
        advertised: Option<&str>,
        tls: Option<&TlsFiles>,
    ) -> Result<Vec<Self>, String> {
        let mut listeners: Vec<Self> = Vec::new();
        for (protocol, address) in split(listen)? {
            let protocol = protocol.unwrap_or(Protocol::Plaintext);
            if listeners.iter().any(|other| other.protocol == protocol) {
                return Err(format!("two listeners with {protocol}; give each another protocol"));
            }
            if protocol.has_tls() && tls.is_none() {
                return Err(format!("the listener {protocol}://{address} needs a certificate and its key"));
            }
            let tls = tls.filter(|_| protocol.has_tls()).cloned();
            listeners.push(Self { protocol, listen: address.to_owned(), advertised: None, tls });
        }
        for (protocol, address) in advertised.map(split).transpose()?.unwrap_or_default() {
            let mut fitting = listeners.iter_mut();
            let listener = fitting.find(|other| protocol.is_none_or(|protocol| other.protocol == protocol));
            let Some(listener) = listener else {
                return Err(format!("the advertised address {address} belongs to no listener"));
            };
            if listener.advertised.replace(address.to_owned()).is_some() {
                return Err(format!("two advertised addresses for the listener of {}", listener.protocol));
            }
        }
        if listeners.is_empty() { Err("no listener".to_owned()) } else { Ok(listeners) }
    }

    /// Opens the port and reads the certificates.
    pub(super) fn bind(&self, may_be_unsecured: bool) -> Result<(TcpListener, Bound), ServeError> {
        let listen_error = |error| ServeError::Listen { listen: self.listen.clone(), error };
        let addresses: Vec<SocketAddr> = self.listen.to_socket_addrs().map_err(listen_error)?.collect();
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        if self.protocol == Protocol::Plaintext && !is_local && !may_be_unsecured {
            return Err(ServeError::Unsecured(self.listen.clone()));
        }
        let tls = match (&self.tls, self.protocol.has_tls()) {
            (Some(files), true) => Some(Tls::load(files.clone())?),
            (None, true) => return Err(ServeError::NoCertificate(self.listen.clone())),
            (_, false) => None,
        };
        let listener = TcpListener::bind(&addresses[..]).map_err(listen_error)?;
        // Clients that come all at once wait here instead of trying again a second later.
        socket2::SockRef::from(&listener).listen(BACKLOG).map_err(listen_error)?;
        let addr = listener.local_addr().map_err(listen_error)?;
        let address = self.address(addr)?;
        let bound = Bound { addr, address, protocol: self.protocol, tls };
        bound.say(is_local);
        Ok((listener, bound))
    }

    /// What clients are told.
    fn address(&self, addr: SocketAddr) -> Result<Address, ServeError> {
        let (host, port) = match &self.advertised {
            None => {
                let ip = addr.ip();
                // Nobody can connect to "any address"; without better knowledge, clients are on this machine.
                let host = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
                (host, addr.port())
            }
            Some(text) => {
                let bad = || ServeError::Advertised(text.clone());
                let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
                let (host, port) = parts.ok_or_else(bad)?;
                let host = host.trim_start_matches('[').trim_end_matches(']');
                // Port 0 stands for the one that was bound.
                let port: u16 = port.parse().map_err(|_| bad())?;
                (host.to_owned(), if port == 0 { addr.port() } else { port })
            }
        };
        let port = NonZeroU16::new(port).ok_or_else(|| ServeError::Advertised(format!("{host}:{port}")))?;
        Ok(Address { host, port })
    }
}

/// Protocol, if one is named, and address of each part.
fn split(list: &str) -> Result<Vec<(Option<Protocol>, &str)>, String> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part| match str::split_once(part, "://") {
        Some((protocol, address)) => Ok((Some(protocol.parse()?), address)),
        None => Ok((None, part)),
    };
    parts.map(pair).collect()
}

/// A listener that listens.
#[derive(Debug)]
pub(super) struct Bound {
    /// Where, with the real port.
    pub addr: SocketAddr,
    /// Where clients are told it is.
    pub address: Address,
    pub protocol: Protocol,
    pub tls: Option<Tls>,
}

impl Bound {
    fn say(&self, is_local: bool) {
        let advertised = format!("{}:{}", self.address.host, self.address.port);
        tracing::info!(addr = %self.addr, protocol = %self.protocol, advertised, "broker is listening");
        if self.protocol == Protocol::SaslPlaintext {
            tracing::warn!(addr = %self.addr, "clients log in here without encryption: with PLAIN, everybody on the way \
                reads their passwords; use SASL_SSL where that matters");
        } else if !is_local
            && !self.protocol.has_login()
            && self.tls.as_ref().is_none_or(|tls| !tls.knows_clients())
        {
            tracing::warn!(addr = %self.addr, "whoever reaches this port may read, write and delete everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_listeners_are_read_as_kafka_writes_them() {
        let files = TlsFiles { certificate: "c".into(), key: "k".into(), client_ca: None };
        let listen = "127.0.0.1:9092, sasl_ssl://0.0.0.0:9093";
        let all =
            Listener::parse(listen, Some("SASL_SSL://b.example:9093,[::1]:9092"), Some(&files)).unwrap();
        let first =
            Listener { advertised: Some("[::1]:9092".into()), ..Listener::plaintext("127.0.0.1:9092") };
        let second = Listener {
            protocol: Protocol::SaslSsl,
            listen: "0.0.0.0:9093".into(),
            advertised: Some("b.example:9093".into()),
            tls: Some(files),
        };
        assert_eq!(all, [first, second]);
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        let bad = |listen, advertised| Listener::parse(listen, advertised, None).unwrap_err();
        assert_eq!(bad("", None), "no listener");
        assert_eq!(bad("h:1,h:2", None), "two listeners with PLAINTEXT; give each another protocol");
        assert_eq!(bad("SSL://h:1", None), "the listener SSL://h:1 needs a certificate and its key");
        assert_eq!(
            bad("TLS://h:1", None),
            "protocol \"TLS\" of a listener; use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
        );
        assert_eq!(bad("h:1", Some("SSL://h:2")), "the advertised address h:2 belongs to no listener");
        assert_eq!(bad("h:1", Some("a:1,b:1")), "two advertised addresses for the listener of PLAINTEXT");
    }
}
