//! What disks do: they are full, they change bytes, and they are slow to read at a start.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fmt::{Debug, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pelton_broker::core::{CommittedOffset, GroupOffset, Isolation, LogId, TopicConfig};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::store::{ByteRange, Checkpoint, FileOptions, FileStore, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const LOG: LogId = LogId { topic: 0, partition: 0 };

fn open_with(dir: &Path, segment_bytes: u64) -> std::io::Result<Broker<FileStore>> {
    let begun = std::time::Instant::now();
    loop {
        match FileStore::open(dir, &FileOptions { segment_bytes }) {
            // A program that another test starts holds all locks of this one until it is loaded.
            Err(error)
                if error.kind() == std::io::ErrorKind::ResourceBusy && begun.elapsed().as_secs() < 60 =>
            {
                std::thread::yield_now();
            }
            opened => return Broker::open(opened?, Settings::default(), 0),
        }
    }
}

fn open(dir: &Path) -> Broker<FileStore> {
    open_with(dir, 1000).unwrap()
}

fn create(broker: &mut Broker<FileStore>) {
    let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
}

fn append(broker: &mut Broker<FileStore>, value: &str) -> Result<i64, Code> {
    let value = Some(Bytes::from(value.to_owned()));
    let batch = records::encode(&[NewRecord { value, ..NewRecord::default() }]).unwrap();
    let plan = broker.state().plan_produce(("t", 0), None, batch, 0)?;
    broker.run(plan, Code::KafkaStorageError).map(|(offset, _)| offset)
}

fn value(at: i64) -> String {
    format!("{at:0>100}")
}

/// Values by offset from `from` on, each read alone; an error for a batch that cannot be read.
fn read(broker: &Broker<FileStore>) -> Vec<(i64, Result<String, String>)> {
    let core = broker.state().partition(LOG).unwrap();
    let limit = core.visible_end(Isolation::ReadUncommitted);
    let (mut values, mut at) = (Vec::new(), core.start_offset());
    while at < limit {
        let wanted = Wanted { from: at, limit, max_bytes: 0, at_least_one: true };
        let found = broker.store().locate(LOG, wanted);
        let mut bytes = vec![0; found.ranges[0].len()];
        let value = found.ranges[0].read_into(&mut bytes).map_err(|error| error.to_string()).map(|()| {
            let stored = records::decode(&bytes.into()).unwrap().remove(0);
            String::from_utf8(stored.record.value.unwrap().to_vec()).unwrap()
        });
        values.push((at, value));
        at = found.next_offset;
    }
    values
}

fn checkpoint(broker: &mut Broker<FileStore>) -> usize {
    let due = broker.store_mut().take_checkpoints(1);
    due.iter().for_each(|segment| Checkpoint::extend(segment).unwrap());
    due.len()
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("logs/0/0")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<PathBuf> = files.filter(|path| path.extension().unwrap() == "log").collect();
    logs.sort();
    logs
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_byte_that_changed_is_found_and_named_wherever_it_lies_and_nothing_else_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    (0..20).for_each(|at| assert_eq!(append(&mut broker, &value(at)), Ok(at)));
    let batch = std::fs::metadata(&logs(dir.path())[0]).unwrap().len() as usize / 5;
    drop(broker);
    for has_checkpoints in [false, true] {
        for (file, in_file, offset) in [(0, 0, 0), (1, 2, 7), (3, 1, 16)] {
            // In the records, and in fields of the header the checksum covers; and in the offset, which it does not.
            for byte in [100, 24, 44, 57, 6] {
                if has_checkpoints {
                    checkpoint(&mut open(dir.path()));
                }
                let path = &logs(dir.path())[file];
                flip(path, in_file * batch + byte);
                let broker = open(dir.path());
                for (at, found) in read(&broker) {
                    if at != offset {
                        assert_eq!(found, Ok(value(at)), "damaged was {offset}, byte {byte}");
                    } else {
                        let error = found.unwrap_err();
                        let place = format!(
                            "{}: damaged batch at byte {}, offset {offset}: ",
                            path.display(),
                            in_file * batch
                        );
                        assert!(error.starts_with(&place), "{error}");
                    }
                }
                assert_eq!(broker.state().partition(LOG).unwrap().next_offset(), 20);
                drop(broker);
                flip(path, in_file * batch + byte);
            }
        }
    }
    assert!(read(&open(dir.path())).iter().all(|(at, found)| *found == Ok(value(*at))), "put right again");
}

