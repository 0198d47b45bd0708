//! A store that stops, batches as clients send them, and what a reader of a partition gets.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use pelton_broker::batch::{Batch, BatchHeader};
use pelton_broker::core::retention::SegmentInfo;
use pelton_broker::core::{CommittedOffset, Entry, GroupOffset, Isolation, LogId};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::store::{Located, MemoryStore, Replayed, SegmentStore, Wanted};
use pelton_broker::{Broker, Settings};

pub type B = Broker<Stopping>;

/// A store that takes so many effects and then no more, as if the process had ended there.
#[derive(Debug, Clone)]
pub struct Stopping {
    pub inner: MemoryStore,
    pub left: Rc<Cell<usize>>,
}

impl Stopping {
    fn step(&self) -> io::Result<()> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| io::Error::other("stopped"))?;
        self.left.set(left);
        Ok(())
    }
}

impl SegmentStore for Stopping {
    type Range = Bytes;
    fn replay(&mut self, visit: &mut dyn FnMut(Replayed)) -> io::Result<()> {
        self.inner.replay(visit)
    }
    fn append(&mut self, log: LogId, batch: &Batch) -> io::Result<()> {
        self.step()?;
        self.inner.append(log, batch)
    }
    fn journal(&mut self, entry: &Entry) -> io::Result<()> {
        self.step()?;
        self.inner.journal(entry)
    }
    fn journal_is_long(&self) -> bool {
        self.left.get().is_multiple_of(7) // rewrites happen at odd moments
    }
    fn rewrite_journal(&mut self, entries: &[Entry]) -> io::Result<()> {
        self.inner.rewrite_journal(entries)
    }
    fn locate(&self, log: LogId, wanted: Wanted) -> Located<Bytes> {
        self.inner.locate(log, wanted)
    }
    fn locate_time(&self, log: LogId, from: i64, timestamp_ms: i64) -> Option<(Bytes, i64)> {
        self.inner.locate_time(log, from, timestamp_ms)
    }
    fn newest_record_ms(&self, log: LogId) -> Option<i64> {
        self.inner.newest_record_ms(log)
    }
    fn segments(&self, log: LogId) -> Vec<SegmentInfo> {
        self.inner.segments(log)
    }
    fn roll(&mut self, log: LogId) -> io::Result<()> {
        self.inner.roll(log)
    }
}

pub fn id(producer: usize) -> &'static str {
    ["a", "b"][producer]
}

pub fn offset(offset: i64) -> GroupOffset {
    let committed = CommittedOffset { offset, leader_epoch: -1, metadata: offset.to_string() };
    GroupOffset { topic: "t".to_owned(), partition: 0, committed }
}

pub fn encode(values: &[String]) -> Batch {
    let records: Vec<_> = values
        .iter()
        .map(|value| NewRecord { value: Some(value.clone().into()), ..NewRecord::default() })
        .collect();
    records::encode(&records).unwrap()
}

pub fn idempotent(batch: Batch, producer: (i64, i16), sequence: &mut i32) -> Batch {
    with_producer(batch, producer, sequence, 0)
}

pub fn transactional(batch: Batch, producer: (i64, i16), sequence: &mut i32) -> Batch {
    with_producer(batch, producer, sequence, 0x10)
}

/// The batch as a client with a producer id would have sent it.
pub fn with_producer(
    batch: Batch,
    (producer_id, epoch): (i64, i16),
    sequence: &mut i32,
    attributes: i16,
) -> Batch {
    let mut bytes = batch.to_bytes().to_vec();
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
    bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    *sequence += batch.header.count;
    Batch::from_bytes(bytes.into()).unwrap()
}

/// Values by offset, as a consumer would deliver them.
pub fn read<S: SegmentStore>(
    broker: &Broker<S>,
    partition: i32,
    isolation: Isolation,
) -> BTreeMap<i64, String> {
    use pelton_broker::store::ByteRange;
    let (log, core) = broker.state().find("t", partition).unwrap();
    let limit = core.visible_end(isolation);
    let aborted = match isolation {
        Isolation::ReadCommitted => core.aborted_between(0, limit),
        Isolation::ReadUncommitted => Vec::new(),
    };
    let (mut values, mut at) = (BTreeMap::new(), 0);
    while at < limit {
        let wanted = Wanted { from: at, limit, max_bytes: 0, at_least_one: true };
        let found = broker.store().locate(log, wanted);
        let mut bytes = vec![0; found.ranges[0].len()];
        found.ranges[0].read_into(&mut bytes).unwrap();
        let header = BatchHeader::check(&bytes).unwrap();
        assert_eq!(header.base_offset, at, "a gap, or an offset that is not monotonic");
        at = header.next_offset();
        let is_aborted = aborted.iter().any(|range| {
            range.producer_id == header.producer_id
                && (range.first_offset..range.last_offset).contains(&header.base_offset)
        });
        if header.is_control() || is_aborted {
            continue;
        }
        for stored in records::decode(&bytes.into()).unwrap() {
            values.insert(stored.offset, String::from_utf8(stored.record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

pub fn start(store: Stopping) -> B {
    Broker::open(store, Settings::default(), 0).unwrap()
}
