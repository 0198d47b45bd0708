//! Files that a crash cut, or that changed later.

use std::io;

use pelton_broker::core::{Isolation, TopicConfig};
use pelton_broker::store::{FileOptions, FileStore};
use pelton_broker::{Broker, Code, Settings};
use proptest::prelude::*;

use crate::kit::{encode, read};

proptest! {
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
