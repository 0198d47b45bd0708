//! One grant of one task as a state machine: [`Event`]s in, [`Action`]s out.
//!
//! ```text
//!              exactly-once                                  at-least-once
//! start   confirm -> init -> read -> claim -> work      confirm -> read -> claim -> work
//! commit  cut -> flush -> commit -> work on             cut -> flush, work on -> commit
//! ```
//! * Safety needs no coordinator: `ConfirmEpoch` only saves work. Who owns a task is decided by the order of claims
//!   in the committed metadata (P4, P5).
//! * Exactly-once keeps a producer only after a clean commit (P7). In any doubt it is discarded, a new one is
//!   initialised, and what is committed then tells whether the commit in doubt happened.
//! * A fenced task asks the coordinator. Where none answers it waits for a rival's claim, and looks for one before it
//!   initialises again.
//! * At-least-once works on while a cut is flushed and committed. A commit that fails is repeated as it was, and no
//!   newer one is made before it succeeded. A flush that fails means that outputs below the cut are missing, so the
//!   task starts again from what was committed, in order.
//! * There is one timer at most: each `RetryAfter` replaces the one before.

mod action;
mod event;
mod start;
mod work;

pub use action::{Action, StepDownReason};
pub use event::{Delivery, Event, Failure, Grant};

use crate::{Positions, Stamp, backoff};
use pelton_types::{Code, Incident};

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Asking the coordinator whether the epoch is the newest.
    Confirming,
    /// Fenced, and the coordinator is silent: reading whether a rival has claimed, before an init would fence it.
    Looking,
    /// Initialising the producer.
    Initialising,
    /// Reading committed offsets.
    Reading,
    /// Committing the claim.
    Claiming,
    /// Working; no commit under way.
    Working,
    /// Finishing what is held, before a commit.
    Cutting,
    /// Having the outputs stored.
    Flushing,
    /// Committing.
    Committing,
    /// Something failed: waiting before starting again from what is committed.
    Discarding,
    /// Final: let go.
    Released,
    /// Final: another owner is at work.
    SteppedDown,
    /// Final: an incident.
    Stopped,
    /// Final: the sources ended and all is committed.
    Completed,
}

impl Phase {
    /// Nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Released | Self::SteppedDown | Self::Stopped | Self::Completed)
    }
}

/// Why the task is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Leaving {
    /// Asked back, or the worker ends.
    Asked,
    /// The sources have nothing more.
    SourceEnded,
}

/// What `RetryDue` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Retry {
    Confirm,
    Look,
    Init,
    Read,
    Commit,
    Rewind,
}

/// The protocol of one grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    grant: Grant,
    delivery: Delivery,
    phase: Phase,
    /// What this grant commits with; `None` only when the task's uuid cannot be written, which stops the machine.
    stamp: Option<Stamp>,
    /// Known to be committed; empty before the first read.
    committed: Positions,
    /// The cut that is being flushed or committed, or whose commit is in doubt.
    pending: Option<Positions>,
    /// A claim of ours is durable.
    claimed: bool,
    /// Work was started once.
    started: bool,
    /// Sources are read.
    running: bool,
    /// Uncommitted work was undone; only a `Rewind` makes it run again.
    undone: bool,
    /// Fenced after the claim: the coordinator's silence now asks for patience.
    fenced: bool,
    leaving: Option<Leaving>,
    /// Another cut follows the commit under way.
    cut_again: bool,
    /// Failures since the last commit, up to [`backoff::LAST_STEP`].
    failures: u32,
    retry: Option<Retry>,
}

