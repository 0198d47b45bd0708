//! Whatever is asked of the broker, and wherever it stops: what was acknowledged is there afterwards.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use pelton_broker::batch::{Batch, BatchHeader};
use pelton_broker::core::retention::SegmentInfo;
use pelton_broker::core::{CommittedOffset, Entry, GroupOffset, Isolation, LogId, TopicConfig};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::store::{FileOptions, FileStore, Located, MemoryStore, Replayed, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};
use proptest::prelude::*;

/// A store that takes so many effects and then no more, as if the process had ended there.
#[derive(Debug, Clone)]
struct Stopping {
    inner: MemoryStore,
    left: Rc<Cell<usize>>,
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

#[derive(Debug, Clone)]
enum Step {
    Plain { partition: i32, count: usize },
    Repeat,
    Begin { producer: usize },
    InTxn { producer: usize, partition: i32 },
    TxnOffset { producer: usize },
    End { producer: usize, commit: bool },
    Commit,
    Expire,
}

fn any_step() -> impl Strategy<Value = Step> {
    let producer = 0..2_usize;
    prop_oneof![
        (0..3, 1..4_usize).prop_map(|(partition, count)| Step::Plain { partition, count }),
        Just(Step::Repeat),
        producer.clone().prop_map(|producer| Step::Begin { producer }),
        (producer.clone(), 0..3).prop_map(|(producer, partition)| Step::InTxn { producer, partition }),
        (producer.clone(), 0..3).prop_map(|(producer, partition)| Step::InTxn { producer, partition }),
        producer.clone().prop_map(|producer| Step::TxnOffset { producer }),
        (producer, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        Just(Step::Commit),
        Just(Step::Expire),
    ]
}

/// What happens to the records of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Acknowledged for good: readers of committed records must see it.
    Counts,
    /// Acknowledged, its transaction is open.
    Open(usize),
    /// Nobody may see it.
    Aborted,
    /// The broker stopped while deciding.
    Undecided,
}

/// One client's view: what it was told.
#[derive(Debug, Default)]
struct Told {
    /// Value and fate by partition and offset.
    records: BTreeMap<(i32, i64), (String, Fate)>,
    offset: i64,
    pending_offset: [Option<i64>; 2],
    offset_undecided: Option<i64>,
    producers: [(i64, i16); 2],
    sequences: BTreeMap<(usize, i32), i32>,
    last_idempotent: Option<(i32, Batch, i64)>,
    values: usize,
}

type B = Broker<Stopping>;
const TXN_TIMEOUT_MS: i32 = 1000;

impl Told {
    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    fn take(&mut self, broker: &mut B, step: &Step, now_ms: i64) -> Result<(), Code> {
        match step {
            Step::Plain { partition, count } => self.plain(broker, *partition, *count),
            Step::Repeat => self.repeat(broker),
            Step::Begin { producer } => self.begin(broker, *producer, now_ms),
            Step::InTxn { producer, partition } => self.in_txn(broker, *producer, *partition, now_ms),
            Step::TxnOffset { producer } => self.txn_offset(broker, *producer, now_ms),
            Step::End { producer, commit } => self.end(broker, *producer, *commit, now_ms),
            Step::Commit => {
                let next = self.offset + 1;
                self.offset_undecided = Some(next);
                let plan = broker.state().plan_commit_offsets("g", vec![offset(next)], now_ms);
                broker.run(plan, Code::KafkaStorageError)?;
                (self.offset, self.offset_undecided) = (next, None);
                Ok(())
            }
            Step::Expire => {
                // Time is still: nothing may be aborted.
                broker.expire_transactions(now_ms);
                Ok(())
            }
        }
    }

    fn plain(&mut self, broker: &mut B, partition: i32, count: usize) -> Result<(), Code> {
        let values: Vec<String> = (0..count).map(|_| self.value()).collect();
        let batch =
            idempotent(encode(&values), (9_000_000, 0), self.sequences.entry((9, partition)).or_default());
        let plan = broker.state().plan_produce(("t", partition), None, batch.clone(), 0)?;
        let (base, _) = broker.run(plan, Code::KafkaStorageError)?;
        self.last_idempotent = Some((partition, batch, base));
        for (delta, value) in values.into_iter().enumerate() {
            let told = self.records.insert((partition, base + delta as i64), (value, Fate::Counts));
            assert_eq!(told, None, "an offset was given twice");
        }
        Ok(())
    }

