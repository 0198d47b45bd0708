//! What goes away by itself or on demand: old records, deleted records, offsets nobody uses.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;

use bytes::Bytes;
use pelton_broker::core::members::{Join, MemberRef, Phase, Turn};
use pelton_broker::core::{CommittedOffset, GroupOffset, TopicConfig};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::store::{FileOptions, FileStore, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn open(dir: &Path) -> Broker<FileStore> {
    let store = FileStore::open(dir, &FileOptions { segment_bytes: 500 }).unwrap();
    Broker::open(store, Settings::default(), 0).unwrap()
}

fn create(broker: &mut Broker<FileStore>, config: &[(&str, &str)]) {
    let config: TopicConfig = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let plan = broker.state().plan_create_topic("t", 1, config).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
}

/// One record of about 150 bytes, so that three fill a segment.
fn append(broker: &mut Broker<FileStore>, timestamp_ms: i64) -> Result<i64, Code> {
    let value = Some(Bytes::from(vec![b'x'; 80]));
    let batch = records::encode(&[NewRecord { value, timestamp_ms, ..NewRecord::default() }]).unwrap();
    let plan = broker.state().plan_produce(("t", 0), None, batch, timestamp_ms)?;
    broker.run(plan, Code::KafkaStorageError).map(|(offset, _)| offset)
}

fn bounds(broker: &Broker<FileStore>) -> (i64, i64) {
    let (_, core) = broker.state().find("t", 0).unwrap();
    (core.start_offset(), core.next_offset())
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("logs/0/0")).unwrap().count()
}

fn delete_records(broker: &mut Broker<FileStore>, offset: i64) -> Result<i64, Code> {
    let plan = broker.state().plan_delete_records("t", 0, offset)?;
    broker.run(plan, Code::KafkaStorageError)
}

#[test]
fn records_go_by_age_and_the_log_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[("retention.ms", "1000")]);
    (0..10).for_each(|at| assert_eq!(append(&mut broker, at * 100), Ok(at)));
    let all = files(dir.path());
    broker.enforce_retention(1000);
    assert_eq!(bounds(&broker), (0, 10));
    broker.enforce_retention(1201);
    let (start, end) = bounds(&broker);
    assert!(start > 0 && start <= 3 && end == 10, "{start} {end}: only segments whose records are all old");
    assert!(files(dir.path()) < all);
    drop(broker);
    let mut broker = open(dir.path());
    assert_eq!(bounds(&broker), (start, 10));
    broker.enforce_retention(DAY_MS);
    assert_eq!(bounds(&broker), (10, 10), "all are old");
    assert_eq!(files(dir.path()), 1);
    drop(broker);
    let mut broker = open(dir.path());
    assert_eq!(bounds(&broker), (10, 10));
    assert_eq!(append(&mut broker, DAY_MS), Ok(10), "no offset is given twice");
}

#[test]
fn records_go_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[("retention.bytes", "1000")]);
    (0..30).for_each(|at| assert_eq!(append(&mut broker, at), Ok(at)));
    broker.enforce_retention(0);
    let (log, _) = broker.state().find("t", 0).unwrap();
    let bytes: u64 = broker.store().segments(log).iter().map(|segment| segment.bytes).sum();
    assert!((1000..1500).contains(&bytes), "{bytes} bytes are left");
    assert!(bounds(&broker).0 > 15);
}

#[test]
fn nothing_goes_without_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    (0..10).for_each(|at| assert_eq!(append(&mut broker, at), Ok(at)));
    broker.enforce_retention(i64::MAX);
    assert_eq!(bounds(&broker), (0, 10));
}

#[test]
fn deleted_records_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    (0..10).for_each(|at| assert_eq!(append(&mut broker, at), Ok(at)));
    assert_eq!(delete_records(&mut broker, 5), Ok(5));
    assert_eq!(delete_records(&mut broker, 3), Ok(5), "it does not come back");
    assert_eq!(delete_records(&mut broker, 11), Err(Code::OffsetOutOfRange));
    drop(broker);
    let mut broker = open(dir.path());
    assert_eq!(bounds(&broker), (5, 10));
    assert_eq!(delete_records(&mut broker, -1), Ok(10));
    assert_eq!(append(&mut broker, 0), Ok(10));
    drop(broker);
    assert_eq!(bounds(&open(dir.path())), (10, 11));
}

