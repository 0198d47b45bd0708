//! What a partition remembers of one idempotent producer.

use std::collections::VecDeque;

use crate::batch::BatchHeader;
use crate::code::Code;

/// Batches in flight at once an idempotent client may have, and so how many a repeat can reach back.
const REMEMBERED_BATCHES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

/// A producer of a partition as administrators see it; -1 for what there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// Time of its last batch, milliseconds since 1970.
    pub last_ms: i64,
    /// Epoch of the coordinator that wrote its last marker.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub open_from: i64,
}

/// Epoch and last sequence numbers of a producer in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    epoch: i16,
    sent: VecDeque<Sent>,
    /// Time of the last batch, milliseconds since 1970.
    last_ms: i64,
    /// Of who wrote the last marker; -1 before the first.
    coordinator_epoch: i32,
}

impl Producer {
    pub(super) fn new(epoch: i16) -> Self {
        Self { epoch, sent: VecDeque::new(), last_ms: -1, coordinator_epoch: -1 }
    }

    /// What administrators see of it.
    pub(super) fn info(&self, id: i64, open_from: Option<i64>) -> ProducerInfo {
        ProducerInfo {
            id,
            epoch: self.epoch,
            last_sequence: self.sent.back().map_or(-1, |sent| sent.last_sequence),
            last_ms: self.last_ms,
            coordinator_epoch: self.coordinator_epoch,
            open_from: open_from.unwrap_or(-1),
        }
    }

    /// Base offset of its last batch.
    pub(super) fn last_base(&self) -> Option<i64> {
        self.sent.back().map(|sent| sent.base_offset)
    }

    /// Time of its last batch, milliseconds since 1970.
    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    pub(super) fn epoch(&self) -> i16 {
        self.epoch
    }

    /// Base offset of the same batch sent before, if this one is a repeat.
    pub(super) fn repeated(&self, header: &BatchHeader) -> Option<i64> {
        let same = |sent: &&Sent| {
            sent.first_sequence == header.base_sequence && sent.last_sequence == header.last_sequence()
        };
        (header.producer_epoch == self.epoch)
            .then(|| self.sent.iter().find(same))?
            .map(|sent| sent.base_offset)
    }

    /// Whether `header` may follow: an old epoch is fenced, a new epoch begins at 0, else no gap.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<(), Code> {
        if header.producer_epoch < self.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        let expected = if header.producer_epoch > self.epoch {
            Some(0)
        } else {
            self.sent.back().map(|sent| sent.last_sequence.checked_add(1).unwrap_or(0))
        };
        match expected {
            Some(next) if next != header.base_sequence => Err(Code::OutOfOrderSequence),
            _ => Ok(()),
        }
    }

    /// Whether a marker of this producer epoch, from a coordinator of that epoch, may follow.
    pub(super) fn check_marker(&self, epoch: i16, coordinator_epoch: i32) -> Result<(), Code> {
        if epoch < self.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        if coordinator_epoch < self.coordinator_epoch {
            return Err(Code::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    /// Remembers a batch that is in the log. A marker moves the epoch only.
    pub(super) fn apply(&mut self, header: &BatchHeader) {
        if header.producer_epoch > self.epoch {
            *self = Self { coordinator_epoch: self.coordinator_epoch, ..Self::new(header.producer_epoch) };
        }
        self.last_ms = header.max_timestamp;
        if header.is_control() {
            self.coordinator_epoch = self.coordinator_epoch.max(header.coordinator_epoch);
            return;
        }
        if self.sent.len() == REMEMBERED_BATCHES {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
        });
    }
}