#[test]
fn a_start_believes_checkpoints_and_reads_only_what_lies_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    (0..20).for_each(|at| assert_eq!(append(&mut broker, &value(at)), Ok(at)));
    assert_eq!(checkpoint(&mut broker), 4);
    assert_eq!(checkpoint(&mut broker), 0, "nothing is new");
    (20..23).for_each(|at| assert_eq!(append(&mut broker, &value(at)), Ok(at)));
    let all = read(&broker);
    let state = format!("{:?}", broker.state().partition(LOG));
    drop(broker);
    // Were the covered headers read, these would be in the way.
    let first = logs(dir.path()).remove(0);
    let kept = std::fs::read(&first).unwrap();
    std::fs::write(&first, vec![0; kept.len()]).unwrap();
    let broker = open(dir.path());
    assert_eq!(format!("{:?}", broker.state().partition(LOG)), state);
    drop(broker);
    std::fs::write(&first, kept).unwrap();
    assert_eq!(read(&open(dir.path())), all);
}

#[test]
fn a_damaged_checkpoint_or_none_costs_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    (0..20).for_each(|at| assert_eq!(append(&mut broker, &value(at)), Ok(at)));
    let all = read(&broker);
    checkpoint(&mut broker);
    drop(broker);
    for (at, log) in logs(dir.path()).iter().enumerate() {
        let index = log.with_extension("idx");
        match at % 3 {
            0 => flip(&index, 30),
            1 => std::fs::remove_file(&index).unwrap(),
            _ => std::fs::write(&index, b"PB").unwrap(),
        }
    }
    std::fs::write(dir.path().join("logs/0/0/00000000000000000005.idx-new"), b"half").unwrap();
    let mut broker = open(dir.path());
    assert_eq!(read(&broker), all);
    assert_eq!(checkpoint(&mut broker), 4, "and they are written anew");
}

/// A small file system of its own, gone when dropped; only root gets one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: only root can mount a small disk; crash.rs covers a store that fails");
        return;
    };
    let dir = disk.0.path().join("data");
    let filler = disk.0.path().join("filler");
    std::fs::write(&filler, vec![0; 128 * 1024]).unwrap();
    let mut broker = open_with(&dir, 20_000).unwrap();
    create(&mut broker);
    let mut acknowledged = 0;
    let refused = loop {
        match append(&mut broker, &"x".repeat(3000)) {
            Ok(offset) => {
                assert_eq!(offset, acknowledged);
                acknowledged += 1;
            }
            Err(code) => break code,
        }
        assert!(acknowledged < 1000, "the disk is never full");
    };
    assert_eq!(refused, Code::KafkaStorageError);
    assert!(acknowledged > 10);
    for _ in 0..3 {
        assert_eq!(append(&mut broker, &"x".repeat(3000)), Err(Code::KafkaStorageError));
    }
    let intact = |broker: &Broker<FileStore>, count: i64| {
        let values = read(broker);
        assert_eq!(values.len(), usize::try_from(count).unwrap());
        assert!(values.iter().all(|(_, value)| value.as_ref().is_ok_and(|value| value.starts_with('x'))));
    };
    intact(&broker, acknowledged);
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(append(&mut broker, &"x".repeat(3000)), Ok(acknowledged), "there is room again");
    intact(&broker, acknowledged + 1);
    drop(broker);
    intact(&open_with(&dir, 20_000).unwrap(), acknowledged + 1);
}

/// A commit of the group `g` with metadata that fills a disk.
fn commit(broker: &mut Broker<FileStore>, offset: i64) -> Result<(), Code> {
    let committed = CommittedOffset { offset, leader_epoch: -1, metadata: "m".repeat(3000) };
    let plan = broker.state().plan_commit_offsets(
        "g",
        vec![GroupOffset { topic: "t".into(), partition: 0, committed }],
        0,
    );
    broker.run(plan, Code::KafkaStorageError)
}