impl Machine {
    /// The machine of a fresh grant, and what to do first.
    pub fn new(mut grant: Grant, delivery: Delivery) -> (Self, Vec<Action>) {
        grant.partitions.sort();
        let stamp = Stamp::of(&grant.task, grant.epoch);
        let mut machine = Self {
            grant,
            delivery,
            phase: Phase::Confirming,
            stamp: None,
            committed: Vec::new(),
            pending: None,
            claimed: false,
            started: false,
            running: false,
            undone: false,
            fenced: false,
            leaving: None,
            cut_again: false,
            failures: 0,
            retry: None,
        };
        match stamp {
            Ok(stamp) => {
                machine.stamp = Some(stamp);
                (machine, vec![Action::ConfirmEpoch])
            }
            Err(error) => {
                let incident = Incident {
                    code: Code::BadPipeline,
                    message: format!(
                        "task {}: its uuid {:?} cannot be committed: {error}",
                        machine.grant.task, machine.grant.task.uuid
                    ),
                    remedy: "delete the pipeline and apply it again".into(),
                    stops_task: true,
                };
                let actions = machine.stop(incident);
                (machine, actions)
            }
        }
    }

    /// What follows from an event.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        if self.phase.is_final() {
            return Vec::new();
        }
        match event {
            Event::EpochConfirmed => self.epoch_confirmed(),
            Event::EpochRefused => self.epoch_refused(),
            Event::CoordinatorSilent => self.coordinator_silent(),
            Event::InitDone => self.init_done(),
            Event::InitFailed(failure) => self.init_failed(failure),
            Event::ReadDone(seen) => self.read_done(&seen),
            Event::ReadFailed(failure) => self.read_failed(failure),
            Event::ClaimDone { clean } => self.claim_done(clean),
            Event::ClaimFailed(failure) => self.claim_failed(failure),
            Event::ClaimFenced => self.claim_fenced(),
            Event::CommitDue => self.commit_due(),
            Event::CutDone { positions } => self.cut_done(positions),
            Event::FlushDone => self.flush_done(),
            Event::FlushFailed(failure) => self.flush_failed(failure),
            Event::CommitDone { clean } => self.commit_done(clean),
            Event::CommitFailed(failure) => self.commit_failed(failure),
            Event::CommitFenced => self.commit_fenced(),
            Event::Fenced => self.found_fenced(),
            Event::WorkFailed(incident) => self.work_failed(incident),
            Event::Revoked | Event::Drain => self.asked_to_leave(),
            Event::DeadlinePassed => self.release(),
            Event::RetryDue => self.retry_due(),
            Event::SourceEnded => self.source_ended(),
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The grant.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// What is promised about outputs.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The positions known to be committed, sorted by partition; empty before the first read.
    pub fn committed(&self) -> &[(pelton_types::Partition, pelton_types::Offset)] {
        &self.committed
    }

    fn exactly_once(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce
    }

    /// Go to `phase`, waiting for no timer.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.retry = None;
    }

    /// Count a failure and ask to be told when to try again.
    fn retry_later(&mut self, retry: Retry) -> Action {
        self.failures = (self.failures + 1).min(backoff::LAST_STEP);
        self.retry = Some(retry);
        let seed = backoff::seed(&self.grant.task.transactional_id(), self.grant.epoch);
        let mut wait = backoff::delay(self.failures, seed);
        if self.fenced && self.phase == Phase::Confirming {
            wait += backoff::FENCED;
        }
        Action::RetryAfter(wait)
    }

    fn retry_due(&mut self) -> Vec<Action> {
        match self.retry.take() {
            None => Vec::new(),
            Some(Retry::Confirm) => self.confirm(),
            Some(Retry::Look) => self.look(),
            Some(Retry::Init) => self.init(true),
            Some(Retry::Read) => self.read(),
            Some(Retry::Commit) => self.commit(),
            Some(Retry::Rewind) => self.restart(),
        }
    }

    /// Undo what is not committed, unless that was done already.
    fn undo(&mut self) -> Option<Action> {
        self.running = false;
        let first = !std::mem::replace(&mut self.undone, true);
        first.then_some(Action::UndoUncommitted)
    }

    fn release(&mut self) -> Vec<Action> {
        self.enter(Phase::Released);
        vec![Action::Release { positions: self.committed.clone() }]
    }

    fn step_down(&mut self, reason: StepDownReason) -> Vec<Action> {
        self.enter(Phase::SteppedDown);
        vec![Action::StepDown { reason }]
    }

    fn stop(&mut self, incident: Incident) -> Vec<Action> {
        self.enter(Phase::Stopped);
        vec![Action::Stop { incident }]
    }
}

#[cfg(test)]
mod tests;
