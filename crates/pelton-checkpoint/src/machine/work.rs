//! From work to a commit: cut, flush, commit, and what follows when one of them fails.

use super::{Action, Failure, Leaving, Machine, Phase, Retry};
use crate::Positions;
use pelton_sabotage::{Defect, breaks};
use pelton_types::{Code, Incident};

impl Machine {
    pub(super) fn commit_due(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Working => self.cut(),
            Phase::Flushing | Phase::Committing if self.running => {
                self.cut_again = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn cut(&mut self) -> Vec<Action> {
        self.cut_again = false;
        self.running = false;
        self.enter(Phase::Cutting);
        vec![Action::Cut]
    }

    pub(super) fn cut_done(&mut self, positions: Positions) -> Vec<Action> {
        if self.phase != Phase::Cutting {
            return Vec::new();
        }
        let mut cut = self.committed.clone();
        for (partition, at) in &mut cut {
            let Some((_, to)) = positions.iter().find(|(cut, _)| cut == partition) else { continue };
            if *to < *at {
                let incident = Incident {
                    code: Code::CommitFailed,
                    message: format!("{partition}: asked to commit {to}, behind the committed {at}"),
                    remedy: "nothing was committed; this is a defect in the source, please report it".into(),
                    stops_task: true,
                };
                return self.stop(incident);
            }
            *at = *to;
        }
        self.pending = Some(cut);
        self.enter(Phase::Flushing);
        if breaks(Defect::CommitBeforeFlush) {
            self.running = !self.exactly_once();
            let resumed = self.running.then_some(Action::ResumeWork);
            return self.commit().into_iter().chain(resumed).collect();
        }
        if !self.exactly_once() && self.leaving.is_none() {
            self.running = true;
            vec![Action::Flush, Action::ResumeWork]
        } else {
            vec![Action::Flush]
        }
    }

    pub(super) fn flush_done(&mut self) -> Vec<Action> {
        if self.phase != Phase::Flushing { Vec::new() } else { self.commit() }
    }

    /// Outputs below the cut are missing: the offsets must not be committed, and what came after the cut must not
    /// stay, or it would stand before them.
    pub(super) fn flush_failed(&mut self, failure: Failure) -> Vec<Action> {
        match (self.phase, failure) {
            (Phase::Flushing, Failure::Retry) => self.start_over(),
            (Phase::Flushing, Failure::Stop(incident)) => self.stop(incident),
            _ => Vec::new(),
        }
    }

    pub(super) fn commit(&mut self) -> Vec<Action> {
        let (Some(positions), Some(stamp)) = (self.pending.clone(), self.stamp.clone()) else {
            return Vec::new();
        };
        self.enter(Phase::Committing);
        vec![Action::Commit { positions, stamp }]
    }

    pub(super) fn commit_done(&mut self, clean: bool) -> Vec<Action> {
        let (Phase::Committing, None, Some(positions)) = (self.phase, self.retry, &self.pending) else {
            return Vec::new();
        };
        self.committed = positions.clone();
        self.failures = 0;
        if self.exactly_once() && !clean && self.leaving.is_none() {
            // `pending` stays: after the new init it is what must be found.
            return self.replace_producer();
        }
        self.pending = None;
        self.go_on()
    }

    /// The last cut is committed.
    pub(super) fn go_on(&mut self) -> Vec<Action> {
        if self.undone {
            return self.restart();
        }
        if self.cut_again {
            return self.cut();
        }
        match self.leaving {
            Some(Leaving::Asked) => self.release(),
            Some(Leaving::SourceEnded) => {
                self.enter(Phase::Completed);
                vec![Action::Completed]
            }
            None => {
                self.enter(Phase::Working);
                let runs = std::mem::replace(&mut self.running, true);
                if runs { Vec::new() } else { vec![Action::ResumeWork] }
            }
        }
    }

    /// At-least-once repeats the same commit, whatever became of the first try. Exactly-once cannot: the transaction
    /// may be over. It looks what is committed.
    pub(super) fn commit_failed(&mut self, failure: Failure) -> Vec<Action> {
        if self.phase != Phase::Committing || self.retry.is_some() {
            return Vec::new();
        }
        if let Failure::Stop(incident) = failure {
            return self.stop(incident);
        }
        if self.exactly_once() {
            self.enter(Phase::Discarding);
            vec![Action::DiscardProducer, self.retry_later(Retry::Init)]
        } else {
            vec![self.retry_later(Retry::Commit)]
        }
    }

    pub(super) fn commit_fenced(&mut self) -> Vec<Action> {
        if self.phase != Phase::Committing || self.retry.is_some() {
            return Vec::new();
        }
        if self.exactly_once() {
            return self.ask_after_fencing(false);
        }
        self.pending = None;
        self.ask_after_fencing(true)
    }

    pub(super) fn work_failed(&mut self, incident: Incident) -> Vec<Action> {
        if incident.stops_task {
            return self.stop(incident);
        }
        match self.phase {
            Phase::Working | Phase::Cutting => self.start_over(),
            Phase::Flushing if self.running => self.start_over(),
            // The commit under way is right all the same, and no other may overtake it.
            Phase::Committing if self.running => self.undo().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Undo what is not committed, wait, and work again from what is.
    fn start_over(&mut self) -> Vec<Action> {
        if self.leaving == Some(Leaving::Asked) {
            return self.release();
        }
        self.leaving = None;
        self.pending = None;
        let mut actions: Vec<_> = self.undo().into_iter().collect();
        self.enter(Phase::Discarding);
        if self.exactly_once() {
            actions.extend([Action::DiscardProducer, self.retry_later(Retry::Init)]);
        } else {
            actions.push(self.retry_later(Retry::Rewind));
        }
        actions
    }
}