fn configure(broker: &mut Broker<FileStore>, retention_ms: &str) -> Result<(), Code> {
    let config = TopicConfig::from([("retention.ms".to_owned(), retention_ms.to_owned())]);
    let plan = broker.state().plan_configure_topic("t", config)?;
    broker.run(plan, Code::KafkaStorageError)
}

#[test]
fn a_full_disk_refuses_offsets_transactions_and_settings_too_and_all_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: only root can mount a small disk; crash.rs covers a store that fails");
        return;
    };
    let (dir, filler) = (disk.0.path().join("data"), disk.0.path().join("filler"));
    std::fs::write(&filler, vec![0; 128 * 1024]).unwrap();
    let mut broker = open_with(&dir, 20_000).unwrap();
    create(&mut broker);
    configure(&mut broker, "1000000").unwrap();
    let fenced = Code::ProducerFenced;
    let plan = broker.state().plan_init_transactional("x", 60_000, None, fenced, 0).unwrap();
    let (id, epoch) = broker.run(plan, Code::KafkaStorageError).unwrap().unwrap();
    let owner = ("x", id, epoch);
    let plan = broker.state().plan_txn_partitions(owner, vec![("t".to_owned(), 0)], fenced, 0).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let mut acknowledged = 0;
    while commit(&mut broker, acknowledged + 1) == Ok(()) {
        acknowledged += 1;
        assert!(acknowledged < 1000, "the disk is never full");
    }
    // What is left of the last block is too short for a line as long as these.
    let end = |broker: &mut Broker<FileStore>| {
        let plan = broker.state().plan_end_txn(owner, true, fenced, 0)?;
        broker.run(plan, Code::KafkaStorageError)
    };
    let mut settings = 1_000_000;
    while configure(&mut broker, &(settings + 1).to_string()) == Ok(()) {
        settings += 1;
    }
    assert_eq!(configure(&mut broker, "7"), Err(Code::KafkaStorageError));
    assert_eq!(commit(&mut broker, 9_999), Err(Code::KafkaStorageError));
    let told = |broker: &Broker<FileStore>| {
        let offset = broker.state().groups().committed("g", "t", 0).map(|committed| committed.offset);
        (offset, broker.state().topics()["t"].config["retention.ms"].clone())
    };
    assert_eq!(told(&broker), (Some(acknowledged), settings.to_string()), "what was refused did not happen");
    let was_refused = end(&mut broker).is_err();
    std::fs::remove_file(&filler).unwrap();
    // Decided is decided: whoever asks again, or the clock, finishes it.
    if was_refused {
        end(&mut broker).unwrap();
    }
    assert!(broker.state().transactions().unfinished().is_empty());
    commit(&mut broker, acknowledged + 1).unwrap();
    configure(&mut broker, "2000000").unwrap();
    let now = (Some(acknowledged + 1), "2000000".to_owned());
    assert_eq!(told(&broker), now);
    drop(broker);
    assert_eq!(told(&open_with(&dir, 20_000).unwrap()), now);
}

/// What was logged, a line of fields for each event.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(format!("{} ", event.metadata().level()));
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// No other test of this program tears a log: an event that others come to at the same moment may get lost.
#[test]
fn a_torn_tail_is_cut_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = open(dir.path());
    create(&mut broker);
    append(&mut broker, "whole").unwrap();
    let log = logs(dir.path()).remove(0);
    let whole = std::fs::metadata(&log).unwrap().len();
    append(&mut broker, "torn").unwrap();
    drop(broker);
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let heard = Heard::default();
    let broker = tracing::subscriber::with_default(heard.clone(), || open(dir.path()));
    assert_eq!(broker.state().partition(LOG).unwrap().next_offset(), 1);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), whole);
    let heard = heard.0.lock().unwrap();
    let told = heard.iter().find(|line| line.contains("not written completely"));
    let told = told.unwrap_or_else(|| panic!("no word about it in {heard:?}"));
    let facts =
        [format!("from_bytes={}", bytes.len() - 1), format!("to_bytes={whole}"), "next_offset=1".to_owned()];
    let place = log.display().to_string();
    assert!(
        told.starts_with("WARN") && facts.iter().chain([&place]).all(|fact| told.contains(fact)),
        "{told}"
    );
}
