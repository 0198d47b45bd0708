//! What the threads of a server share: the broker, who waits for what, and which connections there are.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::budget::Budget;
use super::{Fsync, Options};
use crate::api::{FetchPlan, FetchPlanner};
use crate::broker::Broker;
use crate::core::LogId;
use crate::core::members::{GroupAnswer, Ticket};
use crate::stats::{Stats, add};
use crate::store::{Checkpoint, Done, FileStore, SegmentStore};

/// A member that waits for its group looks after this time even if nobody woke it.
const ANSWER_CHECK: Duration = Duration::from_secs(600);

/// Milliseconds since 1970; the one clock of the server.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A lock that a panicking thread does not take away from the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Inner {
    broker: Broker<FileStore>,
    /// Fetches that wait, by log.
    waiting: HashMap<LogId, Vec<Arc<Waiter>>>,
    /// Members that wait for their group.
    queued: HashMap<Ticket, Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    is_woken: Mutex<bool>,
    condvar: Condvar,
}

impl Waiter {
    fn wake(&self) {
        *lock(&self.is_woken) = true;
        self.condvar.notify_one();
    }

    /// Until woken or `deadline`.
    fn wait(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_woken = lock(&self.is_woken);
        drop(self.condvar.wait_timeout_while(is_woken, left, |is_woken| !*is_woken));
    }
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Arc<TcpStream>>,
    /// Those that have not shaken hands or logged in yet, the oldest first.
    outside: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    connections: Mutex<Connections>,
    connection_ended: Condvar,
    /// Held while segment files are replaced or checkpoints of them written.
    segments: Mutex<()>,
    /// Held while syncing.
    sync_has_failed: Mutex<bool>,
    is_stopping: AtomicBool,
    /// What requests may take while they are read and handled.
    pub request_memory: Budget,
    /// What answers to fetches may take while they are sent.
    pub answer_memory: Budget,
    /// See [`crate::sasl::Facts`].
    pub secret: [u8; 32],
    pub options: Options,
    pub stats: Arc<Stats>,
}

impl Shared {
    pub fn new(broker: Broker<FileStore>, secret: [u8; 32], options: Options) -> Self {
        Self {
            inner: Mutex::new(Inner { broker, waiting: HashMap::new(), queued: HashMap::new() }),
            connections: Mutex::default(),
            connection_ended: Condvar::new(),
            segments: Mutex::new(()),
            sync_has_failed: Mutex::new(false),
            is_stopping: AtomicBool::new(false),
            request_memory: Budget::new(options.max_pending_bytes),
            answer_memory: Budget::new(options.max_pending_bytes),
            secret,
            options,
            stats: Arc::default(),
        }
    }

    /// Works on the broker under its lock, then wakes whoever waited for what changed.
    pub fn with_broker<T>(&self, work: impl FnOnce(&mut Broker<FileStore>) -> T) -> T {
        let mut inner = lock(&self.inner);
        let result = work(&mut inner.broker);
        let touched = inner.broker.take_touched();
        let mut woken: Vec<_> =
            touched.iter().flat_map(|log| inner.waiting.remove(log).unwrap_or_default()).collect();
        let answered = inner.broker.take_answered();
        woken.extend(answered.iter().filter_map(|ticket| inner.queued.remove(ticket)));
        drop(inner);
        woken.iter().for_each(|waiter| waiter.wake());
        result
    }

    /// Plans a fetch until there is enough to send or its time is up.
    pub fn await_fetch(
        &self,
        planner: &FetchPlanner,
        mut plan: FetchPlan<<FileStore as SegmentStore>::Range>,
    ) -> FetchPlan<<FileStore as SegmentStore>::Range> {
        let deadline = Instant::now() + Duration::from_millis(planner.max_wait_ms());
        while !planner.is_satisfied(&plan) && Instant::now() < deadline {
            let waiter = Arc::new(Waiter::default());
            let mut inner = lock(&self.inner);
            // Something may have arrived since the last look; from here on the waiter would be told.
            plan = planner.plan(&inner.broker);
            if planner.is_satisfied(&plan) || self.is_stopping() {
                break;
            }
            for log in plan.logs() {
                inner.waiting.entry(*log).or_default().push(Arc::clone(&waiter));
            }
            drop(inner);
            waiter.wait(deadline);
            let mut inner = lock(&self.inner);
            for log in plan.logs() {
                if let Some(waiters) = inner.waiting.get_mut(log) {
                    waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                }
            }
            plan = planner.plan(&inner.broker);
        }
        plan
    }

