//! Power cuts: whatever was not synced may be gone, in part or whole, and what is left of it may have holes.
//!
//! A broker runs on a device that remembers what was synced. A cut is a copy of its files in which everything after that
//! is random: cut off, blocks of zeros in it, or as it was. `PELTON_POWER_SEED` replays a run.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pelton_broker::batch::BatchHeader;
use pelton_broker::core::{CommittedOffset, GroupOffset, Isolation, TopicConfig};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::server::{Fsync, Options, serve};
use pelton_broker::store::{ByteRange, Device, FileOptions, FileStore, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ThreadedProducer};

const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK: usize = 4096;

/// Remembers how long each file was when it was synced last, by number.
#[derive(Debug, Default, Clone)]
struct Remembering(Arc<Mutex<HashMap<u64, u64>>>);

impl Device for Remembering {
    fn sync(&self, file: &File) -> io::Result<()> {
        // Looked at under the lock: of two syncs of a file at a time the later look is the one to remember.
        let mut synced = self.0.lock().unwrap();
        let metadata = file.metadata()?;
        synced.insert(metadata.ino(), metadata.len());
        Ok(())
    }
}

/// Numbers that follow from a seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn new(test: u64) -> Self {
        let given = std::env::var("PELTON_POWER_SEED").ok().and_then(|text| text.parse().ok());
        let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(by_clock);
        println!("PELTON_POWER_SEED={seed}");
        Self::of(seed, test)
    }

    fn of(seed: u64, test: u64) -> Self {
        Self(seed.wrapping_mul(2 * test + 1) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end.max(1)
    }
}

/// What a power cut leaves of `from`, in `to`. Checkpoints are checked by their own sums; here they are whole or gone.
fn cut(from: &Path, to: &Path, synced: &HashMap<u64, u64>, chance: &mut Chance) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            cut(&path, &to, synced, chance);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let kept = usize::try_from(synced.get(&metadata.ino()).copied().unwrap_or(0)).unwrap();
        if path.file_name().unwrap() != "lock" {
            bytes.truncate(kept + chance.below((bytes.len() - kept) as u64 + 1) as usize);
            for block in (kept.next_multiple_of(BLOCK)..bytes.len()).step_by(BLOCK) {
                if chance.below(4) == 0 {
                    let end = (block + BLOCK).min(bytes.len());
                    bytes[block..end].fill(0);
                }
            }
        }
        fs::write(to, bytes).unwrap();
    }
}

fn store(device: &Remembering, dir: &Path) -> FileStore {
    FileStore::open_on(Arc::new(device.clone()), dir, &FileOptions { segment_bytes: 40_000 }).unwrap()
}

fn start(store: FileStore) -> Broker<FileStore> {
    Broker::open(store, Settings::default(), 0).unwrap()
}

/// Values of each partition in order; every offset is there.
fn read(broker: &Broker<FileStore>, partition: i32, isolation: Isolation) -> Vec<String> {
    let (log, core) = broker.state().find("t", partition).unwrap();
    let limit = core.visible_end(isolation);
    let aborted = core.aborted_between(0, limit);
    let (mut values, mut at) = (Vec::new(), 0);
    while at < limit {
        let found = broker.store().locate(log, Wanted { from: at, limit, max_bytes: 0, at_least_one: true });
        let mut bytes = vec![0; found.ranges[0].len()];
        found.ranges[0].read_into(&mut bytes).unwrap();
        let header = BatchHeader::check(&bytes).unwrap();
        assert_eq!(header.base_offset, at, "a hole in the log");
        at = header.next_offset();
        let is_aborted = aborted.iter().any(|range| {
            range.producer_id == header.producer_id
                && (range.first_offset..range.last_offset).contains(&header.base_offset)
        });
        if header.is_control() || (is_aborted && isolation == Isolation::ReadCommitted) {
            continue;
        }
        for stored in records::decode(&bytes.into()).unwrap() {
            let value = String::from_utf8(stored.record.value.unwrap().to_vec()).unwrap();
            values.push(value.trim_end_matches('.').to_owned());
        }
    }
    values
}

fn append(broker: &mut Broker<FileStore>, partition: i32, value: &str, padding: usize) -> Result<i64, Code> {
    let value = Some(Bytes::from(format!("{value}{}", ".".repeat(padding))));
    let batch = records::encode(&[NewRecord { value, ..NewRecord::default() }]).unwrap();
    let plan = broker.state().plan_produce(("t", partition), None, batch, 0)?;
    broker.run(plan, Code::KafkaStorageError).map(|(offset, _)| offset)
}

fn sync(broker: &mut Broker<FileStore>, device: &Remembering) {
    broker.store_mut().take_dirty().iter().for_each(|file| device.sync(file).unwrap());
}

