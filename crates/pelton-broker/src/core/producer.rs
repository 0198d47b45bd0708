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

/// Epoch and last sequence numbers of a producer in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    epoch: i16,
    sent: VecDeque<Sent>,
}

impl Producer {
    pub(super) fn new(epoch: i16) -> Self {
        Self { epoch, sent: VecDeque::new() }
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

    /// Remembers a batch that is in the log. A marker moves the epoch only.
    pub(super) fn apply(&mut self, header: &BatchHeader) {
        if header.producer_epoch > self.epoch {
            *self = Self::new(header.producer_epoch);
        }
        if header.is_control() {
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
