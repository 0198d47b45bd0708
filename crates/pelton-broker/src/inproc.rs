//! The broker called in process, without sockets or files: for simulations and tests.
//!
//! ```
//! use pelton_broker::inproc::InProcBroker;
//! use pelton_broker::records::NewRecord;
//!
//! let broker = InProcBroker::new();
//! broker.create_topic("numbers", 2).unwrap();
//! let record = NewRecord { value: Some("one".into()), timestamp_ms: 7, ..NewRecord::default() };
//! assert_eq!(broker.append(("numbers", 0), &[record.clone()], 7).unwrap(), 0);
//! assert_eq!(broker.read(("numbers", 0), 0, 100).unwrap()[0].record, record);
//! assert_eq!(broker.end_offset(("numbers", 0)).unwrap(), 1);
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::broker::{Broker, Settings};
use crate::code::Code;
use crate::core::{CommittedOffset, GroupOffset, Isolation, TopicConfig};
use crate::records::{self, NewRecord, StoredRecord};
use crate::store::{MemoryStore, SegmentStore, Wanted};

/// Topic name and partition index.
pub type TopicPartition<'a> = (&'a str, i32);

/// A broker in memory. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct InProcBroker {
    broker: Arc<Mutex<Broker<MemoryStore>>>,
}

impl Default for InProcBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl InProcBroker {
    /// An empty broker.
    ///
    /// # Panics
    /// Never: an empty memory store opens.
    #[must_use]
    pub fn new() -> Self {
        let broker = Broker::open(MemoryStore::default(), Settings::default(), 0);
        #[allow(clippy::expect_used)]
        let broker = broker.expect("an empty memory store opens");
        Self { broker: Arc::new(Mutex::new(broker)) }
    }

    /// The broker itself, for [`crate::api::handle`] and whatever is not offered here.
    pub fn lock(&self) -> MutexGuard<'_, Broker<MemoryStore>> {
        // A panic in another test thread leaves the state as of its last complete effect.
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`Code::TopicAlreadyExists`], or a bad name or count.
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<(), Code> {
        let mut broker = self.lock();
        let plan = broker.state().plan_create_topic(name, partitions, TopicConfig::new())?;
        broker.run(plan, Code::KafkaStorageError)
    }

    /// How many partitions a topic has.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> Option<u32> {
        self.lock().state().topics().get(topic).map(|topic| topic.partitions)
    }

    /// Appends records as one batch; gives the offset of the first.
    ///
    /// # Errors
    /// Unknown topic or partition; [`Code::InvalidRecord`] for an empty list.
    pub fn append(&self, to: TopicPartition<'_>, records: &[NewRecord], now_ms: i64) -> Result<i64, Code> {
        let batch = records::encode(records).ok_or(Code::InvalidRecord)?;
        let mut broker = self.lock();
        let plan = broker.state().plan_produce(to, None, batch, now_ms)?;
        let (base_offset, _) = broker.run(plan, Code::KafkaStorageError)?;
        Ok(base_offset)
    }

    /// Up to `max_records` committed records from `offset` on; empty at the end. Records of aborted
    /// transactions and markers are left out.
    ///
    /// # Errors
    /// Unknown partition, [`Code::OffsetOutOfRange`], or [`Code::CorruptMessage`] for a compressed batch.
    pub fn read(
        &self,
        from: TopicPartition<'_>,
        offset: i64,
        max_records: usize,
    ) -> Result<Vec<StoredRecord>, Code> {
        let broker = self.lock();
        let (log, core) = broker.state().find(from.0, from.1)?;
        let limit = core.visible_end(Isolation::ReadCommitted);
        if !(core.start_offset()..=core.next_offset()).contains(&offset) {
            return Err(Code::OffsetOutOfRange);
        }
        let aborted = core.aborted_between(offset, limit);
        let (mut found, mut at) = (Vec::new(), offset);
        while at < limit && found.len() < max_records {
            let wanted = Wanted { from: at, limit, max_bytes: 0, at_least_one: true };
            let located = broker.store().locate(log, wanted);
            let Some(bytes) = located.ranges.first() else { break };
            let header = crate::batch::BatchHeader::parse(bytes).map_err(|_| Code::CorruptMessage)?;
            let is_aborted = header.is_transactional()
                && aborted.iter().any(|range| {
                    range.producer_id == header.producer_id
                        && (range.first_offset..range.last_offset).contains(&header.base_offset)
                });
            if !header.is_control() && !is_aborted {
                for stored in records::stored(bytes).map_err(|_| Code::CorruptMessage)? {
                    let stored = stored.map_err(|_| Code::CorruptMessage)?;
                    if found.len() == max_records {
                        break;
                    }
                    if stored.offset >= offset {
                        found.push(stored);
                    }
                }
            }
            at = located.next_offset;
        }
        Ok(found)
    }

    /// Offset the next record of a partition gets.
    ///
    /// # Errors
    /// Unknown topic or partition.
    pub fn end_offset(&self, of: TopicPartition<'_>) -> Result<i64, Code> {
        self.lock().state().find(of.0, of.1).map(|(_, core)| core.next_offset())
    }

    /// Stores the next offset to read, and a text, for a group.
    ///
    /// # Errors
    /// Unknown partition, or metadata longer than 4096 bytes.
    pub fn commit(
        &self,
        group: &str,
        of: TopicPartition<'_>,
        offset: i64,
        metadata: &str,
    ) -> Result<(), Code> {
        self.commit_all(group, &[(of, offset, metadata)])
    }

    /// The same for several partitions, all or nothing.
    ///
    /// # Errors
    /// As [`InProcBroker::commit`].
    pub fn commit_all(&self, group: &str, offsets: &[(TopicPartition<'_>, i64, &str)]) -> Result<(), Code> {
        let mut broker = self.lock();
        let checked = offsets.iter().map(|((topic, partition), offset, metadata)| {
            broker.state().find(topic, *partition)?;
            let committed =
                CommittedOffset { offset: *offset, leader_epoch: -1, metadata: (*metadata).to_owned() };
            crate::core::Groups::check(&committed)?;
            Ok(GroupOffset { topic: (*topic).to_owned(), partition: *partition, committed })
        });
        let checked = checked.collect::<Result<Vec<_>, Code>>()?;
        let plan = broker.state().plan_commit_offsets(group, checked, 0);
        broker.run(plan, Code::KafkaStorageError)
    }

    /// What the group committed, if anything.
    #[must_use]
    pub fn committed(&self, group: &str, of: TopicPartition<'_>) -> Option<CommittedOffset> {
        self.lock().state().groups().committed(group, of.0, of.1).cloned()
    }
}