/// Appends and commits with a sync now and then; at every step a cut is tried. Gives how many steps were synced of how many.
fn cuts_at_every_step(chance: &mut Chance, syncs_one_in: u64) {
    let dir = tempfile::tempdir().unwrap();
    let device = Remembering::default();
    let mut broker = start(store(&device, dir.path()));
    let plan = broker.state().plan_create_topic("t", PARTITIONS as u32, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    sync(&mut broker, &device);
    let mut written = vec![Vec::new(); PARTITIONS as usize];
    let (mut kept, mut kept_offset) = (vec![0; PARTITIONS as usize], None);
    for step in 0..60_u64 {
        let partition = chance.below(PARTITIONS as u64) as usize;
        let value = format!("v{step}");
        let padding = if chance.below(3) == 0 { 10_000 } else { 300 };
        append(&mut broker, partition as i32, &value, chance.below(padding) as usize).unwrap();
        written[partition].push(value);
        let committed = CommittedOffset { offset: step as i64, leader_epoch: -1, metadata: String::new() };
        let offset = GroupOffset { topic: "t".into(), partition: 0, committed };
        let plan = broker.state().plan_commit_offsets("g", vec![offset], 0);
        broker.run(plan, Code::KafkaStorageError).unwrap();
        if syncs_one_in > 0 && chance.below(syncs_one_in) == 0 {
            sync(&mut broker, &device);
            (kept, kept_offset) = (written.iter().map(Vec::len).collect(), Some(step as i64));
        }
        let after = tempfile::tempdir().unwrap();
        let synced = device.0.lock().unwrap().clone();
        cut(dir.path(), after.path(), &synced, chance);
        let restarted = start(store(&Remembering::default(), after.path()));
        for partition in 0..PARTITIONS as usize {
            let found = read(&restarted, partition as i32, Isolation::ReadUncommitted);
            assert!(
                found.len() >= kept[partition],
                "synced were {}, left are {}",
                kept[partition],
                found.len()
            );
            assert_eq!(found[..], written[partition][..found.len()], "no hole, and nothing torn");
        }
        let left = restarted.state().groups().committed("g", "t", 0).map(|committed| committed.offset);
        assert!(left >= kept_offset && left <= Some(step as i64), "{left:?} of {kept_offset:?}");
    }
}

#[test]
fn with_a_sync_before_each_answer_no_cut_takes_anything_acknowledged() {
    let mut chance = Chance::new(1);
    (0..4).for_each(|_| cuts_at_every_step(&mut chance, 1));
}

#[test]
fn with_a_sync_now_and_then_a_cut_takes_only_what_came_after_the_last_one() {
    let mut chance = Chance::new(2);
    (0..4).for_each(|_| cuts_at_every_step(&mut chance, 12));
}

/// What a cut once took, and recovery took for a change: a block whose last bytes belong to the batch behind, and are zero
/// there as well.
#[test]
fn a_block_that_ends_in_the_next_batch_is_seen_as_what_a_crash_left() {
    let mut chance = Chance::of(1_795_647_607_301_825_750, 3);
    (0..4).for_each(|_| cuts_at_every_step(&mut chance, 0));
}

#[test]
fn without_a_sync_a_cut_leaves_a_begin_of_each_log_and_never_a_hole() {
    let mut chance = Chance::new(3);
    (0..4).for_each(|_| cuts_at_every_step(&mut chance, 0));
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "0").set("message.timeout.ms", "60000");
    config
}

fn produce(producer: &BaseProducer, partition: i32, value: &str) {
    producer.send(BaseRecord::<(), _>::to("t").partition(partition).payload(value)).unwrap();
}

fn run_server(fsync: Fsync, device: &Remembering, dir: &Path) -> pelton_broker::server::Running {
    let device = Arc::new(device.clone());
    let options = Options {
        fsync,
        device,
        segment_bytes: 40_000,
        default_partitions: PARTITIONS as u32,
        ..Options::new("127.0.0.1:0", dir)
    };
    serve(options).unwrap()
}

#[test]
fn a_server_that_always_syncs_answers_when_it_has_and_ends_transactions_everywhere_or_nowhere() {
    let mut chance = Chance::new(4);
    let (dir, device) = (tempfile::tempdir().unwrap(), Remembering::default());
    let running = run_server(Fsync::Always, &device, dir.path());
    let producer: ThreadedProducer<_> = client(&running.bootstrap())
        .set("transactional.id", "x")
        .set("transaction.timeout.ms", "60000")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for round in 0..15 {
        producer.begin_transaction().unwrap();
        for partition in 0..PARTITIONS {
            let value = format!("v{round}");
            let record = BaseRecord::<(), _>::to("t").partition(partition).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        std::thread::scope(|scope| {
            let ending = scope.spawn(|| producer.commit_transaction(PATIENCE).unwrap());
            // While it is being decided, and when it has been.
            for is_last in [false, true] {
                if is_last {
                    while !ending.is_finished() {
                        std::thread::yield_now();
                    }
                }
                // What was synced first: whatever was acknowledged by then is in the copy.
                let synced = device.0.lock().unwrap().clone();
                let after = tempfile::tempdir().unwrap();
                cut(dir.path(), after.path(), &synced, &mut chance);
                let restarted = start(store(&Remembering::default(), after.path()));
                if restarted.state().topics().is_empty() {
                    assert!(round == 0 && !is_last);
                    continue;
                }
                let all: Vec<_> =
                    (0..PARTITIONS).map(|p| read(&restarted, p, Isolation::ReadCommitted)).collect();
                assert_eq!(all[0], all[1], "committed in one partition only");
                assert!(all[0].len() >= round + usize::from(is_last), "round {round}: {all:?}");
            }
        });
    }
}

#[test]
fn a_server_with_an_interval_syncs_everything_without_being_asked_again() {
    let (dir, device) = (tempfile::tempdir().unwrap(), Remembering::default());
    let running = run_server(Fsync::Interval(Duration::from_millis(20)), &device, dir.path());
    let producer: BaseProducer = client(&running.bootstrap()).create().unwrap();
    (0..50).for_each(|number| produce(&producer, number % PARTITIONS, &format!("v{number}")));
    producer.flush(PATIENCE).unwrap();
    let begun = Instant::now();
    for file in ["journal", "logs/0/0/00000000000000000000.log", "logs/0/1/00000000000000000000.log"] {
        let metadata = fs::metadata(dir.path().join(file)).unwrap();
        while device.0.lock().unwrap().get(&metadata.ino()) != Some(&metadata.len()) {
            assert!(begun.elapsed() < PATIENCE, "{file} was not synced");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
