//! Where a commit cuts, and what the books say there.
//!
//! The cut of a partition is the highest offset below which everything is complete: no operator holds anything of it
//! and every result was given to its sink. Reading goes on, and what operators still hold above it belongs to a later
//! commit. Under at-least-once results above the cut may go out before it: after a crash they come again. Under
//! exactly-once they wait in front of the sinks, because a transaction must hold the outputs of its offsets and no
//! others.
//!
//! A task that is about to end finishes what is held first, up to its deadline. So does, at every commit, one with an
//! operator that does not name the offsets it holds.

use super::{Books, Task};
use crate::trouble;
use pelton_checkpoint::{Delivery, Event, Positions};
use pelton_types::{Account, Incident, Offset, Partition};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A partition whose commits stood still for this long while an operator or a sink held its next record is trouble to
/// tell of: calls have timeouts far below it.
const STALLED: Duration = Duration::from_secs(30);
/// The share of the time for finishing that is kept for the last commit, and the most that is kept.
const LAST_COMMIT_SHARE: u32 = 4;
const LAST_COMMIT_MOST: Duration = Duration::from_secs(1);

/// What a cut that is under way waits for.
pub(super) enum Cutting {
    /// Nothing may be held any more (or every operator names its offsets, when that is all that was missing).
    Finish,
    /// The cut is known; what belongs below it must go to the sinks.
    Give(Positions),
}

/// Since when a partition's next record stands still.
pub(super) type Stalls = BTreeMap<Partition, (Offset, Instant)>;

impl Task {
    pub(super) fn exactly_once(&self) -> bool {
        self.options.delivery == Delivery::ExactlyOnce
    }

    /// For every partition read: the offset below which the operators hold nothing.
    fn complete(&mut self) -> Positions {
        let mut positions = self.read_positions();
        for (partition, offset) in &mut positions {
            *offset = (*offset).min(self.chain.floor(partition).unwrap_or(Offset::MAX));
        }
        positions
    }

    /// The same, with what the sinks have not taken.
    fn given(&mut self) -> Positions {
        let mut positions = self.complete();
        for (partition, offset) in &mut positions {
            let waiting = self.outputs.iter().chain(&self.dead_letters).filter_map(|o| o.floor(partition));
            *offset = (*offset).min(waiting.min().unwrap_or(Offset::MAX));
        }
        positions
    }

    /// Whether a commit now would move an offset: also past transaction markers, where no record is.
    pub(super) fn could_commit(&mut self) -> bool {
        let mut cut = if self.exactly_once() { self.complete() } else { self.given() };
        if cut.iter().any(|(_, at)| *at == Offset::MIN) {
            // Only finishing tells how far it goes.
            cut = self.read_positions();
        }
        cut.iter().any(|(partition, at)| self.committed_at(partition).is_some_and(|before| *at > before))
    }

    fn committed_at(&self, partition: &Partition) -> Option<Offset> {
        self.committed.iter().find(|(known, _)| known == partition).map(|(_, at)| *at)
    }

    /// The machine asks for the cut.
    pub(super) fn begin_cut(&mut self) {
        self.reading = false;
        if self.deadline.is_some() || self.ended || !self.floors_known() {
            self.cutting = Some(Cutting::Finish);
            self.chain.flush();
        } else {
            self.fix_cut();
        }
    }

    fn floors_known(&self) -> bool {
        let partitions = self.sources.iter().flat_map(|slot| &slot.spec.partitions);
        partitions.into_iter().all(|p| self.chain.floor(p) != Some(Offset::MIN))
    }

    /// The cut is here and now.
    fn fix_cut(&mut self) {
        if self.exactly_once() {
            let cut = self.complete();
            self.let_out(&cut);
            self.outlet_open = false;
            self.cutting = Some(Cutting::Give(cut));
        } else {
            let cut = self.given();
            self.close_cut(cut);
        }
    }

    /// Go on with a cut that waits for something. True when it went on.
    pub(super) fn continue_cut(&mut self, now: Instant) -> bool {
        match self.cutting.take() {
            None => false,
            Some(Cutting::Finish) => {
                let ending = self.deadline.is_some() || self.ended;
                let idle = self.chain.held() == 0 && self.all_given();
                let late = self.finish_by.is_some_and(|at| now >= at);
                let done = idle || late || (!ending && self.floors_known());
                if done {
                    self.fix_cut();
                } else {
                    // What one operator finished may be held by the next.
                    self.chain.flush();
                    self.cutting = Some(Cutting::Finish);
                }
                done
            }
            Some(Cutting::Give(cut)) => {
                // A record that its sink refused goes to the dead letters of the same commit.
                self.let_out(&cut);
                let done = self.all_given();
                if done {
                    self.close_cut(cut);
                } else {
                    self.cutting = Some(Cutting::Give(cut));
                }
                done
            }
        }
    }

