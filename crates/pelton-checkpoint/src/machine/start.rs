//! From the grant to work, and back to work after a doubt: confirm, init, read, claim.

use super::{Action, Event, Failure, Leaving, Machine, Phase, Retry, StepDownReason};
use crate::{
    Positions, Stamp, Verdict,
    verdict::{Committed, foreign, verdict, went_back},
};
use pelton_sabotage::{Defect, breaks};
use pelton_types::Incident;

impl Machine {
    pub(super) fn confirm(&mut self) -> Vec<Action> {
        self.enter(Phase::Confirming);
        vec![Action::ConfirmEpoch]
    }

    pub(super) fn epoch_confirmed(&mut self) -> Vec<Action> {
        if self.phase != Phase::Confirming {
            return Vec::new();
        }
        if self.exactly_once() {
            self.init(self.failures > 0 || self.fenced || !self.grant.virgin)
        } else {
            self.read()
        }
    }

    pub(super) fn epoch_refused(&mut self) -> Vec<Action> {
        if self.phase != Phase::Confirming {
            return Vec::new();
        }
        self.step_down(StepDownReason::EpochRefused)
    }

    /// At the start, silence means to go on: the claim decides. After a fencing it may mean that a rival holds a
    /// newer grant, and fencing it back would only stop its work (P7): time for its claim, and a look, come first.
    pub(super) fn coordinator_silent(&mut self) -> Vec<Action> {
        if self.phase != Phase::Confirming || self.retry.is_some() {
            return Vec::new();
        }
        if !self.fenced {
            return self.epoch_confirmed();
        }
        let next = if self.exactly_once() { Retry::Look } else { Retry::Read };
        vec![self.retry_later(next)]
    }

    pub(super) fn look(&mut self) -> Vec<Action> {
        self.enter(Phase::Looking);
        vec![Action::ReadCommitted]
    }

    pub(super) fn init(&mut self, throw_away: bool) -> Vec<Action> {
        self.enter(Phase::Initialising);
        vec![Action::InitProducer { throw_away }]
    }

