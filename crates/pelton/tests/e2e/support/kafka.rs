//! A Kafka client that has nothing to do with ours.

use super::{PATIENCE, until};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
    message::Headers,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Read {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap()
    }
}

/// What became of each topic that was to be changed.
type Changed = KafkaResult<Vec<TopicResult>>;

/// A broker as others see it.
pub struct Kafka {
    bootstrap: String,
    producer: BaseProducer,
}

impl Kafka {
    pub fn at(bootstrap: &str) -> Kafka {
        let producer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
        Kafka { bootstrap: bootstrap.to_owned(), producer }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        self.config().set("group.id", group).create().unwrap()
    }

    fn admin(&self, asks: impl AsyncFnOnce(AdminClient<DefaultClientContext>, AdminOptions) -> Changed) {
        let admin = self.config().create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let changed = runtime.block_on(asks(admin, options)).unwrap();
        changed.into_iter().for_each(|one| drop(one.unwrap()));
    }

    pub fn create(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        self.admin(async |admin, options| admin.create_topics([&topic], &options).await);
    }

    pub fn delete(&self, topic: &str) {
        self.admin(async |admin, options| admin.delete_topics(&[topic], &options).await);
        until("the topic is gone", || (!self.topics().contains(&topic.to_owned())).then_some(()));
    }

    /// Set a group's offset as another tool does, without our text beside it.
    pub fn reset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let consumer = self.consumer(group);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
    }

    /// Names of all topics.
    pub fn topics(&self) -> Vec<String> {
        let all = self.producer.client().fetch_metadata(None, PATIENCE).unwrap();
        all.topics().iter().map(|t| t.name().to_owned()).collect()
    }

    /// Write records in order, and wait until the broker has them.
    pub fn put<V: AsRef<[u8]>>(&self, topic: &str, records: impl IntoIterator<Item = (String, V)>) {
        for (key, value) in records {
            let mut record = BaseRecord::to(topic).key(&key).payload(value.as_ref());
            while let Err((e, back)) = self.producer.send(record) {
                assert_eq!(e.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull), "{e}");
                self.producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    /// `{"id": n}` under the key `n`, for every n.
    pub fn put_ids(&self, topic: &str, ids: std::ops::Range<u64>) {
        self.put(topic, ids.map(|id| (id.to_string(), format!("{{\"id\":{id}}}"))));
    }

    /// Everything in a topic.
    pub fn all(&self, topic: &str) -> Vec<Read> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "looks-only")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, i32::try_from(partition).unwrap(), Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut read, mut ends) = (Vec::new(), 0);
        while ends < partitions {
            match consumer.poll(PATIENCE).expect("the broker answers") {
                Ok(message) => read.push(take(&message)),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
                Err(e) => panic!("{e}"),
            }
        }
        read
    }

    /// Everything in a topic once it holds so many records.
    #[track_caller]
    pub fn until(&self, topic: &str, records: usize) -> Vec<Read> {
        until(&format!("{records} records in {topic}"), || {
            let all = self.all(topic);
            (all.len() >= records).then_some(all)
        })
    }

    /// How often each id is in a topic, once so many different ones are.
    #[track_caller]
    pub fn until_ids(&self, topic: &str, ids: usize) -> BTreeMap<u64, usize> {
        until(&format!("{ids} ids in {topic}"), || {
            let mut counts = BTreeMap::new();
            for read in self.all(topic) {
                *counts.entry(read.json()["id"].as_u64().unwrap()).or_default() += 1;
            }
            (counts.len() >= ids).then_some(counts)
        })
    }

    /// Committed offset of a partition of a pipeline's group; `None` when nothing was committed.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer = self.consumer(group);
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let found = consumer.committed_offsets(list, PATIENCE).unwrap();
        match found.find_partition(topic, partition).unwrap().offset() {
            Offset::Offset(at) => Some(at),
            _ => None,
        }
    }
}

fn take(message: &rdkafka::message::BorrowedMessage<'_>) -> Read {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map_or_else(String::new, text))).collect()
    });
    Read {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
    }
}
