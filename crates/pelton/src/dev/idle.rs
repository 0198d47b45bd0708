//! When is a cluster done?

use crate::idle::IdleTimer;
use pelton_proto::v1;
use tokio::time::Instant;

/// Look at the cluster; true once it has been idle long enough.
pub fn observe(timer: &mut IdleTimer, pipelines: &[v1::Pipeline], now: Instant) -> bool {
    let counts = pipelines.iter().map(|p| p.account.unwrap_or_default().records_in).collect();
    timer.observe(counts, pipelines.iter().all(drained), now)
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
    use std::time::Duration;

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
        assert!(!observe(&mut timer, &[pipeline(0, 5)], at(0)), "there is lag");
        assert!(!observe(&mut timer, &[pipeline(5, 0)], at(1)), "records moved");
        assert!(!observe(&mut timer, &[pipeline(5, 0)], at(2)));
        assert!(!observe(&mut timer, &[pipeline(6, 0)], at(4)), "records moved again");
        assert!(!observe(&mut timer, &[pipeline(6, 0)], at(5)));
        assert!(observe(&mut timer, &[pipeline(6, 0)], at(8)));
    }

    #[test]
    fn an_unknown_lag_is_not_idle() {
        let mut timer = IdleTimer::new(Duration::ZERO);
        assert!(!observe(&mut timer, &[pipeline(0, -1)], Instant::now()));
        assert!(!observe(&mut timer, &[], Instant::now()));
    }
}
