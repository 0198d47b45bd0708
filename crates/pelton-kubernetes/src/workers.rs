//! The driver `kubernetes`: how many workers there are to be.
//!
//! Workers are a StatefulSet. Whatever takes a pod away (this, `kubectl scale`, an upgrade, the eviction of a node) runs
//! the pod's `preStop`, which drains the worker: its tasks move one by one to others before it is told to end. So this
//! only counts.

use pelton_proto::v1;
use std::time::Duration;

/// What a user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest workers.
    pub min: u32,
    /// Most workers.
    pub max: u32,
    /// Tasks that one worker is to have, about.
    pub tasks_each: u32,
    /// Fewer workers must have been enough for so long before there are fewer.
    pub patience: Duration,
}

/// Workers for the tasks of these pipelines.
pub fn wanted(pipelines: &[v1::Pipeline], bounds: Bounds) -> u32 {
    let works = |p: &&v1::Pipeline| !matches!(p.phase.as_str(), "paused" | "completed" | "deleting");
    let tasks: u32 = pipelines.iter().filter(works).map(|p| p.tasks_wanted).fold(0, u32::saturating_add);
    tasks.div_ceil(bounds.tasks_each.max(1)).clamp(bounds.min, bounds.max.max(bounds.min))
}

/// More at once, fewer only after a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scaler {
    /// Since when fewer would be enough, and the most that would have been since.
    fewer: Option<(Duration, u32)>,
}

impl Scaler {
    /// The number to set, if it is another than `present`.
    pub fn next(&mut self, now: Duration, present: u32, wanted: u32, patience: Duration) -> Option<u32> {
        if wanted >= present {
            self.fewer = None;
            return (wanted > present).then_some(wanted);
        }
        let (since, most) = self.fewer.map_or((now, wanted), |(since, most)| (since, most.max(wanted)));
        self.fewer = Some((since, most));
        if now.saturating_sub(since) < patience {
            return None;
        }
        self.fewer = None;
        Some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 1, max: 4, tasks_each: 2, patience: Duration::from_secs(30) };

    fn pipeline(tasks_wanted: u32, phase: &str) -> v1::Pipeline {
        v1::Pipeline { tasks_wanted, phase: phase.into(), ..v1::Pipeline::default() }
    }

    #[test]
    fn there_are_as_many_workers_as_tasks_need_within_the_bounds() {
        assert_eq!(wanted(&[], BOUNDS), 1, "never fewer than allowed");
        assert_eq!(wanted(&[pipeline(3, "running"), pipeline(2, "pending")], BOUNDS), 3);
        assert_eq!(wanted(&[pipeline(3, "running"), pipeline(2, "paused")], BOUNDS), 2);
        assert_eq!(wanted(&[pipeline(900, "running")], BOUNDS), 4, "never more than allowed");
    }

    #[test]
    fn more_come_at_once_and_fewer_after_the_most_that_was_needed_meanwhile() {
        let mut scaler = Scaler::default();
        let at = |seconds| Duration::from_secs(seconds);
        let patience = BOUNDS.patience;
        assert_eq!(scaler.next(at(0), 2, 4, patience), Some(4));
        assert_eq!(scaler.next(at(1), 4, 1, patience), None);
        assert_eq!(scaler.next(at(20), 4, 3, patience), None);
        assert_eq!(scaler.next(at(31), 4, 1, patience), Some(3), "3 were needed within the time");
        assert_eq!(scaler.next(at(32), 3, 1, patience), None, "and the time begins anew");
        assert_eq!(scaler.next(at(40), 3, 3, patience), None);
        assert_eq!(scaler.next(at(63), 3, 1, patience), None, "a need in between counts");
    }
}
