//! A broker of its own for each test, and clients of it.

use std::time::{Duration, Instant};

use pelton_broker::server::{Listener, Options, Running, serve};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Long enough for a loaded machine; nothing waits this long unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Broker {
    pub dir: tempfile::TempDir,
    pub running: Option<Running>,
    pub auto_create: bool,
}

impl Broker {
    pub fn start() -> Self {
        let mut broker = Self { dir: tempfile::tempdir().unwrap(), running: None, auto_create: true };
        broker.restart();
        broker
    }

    pub fn options(&self) -> Options {
        Options {
            default_partitions: 3,
            auto_create_topics: self.auto_create,
            segment_bytes: 64 * 1024,
            ..Options::new("127.0.0.1:0", self.dir.path())
        }
    }

    /// Ends it without any last write, as a kill would, and starts another on the same files.
    pub fn restart(&mut self) {
        drop(self.running.take());
        self.running = Some(serve_again(&self.options()));
    }

    /// The same on the port clients know.
    pub fn restart_on(&mut self, port: u16) {
        drop(self.running.take());
        let listeners = vec![Listener::plaintext(format!("127.0.0.1:{port}"))];
        self.running = Some(serve_again(&Options { listeners, ..self.options() }));
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.running.as_ref().unwrap().bootstrap());
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    pub fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = block_on(self.admin().create_topics([&topic], &admin_options())).unwrap();
        assert_eq!(created, [Ok(name.to_owned())]);
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        config.set("linger.ms", "1").set("message.timeout.ms", "20000");
        settings.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config.create().unwrap()
    }

    pub fn transactional(&self, id: &str) -> BaseProducer {
        let producer = self.producer(&[("transactional.id", id), ("transaction.timeout.ms", "20000")]);
        producer.init_transactions(PATIENCE).unwrap();
        producer
    }

    pub fn consumer(&self, group: &str, isolation: &str) -> BaseConsumer {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "100");
        config.create().unwrap()
    }

    /// Values of a partition from `from` to its end, with their offsets.
    pub fn read(&self, topic: &str, partition: i32, from: i64, isolation: &str) -> Vec<(i64, String)> {
        let consumer = self.consumer("reader", isolation);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from)).unwrap();
        consumer.assign(&list).unwrap();
        let mut values = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                    values.push((message.offset(), value));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return values,
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        panic!("no end of {topic}[{partition}] within {PATIENCE:?}, got {values:?}")
    }
}

/// A process that another test starts holds a copy of every lock for a moment: tries again until it has gone.
fn serve_again(options: &Options) -> Running {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match serve(options.clone()) {
            Ok(running) => return running,
            Err(error) if error.to_string().contains("another broker") && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
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

pub fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

pub fn send(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
    for value in values {
        let record = BaseRecord::to(topic).partition(partition).key(*value).payload(*value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(producer.in_flight_count(), 0);
}

pub fn values(read: &[(i64, String)]) -> Vec<&str> {
    read.iter().map(|(_, value)| value.as_str()).collect()
}

pub fn commit(consumer: &BaseConsumer, topic: &str, partition: i32, offset: i64, metadata: &str) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    list.find_partition(topic, partition).unwrap().set_metadata(metadata);
    consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
}

pub fn committed(consumer: &BaseConsumer, topic: &str, partition: i32) -> (Offset, String) {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let list = consumer.committed_offsets(list, PATIENCE).unwrap();
    let element = list.find_partition(topic, partition).unwrap();
    (element.offset(), element.metadata().to_owned())
}
