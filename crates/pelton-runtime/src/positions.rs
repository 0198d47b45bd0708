//! The committed positions of a task, over all its sources.
//!
//! Each source keeps its positions in its own place; the task reads and commits them together. A commit is done when
//! every source's part is; a failure of any part fails the whole, and the machine tries the whole again. Under
//! exactly-once the task's producer commits all of them in its transaction.

use crate::{setup::SourceSlot, trouble};
use pelton_checkpoint::{Committed, Event, Positions};
use pelton_sdk::{EndError, ErrorKind, Producer};
use pelton_types::Incident;
use std::task::Poll;

/// What a commit is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Claim,
    Work,
}

/// Who commits positions.
pub enum Committer<'a> {
    /// Each source's own place.
    Sources(&'a mut [SourceSlot]),
    /// The task's producer, in its transaction.
    Producer(&'a mut dyn Producer),
}

/// See the module.
#[derive(Default)]
pub struct PositionStore {
    reading: bool,
    read: Vec<Committed>,
    committing: Option<(Purpose, Positions)>,
    /// The producer commits.
    transactional: bool,
    failed: Option<(EndError, Incident)>,
    last_committed: Positions,
}

impl PositionStore {
    /// Ask every source for what is committed.
    pub fn start_read(&mut self, sources: &mut [SourceSlot]) {
        self.reading = true;
        self.read.clear();
        for slot in sources {
            slot.read_pending = true;
            slot.offsets.start_read(&slot.spec.partitions);
        }
    }

    /// Commit where the task starts, so that it is ours.
    pub fn start_claim(&mut self, by: Committer<'_>, positions: Positions, metadata: &str) {
        self.start(by, Purpose::Claim, positions, metadata);
    }

    /// Commit a cut.
    pub fn start_commit(&mut self, by: Committer<'_>, positions: Positions, metadata: &str) {
        self.start(by, Purpose::Work, positions, metadata);
    }

    fn start(&mut self, by: Committer<'_>, purpose: Purpose, positions: Positions, metadata: &str) {
        self.transactional = matches!(by, Committer::Producer(_));
        match by {
            Committer::Producer(producer) => producer.start_commit(&positions, metadata),
            Committer::Sources(sources) => {
                for slot in sources {
                    let own: Positions =
                        positions.iter().filter(|(p, _)| slot.spec.partitions.contains(p)).cloned().collect();
                    slot.commit_pending = !own.is_empty();
                    if slot.commit_pending {
                        slot.offsets.start_commit(&own, metadata);
                    }
                }
            }
        }
        self.failed = None;
        self.committing = Some((purpose, positions));
    }

    /// Nobody waits for the commit under way any more.
    pub fn forget_commit(&mut self) {
        self.committing = None;
    }

    /// The last positions whose commit is known to have succeeded.
    pub fn last_committed(&self) -> &Positions {
        &self.last_committed
    }

    /// What went wrong in the last failure reported.
    pub fn take_trouble(&mut self) -> Option<Incident> {
        self.failed.take().map(|(_, incident)| incident)
    }

    /// An answer, when one is complete.
    pub fn poll(
        &mut self,
        sources: &mut [SourceSlot],
        producer: Option<&mut (dyn Producer + 'static)>,
    ) -> Option<Event> {
        let committed = match producer.filter(|_| self.transactional) {
            Some(producer) => self.poll_transaction(producer),
            None => self.poll_commit(sources),
        };
        committed.or_else(|| self.poll_read(sources))
    }

    fn poll_read(&mut self, sources: &mut [SourceSlot]) -> Option<Event> {
        if !self.reading {
            return None;
        }
        for slot in sources.iter_mut().filter(|slot| slot.read_pending) {
            match slot.offsets.poll_read() {
                Poll::Pending => {}
                Poll::Ready(Ok(committed)) => {
                    slot.read_pending = false;
                    self.read.extend(committed.into_iter().map(|c| Committed {
                        partition: c.partition,
                        offset: c.offset,
                        start: c.start,
                        metadata: c.metadata,
                    }));
                }
                Poll::Ready(Err(e)) => {
                    slot.read_pending = false;
                    self.reading = false;
                    let incident = trouble::of_end(&e, &slot.spec.name);
                    tracing::warn!(source = %slot.spec.name, code = %incident.code, "{incident}");
                    let failure = trouble::failure(&e, incident.clone());
                    self.failed = Some((e, incident));
                    return Some(Event::ReadFailed(failure));
                }
            }
        }
        if sources.iter().any(|slot| slot.read_pending) {
            return None;
        }
        self.reading = false;
        Some(Event::ReadDone(std::mem::take(&mut self.read)))
    }

    fn poll_commit(&mut self, sources: &mut [SourceSlot]) -> Option<Event> {
        self.committing.as_ref()?;
        for slot in sources.iter_mut().filter(|slot| slot.commit_pending) {
            match slot.offsets.poll_commit() {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    slot.commit_pending = false;
                    if let Err(e) = result {
                        let incident = trouble::of_end(&e, &slot.spec.name);
                        tracing::warn!(source = %slot.spec.name, code = %incident.code, "{incident}");
                        self.failed = Some((e, incident));
                    }
                }
            }
        }
        if sources.iter().any(|slot| slot.commit_pending) {
            return None;
        }
        self.ended(true)
    }

    fn poll_transaction(&mut self, producer: &mut dyn Producer) -> Option<Event> {
        self.committing.as_ref()?;
        let clean = match producer.poll_commit() {
            Poll::Pending => return None,
            Poll::Ready(Ok(clean)) => clean,
            Poll::Ready(Err(e)) => {
                let incident = trouble::of_end(&e, "the transaction");
                tracing::warn!(code = %incident.code, "{incident}");
                self.failed = Some((e, incident));
                false
            }
        };
        self.ended(clean)
    }

    /// What the end of a commit is to the machine.
    fn ended(&mut self, clean: bool) -> Option<Event> {
        let (purpose, positions) = self.committing.take()?;
        let Some((e, incident)) = &self.failed else {
            self.last_committed = positions;
            return Some(match purpose {
                Purpose::Claim => Event::ClaimDone { clean },
                Purpose::Work => Event::CommitDone { clean },
            });
        };
        Some(match (e.kind, purpose) {
            (ErrorKind::Fenced, Purpose::Claim) => Event::ClaimFenced,
            (ErrorKind::Fenced, Purpose::Work) => Event::CommitFenced,
            (_, Purpose::Claim) => Event::ClaimFailed(trouble::failure(e, incident.clone())),
            (_, Purpose::Work) => Event::CommitFailed(trouble::failure(e, incident.clone())),
        })
    }
}
