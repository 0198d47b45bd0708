//! The core of one partition: offsets, producers, open and aborted transactions.

use std::collections::{HashMap, HashSet};

use super::producer::{Producer, ProducerInfo};
use crate::batch::{BatchHeader, Marker};
use crate::code::Code;

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything in the log.
    ReadUncommitted,
    /// Nothing at or after the first record of an open transaction; aborted ranges are named.
    ReadCommitted,
}

impl Isolation {
    /// From the wire: 1 is read committed.
    #[must_use]
    pub fn from_wire(level: i8) -> Self {
        if level == 1 { Self::ReadCommitted } else { Self::ReadUncommitted }
    }
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Append it at this offset.
    Append(i64),
    /// It is in the log already, at this offset: answer as the first time.
    Repeat(i64),
}

/// An aborted transaction of one producer in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedRange {
    /// Whose records to skip.
    pub producer_id: i64,
    /// First record of the transaction.
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
}

/// State of one partition, rebuilt from its log by [`Partition::apply`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Partition {
    start_offset: i64,
    next_offset: i64,
    /// Records before this offset were compacted.
    compacted_to: i64,
    producers: HashMap<i64, Producer>,
    /// First offset of the open transaction, by producer id.
    open: HashMap<i64, i64>,
    /// Ordered by `last_offset`.
    aborted: Vec<AbortedRange>,
}

impl Partition {
    /// Offset the next record gets; also the high watermark, with a single node.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Offset of the oldest record that counts.
    #[must_use]
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Records before `offset` are gone.
    pub fn begin_at(&mut self, offset: i64) {
        self.start_offset = self.start_offset.max(offset);
        self.next_offset = self.next_offset.max(offset);
        self.aborted.retain(|range| range.last_offset >= self.start_offset);
    }

    /// Records before this offset were compacted.
    #[must_use]
    pub fn compacted_to(&self) -> i64 {
        self.compacted_to
    }

    /// Records before `offset` were compacted.
    pub fn compacted(&mut self, offset: i64) {
        self.compacted_to = self.compacted_to.max(offset);
    }

    /// Base offsets of the batches that producers go on from.
    #[must_use]
    pub fn last_of_producers(&self) -> HashSet<i64> {
        self.producers.values().filter_map(Producer::last_base).collect()
    }

    /// The log ends at `offset`, even if its last records are gone.
    pub fn end_at(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// First offset that an open transaction may still take back.
    #[must_use]
    pub fn stable_offset(&self) -> i64 {
        self.open.values().copied().min().map_or(self.next_offset, |first| first.max(self.start_offset))
    }

    /// End of what a reader may see.
    #[must_use]
    pub fn visible_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.next_offset,
            Isolation::ReadCommitted => self.stable_offset(),
        }
    }

    /// Whether `producer_id` has records here that no marker follows.
    #[must_use]
    pub fn has_open(&self, producer_id: i64) -> bool {
        self.open.contains_key(&producer_id)
    }

    /// Producers with records that no marker follows, and their epochs.
    #[must_use]
    pub fn open_producers(&self) -> Vec<(i64, i16)> {
        let epoch = |id: &i64| self.producers.get(id).map_or(0, Producer::epoch);
        let mut producers: Vec<_> = self.open.keys().map(|id| (*id, epoch(id))).collect();
        producers.sort_unstable();
        producers
    }

    /// All producers it knows, by id.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerInfo> {
        let info = |(id, producer): (&i64, &Producer)| producer.info(*id, self.open.get(id).copied());
        let mut producers: Vec<_> = self.producers.iter().map(info).collect();
        producers.sort_unstable_by_key(|producer| producer.id);
        producers
    }

    /// Decides about a batch of a client.
    ///
    /// # Errors
    /// The code to answer with: fenced epoch, gap in the sequence, or a marker that clients may not send.
    pub fn admit(&self, header: &BatchHeader) -> Result<Admission, Code> {
        if header.is_control() {
            return Err(Code::InvalidRecord);
        }
        if header.producer_id < 0 {
            return if header.is_transactional() {
                Err(Code::InvalidRecord)
            } else {
                Ok(Admission::Append(self.next_offset))
            };
        }
        if header.producer_epoch < 0 || header.base_sequence < 0 {
            return Err(Code::InvalidRecord);
        }
        if let Some(producer) = self.producers.get(&header.producer_id) {
            if let Some(base_offset) = producer.repeated(header) {
                return Ok(Admission::Repeat(base_offset));
            }
            producer.check(header)?;
        }
        Ok(Admission::Append(self.next_offset))
    }

    /// Decides about a marker that does not come from this broker's own coordinator.
    ///
    /// # Errors
    /// An older epoch of the producer or of a coordinator.
    pub fn admit_marker(&self, producer_id: i64, epoch: i16, coordinator_epoch: i32) -> Result<(), Code> {
        if producer_id < 0 || epoch < 0 {
            return Err(Code::InvalidProducerEpoch);
        }
        self.producers
            .get(&producer_id)
            .map_or(Ok(()), |producer| producer.check_marker(epoch, coordinator_epoch))
    }

    /// Whether there is a producer without an open transaction whose last batch is not younger than `until_ms`.
    #[must_use]
    pub fn has_silent_producer(&self, until_ms: i64) -> bool {
        self.producers.iter().any(|(id, producer)| self.is_silent(*id, producer, until_ms))
    }

    fn is_silent(&self, id: i64, producer: &Producer, until_ms: i64) -> bool {
        producer.last_ms() <= until_ms && !self.open.contains_key(&id)
    }

    /// Forgets the producers that [`Partition::has_silent_producer`] means, and gives their memory back.
    pub fn forget_producers(&mut self, until_ms: i64) {
        let mut producers = std::mem::take(&mut self.producers);
        producers.retain(|id, producer| !self.is_silent(*id, producer, until_ms));
        if producers.capacity() > 4 * producers.len() {
            producers.shrink_to_fit();
        }
        self.producers = producers;
    }

    /// Takes note of a batch that is in the log.
    pub fn apply(&mut self, header: &BatchHeader) {
        self.next_offset = self.next_offset.max(header.next_offset());
        if header.producer_id < 0 {
            return;
        }
        let producer =
            self.producers.entry(header.producer_id).or_insert_with(|| Producer::new(header.producer_epoch));
        producer.apply(header);
        if header.is_control() {
            let first = self.open.remove(&header.producer_id);
            if let (Some(first_offset), Some(Marker::Abort)) = (first, header.marker) {
                self.aborted.push(AbortedRange {
                    producer_id: header.producer_id,
                    first_offset,
                    last_offset: header.base_offset,
                });
            }
        } else if header.is_transactional() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
        }
    }

    /// Aborted transactions that a reader of `from..to` must skip.
    #[must_use]
    pub fn aborted_between(&self, from: i64, to: i64) -> Vec<AbortedRange> {
        let begin = self.aborted.partition_point(|range| range.last_offset < from);
        self.aborted[begin..].iter().filter(|range| range.first_offset < to).copied().collect()
    }
}
