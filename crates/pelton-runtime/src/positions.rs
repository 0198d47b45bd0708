//! The committed positions of a task, over all its sources.
//!
//! Each source keeps its positions in its own place; the task reads and commits them together. A commit is done when
//! every source's part is; a failure of any part fails the whole, and the machine tries the whole again.

use crate::{setup::SourceSlot, trouble};
use pelton_checkpoint::{Committed, Event, Positions};
use pelton_sdk::EndError;
use pelton_types::Incident;
use std::task::Poll;

/// What a commit is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Claim,
    Work,
}

/// See the module.
#[derive(Default)]
pub struct PositionStore {
    reading: bool,
    read: Vec<Committed>,
    committing: Option<(Purpose, Positions)>,
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
    pub fn start_claim(&mut self, sources: &mut [SourceSlot], positions: Positions, metadata: &str) {
        self.start(sources, Purpose::Claim, positions, metadata);
    }

    /// Commit a cut.
    pub fn start_commit(&mut self, sources: &mut [SourceSlot], positions: Positions, metadata: &str) {
        self.start(sources, Purpose::Work, positions, metadata);
    }

    fn start(&mut self, sources: &mut [SourceSlot], purpose: Purpose, positions: Positions, metadata: &str) {
        for slot in sources {
            let own: Positions =
                positions.iter().filter(|(p, _)| slot.spec.partitions.contains(p)).cloned().collect();
            slot.commit_pending = !own.is_empty();
            if slot.commit_pending {
                slot.offsets.start_commit(&own, metadata);
            }
        }
        self.failed = None;
        self.committing = Some((purpose, positions));
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
    pub fn poll(&mut self, sources: &mut [SourceSlot]) -> Option<Event> {
        self.poll_commit(sources).or_else(|| self.poll_read(sources))
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
        let (purpose, positions) = self.committing.take()?;
        Some(match (&self.failed, purpose) {
            (None, purpose) => {
                self.last_committed = positions;
                match purpose {
                    Purpose::Claim => Event::ClaimDone { clean: true },
                    Purpose::Work => Event::CommitDone { clean: true },
                }
            }
            (Some((e, _)), Purpose::Claim) if e.kind == pelton_sdk::ErrorKind::Fenced => Event::ClaimFenced,
            (Some((e, _)), Purpose::Work) if e.kind == pelton_sdk::ErrorKind::Fenced => Event::CommitFenced,
            (Some((e, incident)), Purpose::Claim) => {
                Event::ClaimFailed(trouble::failure(e, incident.clone()))
            }
            (Some((e, incident)), Purpose::Work) => {
                Event::CommitFailed(trouble::failure(e, incident.clone()))
            }
        })
    }
}
