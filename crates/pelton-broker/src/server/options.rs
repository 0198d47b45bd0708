//! What a server is told, and why it may not start.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{FirstUser, Listener, Mechanism};
use crate::store::{Device, Disk, FileOptions};

/// When what was stored is synced to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged: a power cut takes nothing.
    Always,
    /// So often: a power cut takes at most what came in between.
    Interval(Duration),
    /// When the operating system sees fit (about 30 s on Linux), whenever a file is full, and at an orderly stop.
    Never,
}

impl Fsync {
    /// The interval of `interval`, unless told otherwise.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
}

impl std::str::FromStr for Fsync {
    type Err = String;

    /// `always`, `interval` or `never`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "interval" => Ok(Self::Interval(Self::DEFAULT_INTERVAL)),
            "never" => Ok(Self::Never),
            other => Err(format!("fsync is {other:?}; use always, interval or never")),
        }
    }
}

/// Settings of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen, and for whom; at least one.
    pub listeners: Vec<Listener>,
    /// Whether a listener without TLS and login may be reached from other machines.
    pub allow_unsecured: bool,
    /// How clients may log in, where they must.
    pub mechanisms: Vec<Mechanism>,
    /// A login counts this long, as with Kafka's `connections.max.reauth.ms`; `None` for as long as the connection.
    pub session_lifetime: Option<Duration>,
    /// A user that is there from the first start on.
    pub first_user: Option<FirstUser>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Partitions of a topic created without a number.
    pub default_partitions: u32,
    /// Whether asking for an unknown topic may create it.
    pub auto_create_topics: bool,
    /// What a power cut may take. A killed process loses nothing either way.
    pub fsync: Fsync,
    /// Offsets that nobody uses are removed after this, as with Kafka's `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// A partition forgets a producer that was silent for this long, as with Kafka's `producer.id.expiration.ms`.
    pub producer_expiration: Duration,
    /// A transactional id without a transaction is forgotten after this, as with Kafka's `transactional.id.expiration.ms`.
    pub transactional_id_expiration: Duration,
    /// A segment file is left when it would grow beyond this.
    pub segment_bytes: u64,
    /// Largest request; a longer one closes its connection.
    pub max_request_bytes: usize,
    /// Connections beyond this are closed at once. Each takes a thread, some kilobytes and a file descriptor.
    pub max_connections: usize,
    /// Memory for large requests, and as much for answers, that all connections together may take; who needs more
    /// waits. At least `max_request_bytes`.
    pub max_pending_bytes: usize,
    /// A connection without a request for this long is closed, as Kafka does.
    pub idle_timeout: Duration,
    /// A client that begins a request or takes an answer has this long, and a second more for every 256 KiB: whoever
    /// is slower holds a thread and memory for nothing.
    pub stall_timeout: Duration,
    /// What makes files survive a power cut.
    pub device: Arc<dyn Device>,
    /// TLS handshake and login together must be over by then.
    pub handshake_timeout: Duration,
    /// Connections that may be in the middle of that at once; a further one ends the oldest.
    pub max_handshakes: usize,
}

impl Options {
    /// The defaults, for a plain listener and a data directory.
    pub fn new(listen: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listeners: vec![Listener::plaintext(listen)],
            allow_unsecured: false,
            mechanisms: Mechanism::ALL.to_vec(),
            session_lifetime: None,
            first_user: None,
            data_dir: data_dir.into(),
            default_partitions: 1,
            auto_create_topics: true,
            fsync: Fsync::Interval(Fsync::DEFAULT_INTERVAL),
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            producer_expiration: Duration::from_secs(24 * 60 * 60),
            transactional_id_expiration: Duration::from_secs(7 * 24 * 60 * 60),
            segment_bytes: FileOptions::default().segment_bytes,
            max_request_bytes: crate::batch::MAX_BATCH_BYTES,
            max_connections: 10_000,
            max_pending_bytes: 512 * 1024 * 1024,
            idle_timeout: Duration::from_secs(600),
            stall_timeout: Duration::from_secs(30),
            device: Arc::new(Disk),
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 1000,
        }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listen address does not work.
    #[error("cannot listen on {listen}: {error}")]
    Listen {
        /// The address as configured.
        listen: String,
        /// The cause.
        error: io::Error,
    },
    /// The options have no listener.
    #[error("no address to listen on")]
    NoListener,
    /// A listener without TLS and login that other machines could reach.
    #[error(
        "refusing to listen on {0} without TLS and login: whoever reaches it could read, write and delete everything; \
         use a loopback address such as 127.0.0.1, a listener with SASL_SSL, or allow it explicitly (--allow-unsecured or the \
         setting broker.allowUnsecured)"
    )]
    Unsecured(String),
    /// A listener has TLS and no certificate.
    #[error("the listener on {0} needs a certificate and its key")]
    NoCertificate(String),
    /// Certificates or keys do not work.
    #[error("{0}")]
    Tls(String),
    /// The first user cannot be made.
    #[error("cannot make the first user: {0}")]
    FirstUser(&'static str),
    /// The data directory does not work.
    #[error("cannot use the data directory {dir}: {error}")]
    Store {
        /// The directory as configured.
        dir: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The advertised address is not one.
    #[error("advertised address {0:?} is not HOST:PORT, e.g. broker.example:9092")]
    Advertised(String),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}