    fn repeat(&mut self, broker: &mut B) -> Result<(), Code> {
        let Some((partition, batch, base)) = self.last_idempotent.clone() else { return Ok(()) };
        let plan = broker.state().plan_produce(("t", partition), None, batch, 0)?;
        assert!(plan.effects().is_empty(), "a repeated batch would be stored twice");
        assert_eq!(broker.run(plan, Code::KafkaStorageError)?.0, base);
        Ok(())
    }

    fn begin(&mut self, broker: &mut B, producer: usize, now_ms: i64) -> Result<(), Code> {
        let plan = broker.state().plan_init_transactional(
            id(producer),
            TXN_TIMEOUT_MS,
            None,
            Code::ProducerFenced,
            now_ms,
        )?;
        let old = self.producers[producer];
        self.decide(producer, Fate::Aborted);
        let new = broker.run(plan, Code::KafkaStorageError)?;
        assert!(old.0 != new.0 || old.1 < new.1, "epoch {old:?} was not fenced by {new:?}");
        self.producers[producer] = new;
        self.sequences.retain(|(owner, _), _| *owner != producer);
        Ok(())
    }

    fn in_txn(&mut self, broker: &mut B, producer: usize, partition: i32, now_ms: i64) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let owner = (id(producer), producer_id, epoch);
        let place = vec![("t".to_owned(), partition)];
        let plan = broker.state().plan_txn_partitions(owner, place, Code::ProducerFenced, now_ms)?;
        broker.run(plan, Code::KafkaStorageError)?;
        let value = self.value();
        let sequence = self.sequences.entry((producer, partition)).or_default();
        let batch = transactional(encode(std::slice::from_ref(&value)), (producer_id, epoch), sequence);
        let plan = broker.state().plan_produce(("t", partition), Some(id(producer)), batch, now_ms)?;
        let (base, _) = broker.run(plan, Code::KafkaStorageError)?;
        self.records.insert((partition, base), (value, Fate::Open(producer)));
        Ok(())
    }

    fn txn_offset(&mut self, broker: &mut B, producer: usize, now_ms: i64) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let owner = (id(producer), producer_id, epoch);
        let fenced = Code::ProducerFenced;
        let plan = broker.state().plan_txn_offsets(owner, "g", Vec::new(), fenced, now_ms)?;
        broker.run(plan, Code::KafkaStorageError)?;
        let next = self.offset + 100;
        let plan = broker.state().plan_txn_offsets(owner, "g", vec![offset(next)], fenced, now_ms)?;
        broker.run(plan, Code::KafkaStorageError)?;
        assert!(broker.state().transactions().has_pending("g", "t", 0));
        self.pending_offset[producer] = Some(next);
        Ok(())
    }

    fn end(&mut self, broker: &mut B, producer: usize, commit: bool, now_ms: i64) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let owner = (id(producer), producer_id, epoch);
        let plan = broker.state().plan_end_txn(owner, commit, Code::ProducerFenced, now_ms)?;
        if plan.effects().is_empty() {
            return Ok(()); // a repeat
        }
        let pending = self.pending_offset[producer].take().filter(|_| commit);
        self.offset_undecided = pending;
        // Until the answer is there, either may be true; an abort can only become an abort.
        self.decide(producer, if commit { Fate::Undecided } else { Fate::Aborted });
        broker.run(plan, Code::KafkaStorageError)?;
        self.offset = pending.unwrap_or(self.offset);
        self.offset_undecided = None;
        for (_, fate) in self.records.values_mut().filter(|(_, fate)| *fate == Fate::Undecided) {
            *fate = Fate::Counts;
        }
        Ok(())
    }

    fn decide(&mut self, producer: usize, decided: Fate) {
        for (_, fate) in self.records.values_mut().filter(|(_, fate)| *fate == Fate::Open(producer)) {
            *fate = decided;
        }
        if decided == Fate::Aborted {
            self.pending_offset[producer] = None;
        }
    }

    fn check<S: SegmentStore>(&self, broker: &Broker<S>) {
        // Records of the transaction that was being decided when the broker stopped: seen, or not.
        let mut undecided_seen = Vec::new();
        for partition in 0..3 {
            let all = read(broker, partition, Isolation::ReadUncommitted);
            let committed = read(broker, partition, Isolation::ReadCommitted);
            let told = self.records.iter().filter(|((p, _), _)| *p == partition);
            for ((_, offset), (value, fate)) in told {
                assert_eq!(all.get(offset), Some(value), "acknowledged record {partition}@{offset} is lost");
                let is_seen = committed.contains_key(offset);
                match fate {
                    Fate::Aborted => assert!(!is_seen, "aborted {value} is seen"),
                    Fate::Open(_) => assert!(!is_seen, "{value} of an open transaction is seen"),
                    // Behind an open transaction it may have to wait.
                    Fate::Counts => {
                        let (_, core) = broker.state().find("t", partition).unwrap();
                        assert!(is_seen || *offset >= core.stable_offset(), "committed {value} is not seen");
                    }
                    Fate::Undecided => undecided_seen.push(is_seen),
                }
            }
        }
        let stored = broker.state().groups().committed("g", "t", 0).map_or(0, |committed| committed.offset);
        assert!(
            stored == self.offset || Some(stored) == self.offset_undecided,
            "offset {stored}, told {}",
            self.offset
        );
    }
}