    /// Whether the sinks took all that may go out.
    fn all_given(&self) -> bool {
        self.outputs.iter().chain(&self.dead_letters).all(crate::outputs::OutputQueue::is_empty)
    }

    /// Everything below the cut is with the sinks: check the books and tell the machine.
    fn close_cut(&mut self, mut cut: Positions) {
        self.cutting = None;
        // What an operator holds without a name, or was given twice, can lie below what is committed.
        for (partition, at) in &mut cut {
            *at = (*at).max(self.committed_at(partition).unwrap_or(*at));
        }
        let event = match self.check_books() {
            Ok(()) => {
                self.close_books();
                Event::CutDone { positions: cut }
            }
            Err(incident) => {
                tracing::error!(task = %self.grant.task, epoch = self.grant.epoch, code = %incident.code, "{incident}");
                self.incident = Some(incident.clone());
                Event::WorkFailed(incident)
            }
        };
        self.tell(event);
    }

    /// Under exactly-once: let results out that no offset before them can hold back any more. While a commit is under
    /// way nothing goes out, or it would be in a transaction that it does not belong to.
    pub(super) fn let_out_complete(&mut self) {
        let waits = self.outputs.iter().chain(&self.dead_letters).any(|output| output.held_back() > 0);
        if waits && self.outlet_open {
            let complete = self.complete();
            self.let_out(&complete);
        }
    }

    fn let_out(&mut self, below: &Positions) {
        for output in self.outputs.iter_mut().chain(&mut self.dead_letters) {
            output.let_out(below);
        }
    }

    /// What a task holds outside its operators counts as held, so every book must balance at any cut.
    fn check_books(&self) -> Result<(), Incident> {
        let account = Account { held: self.held(), ..self.account };
        if account.imbalance() != 0 {
            return Err(trouble::imbalance("the task", account));
        }
        match self.chain.imbalance() {
            Some((operator, account)) => Err(trouble::imbalance(operator, account)),
            None => Ok(()),
        }
    }

    /// Records in operators and in front of the sinks.
    pub(super) fn held(&self) -> u64 {
        self.chain.held() + self.outputs.iter().map(crate::outputs::OutputQueue::len).sum::<u64>()
    }

    /// The books at the cut are those of the commit that follows, should it succeed.
    fn close_books(&mut self) {
        let operators = self.chain.accounts().map(|(_, account)| without_held(account)).collect();
        let account = without_held(Account { held: self.held(), ..self.account });
        self.cut = Some(Books { account, operators });
    }

    /// Note which partitions stand still, once in each commit interval.
    pub(super) fn note_stalls(&mut self, now: Instant) {
        let read = self.read_positions();
        let given = self.given();
        let before = std::mem::take(&mut self.stalls);
        for ((partition, position), (_, cut)) in read.into_iter().zip(given) {
            let Some(committed) = self.committed_at(&partition) else { continue };
            if position > committed && cut <= committed {
                let known = before.get(&partition).filter(|(at, _)| *at == committed);
                self.stalls.insert(partition, (committed, known.map_or(now, |(_, since)| *since)));
            }
        }
        let longest = self.stalls.values().map(|(_, since)| now.saturating_duration_since(*since)).max();
        let longest = longest.unwrap_or_default();
        let before = std::mem::replace(&mut self.progress.stalled, longest);
        if before < STALLED
            && let Some(incident) = self.stall_incident()
        {
            tracing::warn!(task = %self.grant.task, epoch = self.grant.epoch, code = %incident.code, "{incident}");
        }
    }

    /// The incident of the partition that stands still longest, when it is long enough to tell.
    pub(super) fn stall_incident(&self) -> Option<Incident> {
        if self.progress.stalled < STALLED {
            return None;
        }
        let (partition, (offset, _)) = self.stalls.iter().min_by_key(|(_, (_, since))| *since)?;
        let holder = self.chain.holder(partition).or_else(|| {
            let holds = |o: &&crate::outputs::OutputQueue| o.floor(partition).is_some();
            self.outputs.iter().chain(&self.dead_letters).find(holds).map(crate::outputs::OutputQueue::name)
        });
        Some(trouble::stalled(holder.unwrap_or("a sink"), partition, *offset, self.progress.stalled))
    }

    /// When to stop finishing, so that there is time for the last commit.
    pub(super) fn plan_finish(&mut self, now: Instant) {
        if let (Some(deadline), None) = (self.deadline, self.finish_by) {
            let left = deadline.saturating_duration_since(now);
            self.finish_by = deadline.checked_sub(LAST_COMMIT_MOST.min(left / LAST_COMMIT_SHARE));
        }
    }
}

/// What is held at a cut is read again after it, and then counts as read.
fn without_held(account: Account) -> Account {
    let from_in = account.held.min(account.records_in);
    Account {
        records_in: account.records_in - from_in,
        // Copies that are held were counted as expanded.
        expanded: account.expanded - (account.held - from_in).min(account.expanded),
        held: 0,
        ..account
    }
}
