//! Which rows go into the next run, and when: no thread, no clock.

use super::Limits;
use std::{collections::VecDeque, time::Instant};

/// When the next batch should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing waits.
    Never,
    /// Then, unless it fills up before.
    At(Instant),
    /// Now.
    Now,
}

/// Rows `from..to` of the job at place `entry` of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub entry: usize,
    pub from: usize,
    pub to: usize,
}

struct Entry<J> {
    job: J,
    rows: usize,
    taken: usize,
    arrived: Instant,
}

/// Jobs in the order they came, cut into batches. A big job spans several batches, a batch several jobs.
pub(super) struct Batcher<J> {
    limits: Limits,
    queue: VecDeque<Entry<J>>,
    waiting: usize,
    /// Rows at the front that shall not wait.
    urgent: usize,
}

impl<J> Batcher<J> {
    pub fn new(limits: Limits) -> Self {
        Self { limits, queue: VecDeque::new(), waiting: 0, urgent: 0 }
    }

    /// Put fewer rows into a batch from now on.
    pub fn set_max_batch(&mut self, rows: usize) {
        self.limits.max_batch = rows.max(1);
    }

    pub fn push(&mut self, now: Instant, job: J, rows: usize) {
        self.waiting += rows;
        self.queue.push_back(Entry { job, rows, taken: 0, arrived: now });
    }

    /// Whether the next batch needs no more rows.
    pub fn full(&self) -> bool {
        self.waiting >= self.limits.max_batch
    }

    /// All that is here now shall not wait.
    pub fn hurry(&mut self) {
        self.urgent = self.waiting;
    }

    pub fn due(&self, now: Instant) -> Due {
        let Some(oldest) = self.queue.iter().find(|e| e.taken < e.rows) else { return Due::Never };
        if self.full() || self.urgent > 0 {
            return Due::Now;
        }
        // A delay too long to add to a clock means: wait until the batch is full.
        match oldest.arrived.checked_add(self.limits.max_delay) {
            Some(at) if at > now => Due::At(at),
            Some(_) => Due::Now,
            None => Due::Never,
        }
    }

    /// The rows of the next batch, oldest first.
    pub fn take(&mut self) -> Vec<Piece> {
        let mut left = self.limits.max_batch;
        let mut pieces = Vec::new();
        for (entry, e) in self.queue.iter_mut().enumerate() {
            if left == 0 {
                break;
            }
            let n = left.min(e.rows - e.taken);
            if n > 0 {
                pieces.push(Piece { entry, from: e.taken, to: e.taken + n });
                e.taken += n;
                left -= n;
            }
        }
        let taken = self.limits.max_batch - left;
        self.waiting -= taken;
        self.urgent = self.urgent.saturating_sub(taken);
        pieces
    }

    pub fn job(&mut self, entry: usize) -> Option<&mut J> {
        self.queue.get_mut(entry).map(|e| &mut e.job)
    }

    /// The oldest job if all its rows were taken. Call it until it gives none, before the next [`Batcher::take`].
    pub fn finished(&mut self) -> Option<J> {
        self.queue.pop_front_if(|e| e.taken == e.rows).map(|e| e.job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DELAY: Duration = Duration::from_millis(5);

    fn batcher() -> Batcher<&'static str> {
        Batcher::new(Limits { max_batch: 4, max_delay: DELAY, calibrate: false })
    }

    #[test]
    fn the_oldest_row_waits_no_longer_than_the_delay() {
        let (mut b, start) = (batcher(), Instant::now());
        assert_eq!(b.due(start), Due::Never);
        b.push(start, "a", 1);
        b.push(start + DELAY / 2, "b", 1);
        assert_eq!(b.due(start + DELAY / 2), Due::At(start + DELAY));
        assert_eq!(b.due(start + DELAY), Due::Now);
    }

    #[test]
    fn jobs_share_a_batch_and_big_jobs_span_several() {
        let (mut b, now) = (batcher(), Instant::now());
        b.push(now, "a", 3);
        b.push(now, "b", 6);
        assert_eq!(b.due(now), Due::Now);
        assert_eq!(b.take(), [Piece { entry: 0, from: 0, to: 3 }, Piece { entry: 1, from: 0, to: 1 }]);
        assert_eq!((b.finished(), b.finished()), (Some("a"), None));
        assert_eq!(b.take(), [Piece { entry: 0, from: 1, to: 5 }]);
        assert_eq!(b.finished(), None);
        assert_eq!(b.due(now), Due::At(now + DELAY));
        assert_eq!(b.take(), [Piece { entry: 0, from: 5, to: 6 }]);
        assert_eq!((b.finished(), b.finished()), (Some("b"), None));
        assert_eq!(b.due(now), Due::Never);
    }

    #[test]
    fn hurry_counts_for_what_is_here_and_not_for_what_comes_later() {
        let (mut b, now) = (batcher(), Instant::now());
        b.push(now, "a", 1);
        b.hurry();
        assert_eq!(b.due(now), Due::Now);
        b.take();
        b.finished();
        b.push(now, "b", 1);
        assert_eq!(b.due(now), Due::At(now + DELAY));
    }

    #[test]
    fn a_job_without_rows_is_finished_at_once() {
        let (mut b, now) = (batcher(), Instant::now());
        b.push(now, "empty", 0);
        assert_eq!(b.due(now), Due::Never);
        assert_eq!(b.finished(), Some("empty"));
    }
}
