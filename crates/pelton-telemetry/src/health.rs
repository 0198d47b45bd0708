//! Whether this process is alive, and whether it is ready, each with reasons.
//!
//! Alive means that its loops turn; a broker that is away never makes a process dead, because a restart would not
//! help. Ready means that it can do its work now: each thing it waits for is a named check.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Both halves of a process's health, to clone and hand down.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// What `/readyz` answers.
    pub readiness: Readiness,
    /// What `/livez` answers.
    pub liveness: Liveness,
}

impl Health {
    /// Nothing to wait for yet: ready and alive.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The list of what this process needs to be ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// What `/readyz` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Whether every check passes.
    pub ready: bool,
    /// Each check, by name.
    pub checks: Vec<CheckReport>,
}

/// One line of a [`ReadinessReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The check's name.
    pub name: String,
    /// Whether it passes.
    pub ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// Adds a check that does not pass yet, with the reason why. A name used before starts anew.
    pub fn check(&self, name: impl Into<String>, reason: impl Into<String>) -> Check {
        let check = Check { name: name.into(), checks: Arc::clone(&self.checks) };
        check.not_ready(reason);
        check
    }

    /// The state of every check now.
    pub fn report(&self) -> ReadinessReport {
        let checks: Vec<CheckReport> = lock(&self.checks)
            .iter()
            .map(|(name, reason)| CheckReport {
                name: name.clone(),
                ready: reason.is_none(),
                reason: reason.clone(),
            })
            .collect();
        ReadinessReport { ready: checks.iter().all(|check| check.ready), checks }
    }
}

/// One thing that must be well for the process to be ready. Dropping it leaves the check as it is.
#[derive(Clone, Debug)]
pub struct Check {
    name: String,
    checks: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl Check {
    /// The check passes.
    pub fn ready(&self) {
        lock(&self.checks).insert(self.name.clone(), None);
    }

    /// The check does not pass, and why: `coordinator 10.0.0.7:7461 refused the connection`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        lock(&self.checks).insert(self.name.clone(), Some(reason.into()));
    }

    /// The check no longer counts.
    pub fn remove(self) {
        lock(&self.checks).remove(&self.name);
    }
}

/// The loops that must turn for this process to count as alive.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    pulses: Arc<Mutex<BTreeMap<String, Beat>>>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    last: Instant,
    stalled_after: Duration,
}

/// A loop that has not turned for too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// The loop's name.
    pub name: String,
    /// Whole seconds since it last turned.
    pub silent_seconds: u64,
}

impl Liveness {
    /// Watches a loop that calls [`Pulse::beat`] at least every `stalled_after`. Choose it generously: a process that
    /// does not answer is restarted.
    pub fn watch(&self, name: impl Into<String>, stalled_after: Duration, now: Instant) -> Pulse {
        let pulse = Pulse { name: name.into(), pulses: Arc::clone(&self.pulses) };
        lock(&self.pulses).insert(pulse.name.clone(), Beat { last: now, stalled_after });
        pulse
    }

    /// The loops that are late at `now`.
    pub fn stalls(&self, now: Instant) -> Vec<Stall> {
        let late = |(name, beat): (&String, &Beat)| {
            let silent = now.saturating_duration_since(beat.last);
            (silent > beat.stalled_after)
                .then(|| Stall { name: name.clone(), silent_seconds: silent.as_secs() })
        };
        lock(&self.pulses).iter().filter_map(late).collect()
    }
}

/// The sign of life of one loop; dropping it ends the watch.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    pulses: Arc<Mutex<BTreeMap<String, Beat>>>,
}

impl Pulse {
    /// The loop turned at `now`.
    pub fn beat(&self, now: Instant) {
        if let Some(beat) = lock(&self.pulses).get_mut(&self.name) {
            beat.last = now;
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        lock(&self.pulses).remove(&self.name);
    }
}

/// Health stays readable after a panic elsewhere: the guarded maps are never left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_once_every_check_passes_and_says_which_does_not() {
        let readiness = Readiness::default();
        assert!(readiness.report().ready, "nothing to wait for");
        let config = readiness.check("config", "not loaded");
        let coordinator = readiness.check("coordinator", "not attached");
        config.ready();
        let report = readiness.report();
        assert!(!report.ready);
        let failing: Vec<_> = report.checks.iter().filter(|check| !check.ready).collect();
        assert_eq!(failing.len(), 1);
        assert_eq!(failing[0].name, "coordinator");
        assert_eq!(failing[0].reason.as_deref(), Some("not attached"));
        coordinator.ready();
        assert!(readiness.report().ready);
        coordinator.not_ready("lease lost");
        assert!(!readiness.report().ready);
        coordinator.remove();
        assert!(readiness.report().ready);
    }

    #[test]
    fn a_loop_that_stops_turning_is_a_stall_until_it_turns_again_or_ends() {
        let (liveness, start) = (Liveness::default(), Instant::now());
        let pulse = liveness.watch("executor 0", Duration::from_secs(10), start);
        assert_eq!(liveness.stalls(start + Duration::from_secs(10)), []);
        let late = start + Duration::from_secs(11);
        assert_eq!(liveness.stalls(late), [Stall { name: "executor 0".into(), silent_seconds: 11 }]);
        pulse.beat(late);
        assert_eq!(liveness.stalls(late), []);
        drop(pulse);
        assert_eq!(liveness.stalls(late + Duration::from_secs(100)), []);
    }
}
