//! A bound on the memory that all connections together may take.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// So many bytes, to be shared.
#[derive(Debug)]
pub(super) struct Budget {
    left: Mutex<usize>,
    returned: Condvar,
    total: usize,
}

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Budget {
    pub fn new(total: usize) -> Self {
        Self { left: Mutex::new(total), returned: Condvar::new(), total }
    }

    /// A share of nothing, to be grown.
    pub fn share(&self) -> Share<'_> {
        Share { budget: self, bytes: 0 }
    }
}

impl Share<'_> {
    /// Takes `bytes` more; waits until others gave back enough. `false` if that did not happen by `deadline`, or
    /// never can.
    pub fn grow(&mut self, bytes: usize, deadline: Instant) -> bool {
        if self.bytes + bytes > self.budget.total {
            return false;
        }
        let left = self.budget.left.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.budget.returned.wait_timeout_while(left, patience, |left| *left < bytes);
        let (mut left, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *left < bytes {
            return false;
        }
        *left -= bytes;
        self.bytes += bytes;
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            *self.budget.left.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
            self.budget.returned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn shares_never_exceed_the_total_and_come_back() {
        let budget = Budget::new(100);
        let soon = Instant::now();
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.grow(60, soon) && first.grow(30, soon));
        assert!(!second.grow(11, soon));
        assert!(!second.grow(101, soon), "more than there can ever be");
        drop(first);
        assert!(second.grow(100, soon));
    }

    #[test]
    fn a_share_is_waited_for() {
        let budget = Budget::new(100);
        let mut first = budget.share();
        assert!(first.grow(100, Instant::now()));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.share().grow(1, Instant::now() + Duration::from_secs(60)));
            drop(first);
            assert!(waiting.join().unwrap());
        });
    }
}
