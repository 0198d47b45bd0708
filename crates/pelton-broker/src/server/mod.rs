//! The broker on a TCP port.
//!
//! One blocking thread per connection: clients open few, each waits in the kernel, and an idle broker uses
//! no CPU. One lock around the [`Broker`]; decoding, checksums, reading records and sending happen outside it.

mod budget;
mod connection;
mod shared;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::api::Address;
use crate::broker::{Broker, Settings};
use crate::stats::{Stats, StatsSnapshot, add};
use crate::store::{FileOptions, FileStore};
use shared::{Shared, now_ms};

/// How often transactions and groups are looked at for their timeouts: two wake-ups a second are all an idle broker does.
const TIMER_CHECK: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted; systems cap it, Linux at 4096.
const BACKLOG: i32 = 4096;
/// Stack of a connection's thread; what is large lies elsewhere, but for the tables of gzip while they are made.
const STACK_BYTES: usize = 512 * 1024;
/// The segment in use gets a checkpoint after so many bytes: a start after a crash reads no more of each log.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// How often logs are looked at for compaction.
const COMPACTION_CHECK: Duration = Duration::from_secs(2);
/// Retention is looked at once in so many timer checks.
const RETENTION_EVERY: u32 = 5;

/// When what was stored is synced to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged: a power cut takes nothing.
    Always,
    /// So often: a power cut takes at most what came in between.
    Interval(Duration),
    /// When the operating system sees fit (about 30 s on Linux), and at an orderly stop.
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
    /// Address to listen on, e.g. `127.0.0.1:0`; port 0 picks a free one.
    pub listen: String,
    /// `HOST:PORT` that clients are told to connect to, if it is not where the server listens.
    pub advertised: Option<String>,
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
}

impl Options {
    /// The defaults, for a listen address and a data directory.
    pub fn new(listen: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: listen.into(),
            advertised: None,
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

/// A running server. Dropping it closes the port and all connections, without a last sync.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Opens the data directory, repairs what a crash left, and serves in background threads.
///
/// # Errors
/// [`ServeError`].
pub fn serve(options: Options) -> Result<Running, ServeError> {
    let listen_error = |error| ServeError::Listen { listen: options.listen.clone(), error };
    let listener = TcpListener::bind(&options.listen).map_err(listen_error)?;
    // Clients that come all at once wait here instead of trying again a second later.
    socket2::SockRef::from(&listener).listen(BACKLOG).map_err(listen_error)?;
    let addr = listener.local_addr().map_err(listen_error)?;
    let address = advertised(&options, addr)?;
    let broker =
        open(&options).map_err(|error| ServeError::Store { dir: options.data_dir.clone(), error })?;
    tracing::info!(%addr, advertised = %format!("{}:{}", address.host, address.port),
        data_dir = %options.data_dir.display(), topics = broker.state().topics().len(),
        "broker is listening: a single node, for development, tests and edge boxes");
    let fsync = options.fsync;
    let shared = Arc::new(Shared::new(broker, address, options));
    let mut running = Running { addr, shared, threads: Vec::new() };
    running.spawn("broker-accept", move |shared| accept(&listener, &shared))?;
    running.spawn("broker-clock", |shared| watch_timers(&shared))?;
    running.spawn("broker-cleaner", |shared| compact_regularly(&shared))?;
    running.spawn("broker-fsync", move |shared| sync_regularly(&shared, fsync))?;
    Ok(running)
}

fn open(options: &Options) -> io::Result<Broker<FileStore>> {
    let files = FileOptions { segment_bytes: options.segment_bytes };
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let settings = Settings {
        default_partitions: options.default_partitions.max(1),
        auto_create_topics: options.auto_create_topics,
        offsets_retention_ms: millis(options.offsets_retention),
        producer_expiration_ms: millis(options.producer_expiration),
        transactional_id_expiration_ms: millis(options.transactional_id_expiration),
        ..Settings::default()
    };
    Broker::open(FileStore::open(&options.data_dir, &files)?, settings, now_ms())
}

fn advertised(options: &Options, addr: SocketAddr) -> Result<Address, ServeError> {
    let (host, port) = match &options.advertised {
        None => {
            let ip = addr.ip();
            // Nobody can connect to "any address"; without better knowledge, clients are on this machine.
            let host = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
            (host, addr.port())
        }
        Some(text) => {
            let bad = || ServeError::Advertised(text.clone());
            let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(bad)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            // Port 0 stands for the one that was bound.
            let port: u16 = port.parse().map_err(|_| bad())?;
            (host.to_owned(), if port == 0 { addr.port() } else { port })
        }
    };
    let port = NonZeroU16::new(port).ok_or_else(|| ServeError::Advertised(format!("{host}:{port}")))?;
    Ok(Address { host, port })
}

impl Running {
    /// Where the server listens, with the real port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What clients use as `bootstrap.servers`: the advertised address.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", self.shared.address.host, self.shared.address.port)
    }

    /// Counters for metrics.
    #[must_use]
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// The live counters, to be kept by an exporter.
    #[must_use]
    pub fn counters(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }

    /// Closes the port and all connections, waits for the threads, and syncs everything to the device.
    /// Blocks; call it from a thread that may.
    ///
    /// # Errors
    /// A file cannot be synced. Nothing acknowledged is lost unless the machine loses power.
    pub fn stop(mut self) -> io::Result<()> {
        self.close();
        self.shared.sync()?;
        self.shared.checkpoint(1);
        tracing::info!(addr = %self.addr, "broker stopped");
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce(Arc<Shared>) + Send + 'static,
    ) -> Result<(), ServeError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(shared));
        self.threads.push(thread.map_err(ServeError::Thread)?);
        Ok(())
    }

    fn close(&mut self) {
        self.shared.stop();
        // The accepting thread is in the kernel; a connection wakes it up.
        let mut addr = self.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(if addr.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let _ = TcpStream::connect_timeout(&addr, Duration::from_secs(1));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.shared.wait_for_connections();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            return;
        }
        match accepted {
            Ok((stream, peer)) => start_connection(Arc::new(stream), peer, shared),
            Err(error) => {
                // Out of file descriptors, most likely: the backlog keeps clients waiting meanwhile.
                tracing::warn!(%error, "could not accept a connection");
                shared.pause(Duration::from_millis(100));
            }
        }
    }
}

