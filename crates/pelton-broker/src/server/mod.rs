//! The broker on TCP ports, plain or with TLS, open or with a login.
//!
//! One blocking thread per connection: clients open few, each waits in the kernel, and an idle broker uses
//! no CPU. One lock around the [`Broker`]; decoding, checksums, reading records and sending happen outside it.

mod budget;
mod connection;
mod first_user;
mod listener;
mod login;
mod options;
mod shared;
mod stream;
mod tls;

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::broker::{Broker, Settings};
use crate::stats::{Stats, StatsSnapshot, add};
use crate::store::{FileOptions, FileStore};
use listener::Bound;
use shared::{Shared, now_ms};

pub use crate::sasl::Mechanism;
pub use first_user::{FirstUser, Password};
pub use listener::{Listener, Protocol};
pub use options::{Fsync, Options, ServeError};
pub use tls::TlsFiles;

/// How often transactions and groups are looked at for their timeouts: two wake-ups a second are all an idle broker does.
const TIMER_CHECK: Duration = Duration::from_secs(1);

/// Stack of a connection's thread; what is large lies elsewhere, but for the tables of gzip while they are made.
const STACK_BYTES: usize = 512 * 1024;
/// The segment in use gets a checkpoint after so many bytes: a start after a crash reads no more of each log.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// How often logs are looked at for compaction.
const COMPACTION_CHECK: Duration = Duration::from_secs(2);
/// Logs that could not be compacted are tried again once in so many checks.
const COMPACTION_RETRY_EVERY: u32 = 30;
/// Retention is looked at once in so many timer checks.
const RETENTION_EVERY: u32 = 5;

/// A running server. Dropping it closes the port and all connections, without a last sync.
#[derive(Debug)]
pub struct Running {
    listeners: Vec<Arc<Bound>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Opens the data directory, repairs what a crash left, and serves in background threads.
///
/// # Errors
/// [`ServeError`].
pub fn serve(options: Options) -> Result<Running, ServeError> {
    let (listeners, bound) = listen(&options)?;
    let store_error = |error| ServeError::Store { dir: options.data_dir.clone(), error };
    let mut broker = open(&options).map_err(store_error)?;
    if let Some(user) = &options.first_user {
        user.add(&mut broker).map_err(ServeError::FirstUser)?;
    }
    warn_of_nobody(&broker, &bound);
    tracing::info!(data_dir = %options.data_dir.display(), topics = broker.state().topics().len(),
        "broker is ready: a single node, for development, tests and edge boxes");
    let fsync = options.fsync;
    let shared = Arc::new(Shared::new(broker, secret(), options));
    let mut running = Running { listeners: bound.clone(), shared, threads: Vec::new() };
    for (listener, bound) in listeners.into_iter().zip(bound) {
        running.spawn("broker-accept", move |shared| accept(&listener, &bound, &shared))?;
    }
    running.spawn("broker-clock", |shared| watch_timers(&shared))?;
    running.spawn("broker-cleaner", |shared| compact_regularly(&shared))?;
    running.spawn("broker-fsync", move |shared| sync_regularly(&shared, fsync))?;
    Ok(running)
}

/// Opens all ports.
fn listen(options: &Options) -> Result<(Vec<TcpListener>, Vec<Arc<Bound>>), ServeError> {
    let bind = |listener: &Listener| {
        listener.bind(options.allow_unsecured).map(|(socket, bound)| (socket, Arc::new(bound)))
    };
    if options.listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    let pairs: Result<Vec<_>, _> = options.listeners.iter().map(bind).collect();
    Ok(pairs?.into_iter().unzip())
}

/// What nobody can guess.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    secret
}

fn warn_of_nobody(broker: &Broker<FileStore>, bound: &[Arc<Bound>]) {
    if bound.iter().any(|bound| bound.protocol.has_login()) && broker.state().users().names().next().is_none()
    {
        tracing::warn!(
            "there is no user who could log in; give a first one at the start, or make one with \
            kafka-configs through a listener without login"
        );
    }
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
    let mut store = FileStore::open_on(Arc::clone(&options.device), &options.data_dir, &files)?;
    if options.fsync == Fsync::Always {
        store.sync_decisions();
    }
    Broker::open(store, settings, now_ms())
}

impl Running {
    /// Where the first listener listens, with the real port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listeners[0].addr
    }

    /// What clients of the first listener use as `bootstrap.servers`: its advertised address.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.bootstraps().remove(0).1
    }

    /// The same of every listener, in the order of the options.
    #[must_use]
    pub fn bootstraps(&self) -> Vec<(Protocol, String)> {
        let pair =
            |bound: &Arc<Bound>| (bound.protocol, format!("{}:{}", bound.address.host, bound.address.port));
        self.listeners.iter().map(pair).collect()
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
        tracing::info!("broker stopped");
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
        // The accepting threads are in the kernel; a connection wakes each up.
        for bound in &self.listeners {
            let mut addr = bound.addr;
            if addr.ip().is_unspecified() {
                addr.set_ip(if addr.is_ipv4() {
                    [127, 0, 0, 1].into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
            let _ = TcpStream::connect_timeout(&addr, Duration::from_secs(1));
        }
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

fn accept(listener: &TcpListener, bound: &Arc<Bound>, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            return;
        }
        match accepted {
            Ok((stream, peer)) => start_connection(Arc::new(stream), peer, bound, shared),
            Err(error) => {
                // Out of file descriptors, most likely: the backlog keeps clients waiting meanwhile.
                tracing::warn!(%error, "could not accept a connection");
                shared.pause(Duration::from_millis(100));
            }
        }
    }
}

fn start_connection(stream: Arc<TcpStream>, peer: SocketAddr, bound: &Arc<Bound>, shared: &Arc<Shared>) {
    let is_outside = bound.protocol != Protocol::Plaintext;
    let Some(guard) = shared.admit(&stream, is_outside) else {
        add(&shared.stats.connections_refused, 1);
        tracing::warn!(%peer, max = shared.options.max_connections, "refused a connection: too many are open");
        return;
    };
    add(&shared.stats.connections_opened, 1);
    let thread = thread::Builder::new().name("broker-conn".to_owned()).stack_size(STACK_BYTES);
    // The guard goes along and ends the registration when the thread is done, or was never started.
    let bound = Arc::clone(bound);
    let started = thread.spawn(move || connection::run(&stream, peer, &guard, &bound));
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
    // Logs that cannot be compacted must not hold up the others.
    let mut left_out = HashSet::new();
    let mut round = 0_u32;
    while shared.pause(COMPACTION_CHECK) {
        round = round.wrapping_add(1);
        if round.is_multiple_of(COMPACTION_RETRY_EVERY) {
            left_out.clear();
        }
        while let Some(job) = shared.with_broker(|broker| broker.begin_compaction(&left_out, now_ms())) {
            let log = job.log;
            let done = job.run();
            if shared.is_stopping() {
                return;
            }
            let finished = match done {
                Ok(done) => shared.finish_compaction(done),
                Err(error) => {
                    tracing::error!(%error, topic = log.topic, partition = log.partition, "could not compact");
                    false
                }
            };
            if !finished {
                left_out.insert(log);
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
