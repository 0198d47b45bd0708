//! What the clients do, and what they were told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::{PARTITIONS, PATIENCE};

/// Ids that were acknowledged, by partition and offset.
#[derive(Default)]
struct Acknowledged(pub Mutex<BTreeMap<u64, (i32, i64)>>);

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
pub struct Told {
    pub stop: AtomicBool,
    pub steps: AtomicU64,
    /// Transactions, by number, and whether they were committed for sure.
    pub transactions: Mutex<BTreeMap<u64, bool>>,
    pub offset: AtomicU64,
    pub retention: AtomicU64,
    pub rebalanced: AtomicU64,
    /// What the member that stays committed.
    pub of_member: AtomicU64,
    /// Records before this offset were deleted.
    pub cut: AtomicU64,
    /// The last value of each key of the compacted topic.
    pub latest: Mutex<BTreeMap<u64, u64>>,
}

impl Told {
    fn goes_on(&self) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

pub fn produce(broker: &ClientConfig, told: &Told) -> BTreeMap<u64, (i32, i64)> {
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
pub fn transact(broker: &ClientConfig, told: &Told) {
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
pub fn commit(broker: &ClientConfig, told: &Told) {
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

pub fn join(broker: &ClientConfig, told: &Told) {
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

/// Counts how often a member was given partitions.
#[derive(Default)]
struct Assignments(AtomicU64);

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A member that stays: a broker that comes back knows it, its generation and what it has, and takes its offsets.
pub fn stay(broker: &ClientConfig, told: &Told) -> u64 {
    let mut config = broker.clone();
    config.set("group.id", "stays").set("session.timeout.ms", "300000").set("heartbeat.interval.ms", "100");
    // Else it commits what it has read as well.
    config.set("enable.auto.commit", "false");
    let consumer: BaseConsumer<Assignments> = config.create_with_context(Assignments::default()).unwrap();
    consumer.subscribe(&["plain"]).unwrap();
    let begun = Instant::now();
    while consumer.assignment().unwrap().count() < PARTITIONS as usize {
        assert!(begun.elapsed() < PATIENCE, "the member is not in");
        consumer.poll(Duration::from_millis(20));
    }
    let mut next = 1;
    while told.goes_on() {
        consumer.poll(Duration::from_millis(1));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("plain", 1, Offset::Offset(next)).unwrap();
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            told.of_member.store(next as u64, Ordering::Relaxed);
        }
        next += 1;
    }
    consumer.context().0.load(Ordering::Relaxed)
}

pub fn configure(broker: &ClientConfig, told: &Told) {
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

/// Writes records and deletes them again.
pub fn cut(broker: &ClientConfig, told: &Told) {
    let (admin, producer): (AdminClient<DefaultClientContext>, BaseProducer) =
        (broker.create().unwrap(), broker.create().unwrap());
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    let mut written = 0;
    while told.goes_on() {
        let record = BaseRecord::<(), _>::to("cut").partition(0).payload("1");
        if producer.send(record).is_ok() && producer.flush(PATIENCE).is_ok() {
            written += 1;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("cut", 0, Offset::Offset(written)).unwrap();
        if let Ok(deleted) = block_on(admin.delete_records(&list, &options))
            && let Offset::Offset(first) = deleted.elements()[0].offset()
            && deleted.elements()[0].error().is_ok()
        {
            told.cut.store(first as u64, Ordering::Relaxed);
        }
    }
}

/// Keys of the compacted topic.
pub const KEYS: u64 = 5;

/// Writes the same keys again and again, in batches long enough for segments to fill and be compacted.
pub fn overwrite(broker: &ClientConfig, told: &Told) {
    let mut config = broker.clone();
    let producer: BaseProducer<Acknowledged> =
        config.set("enable.idempotence", "true").create_with_context(Acknowledged::default()).unwrap();
    let mut value = 0_u64;
    while told.goes_on() {
        for _ in 0..10 {
            let (key, padded) = ((value % KEYS).to_string(), format!("{value:<1000}"));
            let record = BaseRecord::with_opaque_to("latest", Box::new(value)).key(&key).payload(&padded);
            producer.send(record.partition(0)).map_err(|(error, _)| error).unwrap();
            value += 1;
        }
        producer.flush(PATIENCE).unwrap();
        let written = std::mem::take(&mut *producer.context().0.lock().unwrap());
        told.latest.lock().unwrap().extend(written.into_keys().map(|value| (value % KEYS, value)));
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
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
