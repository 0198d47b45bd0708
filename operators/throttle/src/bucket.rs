//! A bucket of tokens that fills with time.

use std::time::{Duration, Instant};

/// One limit: what passes takes tokens, time brings them back.
///
/// In any stretch of time `t` no more passes than `burst + rate * t`, and the excess of the one thing that was larger than
/// the burst: for that the bucket goes below zero, so that what follows waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Tokens a second.
    rate: f64,
    /// Tokens it holds at most.
    burst: f64,
    tokens: f64,
    filled: Option<Instant>,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, tokens: burst, filled: None }
    }

    /// Take the tokens that time brought.
    pub fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.burst);
        // A clock that goes back must not bring the same tokens twice.
        self.filled = Some(self.filled.map_or(now, |at| at.max(now)));
    }

    /// Whether something of this cost may pass.
    pub fn allows(&self, cost: f64) -> bool {
        self.tokens >= cost.min(self.burst) - ROUNDING
    }

    /// Something passed.
    pub fn take(&mut self, cost: f64) {
        self.tokens -= cost;
    }

    /// How long until something of this cost may pass.
    pub fn wait(&self, cost: f64) -> Duration {
        let missing = (cost.min(self.burst) - self.tokens).max(0.0);
        // Limits are small numbers a second at least one an hour or so; a wait beyond a day is looked at again then.
        Duration::from_secs_f64((missing / self.rate).min(86_400.0))
    }
}

/// What sums of fractions of tokens may be off by.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_comes_back_with_time_up_to_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 2.0);
        bucket.fill(start);
        assert!(bucket.allows(1.0));
        bucket.take(2.0);
        assert!(!bucket.allows(1.0));
        assert_eq!(bucket.wait(1.0), Duration::from_millis(100));
        bucket.fill(start + Duration::from_millis(100));
        assert!(bucket.allows(1.0));
        bucket.fill(start);
        bucket.fill(start + Duration::from_millis(100));
        assert!(!bucket.allows(1.5), "a clock that goes back brings nothing");
        bucket.fill(start + Duration::from_secs(60));
        assert!(bucket.allows(2.0));
        bucket.take(2.0);
        assert!(!bucket.allows(1.0), "a quiet minute allows no more than the burst");
    }

    #[test]
    fn something_larger_than_the_burst_passes_and_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 2.0);
        bucket.fill(start);
        assert!(bucket.allows(12.0));
        bucket.take(12.0);
        assert_eq!(bucket.wait(1.0), Duration::from_millis(1100));
    }
}