    /// Waits for an answer that depends on other members of a group; `None` if the server stops first. The
    /// core answers every ticket: at the latest when the rebalance is over its time.
    pub fn await_answer(&self, ticket: Ticket) -> Option<GroupAnswer> {
        loop {
            let mut inner = lock(&self.inner);
            if let Some(answer) = inner.broker.take_answer(ticket) {
                return Some(answer);
            }
            if self.is_stopping() {
                return None;
            }
            let waiter = Arc::new(Waiter::default());
            inner.queued.insert(ticket, Arc::clone(&waiter));
            drop(inner);
            waiter.wait(Instant::now() + ANSWER_CHECK);
        }
    }

    /// Syncs what was written. The broker's lock is not held meanwhile. When this returns, everything stored
    /// before the call is on the device, whoever synced it.
    ///
    /// # Errors
    /// A sync failed, now or before: what the operating system had not written may be gone, so nothing is
    /// acknowledged with `always` from then on.
    pub fn sync(&self) -> io::Result<()> {
        let mut has_failed = lock(&self.sync_has_failed);
        let files = lock(&self.inner).broker.store_mut().take_dirty();
        if let Err(error) = files.iter().try_for_each(|file| self.options.device.sync(file)) {
            *has_failed = true;
            return Err(error);
        }
        if *has_failed && self.options.fsync == Fsync::Always {
            return Err(io::Error::other("an earlier sync failed; restart the broker"));
        }
        Ok(())
    }

    /// With `always`, syncs before somebody is answered.
    ///
    /// # Errors
    /// As [`Shared::sync`].
    pub fn sync_before_answer(&self) -> io::Result<()> {
        if self.options.fsync == Fsync::Always { self.sync() } else { Ok(()) }
    }

    /// Puts compacted segments in their places; `false` if that failed.
    pub fn finish_compaction(&self, done: Done) -> bool {
        let _no_checkpoints = lock(&self.segments);
        self.with_broker(|broker| broker.finish_compaction(done)).is_ok()
    }

    /// Writes the checkpoints of segments with `step` new bytes. Failing is no harm: the next start takes longer.
    pub fn checkpoint(&self, step: u64) {
        let _unchanged = lock(&self.segments);
        let segments = lock(&self.inner).broker.store_mut().take_checkpoints(step);
        for segment in segments {
            // With `never` too: a start believes a checkpoint, so what it covers must not be gone after a power cut.
            if let Err(error) = segment.sync().and_then(|()| Checkpoint::extend(&segment)) {
                tracing::debug!(%error, path = %segment.path().display(), "could not write a checkpoint");
            }
        }
    }

    // ---- background threads ----

    /// Sleeps, but not beyond the end; `false` if that has come.
    pub fn pause(&self, time: Duration) -> bool {
        let connections = lock(&self.connections);
        drop(self.connection_ended.wait_timeout_while(connections, time, |_| !self.is_stopping()));
        !self.is_stopping()
    }

    // ---- connections ----

    /// Registers a connection; `None` if there are too many. It may have to do something before it counts as in: of
    /// those that have not, the oldest is closed when there are too many.
    pub fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>, is_outside: bool) -> Option<ConnectionGuard> {
        let mut connections = lock(&self.connections);
        if connections.open.len() >= self.options.max_connections || self.is_stopping() {
            return None;
        }
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, Arc::clone(stream));
        if is_outside {
            connections.outside.insert(number);
        }
        if connections.outside.len() > self.options.max_handshakes
            && let Some(oldest) = connections.outside.pop_first()
            && let Some(stream) = connections.open.get(&oldest)
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
        Some(ConnectionGuard { shared: Arc::clone(self), number })
    }

    pub fn open_connections(&self) -> usize {
        lock(&self.connections).open.len()
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Tells every thread that it is over.
    pub fn stop(&self) {
        // Under both locks, so that nobody checks the flag, misses the call, and sleeps.
        let inner = lock(&self.inner);
        let connections = lock(&self.connections);
        self.is_stopping.store(true, Ordering::Release);
        for stream in connections.open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for waiter in inner.waiting.values().flatten().chain(inner.queued.values()) {
            waiter.wake();
        }
        drop((inner, connections));
        self.connection_ended.notify_all();
    }

    pub fn wait_for_connections(&self) {
        let connections = lock(&self.connections);
        drop(self.connection_ended.wait_while(connections, |connections| !connections.open.is_empty()));
    }
}

/// Keeps a connection registered.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    pub shared: Arc<Shared>,
    number: u64,
}

impl ConnectionGuard {
    /// It did what it had to before its first request.
    pub fn enter(&self) {
        lock(&self.shared.connections).outside.remove(&self.number);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        add(&self.shared.stats.connections_closed, 1);
        let mut connections = lock(&self.shared.connections);
        connections.open.remove(&self.number);
        connections.outside.remove(&self.number);
        drop(connections);
        self.shared.connection_ended.notify_all();
    }
}
