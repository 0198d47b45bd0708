//! Plain counters of a broker, for whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters since the start. Updated with relaxed atomics.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) connections_opened: AtomicU64,
    pub(crate) connections_closed: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) malformed_requests: AtomicU64,
    pub(crate) refused_logins: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) produced_batches: AtomicU64,
    pub(crate) produced_records: AtomicU64,
    pub(crate) produced_bytes: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Connections accepted.
    pub connections_opened: u64,
    /// Connections that ended.
    pub connections_closed: u64,
    /// Connections turned away because of the limit.
    pub connections_refused: u64,
    /// Connections closed because of bytes that are no request.
    pub malformed_requests: u64,
    /// Connections closed because of a failed TLS handshake or login.
    pub refused_logins: u64,
    /// Requests answered.
    pub requests: u64,
    /// Batches clients sent, repeated and refused ones included.
    pub produced_batches: u64,
    /// Records in them.
    pub produced_records: u64,
    /// Bytes of them, as they lie in the log.
    pub produced_bytes: u64,
    /// Bytes of batches sent to clients.
    pub fetched_bytes: u64,
}

impl Stats {
    /// Reads all counters.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            connections_opened: self.connections_opened.load(Relaxed),
            connections_closed: self.connections_closed.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            malformed_requests: self.malformed_requests.load(Relaxed),
            refused_logins: self.refused_logins.load(Relaxed),
            requests: self.requests.load(Relaxed),
            produced_batches: self.produced_batches.load(Relaxed),
            produced_records: self.produced_records.load(Relaxed),
            produced_bytes: self.produced_bytes.load(Relaxed),
            fetched_bytes: self.fetched_bytes.load(Relaxed),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Relaxed);
}
