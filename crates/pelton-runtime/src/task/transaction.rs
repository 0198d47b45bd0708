//! The task's transactional producer: whom a commit goes through, why one is discarded, and its end.

use super::{Outcome, Task};
use crate::{
    positions::{Committer, PositionStore},
    trouble,
};
use pelton_checkpoint::Event;
use pelton_types::Incident;
use std::{
    task::Poll,
    time::{Duration, Instant},
};

/// Fencings within [`HIJACK_WINDOW`] that are no accident any more: our own successor fences once, and then owns the task.
const HIJACKED: usize = 3;
const HIJACK_WINDOW: Duration = Duration::from_secs(120);

/// Why a producer is in doubt: what the machine was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Its init failed.
    Init,
    /// A request of it went unanswered (P7).
    Unanswered,
    /// A later init fenced it.
    Fenced,
    /// A claim or commit failed.
    #[default]
    Commit,
    /// Reading, an operator or a sink failed, and what it holds is not to be committed.
    Work,
}

impl Doubt {
    pub(super) fn note(&mut self, event: &Event) {
        *self = match event {
            Event::InitFailed(_) => Doubt::Init,
            Event::ClaimDone { clean: false } | Event::CommitDone { clean: false } => Doubt::Unanswered,
            Event::ClaimFenced | Event::CommitFenced | Event::Fenced => Doubt::Fenced,
            Event::ClaimFailed(_) | Event::CommitFailed(_) => Doubt::Commit,
            Event::WorkFailed(_) | Event::FlushFailed(_) => Doubt::Work,
            _ => return,
        };
    }

    /// The label of its metric.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Doubt::Init => "init",
            Doubt::Unanswered => "unanswered",
            Doubt::Fenced => "fenced",
            Doubt::Commit => "commit",
            Doubt::Work => "work",
        }
    }
}

impl Task {
    /// Whom a claim or commit goes through.
    pub(super) fn committer(&mut self) -> (&mut PositionStore, Committer<'_>) {
        let exactly_once = self.exactly_once();
        let by = match self.producer.as_deref_mut() {
            Some(producer) if exactly_once => Committer::Producer(producer),
            _ => Committer::Sources(&mut self.sources),
        };
        (&mut self.positions, by)
    }

    /// Fenced, and nobody has claimed the task since: whoever it was is none of ours. Once may be a transaction that
    /// timed out; again and again it is somebody who uses the id.
    pub(super) fn note_fencing(&mut self, now: Instant) {
        self.forget_fencings(now);
        self.fencings.push(now);
    }

    /// Those of long ago: whoever it was has left, and the incident is over.
    pub(super) fn forget_fencings(&mut self, now: Instant) {
        self.fencings.retain(|at| now.saturating_duration_since(*at) < HIJACK_WINDOW);
    }

    /// The incident of an id that somebody else uses.
    pub(super) fn hijack_incident(&self) -> Option<Incident> {
        (self.fencings.len() >= HIJACKED).then(|| trouble::hijacked(&self.grant.task, self.fencings.len()))
    }

    pub(super) fn discard_producer(&mut self) {
        self.initialising = false;
        self.outlet_open = false;
        self.positions.forget_commit();
        let Some(producer) = &mut self.producer else { return };
        producer.discard();
        let cause = self.doubt.cause();
        *self.progress.discards.entry(cause).or_default() += 1;
        tracing::info!(task = %self.grant.task, epoch = self.grant.epoch, cause, "producer discarded");
    }

    /// End once the producer is closed: what it holds open would keep readers waiting.
    pub(super) fn close_producer(&mut self, outcome: Outcome) {
        match &mut self.producer {
            Some(producer) => {
                producer.start_close();
                self.closing = Some(outcome);
                self.poll_closing();
            }
            None => self.outcome = Some(outcome),
        }
    }

    /// True once it is over.
    pub(super) fn poll_closing(&mut self) -> bool {
        let (Some(_), Some(producer)) = (&self.closing, &mut self.producer) else { return false };
        if producer.poll_close() == Poll::Pending {
            return false;
        }
        self.outcome = self.closing.take();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_discarded_for_what_was_heard_last_of_it() {
        let mut doubt = Doubt::default();
        for (event, cause) in [
            (Event::CommitDone { clean: false }, "unanswered"),
            (Event::CommitDue, "unanswered"),
            (Event::CommitFenced, "fenced"),
            (Event::InitFailed(pelton_checkpoint::Failure::Retry), "init"),
            (Event::CommitDone { clean: true }, "init"),
        ] {
            doubt.note(&event);
            assert_eq!(doubt.cause(), cause, "{event:?}");
        }
    }
}
