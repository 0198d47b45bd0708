//! kill -9 at any moment: a broker in a process of its own, clients that do everything at once, and afterwards all that
//! was acknowledged is there. `PELTON_KILL_SEED` replays the moments, `PELTON_KILL_ROUNDS` asks for more of them.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pelton_broker::server::{Options, serve};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

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

/// Ids that were acknowledged, by partition and offset.
#[derive(Default)]
struct Acknowledged(Mutex<BTreeMap<u64, (i32, i64)>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<u64>;
    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<u64>) {
        let message = result.as_ref().unwrap();
        self.0.lock().unwrap().insert(*id, (message.partition(), message.offset()));
    }
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    steps: AtomicU64,
    /// Transactions, by number, and whether they were committed for sure.
    transactions: Mutex<BTreeMap<u64, bool>>,
    offset: AtomicU64,
    retention: AtomicU64,
    rebalanced: AtomicU64,
}

/// Ends the clients when the test fails too.
struct EndAll<'a>(&'a AtomicBool);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Told {
    fn goes_on(&self) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

fn produce(broker: &ClientConfig, told: &Told) -> BTreeMap<u64, (i32, i64)> {
    let mut config = broker.clone();
    let producer: BaseProducer<Acknowledged> =
        config.set("enable.idempotence", "true").create_with_context(Acknowledged::default()).unwrap();
    let mut id = 0_u64;
    while told.goes_on() {
        for _ in 0..20 {
            let value = id.to_string();
            let record = BaseRecord::<(), _, _>::with_opaque_to("plain", Box::new(id)).payload(&value);
            if producer.send(record.partition(id as i32 % PARTITIONS)).is_ok() {
                id += 1;
            }
        }
        producer.poll(Duration::from_millis(2));
    }
    producer.flush(PATIENCE).unwrap();
    let all = std::mem::take(&mut *producer.context().0.lock().unwrap());
    assert_eq!(all.len() as u64, id, "an idempotent producer has everything acknowledged in the end");
    all
}

/// Each transaction writes its number to every partition; every fourth one is aborted.
fn transact(broker: &ClientConfig, told: &Told) {
    let begin = || -> ThreadedProducer<DefaultProducerContext> {
        let mut config = broker.clone();
        let producer: ThreadedProducer<_> =
            config.set("transactional.id", "x").set("transaction.timeout.ms", "120000").create().unwrap();
        let begun = Instant::now();
        while let Err(error) = producer.init_transactions(Duration::from_secs(5)) {
            assert!(begun.elapsed() < PATIENCE, "{error}");
        }
        producer
    };
    let mut producer = begin();
    for number in 0.. {
        if !told.goes_on() {
            return;
        }
        let all = || -> Result<bool, rdkafka::error::KafkaError> {
            producer.begin_transaction()?;
            for partition in 0..PARTITIONS {
                let value = number.to_string();
                let record = BaseRecord::<(), _>::to("transactions").partition(partition).payload(&value);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            if number % 4 == 3 {
                producer.abort_transaction(PATIENCE).map(|()| false)
            } else {
                producer.commit_transaction(PATIENCE).map(|()| true)
            }
        };
        match all() {
            Ok(committed) => {
                told.transactions.lock().unwrap().insert(number, committed);
            }
            // Nobody knows how it ended; it must have ended the same everywhere.
            Err(_) => producer = begin(),
        }
    }
}

/// Rising offsets for a group, and a member of another group that comes and goes.
fn commit(broker: &ClientConfig, told: &Told) {
    let mut config = broker.clone();
    let consumer: BaseConsumer = config.set("group.id", "offsets").create().unwrap();
    let mut next = 1;
    while told.goes_on() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("plain", 0, Offset::Offset(next)).unwrap();
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            told.offset.store(next as u64, Ordering::Relaxed);
        }
        next += 1;
    }
}

fn join(broker: &ClientConfig, told: &Told) {
    while told.goes_on() {
        let mut config = broker.clone();
        config
            .set("group.id", "members")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "200");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&["plain"]).unwrap();
        while told.goes_on() {
            consumer.poll(Duration::from_millis(50));
            if consumer.assignment().is_ok_and(|assigned| assigned.count() == PARTITIONS as usize) {
                told.rebalanced.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

fn configure(broker: &ClientConfig, told: &Told) {
    let admin: AdminClient<DefaultClientContext> = broker.create().unwrap();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    for number in 1_000_000_000_000_u64.. {
        if !told.goes_on() {
            return;
        }
        let value = number.to_string();
        let config = AlterConfig::new(ResourceSpecifier::Topic("plain")).set("retention.ms", &value);
        let done = block_on(admin.alter_configs([&config], &options));
        if done.is_ok_and(|all| all.iter().all(Result::is_ok)) {
            told.retention.store(number, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let (mut future, mut context) = (std::pin::pin!(future), std::task::Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(done) => return done,
            std::task::Poll::Pending => std::thread::park(),
        }
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
                let id = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
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
    let consumer: BaseConsumer = broker.client().set("group.id", "offsets").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition("plain", 0);
    let offset = consumer.committed_offsets(list, PATIENCE).unwrap().elements()[0].offset();
    let told_offset = told.offset.load(Ordering::Relaxed) as i64;
    assert!(matches!(offset, Offset::Offset(at) if at >= told_offset), "{offset:?}, told was {told_offset}");
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
    let topics =
        ["plain", "transactions"].map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    assert!(block_on(admin.create_topics(&topics, &options)).unwrap().iter().all(Result::is_ok));
    let (told, client) = (Told::default(), broker.client());
    let acknowledged = std::thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&client, &told));
        scope.spawn(|| transact(&client, &told));
        scope.spawn(|| commit(&client, &told));
        scope.spawn(|| join(&client, &told));
        scope.spawn(|| configure(&client, &told));
        let _ended = EndAll(&told.stop);
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
        producing.join().unwrap()
    });
    check(&broker, &told, &acknowledged);
    assert!(told.offset.load(Ordering::Relaxed) > 0 && told.retention.load(Ordering::Relaxed) > 0);
    assert!(told.rebalanced.load(Ordering::Relaxed) > 0 && !acknowledged.is_empty());
}