#[test]
fn files_that_a_crash_left_behind_go_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    (0..10).for_each(|at| assert_eq!(append(&mut broker, at), Ok(at)));
    let first = dir.path().join("logs/0/0/00000000000000000000.log");
    let kept = std::fs::read(&first).unwrap();
    delete_records(&mut broker, 5).unwrap();
    assert!(!first.exists());
    drop(broker);
    std::fs::write(&first, &kept).unwrap();
    let broker = open(dir.path());
    assert_eq!(bounds(&broker), (5, 10));
    assert!(!first.exists());
}

#[test]
fn a_log_that_begins_in_the_middle_of_a_batch_answers_queries_by_time_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    let at = |timestamp_ms| NewRecord { timestamp_ms, ..NewRecord::default() };
    let batch = records::encode(&[at(10), at(20), at(30)]).unwrap();
    let plan = broker.state().plan_produce(("t", 0), None, batch, 0).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    delete_records(&mut broker, 2).unwrap();
    let (log, core) = broker.state().find("t", 0).unwrap();
    assert_eq!((core.start_offset(), core.next_offset()), (2, 3));
    let (range, _) = broker.store().locate_time(log, 2, 5).unwrap();
    use pelton_broker::store::ByteRange;
    let mut bytes = vec![0; range.len()];
    range.read_into(&mut bytes).unwrap();
    assert_eq!(records::first_at_or_after(&bytes.into(), 2, 5, 30), Some((2, 30)));
    let wanted = Wanted { from: 2, limit: 3, max_bytes: 0, at_least_one: true };
    assert_eq!(broker.store().locate(log, wanted).next_offset, 3, "the batch is still read whole");
}

#[test]
fn settings_of_a_topic_count_from_the_next_batch_on_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    assert_eq!(append(&mut broker, 0), Ok(0));
    let small: TopicConfig = [("max.message.bytes".to_owned(), "100".to_owned())].into();
    let plan = broker.state().plan_configure_topic("t", small.clone()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    assert_eq!(append(&mut broker, 0), Err(Code::MessageTooLarge));
    drop(broker);
    let mut broker = open(dir.path());
    assert_eq!(broker.state().topics()["t"].config, small);
    let times = [("message.timestamp.after.max.ms".to_owned(), "1000".to_owned())].into();
    let plan = broker.state().plan_configure_topic("t", times).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let batch = records::encode(&[NewRecord { timestamp_ms: 2001, ..NewRecord::default() }]).unwrap();
    let produce = |now_ms| broker.state().plan_produce(("t", 0), None, batch.clone(), now_ms).map(|_| ());
    assert_eq!(produce(1000), Err(Code::InvalidTimestamp));
    assert_eq!(produce(1001), Ok(()));
}

#[test]
fn offsets_nobody_uses_expire_with_their_group() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    let committed = CommittedOffset { offset: 1, leader_epoch: -1, metadata: String::new() };
    let offsets = vec![GroupOffset { topic: "t".to_owned(), partition: 0, committed }];
    let plan = broker.state().plan_commit_offsets("g", offsets, DAY_MS);
    broker.run(plan, Code::KafkaStorageError).unwrap();
    broker.enforce_retention(8 * DAY_MS - 1);
    assert!(broker.state().groups().committed("g", "t", 0).is_some());
    drop(broker);
    let mut broker = open(dir.path());
    broker.enforce_retention(8 * DAY_MS);
    assert_eq!(broker.state().group_phase("g"), None);
}

/// A consumer that joins the group `g` and leaves it again.
fn come_and_go(broker: &mut Broker<FileStore>, now_ms: i64) {
    let plan = broker.state().members().plan_join(&join(false), now_ms, 0);
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let member = MemberRef { id: "m", instance: None, generation: -1 };
    let plan = broker.state().members().plan_leave("g", &[member], now_ms);
    assert_eq!(broker.run(plan, Code::KafkaStorageError), Ok(vec![Code::None]));
}

fn join(must_know_id: bool) -> Join {
    Join {
        group: "g".to_owned(),
        member_id: String::new(),
        instance: None,
        fresh_id: "m".to_owned(),
        must_know_id,
        may_skip_assignment: false,
        client_id: "c".to_owned(),
        host: String::new(),
        session_ms: 10_000,
        rebalance_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::new())],
    }
}

