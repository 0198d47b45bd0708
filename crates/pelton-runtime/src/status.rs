//! How a task stands.

use crate::ages::Age;
use pelton_checkpoint::Positions;
use pelton_sdk::Lag;
use pelton_types::{Account, Epoch, Incident, TaskId};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Made ahead of its grant.
    Warm,
    /// Granted; reading offsets, claiming, or waiting to try again.
    Starting,
    /// Working.
    Running,
    /// Finishing before it lets go.
    Releasing,
    /// Let go at a commit.
    Released,
    /// A newer owner is at work.
    SteppedDown,
    /// Stopped by an incident.
    Failed,
    /// Its sources ended and everything is committed.
    Completed,
}

impl TaskState {
    /// Nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Released | Self::SteppedDown | Self::Failed | Self::Completed)
    }
}

/// Counts since the last snapshot, and the times between them.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Records read.
    pub records_in: u64,
    /// Records the sinks took.
    pub records_out: u64,
    /// Records dropped on purpose.
    pub filtered: u64,
    /// Extra copies.
    pub expanded: u64,
    /// Records that went into another's output.
    pub merged: u64,
    /// Records set aside.
    pub dead_lettered: u64,
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Durations of commits, seconds.
    pub commit_seconds: Vec<f64>,
    /// Transactional producers discarded, by cause.
    pub discards: BTreeMap<&'static str, u64>,
    /// Ages of records whose output came out, each with how many are of that age.
    pub ages: Vec<Age>,
    /// Time spent in steps that did work.
    pub busy: Duration,
    /// Time during which a sink or an operator had no room.
    pub backpressured: Duration,
    /// A sink or an operator has no room.
    pub blocked: bool,
    /// How long the commits of a partition stand still, because its next record is held; zero when none does.
    pub stalled: Duration,
    pub(crate) commit_started: Option<Instant>,
    pub(crate) poll_again: Option<Instant>,
}

impl Progress {
    /// The counts so far; they start again at 0.
    pub(crate) fn take(&mut self) -> Progress {
        let fresh = Progress {
            blocked: self.blocked,
            stalled: self.stalled,
            commit_started: self.commit_started,
            poll_again: self.poll_again,
            ..Progress::default()
        };
        std::mem::replace(self, fresh)
    }
}

/// How a task stands.
#[derive(Clone, Debug)]
pub struct TaskSnapshot {
    /// Which task.
    pub task: TaskId,
    /// Under which grant.
    pub epoch: Epoch,
    /// Which revision it runs.
    pub revision: u64,
    /// Where it is in its life.
    pub state: TaskState,
    /// Position and end of each partition.
    pub lag: Vec<Lag>,
    /// What is committed.
    pub committed: Positions,
    /// The books of this epoch.
    pub account: Account,
    /// The books of its operators.
    pub operators: Vec<(String, Account)>,
    /// Records read since the last commit.
    pub pending: u64,
    /// Commits of this epoch.
    pub commits: u64,
    /// Share of the time since the last snapshot spent in steps that did work, 0 to 1.
    pub busy_ratio: f64,
    /// Share of that time in which nothing was read, because a sink or an operator had no room.
    pub backpressured_ratio: f64,
    /// How long the oldest record that waits has waited at most, seconds; `None` while it is not known.
    pub lag_seconds: Option<f64>,
    /// Counts since the last snapshot.
    pub progress: Progress,
    /// Present trouble.
    pub incident: Option<Incident>,
}

impl TaskSnapshot {
    /// Everything there was to read is read and committed.
    pub fn drained(&self) -> bool {
        match self.state {
            TaskState::Completed => true,
            TaskState::Running => self.pending == 0 && self.lag.iter().all(|l| l.records() == Some(0)),
            _ => false,
        }
    }
}