fn id(producer: usize) -> &'static str {
    ["a", "b"][producer]
}

fn offset(offset: i64) -> GroupOffset {
    let committed = CommittedOffset { offset, leader_epoch: -1, metadata: offset.to_string() };
    GroupOffset { topic: "t".to_owned(), partition: 0, committed }
}

fn encode(values: &[String]) -> Batch {
    let records: Vec<_> = values
        .iter()
        .map(|value| NewRecord { value: Some(value.clone().into()), ..NewRecord::default() })
        .collect();
    records::encode(&records).unwrap()
}

fn idempotent(batch: Batch, producer: (i64, i16), sequence: &mut i32) -> Batch {
    with_producer(batch, producer, sequence, 0)
}

fn transactional(batch: Batch, producer: (i64, i16), sequence: &mut i32) -> Batch {
    with_producer(batch, producer, sequence, 0x10)
}

/// The batch as a client with a producer id would have sent it.
fn with_producer(
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
fn read<S: SegmentStore>(broker: &Broker<S>, partition: i32, isolation: Isolation) -> BTreeMap<i64, String> {
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

fn start(store: Stopping) -> B {
    Broker::open(store, Settings::default(), 0).unwrap()
}

/// The state a restart rebuilds, as far as it can be told from outside.
fn visible_state<S: SegmentStore>(broker: &Broker<S>) -> String {
    let partitions: Vec<_> = (0..3)
        .map(|partition| {
            let (_, core) = broker.state().find("t", partition).unwrap();
            let open = core.open_producers();
            format!(
                "{} {} {open:?} {:?}",
                core.next_offset(),
                core.stable_offset(),
                core.aborted_between(0, i64::MAX)
            )
        })
        .collect();
    format!("{:?}\n{partitions:?}", broker.state().snapshot())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_acknowledged_is_lost_wherever_the_broker_stops(
        steps in prop::collection::vec(any_step(), 1..60),
        stop_after in 0..120_usize,
    ) {
        let left = Rc::new(Cell::new(usize::MAX));
        let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::clone(&left) });
        let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
        broker.run(plan, Code::KafkaStorageError).unwrap();
        let mut told = Told { producers: [(-2, 0); 2], ..Told::default() };
        left.set(stop_after);
        for step in &steps {
            // Refusals are fine: a step may make no sense now, or the store has stopped.
            let refused = told.take(&mut broker, step, 0);
            if left.get() == 0 || refused == Err(Code::KafkaStorageError) {
                break;
            }
            told.check(&broker);
        }
        left.set(usize::MAX);
        let restarted = start(broker.store().clone());
        told.check(&restarted);
        prop_assert!(restarted.state().transactions().unfinished().is_empty());
        if broker.state().transactions().unfinished().is_empty() {
            // Nothing was left to finish: what lived on and what was rebuilt are the same.
            prop_assert_eq!(visible_state(&broker), visible_state(&restarted));
        }
        // And once more: recovery itself changes nothing that was told, and is idempotent.
        let again = start(restarted.store().clone());
        prop_assert_eq!(visible_state(&again), visible_state(&restarted));
        told.check(&again);
    }

    #[test]
    fn a_log_cut_anywhere_is_repaired_and_goes_on(
        sizes in prop::collection::vec(1..40_usize, 1..12),
        segment_bytes in 100..2000_u64,
        cut in 1..5000_usize,
        garbage in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let store = FileStore::open(dir.path(), &FileOptions { segment_bytes }).unwrap();
            Broker::open(store, Settings::default(), 0).unwrap()
        };
        let mut broker = open();
        let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new()).unwrap();
        broker.run(plan, Code::KafkaStorageError).unwrap();
        for size in &sizes {
            append(&mut broker, &"x".repeat(*size));
        }
        drop(broker);
        let logs = dir.path().join("logs/0/0");
        let last = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        bytes.truncate(bytes.len().saturating_sub(cut));
        bytes.extend(&garbage);
        std::fs::write(&last, &bytes).unwrap();
        let mut broker = open();
        let kept = broker.state().find("t", 0).unwrap().1.next_offset();
        append(&mut broker, "after");
        drop(broker);
        let values: Vec<String> = read(&open(), 0, Isolation::ReadUncommitted).into_values().collect();
        let mut expected: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
        expected.truncate(usize::try_from(kept).unwrap());
        expected.push("after".to_owned());
        prop_assert_eq!(values, expected);
    }
}

