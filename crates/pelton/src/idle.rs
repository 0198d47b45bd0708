//! When is everything done?

use std::time::Duration;
use tokio::time::Instant;

/// Says when every input has been drained for a while, without a record moving.
pub struct IdleTimer {
    after: Duration,
    since: Option<Instant>,
    seen: Vec<u64>,
}

impl IdleTimer {
    /// Idle means drained for this long.
    pub fn new(after: Duration) -> Self {
        Self { after, since: None, seen: Vec::new() }
    }

    /// Look again: `counts` are the records read so far, by pipeline or task, and `drained` says that all of it is
    /// written and committed and nothing is left to read. True once it has been idle long enough.
    pub fn observe(&mut self, counts: Vec<u64>, drained: bool, now: Instant) -> bool {
        let moved = counts != self.seen;
        self.seen = counts;
        if moved || self.seen.is_empty() || !drained {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= self.after
    }
}