#[test]
fn offsets_of_a_group_that_had_members_expire_when_it_was_empty_for_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    let commit = |broker: &mut Broker<FileStore>, now_ms| {
        let committed = CommittedOffset { offset: 1, leader_epoch: -1, metadata: String::new() };
        let offsets = vec![GroupOffset { topic: "t".to_owned(), partition: 0, committed }];
        let plan = broker.state().plan_commit_offsets("g", offsets, now_ms);
        broker.run(plan, Code::KafkaStorageError).unwrap();
    };
    commit(&mut broker, DAY_MS);
    come_and_go(&mut broker, 2 * DAY_MS);
    broker.enforce_retention(9 * DAY_MS - 1);
    assert!(broker.state().groups().committed("g", "t", 0).is_some(), "not while it had members");
    // As in Kafka: the time since they left counts, not that of a commit by nobody.
    commit(&mut broker, 8 * DAY_MS);
    drop(broker);
    let mut broker = open(dir.path());
    broker.enforce_retention(9 * DAY_MS - 1);
    assert!(broker.state().groups().committed("g", "t", 0).is_some());
    broker.enforce_retention(9 * DAY_MS);
    assert_eq!(broker.state().group_phase("g"), None);
}

#[test]
fn a_group_without_members_and_offsets_goes_unless_somebody_is_about_to_join() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    come_and_go(&mut broker, DAY_MS);
    assert_eq!(broker.state().group_phase("g"), Some(Phase::Empty));
    broker.enforce_retention(DAY_MS + 1);
    assert_eq!(broker.state().group_phase("g"), None);
    let plan = broker.state().members().plan_join(&join(true), DAY_MS, 0);
    let Ok(Turn::Now(told)) = broker.run(plan, Code::KafkaStorageError) else { panic!("an id at once") };
    assert_eq!(told.code, Code::MemberIdRequired);
    broker.enforce_retention(DAY_MS + 1);
    let again = Join { member_id: told.member_id, ..join(true) };
    let plan = broker.state().members().plan_join(&again, DAY_MS, 0);
    assert!(matches!(broker.run(plan, Code::KafkaStorageError), Ok(Turn::Later(_))), "its id is known still");
}

#[test]
fn the_time_a_client_gave_its_offset_and_the_idleness_of_an_id_survive_a_restart_and_a_short_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker, &[]);
    let committed = CommittedOffset { offset: 7, leader_epoch: -1, metadata: String::new() };
    let offsets = vec![GroupOffset { topic: "t".to_owned(), partition: 0, committed }];
    let plan = broker.state().plan_commit_offsets_for("g", offsets, Some(1000), DAY_MS);
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let plan =
        broker.state().plan_init_transactional("id", 1000, None, Code::ProducerFenced, DAY_MS).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap().unwrap();
    let snapshot = broker.state().snapshot();
    broker.store_mut().rewrite_journal(&snapshot).unwrap();
    drop(broker);
    let mut broker = open(dir.path());
    broker.enforce_retention(DAY_MS + 999);
    assert!(broker.state().groups().committed("g", "t", 0).is_some());
    broker.enforce_retention(DAY_MS + 1000);
    assert!(broker.state().groups().committed("g", "t", 0).is_none());
    broker.expire_transactions(8 * DAY_MS - 1);
    assert!(broker.state().transactions().get("id").is_some());
    broker.expire_transactions(8 * DAY_MS);
    assert!(broker.state().transactions().get("id").is_none());
    drop(broker);
    assert!(open(dir.path()).state().transactions().get("id").is_none());
}

#[test]
fn a_topic_created_again_has_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    let id = |broker: &Broker<FileStore>| broker.state().topic_id(&broker.state().topics()["t"]);
    create(&mut broker, &[]);
    let first = id(&broker);
    assert_eq!(broker.state().topic_by_id(first), Some("t"));
    drop(broker);
    let mut broker = open(dir.path());
    assert_eq!(id(&broker), first, "it stays across a restart");
    let plan = broker.state().plan_delete_topic("t").unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    create(&mut broker, &[]);
    assert_ne!(id(&broker), first);
    assert_eq!(broker.state().topic_by_id(first), None);
}