    pub(super) fn init_done(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Initialising if self.started && breaks(Defect::StaleInit) => self.restart(),
            Phase::Initialising => self.read(),
            _ => Vec::new(),
        }
    }

    pub(super) fn init_failed(&mut self, failure: Failure) -> Vec<Action> {
        match (self.phase, failure) {
            (Phase::Initialising, Failure::Retry) => {
                vec![Action::DiscardProducer, self.retry_later(Retry::Init)]
            }
            (Phase::Initialising, Failure::Stop(incident)) => self.stop(incident),
            _ => Vec::new(),
        }
    }

    pub(super) fn read(&mut self) -> Vec<Action> {
        self.enter(Phase::Reading);
        vec![Action::ReadCommitted]
    }

    pub(super) fn read_failed(&mut self, failure: Failure) -> Vec<Action> {
        match (self.phase, failure) {
            (Phase::Looking | Phase::Reading, Failure::Stop(incident)) => self.stop(incident),
            (Phase::Reading, Failure::Retry) => vec![self.retry_later(Retry::Read)],
            (Phase::Looking, Failure::Retry) if self.leaving == Some(Leaving::Asked) => self.release(),
            // What a rival holds open may keep offsets from being stable: an init ends it.
            (Phase::Looking, Failure::Retry) => vec![self.retry_later(Retry::Init)],
            _ => Vec::new(),
        }
    }

    pub(super) fn read_done(&mut self, seen: &[Committed]) -> Vec<Action> {
        if !matches!(self.phase, Phase::Reading | Phase::Looking) {
            return Vec::new();
        }
        if let Some(missing) = self
            .grant
            .partitions
            .iter()
            .find(|partition| seen.iter().all(|entry| entry.partition != **partition))
        {
            let incident =
                foreign(format!("{missing}: its committed offset was asked for, and not answered"));
            return self.stop(incident);
        }
        let Some(own) = self.stamp.clone() else {
            return Vec::new();
        };
        match verdict(&own, self.delivery, self.grant.virgin && !self.claimed, seen) {
            Verdict::StepDown(_) if self.phase == Phase::Looking && breaks(Defect::StaleInit) => {
                self.init(true)
            }
            Verdict::StepDown(reason) => self.step_down(reason),
            Verdict::Stop(incident) => self.stop(incident),
            Verdict::Go { .. } if let Some(incident) = self.went_back(seen) => self.stop(incident),
            Verdict::Go { positions, .. } if self.phase == Phase::Looking => self.seen_no_rival(positions),
            Verdict::Go { positions, newest } => self.ours(own, positions, newest),
        }
    }

    /// What is wrong with offsets that are behind what this or an earlier owner has committed.
    fn went_back(&self, seen: &[Committed]) -> Option<Incident> {
        // Once the claim is there the machine knows more than it was told.
        if self.exactly_once() && !self.claimed { went_back(&self.grant.heard, seen) } else { None }
    }

    /// Nobody has claimed since. A transaction may be open, so only an init tells what is ours (P3).
    fn seen_no_rival(&mut self, positions: Positions) -> Vec<Action> {
        if self.leaving == Some(Leaving::Asked) {
            self.committed = positions;
            return self.release();
        }
        self.init(true)
    }

    /// The task is ours: resume when our claim is there, claim otherwise.
    fn ours(&mut self, own: Stamp, positions: Positions, newest: Option<Stamp>) -> Vec<Action> {
        self.fenced = false;
        let state = newest.as_ref().map(|stamp| stamp.state.clone()).unwrap_or_default();
        let stamp = Stamp { state, ..own };
        self.stamp = Some(stamp.clone());
        if newest
            .as_ref()
            .is_some_and(|newest| (newest.generation, newest.epoch) == (stamp.generation, stamp.epoch))
        {
            self.claimed = true;
            return self.resume(positions);
        }
        if self.claimed && self.exactly_once() {
            let found = newest.map_or_else(|| "none".into(), |newest| newest.to_string());
            return self.stop(foreign(format!(
                "task {}: its claim of epoch {} was durable, but now the committed metadata is {found}",
                self.grant.task, self.grant.epoch
            )));
        }
        self.pending = None;
        self.committed = positions;
        if breaks(Defect::ClaimSkipped) {
            return if self.started { self.restart() } else { self.start_work() };
        }
        self.enter(Phase::Claiming);
        vec![Action::Claim { positions: self.committed.clone(), stamp }]
    }

    /// Our own claim or commit is what was read last. Under exactly-once the positions tell whether the commit in
    /// doubt happened: they name either it or the one before. (An empty commit in doubt looks like both, and it
    /// does not matter which.)
    fn resume(&mut self, positions: Positions) -> Vec<Action> {
        let in_doubt = self.pending.take();
        if !self.started {
            self.committed = positions;
            return self.start_work();
        }
        let happened = in_doubt.as_ref() == Some(&positions);
        if self.exactly_once() && !happened && positions != self.committed {
            return self.step_down(StepDownReason::SharedEpoch);
        }
        self.committed = positions;
        if self.exactly_once() && happened && !self.undone { self.go_on() } else { self.restart() }
    }

    pub(super) fn claim_done(&mut self, clean: bool) -> Vec<Action> {
        if self.phase != Phase::Claiming || self.retry.is_some() {
            return Vec::new();
        }
        self.claimed = true;
        if self.leaving.is_some() {
            return self.release();
        }
        if self.exactly_once() && !clean {
            return self.replace_producer();
        }
        if self.started { self.restart() } else { self.start_work() }
    }

    /// A rival initialised later. Whoever of the two is right must go on, so look again (P5); but ask first, or two
    /// grantees that take turns in fencing each other's claims would never end.
    pub(super) fn claim_fenced(&mut self) -> Vec<Action> {
        if self.phase != Phase::Claiming || self.leaving.is_some() || !self.exactly_once() {
            return self.claim_failed(Failure::Retry);
        }
        self.enter(Phase::Discarding);
        vec![Action::DiscardProducer, self.retry_later(Retry::Confirm)]
    }

    /// A claim that failed is followed by another look, because its outcome is unknown and a rival may have claimed
    /// meanwhile.
    pub(super) fn claim_failed(&mut self, failure: Failure) -> Vec<Action> {
        if self.phase != Phase::Claiming || self.retry.is_some() {
            return Vec::new();
        }
        if let Failure::Stop(incident) = failure {
            return self.stop(incident);
        }
        if self.leaving.is_some() {
            return self.release();
        }
        if self.exactly_once() {
            self.enter(Phase::Discarding);
            vec![Action::DiscardProducer, self.retry_later(Retry::Init)]
        } else {
            vec![self.retry_later(Retry::Read)]
        }
    }

    fn start_work(&mut self) -> Vec<Action> {
        if self.leaving.is_some() {
            return self.release();
        }
        self.enter(Phase::Working);
        self.started = true;
        self.running = true;
        self.undone = false;
        vec![Action::StartWork { positions: self.committed.clone() }]
    }

    /// Work again from what is committed; sources that had ended will end once more.
    pub(super) fn restart(&mut self) -> Vec<Action> {
        if self.leaving == Some(Leaving::Asked) {
            return self.release();
        }
        self.leaving = None;
        self.pending = None;
        self.cut_again = false;
        self.running = true;
        self.undone = false;
        self.enter(Phase::Working);
        vec![Action::Rewind { positions: self.committed.clone() }]
    }

    /// What was done is durable, but a request of the producer may still be on its way (P7).
    pub(super) fn replace_producer(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::DiscardProducer];
        actions.extend(self.init(false));
        actions
    }

    /// The coordinator wants the task back, or the worker ends.
    pub(super) fn asked_to_leave(&mut self) -> Vec<Action> {
        let asked_already = self.leaving.replace(Leaving::Asked) == Some(Leaving::Asked);
        match self.phase {
            Phase::Working if self.retry.is_none() => self.cut(),
            Phase::Flushing | Phase::Committing => {
                self.cut_again |= !asked_already && self.running;
                Vec::new()
            }
            // An answer is on its way that is better waited for, or a doubt that is better resolved.
            Phase::Cutting | Phase::Claiming if self.retry.is_none() => Vec::new(),
            // An init would fence whoever is to have the task next: neither the one that waits for its time, nor another.
            Phase::Confirming if self.pending.is_some() && self.exactly_once() => self.look(),
            Phase::Looking if self.pending.is_some() && self.retry.is_some() => self.look(),
            _ if self.pending.is_some() => Vec::new(),
            _ => self.release(),
        }
    }

    pub(super) fn source_ended(&mut self) -> Vec<Action> {
        if self.leaving.is_some() {
            return Vec::new();
        }
        match self.phase {
            Phase::Working => {
                self.leaving = Some(Leaving::SourceEnded);
                self.cut()
            }
            Phase::Cutting => {
                self.leaving = Some(Leaving::SourceEnded);
                Vec::new()
            }
            Phase::Flushing | Phase::Committing if self.running => {
                self.leaving = Some(Leaving::SourceEnded);
                self.cut_again = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Found fenced while working: ask the coordinator, then look again.
    pub(super) fn found_fenced(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Committing => self.on(Event::CommitFenced),
            Phase::Claiming => self.on(Event::ClaimFenced),
            Phase::Working | Phase::Cutting | Phase::Flushing if self.exactly_once() => {
                self.pending = None;
                self.ask_after_fencing(true)
            }
            _ => Vec::new(),
        }
    }

    /// `undo`: what is held cannot be part of a commit in doubt.
    pub(super) fn ask_after_fencing(&mut self, undo: bool) -> Vec<Action> {
        let mut actions: Vec<_> = if undo { self.undo() } else { None }.into_iter().collect();
        if self.exactly_once() {
            actions.push(Action::DiscardProducer);
        }
        self.fenced = true;
        actions.extend(self.confirm());
        actions
    }
}
