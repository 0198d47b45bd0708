//! How a task stands.

use super::{Outcome, Task};
use crate::status::{TaskSnapshot, TaskState};
use pelton_sdk::Lag;
use pelton_types::Account;
use std::time::Instant;

impl Task {
    /// Where it is in its life.
    pub fn state(&self) -> TaskState {
        match &self.outcome {
            Some(Outcome::Released) => TaskState::Released,
            Some(Outcome::SteppedDown) => TaskState::SteppedDown,
            Some(Outcome::Failed(_)) => TaskState::Failed,
            Some(Outcome::Completed) => TaskState::Completed,
            None if self.deadline.is_some() => TaskState::Releasing,
            None if self.working => TaskState::Running,
            None => TaskState::Starting,
        }
    }

    /// Whether a sink or an operator has no room, so that nothing is read.
    pub fn blocked(&self) -> bool {
        self.progress.blocked
    }

    /// How long the oldest record that waits has waited at most, seconds, by a snapshot's lag.
    pub(crate) fn lag_seconds(&mut self, lag: &[Lag], now: Instant) -> Option<f64> {
        self.waits.longest(lag, now, (self.options.wall_clock)())
    }

    /// How it stands, for reports. Takes the counts since the last snapshot along.
    pub fn snapshot(&mut self) -> TaskSnapshot {
        let held = self.held();
        let incident = match &self.outcome {
            Some(Outcome::Failed(incident)) => Some(incident.clone()),
            _ => self.hijack_incident().or_else(|| self.incident.clone()).or_else(|| self.stall_incident()),
        };
        TaskSnapshot {
            task: self.grant.task.clone(),
            epoch: self.grant.epoch,
            revision: self.plan.revision,
            state: self.state(),
            lag: match &self.outcome {
                Some(_) => self.last_lag.clone(),
                None => self.sources.iter_mut().flat_map(|slot| slot.source.lag()).collect(),
            },
            committed: self.committed.clone(),
            account: Account { held, ..self.account },
            operators: self.chain.accounts().map(|(name, account)| (name.to_owned(), account)).collect(),
            pending: self.account.records_in.saturating_sub(self.settled.account.records_in),
            commits: self.commits,
            busy_ratio: 0.0,
            backpressured_ratio: 0.0,
            lag_seconds: None,
            progress: self.progress.take(),
            incident,
        }
    }
}
