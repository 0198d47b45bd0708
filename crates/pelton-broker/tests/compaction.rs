//! Compaction: the last record of each key stays where it was, whatever happens.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use pelton_broker::batch::{Batch, BatchHeader, Marker};
use pelton_broker::core::compaction::{Compaction, Kept, Known};
use pelton_broker::core::{Isolation, Partition, TopicConfig};
use pelton_broker::records::{self, NewRecord, StoredRecord};
use pelton_broker::store::{ByteRange, FileOptions, FileStore, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};
use proptest::prelude::*;

const RETENTION_MS: i64 = 1000;

#[derive(Debug, Clone)]
enum Event {
    /// Keys, and whether each is a tombstone.
    Plain(Vec<(u8, bool)>),
    InTxn(usize, Vec<(u8, bool)>),
    End(usize, bool),
}

fn any_records() -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((0..5_u8, prop::bool::weighted(0.2)), 1..5)
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => any_records().prop_map(Event::Plain),
        2 => (0..2_usize, any_records()).prop_map(|(producer, records)| Event::InTxn(producer, records)),
        2 => (0..2_usize, any::<bool>()).prop_map(|(producer, commit)| Event::End(producer, commit)),
    ]
}

/// A batch as a client would send it, at its place.
fn batch(records: &[(u8, bool)], offset: i64, transactional: Option<(i64, i32)>) -> Bytes {
    let record = |(at, (key, is_tombstone)): (usize, &(u8, bool))| NewRecord {
        key: Some(vec![*key].into()),
        value: (!is_tombstone).then(|| format!("{}", offset + at as i64).into()),
        headers: vec![("h".to_owned(), None)],
        timestamp_ms: 100 + offset + at as i64,
    };
    let records: Vec<NewRecord> = records.iter().enumerate().map(record).collect();
    let mut batch = records::encode(&records).unwrap();
    batch.place(offset, None);
    let mut bytes = batch.to_bytes().to_vec();
    if let Some((producer_id, sequence)) = transactional {
        bytes[21..23].copy_from_slice(&0x10_i16.to_be_bytes());
        bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&0_i16.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}

#[derive(Debug, Default)]
struct Log {
    batches: Vec<Bytes>,
    core: Partition,
}

impl Log {
    fn of(batches: Vec<Bytes>) -> Self {
        let mut core = Partition::default();
        batches.iter().for_each(|batch| core.apply(&BatchHeader::check_stored(batch).unwrap()));
        Self { batches, core }
    }

    fn push(&mut self, bytes: Bytes) {
        self.core.apply(&BatchHeader::check_stored(&bytes).unwrap());
        self.batches.push(bytes);
    }

    fn write(events: &[Event]) -> Self {
        let mut log = Self::default();
        let mut open = [false; 2];
        let mut sequence = [0; 2];
        // Whatever is open in the end is ended: compaction never sees anything undecided.
        let ends = [Event::End(0, true), Event::End(1, false)];
        for event in events.iter().chain(&ends) {
            let offset = log.core.next_offset();
            match event {
                Event::Plain(records) => log.push(batch(records, offset, None)),
                Event::InTxn(producer, records) => {
                    open[*producer] = true;
                    log.push(batch(records, offset, Some((*producer as i64, sequence[*producer]))));
                    sequence[*producer] += records.len() as i32;
                }
                Event::End(producer, commit) if open[*producer] => {
                    open[*producer] = false;
                    let kind = if *commit { Marker::Commit } else { Marker::Abort };
                    let mut marker = Batch::marker(*producer as i64, 0, kind, 100 + offset);
                    marker.place(offset, None);
                    log.push(marker.to_bytes());
                }
                Event::End(..) => {}
            }
        }
        log
    }

    /// What a reader of committed records sees.
    fn visible(&self) -> Vec<StoredRecord> {
        let aborted = self.core.aborted_between(0, i64::MAX);
        let mut seen = Vec::new();
        for bytes in &self.batches {
            let header = BatchHeader::check_stored(bytes).unwrap();
            let is_aborted = header.is_transactional()
                && aborted.iter().any(|range| {
                    range.producer_id == header.producer_id
                        && (range.first_offset..range.last_offset).contains(&header.base_offset)
                });
            if !header.is_control() && !is_aborted {
                seen.extend(records::decode(bytes).unwrap());
            }
        }
        seen
    }

    fn compacted(&self, now_ms: i64, max_keys: usize) -> Self {
        let known = Known {
            aborted: self.core.aborted_between(0, i64::MAX),
            last_of_producers: self.core.last_of_producers(),
            last_offset: self.core.next_offset() - 1,
            now_ms,
            delete_retention_ms: RETENTION_MS,
        };
        let mut compaction = Compaction::new(known, max_keys);
        for batch in &self.batches {
            if !compaction.note(batch).unwrap() {
                break;
            }
        }
        let mut kept = Vec::new();
        for batch in &self.batches {
            match compaction.keep(batch).unwrap() {
                Kept::Same => kept.push(batch.clone()),
                Kept::Nothing => {}
                Kept::Changed(new) => kept.push(new),
            }
        }
        Self::of(kept)
    }

    fn ends(&self) -> (i64, i64, Vec<(i64, i16)>) {
        (self.core.next_offset(), self.core.stable_offset(), self.core.open_producers())
    }

    fn sequences(&self) -> Vec<(i64, i32)> {
        let producers = self.core.producers();
        producers.iter().map(|producer| (producer.id, producer.last_sequence)).collect()
    }
}

fn latest(records: &[StoredRecord]) -> BTreeMap<Bytes, StoredRecord> {
    records.iter().map(|stored| (stored.record.key.clone().unwrap(), stored.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn readers_see_the_last_record_of_each_key_where_it_was(
        events in prop::collection::vec(any_event(), 1..25),
        max_keys in 1..8_usize,
    ) {
        let log = Log::write(&events);
        let before = log.visible();
        let once = log.compacted(5000, usize::MAX);
        let after = once.visible();
        let expected: Vec<StoredRecord> = {
            let mut latest: Vec<_> = latest(&before).into_values().collect();
            latest.sort_by_key(|stored| stored.offset);
            latest
        };
        prop_assert_eq!(&after, &expected, "exactly the last of each key, with its time and offset");
        prop_assert_eq!(once.ends(), log.ends());
        prop_assert_eq!(once.sequences(), log.sequences(), "producers go on with the same numbers");
        let aborted_left = once.batches.iter().filter(|bytes| {
            let header = BatchHeader::check_stored(bytes).unwrap();
            header.count > 0 && once.core.aborted_between(0, i64::MAX).iter().any(|range| {
                range.producer_id == header.producer_id && range.first_offset == header.base_offset
            })
        });
        prop_assert_eq!(aborted_left.count(), 0, "records of aborted transactions are gone");
        // Again, a little later: nothing changes. Long after: tombstones are gone too.
        let again = once.compacted(5000 + RETENTION_MS - 1, usize::MAX);
        prop_assert_eq!(again.visible(), after.clone());
        let later = again.compacted(5000 + RETENTION_MS, usize::MAX);
        let without_tombstones: Vec<_> =
            after.iter().filter(|stored| stored.record.value.is_some()).cloned().collect();
        prop_assert_eq!(later.visible(), without_tombstones);
        prop_assert_eq!(later.ends(), log.ends());
        // With room for few keys it takes several turns; each keeps the last record of every key.
        let partly = log.compacted(5000, max_keys);
        prop_assert_eq!(latest(&partly.visible()), latest(&before));
    }
}

fn open(dir: &Path) -> Broker<FileStore> {
    let store = FileStore::open(dir, &FileOptions { segment_bytes: 400 }).unwrap();
    Broker::open(store, Settings::default(), 0).unwrap()
}

fn create(broker: &mut Broker<FileStore>) {
    let config: TopicConfig = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
    let plan = broker.state().plan_create_topic("t", 1, config).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
}

fn append(broker: &mut Broker<FileStore>, key: Option<&str>, value: &str) -> Result<i64, Code> {
    let key = key.map(|key| Bytes::from(key.to_owned()));
    let value = Some(Bytes::from(value.to_owned()));
    let batch = records::encode(&[NewRecord { key, value, ..NewRecord::default() }]).unwrap();
    let plan = broker.state().plan_produce(("t", 0), None, batch, 0)?;
    broker.run(plan, Code::KafkaStorageError).map(|(offset, _)| offset)
}

fn read(broker: &Broker<FileStore>) -> Vec<(i64, String)> {
    let (log, core) = broker.state().find("t", 0).unwrap();
    let limit = core.visible_end(Isolation::ReadCommitted);
    let (mut seen, mut at) = (Vec::new(), core.start_offset());
    loop {
        let found = broker.store().locate(log, Wanted { from: at, limit, max_bytes: 0, at_least_one: true });
        let Some(range) = found.ranges.first() else { return seen };
        let mut bytes = vec![0; range.len()];
        range.read_into(&mut bytes).unwrap();
        assert!(found.next_offset > at, "a reader would not get on");
        for stored in records::decode(&bytes.into()).unwrap() {
            let value = String::from_utf8(stored.record.value.unwrap().to_vec()).unwrap();
            seen.push((stored.offset, value));
        }
        at = found.next_offset;
    }
}

#[test]
fn a_log_is_compacted_readable_from_every_offset_and_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    for at in 0..40 {
        append(&mut broker, Some(["a", "b", "c"][at % 3]), &format!("value {at}")).unwrap();
    }
    let all = read(&broker);
    let job = broker.begin_compaction(&HashSet::new(), 1000).expect("worth it");
    let done = job.run().unwrap();
    assert_eq!(read(&broker), all, "nothing changes for readers until it is complete");
    broker.finish_compaction(done).unwrap();
    let some = read(&broker);
    assert!(some.len() < 12, "{some:?}");
    assert!(some.iter().all(|record| all.contains(record)));
    assert_eq!(some[some.len() - 3..], all[all.len() - 3..]);
    assert!(broker.begin_compaction(&HashSet::new(), 1000).is_none(), "nothing new to compact");
    drop(broker);
    let mut broker = open(dir.path());
    assert_eq!(read(&broker), some);
    assert!(broker.begin_compaction(&HashSet::new(), 1000).is_none());
    let (log, _) = broker.state().find("t", 0).unwrap();
    for from in 0..40 {
        let wanted = Wanted { from, limit: 40, max_bytes: 0, at_least_one: true };
        let found = broker.store().locate(log, wanted);
        assert!(found.next_offset > from, "stuck at {from}");
    }
    assert_eq!(append(&mut broker, Some("d"), "later"), Ok(40));
}

#[test]
fn a_crash_in_the_middle_of_a_compaction_leaves_each_segment_old_or_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    for at in 0..40 {
        append(&mut broker, Some(["a", "b", "c"][at % 3]), &format!("value {at}")).unwrap();
    }
    let all = read(&broker);
    let mut done = broker.begin_compaction(&HashSet::new(), 1000).unwrap().run().unwrap();
    assert!(done.segments.len() > 2);
    done.segments.truncate(2); // stopped after the second rename
    broker.finish_compaction(pelton_broker::store::Done { to: 0, ..done }).unwrap();
    drop(broker);
    std::fs::write(dir.path().join("logs/0/0/00000000000000000009.clean"), b"half").unwrap();
    let mut broker = open(dir.path());
    let some = read(&broker);
    assert!(some.len() < all.len());
    assert_eq!(some[some.len() - 20..], all[all.len() - 20..], "later segments are as they were");
    assert!(!dir.path().join("logs/0/0/00000000000000000009.clean").exists());
    let done = broker.begin_compaction(&HashSet::new(), 1000).unwrap().run().unwrap();
    broker.finish_compaction(done).unwrap();
    assert!(read(&broker).len() < 12);
}

#[test]
fn a_segment_deleted_while_it_was_compacted_stays_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    for at in 0..40 {
        append(&mut broker, Some(["a", "b", "c"][at % 3]), &format!("value {at}")).unwrap();
    }
    let done = broker.begin_compaction(&HashSet::new(), 1000).unwrap().run().unwrap();
    let plan = broker.state().plan_delete_topic("t").unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    // The new files went with the directory of the topic.
    let _ = broker.finish_compaction(done);
    assert!(!dir.path().join("logs/0").exists());
    drop(broker);
    assert!(open(dir.path()).state().topics().is_empty());
}

#[test]
fn records_without_a_key_are_refused_where_keys_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    assert_eq!(append(&mut broker, None, "x"), Err(Code::InvalidRecord));
    assert_eq!(append(&mut broker, Some("k"), "x"), Ok(0));
}

#[test]
fn a_topic_that_is_not_compacted_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    for at in 0..40 {
        append(&mut broker, Some("a"), &format!("value {at}")).unwrap();
    }
    assert!(broker.begin_compaction(&HashSet::new(), i64::MAX).is_none());
}
