//! What the harness asks of Kafka, through a client of its own.

use super::record::{self, Record};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use std::time::{Duration, Instant};

/// Anything that went wrong, as text.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// For one answer of Kafka. A new broker makes its internal topics on first use.
const ANSWER: Duration = Duration::from_secs(30);
/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// For the next record of a topic whose end is known.
const NEXT_RECORD: Duration = Duration::from_secs(30);

/// A client's settings.
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("client.id", "chaos");
    config
}

/// The topics of a run.
#[derive(Clone, Debug)]
pub struct Topics {
    /// What the load writes and the pipeline reads.
    pub input: String,
    /// What the pipeline writes; the broker stamps its records.
    pub output: String,
    /// Partitions of both.
    pub partitions: i32,
}

impl Topics {
    /// Create both.
    ///
    /// # Errors
    /// Kafka refuses or does not answer.
    pub fn create(&self, bootstrap: &str) -> Result<(), Trouble> {
        let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
        let new = |name| NewTopic::new(name, self.partitions, TopicReplication::Fixed(1));
        let output = new(&self.output).set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for created in runtime.block_on(admin.create_topics(&[new(&self.input), output], &options))? {
            created.map_err(|(topic, code)| format!("topic {topic} was not created: {code}"))?;
        }
        Ok(())
    }
}

/// Looks at ends and committed offsets.
pub struct Watcher {
    consumer: BaseConsumer,
    topics: Topics,
}

impl Watcher {
    /// One that sees the offsets of this group.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(bootstrap: &str, topics: &Topics, group: &str) -> Result<Watcher, Trouble> {
        let mut config = client(bootstrap);
        let consumer = config.set("group.id", group).set("enable.auto.commit", "false").create()?;
        Ok(Watcher { consumer, topics: topics.clone() })
    }

    /// The ends of a topic's partitions.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn ends(&self, topic: &str) -> Result<Vec<i64>, Trouble> {
        (0..self.topics.partitions).map(|p| end(&self.consumer, topic, p)).collect()
    }

    /// Records of the input that are not committed yet.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn lag(&self) -> Result<i64, Trouble> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topics.input, 0, self.topics.partitions - 1);
        let committed = self.consumer.committed_offsets(list, ANSWER)?;
        let ends = self.ends(&self.topics.input)?;
        let behind = |e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let end = usize::try_from(e.partition()).ok().and_then(|p| ends.get(p)).copied().unwrap_or(0);
            match e.offset() {
                Offset::Offset(at) => end - at,
                _ => end,
            }
        };
        Ok(committed.elements().iter().map(behind).sum())
    }
}

/// The end of a partition. A new topic has no leader for a moment: asked again until there is one.
fn end(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<i64, Trouble> {
    let begun = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, ANSWER) {
            Ok((_, end)) => return Ok(end),
            Err(error) if begun.elapsed() > ANSWER => {
                return Err(format!("the end of {topic}/{partition}: {error}").into());
            }
            Err(_) => std::thread::sleep(AGAIN),
        }
    }
}

/// Read a topic from its begin to its end now; the records of a partition come in the order of their offsets.
///
/// # Errors
/// Kafka does not give all the records, or one of them is not ours.
pub fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<Record>, Trouble> {
    let mut config = client(bootstrap);
    config
        .set("group.id", "chaos-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10");
    let consumer: BaseConsumer = config.create()?;
    let ends: Vec<i64> = (0..partitions).map(|p| end(&consumer, topic, p)).collect::<Result<_, _>>()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut records, mut next, mut heard) = (Vec::new(), vec![0; ends.len()], Instant::now());
    while next.iter().zip(&ends).any(|(next, end)| next < end) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                let message = message?;
                let at = message.timestamp().to_millis().unwrap_or(-1);
                records.push(record::read(message.payload().unwrap_or_default(), message.partition(), at)?);
                if let Some(next) = usize::try_from(message.partition()).ok().and_then(|p| next.get_mut(p)) {
                    *next = message.offset() + 1;
                }
                heard = Instant::now();
            }
            None if heard.elapsed() > NEXT_RECORD => {
                return Err(format!("{topic} gave nothing more at {next:?}; it ends at {ends:?}").into());
            }
            // Marks of transactions take offsets: where nothing comes any more the position tells.
            None => {
                for at in consumer.position()?.elements() {
                    if let (Ok(partition), Offset::Offset(offset)) =
                        (usize::try_from(at.partition()), at.offset())
                    {
                        next[partition] = offset.max(next[partition]);
                    }
                }
            }
        }
    }
    Ok(records)
}
