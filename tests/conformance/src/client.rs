//! librdkafka's clients on a [`Target`].

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::Target;

/// Which records a reader is to see.
pub const COMMITTED: &str = "read_committed";
/// Which records a reader is to see.
pub const UNCOMMITTED: &str = "read_uncommitted";

impl Target {
    /// A configuration that connects.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        for (name, value) in self.settings() {
            config.set(name, value);
        }
        config
    }

    fn config_with(&self, defaults: &[(&str, &str)], settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.config();
        for (name, value) in defaults.iter().chain(settings) {
            config.set(*name, *value);
        }
        config
    }

    /// An admin client.
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Time limits for the admin client.
    pub fn admin_options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.patience)).operation_timeout(Some(self.patience))
    }

    /// Makes a topic and waits until it serves; gives its unique name.
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        self.topic_with(name, partitions, &[])
    }

    /// The same with settings of the topic.
    pub fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.unique(name);
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let created = block_on(self.admin().create_topics([&topic], &self.admin_options())).unwrap();
        assert_eq!(created, [Ok(name.clone())]);
        self.remember(&name);
        self.wait_for_topic(&name, partitions);
        name
    }

    /// Waits until all partitions of a topic answer.
    pub fn wait_for_topic(&self, name: &str, partitions: i32) {
        let long = Duration::from_secs(10);
        self.until("the new topic serves", || {
            // A client that once heard of fewer partitions keeps to that for minutes.
            let consumer = self.consumer(&[]);
            (0..partitions).all(|index| consumer.fetch_watermarks(name, index, long).is_ok()).then_some(())
        });
    }

    /// A producer that sends without delay and confirms every record.
    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let timeout = self.patience.as_millis().to_string();
        let defaults = [("linger.ms", "1"), ("message.timeout.ms", timeout.as_str())];
        self.config_with(&defaults, settings).create().unwrap()
    }

    /// A transactional producer that owns its (unique) id.
    pub fn transactional(&self, id: &str) -> BaseProducer {
        self.transactional_with(id, &[("transaction.timeout.ms", "60000")])
    }

    /// The same with settings.
    pub fn transactional_with(&self, id: &str, settings: &[(&str, &str)]) -> BaseProducer {
        let id = self.unique(id);
        let defaults = [("transactional.id", id.as_str()), ("linger.ms", "1")];
        let producer: BaseProducer = self.config_with(&defaults, settings).create().unwrap();
        producer.init_transactions(self.patience).unwrap();
        producer
    }

    /// A consumer that commits nothing by itself and says where a partition ends.
    pub fn consumer(&self, settings: &[(&str, &str)]) -> BaseConsumer {
        let group = self.unique("group");
        let defaults = [
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("fetch.wait.max.ms", "100"),
            ("allow.auto.create.topics", "false"),
        ];
        self.config_with(&defaults, settings).create().unwrap()
    }

    /// A consumer on one partition from one offset.
    pub fn reader(&self, topic: &str, partition: i32, from: Offset, isolation: &str) -> BaseConsumer {
        let consumer = self.consumer(&[("isolation.level", isolation)]);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, from).unwrap();
        consumer.assign(&list).unwrap();
        consumer
    }

    /// Offsets and values of a partition from `from` to its end. A record without value shows as `null`.
    pub fn read(&self, topic: &str, partition: i32, from: i64, isolation: &str) -> Vec<(i64, String)> {
        let consumer = self.reader(topic, partition, Offset::Offset(from), isolation);
        let mut values = Vec::new();
        self.poll(&consumer, "the end of the partition", |event| match event {
            Ok(message) => {
                let value = message.payload().map_or_else(|| "null".into(), String::from_utf8_lossy);
                values.push((message.offset(), value.into_owned()));
                None
            }
            Err(KafkaError::PartitionEOF(_)) => Some(()),
            Err(error) => panic!("{error}"),
        });
        values
    }

    /// Values of a partition from its start to its end.
    pub fn values(&self, topic: &str, partition: i32, isolation: &str) -> Vec<String> {
        self.read(topic, partition, 0, isolation).into_iter().map(|(_, value)| value).collect()
    }

    /// Polls until `look` has seen what it waits for.
    pub fn poll<T>(
        &self,
        consumer: &BaseConsumer,
        what: &str,
        mut look: impl FnMut(Result<rdkafka::message::BorrowedMessage<'_>, KafkaError>) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + self.patience;
        while Instant::now() < deadline {
            if let Some(seen) = consumer.poll(Duration::from_millis(50)).and_then(&mut look) {
                return seen;
            }
        }
        panic!("not within {:?}: {what}", self.patience)
    }

    /// Sends values with themselves as keys, and waits until they are confirmed.
    pub fn send(&self, producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
        for value in values {
            let record = BaseRecord::to(topic).partition(partition).key(*value).payload(*value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.flush(producer);
    }

    /// Waits until all records are confirmed or given up. The library's `flush` looks every 100 ms only.
    pub fn flush<C: ProducerContext>(&self, producer: &BaseProducer<C>) {
        let deadline = Instant::now() + self.patience;
        while producer.in_flight_count() > 0 {
            assert!(Instant::now() < deadline, "{} records are in flight still", producer.in_flight_count());
            producer.poll(Duration::from_millis(5));
        }
    }

    /// Commits an offset as a consumer outside any membership does.
    pub fn commit(&self, consumer: &BaseConsumer, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let list = position(topic, partition, offset, metadata);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    /// The committed offset and its metadata.
    pub fn committed(&self, consumer: &BaseConsumer, topic: &str, partition: i32) -> (Offset, String) {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, self.patience).unwrap();
        let element = list.find_partition(topic, partition).unwrap();
        (element.offset(), element.metadata().to_owned())
    }

    /// A producer that remembers what became of each record.
    pub fn reporting_producer(&self, settings: &[(&str, &str)]) -> BaseProducer<Reports> {
        let timeout = self.patience.as_millis().to_string();
        let defaults = [("linger.ms", "1"), ("message.timeout.ms", timeout.as_str())];
        self.config_with(&defaults, settings).create_with_context(Reports::default()).unwrap()
    }
}

/// What became of records, in order: offset, or why not.
#[derive(Debug, Default)]
pub struct Reports(pub std::sync::Mutex<Vec<Result<i64, RDKafkaErrorCode>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.0.lock().unwrap().push(report);
    }
}

/// A list of one position.
pub fn position(topic: &str, partition: i32, offset: i64, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    list.find_partition(topic, partition).unwrap().set_metadata(metadata);
    list
}

/// Admin futures are completed by a thread of the client; nothing here needs a runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
