//! When is everything done?

use pelton_proto::v1;
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

    /// Look at the cluster; true once it has been idle long enough.
    pub fn observe(&mut self, pipelines: &[v1::Pipeline], now: Instant) -> bool {
        let counts: Vec<u64> = pipelines.iter().map(|p| p.account.unwrap_or_default().records_in).collect();
        let moved = counts != self.seen;
        self.seen = counts;
        if moved || pipelines.is_empty() || !pipelines.iter().all(drained) {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= self.after
    }
}

/// Everything there was is read, written and committed.
fn drained(p: &v1::Pipeline) -> bool {
    match p.phase.as_str() {
        "completed" => true,
        "running" => {
            let running = |t: &v1::Task| {
                t.status.as_ref().is_some_and(|s| {
                    s.state == v1::TaskState::Running as i32 || s.state == v1::TaskState::Completed as i32
                })
            };
            p.lag == 0
                && p.pending == 0
                && p.tasks.len() == p.tasks_wanted as usize
                && p.tasks.iter().all(running)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(records: u64, lag: i64) -> v1::Pipeline {
        v1::Pipeline {
            phase: "running".into(),
            lag,
            account: Some(v1::Account { records_in: records, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn idle_is_drained_and_still_for_long_enough() {
        let mut timer = IdleTimer::new(Duration::from_secs(3));
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert!(!timer.observe(&[pipeline(0, 5)], at(0)), "there is lag");
        assert!(!timer.observe(&[pipeline(5, 0)], at(1)), "records moved");
        assert!(!timer.observe(&[pipeline(5, 0)], at(2)));
        assert!(!timer.observe(&[pipeline(6, 0)], at(4)), "records moved again");
        assert!(!timer.observe(&[pipeline(6, 0)], at(5)));
        assert!(timer.observe(&[pipeline(6, 0)], at(8)));
    }

    #[test]
    fn an_unknown_lag_is_not_idle() {
        let mut timer = IdleTimer::new(Duration::ZERO);
        assert!(!timer.observe(&[pipeline(0, -1)], Instant::now()));
        assert!(!timer.observe(&[], Instant::now()));
    }
}