fn start_connection(stream: Arc<TcpStream>, peer: SocketAddr, shared: &Arc<Shared>) {
    let Some(guard) = shared.admit(&stream) else {
        add(&shared.stats.connections_refused, 1);
        tracing::warn!(%peer, max = shared.options.max_connections, "refused a connection: too many are open");
        return;
    };
    add(&shared.stats.connections_opened, 1);
    let thread = thread::Builder::new().name("broker-conn".to_owned()).stack_size(STACK_BYTES);
    // The guard goes along and ends the registration when the thread is done, or was never started.
    let started = thread.spawn(move || connection::run(&stream, peer, &guard));
    if let Err(error) = started {
        tracing::warn!(%peer, %error, "could not start a thread for a connection");
    }
}

fn watch_timers(shared: &Shared) {
    let mut round = 0_u32;
    while shared.pause(TIMER_CHECK) {
        round = round.wrapping_add(1);
        shared.with_broker(|broker| {
            broker.expire_transactions(now_ms());
            broker.expire_groups(now_ms());
            if round.is_multiple_of(RETENTION_EVERY) {
                broker.enforce_retention(now_ms());
            }
        });
    }
}

fn compact_regularly(shared: &Shared) {
    while shared.pause(COMPACTION_CHECK) {
        while let Some(job) = shared.with_broker(|broker| broker.begin_compaction(now_ms())) {
            let log = job.log;
            let done = job.run();
            if shared.is_stopping() {
                return;
            }
            // What cannot be compacted is not tried again before the next check.
            let finished = match done {
                Ok(done) => shared.finish_compaction(done),
                Err(error) => {
                    tracing::error!(%error, topic = log.topic, partition = log.partition, "could not compact");
                    false
                }
            };
            if !finished {
                break;
            }
        }
    }
}

fn sync_regularly(shared: &Shared, fsync: Fsync) {
    let (interval, syncs) = match fsync {
        Fsync::Interval(interval) => (interval, true),
        Fsync::Always | Fsync::Never => (Fsync::DEFAULT_INTERVAL, false),
    };
    while shared.pause(interval) {
        if syncs && let Err(error) = shared.sync() {
            tracing::error!(%error, "could not sync; a power cut may lose acknowledged records");
        }
        shared.checkpoint(CHECKPOINT_BYTES);
    }
}
