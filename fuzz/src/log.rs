//! A data directory with any bytes in it: opened, read, appended to, and opened again.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use pelton_broker::batch::{self, BatchHeader};
use pelton_broker::core::{Isolation, LogId, TopicConfig};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::store::{ByteRange, Checkpoint, FileOptions, FileStore, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};

use super::{alloc, records::seal, seeds};

/// What opening may hold: windows of a megabyte, headers, and what the files hold.
const LIMIT: usize = 64 * 1024 * 1024;
const LOG: LogId = LogId { topic: 0, partition: 0 };
/// The files of a directory, by number.
const FILES: [&str; 5] = [
    "logs/0/0/00000000000000000000.log",
    "logs/0/0/00000000000000000000.idx",
    "logs/0/0/00000000000000000004.log",
    "logs/0/0/00000000000000000004.idx",
    "journal",
];

/// Files, each behind its length in two bytes: the first byte is its number, and a set high bit asks for checksums to be
/// put right, which no fuzzer guesses.
///
/// # Panics
/// The broker did, or it gave to a reader what is no batch, or it did not keep what it acknowledged.
pub fn run(input: &[u8]) {
    let dir = seeds::scratch();
    write_files(dir.path(), input);
    alloc::within(LIMIT, "a start from damaged files", || {
        let Some(mut broker) = open(dir.path()) else { return };
        let before = read(&broker);
        let appended = append(&mut broker);
        drop(broker);
        let broker = open(dir.path()).expect("what was opened once can be opened again");
        let after = read(&broker);
        assert_eq!(after[..before.len()], before[..], "a second start sees what the first one saw");
        if let Ok(offset) = appended {
            assert!(
                after[before.len()..].contains(&offset),
                "{offset} was acknowledged, there are {after:?}"
            );
        }
    });
}

fn write_files(dir: &Path, input: &[u8]) {
    fs::create_dir_all(dir.join("logs/0/0")).expect("a directory");
    fs::write(dir.join("journal"), seeds::journal()).expect("a file");
    for piece in seeds::frames(input) {
        let Some((number, bytes)) = piece.split_first() else { continue };
        let name = FILES[usize::from(number & 0x7f) % FILES.len()];
        let mut bytes = bytes.to_vec();
        if number & 0x80 != 0 {
            repair(name, &mut bytes);
        }
        fs::write(dir.join(name), bytes).expect("a file");
    }
}

/// Right checksums for whatever the bytes say otherwise.
fn repair(name: &str, bytes: &mut Vec<u8>) {
    if name.ends_with(".log") {
        let mut at = 0;
        while let Some(length) =
            batch::claimed_length(&bytes[at..]).filter(|length| *length <= bytes.len() - at)
        {
            seal(&mut bytes[at..at + length]);
            at += length;
        }
    } else if name.ends_with(".idx") {
        if let Some(body) = bytes.len().checked_sub(4) {
            let crc = crc32c::crc32c(&bytes[..body]);
            bytes[body..].copy_from_slice(&crc.to_be_bytes());
        }
    } else {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| line.len() > 9);
        let line = |line: &[u8]| {
            [format!("{:08x} ", crc32c::crc32c(&line[9..])).as_bytes(), &line[9..], b"\n"].concat()
        };
        *bytes = lines.flat_map(line).collect();
    }
}

fn open(dir: &Path) -> Option<Broker<FileStore>> {
    let store = FileStore::open(dir, &FileOptions { segment_bytes: 600 }).expect("the directory is free");
    let mut broker = Broker::open(store, Settings::default(), 0).ok()?;
    for segment in broker.store_mut().take_checkpoints(400) {
        // Failing is no harm.
        let _ = Checkpoint::extend(&segment);
    }
    Some(broker)
}

/// Base offsets of the batches that readers get; the others are refused.
fn read(broker: &Broker<FileStore>) -> Vec<i64> {
    let Some(core) = broker.state().partition(LOG) else { return Vec::new() };
    let limit = core.visible_end(Isolation::ReadUncommitted);
    let (mut offsets, mut at) = (Vec::new(), core.start_offset());
    while at < limit {
        let wanted = Wanted { from: at, limit, max_bytes: 0, at_least_one: true };
        let found = broker.store().locate(LOG, wanted);
        let Some(range) = found.ranges.first() else { break };
        let mut bytes = vec![0; range.len()];
        if range.read_into(&mut bytes).is_ok() {
            let header = BatchHeader::check_stored(&bytes).expect("readers get whole batches");
            offsets.push(header.base_offset);
            let bytes = Bytes::from(bytes);
            let _ = records::stored(&bytes).map(Iterator::count);
        }
        assert!(found.next_offset > at, "reading goes on");
        at = found.next_offset;
    }
    offsets
}

fn append(broker: &mut Broker<FileStore>) -> Result<i64, Code> {
    if !broker.state().topics().contains_key("t") {
        let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new())?;
        broker.run(plan, Code::KafkaStorageError)?;
        return Err(Code::UnknownTopicOrPartition);
    }
    let (log, _) = broker.state().find("t", 0)?;
    let batch = records::encode(&[NewRecord::default()]).expect("there is a record");
    let plan = broker.state().plan_produce(("t", 0), None, batch, 0)?;
    let (offset, _) = broker.run(plan, Code::KafkaStorageError)?;
    if log == LOG { Ok(offset) } else { Err(Code::UnknownTopicOrPartition) }
}

/// A directory as the broker leaves it, whole and in parts.
pub fn seeds() -> Vec<Vec<u8>> {
    let dir = seeds::scratch();
    let mut broker = open(dir.path()).expect("an empty directory opens");
    for _ in 0..8 {
        // The first one makes the topic.
        let _ = append(&mut broker);
    }
    for segment in broker.store_mut().take_checkpoints(1) {
        let _ = Checkpoint::extend(&segment);
    }
    drop(broker);
    let piece = |(number, name): (usize, &&str)| {
        let bytes = fs::read(dir.path().join(name)).unwrap_or_default();
        let mut piece = vec![number as u8 | 0x80];
        piece.extend(bytes);
        seeds::framed(&piece)
    };
    let pieces: Vec<Vec<u8>> = FILES.iter().enumerate().map(piece).collect();
    let mut all = pieces.clone();
    all.push(pieces.concat());
    all.push([&pieces[0][..], &pieces[2]].concat());
    all.push([&pieces[0][..], &pieces[2], &pieces[4]].concat());
    all
}