fn append(broker: &mut Broker<FileStore>, value: &str) {
    let plan = broker.state().plan_produce(("t", 0), None, encode(&[value.to_owned()]), 0).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
}

fn open_files(dir: &std::path::Path) -> io::Result<Broker<FileStore>> {
    Broker::open(FileStore::open(dir, &FileOptions { segment_bytes: 300 })?, Settings::default(), 0)
}

#[test]
fn a_damaged_full_segment_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open_files(dir.path()).unwrap();
    let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    (0..10).for_each(|i| append(&mut broker, &format!("{i:0>100}")));
    drop(broker);
    let first = dir.path().join("logs/0/0/00000000000000000000.log");
    let bytes = std::fs::read(&first).unwrap();
    std::fs::write(&first, &bytes[..bytes.len() - 1]).unwrap();
    let error = open_files(dir.path()).unwrap_err().to_string();
    assert!(error.contains("00000000000000000000.log: damaged at byte"), "{error}");
}

#[test]
fn a_half_written_line_of_the_journal_is_cut_and_a_damaged_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open_files(dir.path()).unwrap();
    for name in ["a", "b", "c"] {
        let plan = broker.state().plan_create_topic(name, 1, TopicConfig::new()).unwrap();
        broker.run(plan, Code::KafkaStorageError).unwrap();
    }
    drop(broker);
    let journal = dir.path().join("journal");
    let bytes = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &bytes[..bytes.len() - 3]).unwrap();
    let topics: Vec<_> = open_files(dir.path()).unwrap().state().topics().keys().cloned().collect();
    assert_eq!(topics, ["a", "b"]);
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    let error = open_files(dir.path()).unwrap_err().to_string();
    assert!(error.contains("journal: damaged at byte 0"), "{error}");
}

#[test]
fn one_directory_serves_one_broker() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open_files(dir.path()).unwrap();
    let error = open_files(dir.path()).unwrap_err().to_string();
    assert!(error.contains("another broker uses this directory"), "{error}");
}

#[test]
fn a_transaction_over_its_time_is_aborted_and_its_owner_fenced() {
    let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::new(Cell::new(usize::MAX)) });
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let mut told = Told { producers: [(-2, 0); 2], ..Told::default() };
    told.begin(&mut broker, 0, 0).unwrap();
    told.in_txn(&mut broker, 0, 1, 10).unwrap();
    broker.expire_transactions(10 + i64::from(TXN_TIMEOUT_MS) - 1);
    told.check(&broker);
    broker.expire_transactions(10 + i64::from(TXN_TIMEOUT_MS));
    told.decide(0, Fate::Aborted);
    told.check(&broker);
    assert_eq!(told.end(&mut broker, 0, true, 2000), Err(Code::ProducerFenced));
    let (id, epoch) = told.producers[0];
    let late = transactional(encode(&["late".to_owned()]), (id, epoch), &mut 1);
    let refused = broker.state().plan_produce(("t", 1), Some("a"), late, 2000).map(|_| ());
    assert_eq!(refused, Err(Code::InvalidProducerEpoch));
}

#[test]
fn a_store_that_fails_for_a_while_refuses_loses_nothing_and_goes_on() {
    let left = Rc::new(Cell::new(usize::MAX));
    let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::clone(&left) });
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let mut told = Told { producers: [(-2, 0); 2], ..Told::default() };
    told.plain(&mut broker, 0, 2).unwrap();
    told.begin(&mut broker, 0, 0).unwrap();
    told.in_txn(&mut broker, 0, 1, 0).unwrap();
    left.set(1); // the decision is stored, its markers are not
    assert_eq!(told.end(&mut broker, 0, true, 0), Err(Code::KafkaStorageError));
    assert_eq!(told.plain(&mut broker, 0, 1), Err(Code::KafkaStorageError));
    told.check(&broker);
    left.set(usize::MAX);
    told.sequences.insert((9, 0), 2); // the refused batch is sent again with the same numbers
    told.plain(&mut broker, 0, 1).unwrap();
    // The next look at the timers finishes what was decided, without a request.
    broker.expire_transactions(0);
    assert!(broker.state().transactions().unfinished().is_empty());
    assert_eq!(read(&broker, 1, Isolation::ReadCommitted).len(), 1, "the transaction was committed");
    told.check(&broker);
}
