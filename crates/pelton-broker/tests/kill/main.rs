//! kill -9 at any moment: a broker in a process of its own, clients that do everything at once, and afterwards all that
//! was acknowledged is there. `PELTON_KILL_SEED` replays the moments, `PELTON_KILL_ROUNDS` asks for more of them.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod clients;

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pelton_broker::server::{Options, serve};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use clients::{KEYS, Told, block_on, commit, configure, cut, join, overwrite, produce, stay, transact};

const PARTITIONS: i32 = 3;
const ROUNDS: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(120);
/// Tells the test binary to be the broker: address and directory.
const BE_THE_BROKER: &str = "PELTON_KILL_BROKER";

#[test]
fn the_broker_when_this_program_is_asked_to_be_it() {
    let Ok(told) = std::env::var(BE_THE_BROKER) else { return };
    let (listen, dir) = told.split_once(' ').unwrap();
    let options = Options {
        segment_bytes: 100_000,
        default_partitions: PARTITIONS as u32,
        ..Options::new(listen, dir)
    };
    let _running = serve(options).unwrap();
    // It ends by kill, or with whoever started it.
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Broker {
    address: String,
    dir: tempfile::TempDir,
    child: Child,
}

impl Broker {
    fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let child = Self::spawn(&address, dir.path());
        Self { address, dir, child }
    }

    fn spawn(address: &str, dir: &Path) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_broker_when_this_program_is_asked_to_be_it", "--nocapture"]);
        command.env(BE_THE_BROKER, format!("{address} {}", dir.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.address, self.dir.path());
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("message.timeout.ms", "120000");
        config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "50").set("linger.ms", "1");
        config
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends the clients when the test fails too.
struct EndAll<'a>(&'a AtomicBool);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Values by partition and offset.
fn read(broker: &Broker, topic: &str) -> Vec<BTreeMap<i64, u64>> {
    let consumer: BaseConsumer =
        broker.client().set("group.id", "reader").set("enable.partition.eof", "true").create().unwrap();
    let mut list = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|p| list.add_partition_offset(topic, p, Offset::Beginning).unwrap());
    consumer.assign(&list).unwrap();
    let (mut found, mut ended, begun) = (vec![BTreeMap::new(); PARTITIONS as usize], 0, Instant::now());
    while ended < PARTITIONS {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let id = std::str::from_utf8(message.payload().unwrap()).unwrap().trim_end().parse().unwrap();
                found[message.partition() as usize].insert(message.offset(), id);
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ended += 1,
            _ => assert!(begun.elapsed() < PATIENCE, "{topic} cannot be read to its end"),
        }
    }
    found
}

fn check(broker: &Broker, told: &Told, acknowledged: &BTreeMap<u64, (i32, i64)>) {
    let plain = read(broker, "plain");
    for (id, (partition, offset)) in acknowledged {
        assert_eq!(plain[*partition as usize].get(offset), Some(id), "partition {partition} offset {offset}");
    }
    for partition in &plain {
        let ids: Vec<u64> = partition.values().copied().collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "an id is there twice, or out of order");
    }
    let transactions = read(broker, "transactions");
    let of = |partition: &BTreeMap<i64, u64>| partition.values().copied().collect::<Vec<_>>();
    let committed = of(&transactions[0]);
    transactions
        .iter()
        .for_each(|other| assert_eq!(of(other), committed, "committed in some partitions only"));
    let counts: HashMap<u64, usize> = committed.iter().fold(HashMap::new(), |mut counts, number| {
        *counts.entry(*number).or_default() += 1;
        counts
    });
    for (number, is_committed) in &*told.transactions.lock().unwrap() {
        assert_eq!(
            counts.get(number).copied().unwrap_or(0),
            usize::from(*is_committed),
            "transaction {number}"
        );
    }
    for (group, partition, told) in [("offsets", 0, &told.offset), ("stays", 1, &told.of_member)] {
        let consumer: BaseConsumer = broker.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition("plain", partition);
        let offset = consumer.committed_offsets(list, PATIENCE).unwrap().elements()[0].offset();
        let told = told.load(Ordering::Relaxed) as i64;
        assert!(matches!(offset, Offset::Offset(at) if at >= told), "{group}: {offset:?}, told was {told}");
    }
    let latest = read(broker, "latest").remove(0);
    for (key, value) in &*told.latest.lock().unwrap() {
        let last = latest.values().filter(|value| **value % KEYS == *key).max();
        assert!(last >= Some(value), "key {key}: {last:?}, acknowledged was {value}");
    }
    let reader: BaseConsumer = broker.client().set("group.id", "reader").create().unwrap();
    let (first, _) = reader.fetch_watermarks("cut", 0, PATIENCE).unwrap();
    let cut = told.cut.load(Ordering::Relaxed) as i64;
    assert!(first >= cut && cut > 0, "records before {cut} were deleted, and {first} is the first");
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let described =
        block_on(admin.describe_configs([&ResourceSpecifier::Topic("plain")], &AdminOptions::new()));
    let described = described.unwrap().remove(0).unwrap();
    let retention = described.get("retention.ms").unwrap().value.clone().unwrap();
    assert!(retention.parse::<u64>().unwrap() >= told.retention.load(Ordering::Relaxed), "{retention}");
}

#[test]
fn everything_acknowledged_survives_kill_9_at_any_moment() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("PELTON_KILL_SEED").unwrap_or_else(by_clock);
    println!("PELTON_KILL_SEED={seed}");
    let mut broker = Broker::start();
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let mut topics = ["plain", "transactions", "cut", "latest"]
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    topics[3].config = vec![("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    assert!(block_on(admin.create_topics(&topics, &options)).unwrap().iter().all(Result::is_ok));
    let (told, client) = (Told::default(), broker.client());
    let (acknowledged, assigned) = std::thread::scope(|scope| {
        let staying = scope.spawn(|| stay(&client, &told));
        let producing = scope.spawn(|| produce(&client, &told));
        scope.spawn(|| transact(&client, &told));
        scope.spawn(|| commit(&client, &told));
        scope.spawn(|| join(&client, &told));
        scope.spawn(|| configure(&client, &told));
        scope.spawn(|| cut(&client, &told));
        scope.spawn(|| overwrite(&client, &told));
        let _ended = EndAll(&told.stop);
        let begun = Instant::now();
        while told.of_member.load(Ordering::Relaxed) == 0 {
            assert!(begun.elapsed() < PATIENCE, "the member that stays is not in");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut mixed = seed | 1;
        for _ in 0..number("PELTON_KILL_ROUNDS").unwrap_or(ROUNDS) {
            mixed = mixed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let before = told.transactions.lock().unwrap().len();
            let steps = told.steps.load(Ordering::Relaxed) + (mixed >> 33) % 300;
            let begun = Instant::now();
            while told.transactions.lock().unwrap().len() == before
                || told.steps.load(Ordering::Relaxed) < steps
            {
                assert!(begun.elapsed() < PATIENCE, "nothing goes on");
                std::thread::sleep(Duration::from_micros(100));
            }
            std::thread::sleep(Duration::from_micros((mixed >> 40) % 5_000));
            broker.kill_and_restart();
        }
        told.stop.store(true, Ordering::Relaxed);
        (producing.join().unwrap(), staying.join().unwrap())
    });
    assert_eq!(assigned, 1, "the member that stayed was given its partitions once");
    check(&broker, &told, &acknowledged);
    assert!(told.offset.load(Ordering::Relaxed) > 0 && told.retention.load(Ordering::Relaxed) > 0);
    assert!(told.of_member.load(Ordering::Relaxed) > 0);
    assert!(told.rebalanced.load(Ordering::Relaxed) > 0 && !acknowledged.is_empty());
}
