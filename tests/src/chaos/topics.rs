//! What the harness asks of Kafka, through a client of its own.

use super::{
    ear::Ear,
    record::{self, Record},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};
use std::time::{Duration, Instant};

/// Anything that went wrong, as text.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// For one answer of Kafka. A new broker makes its internal topics on first use.
const ANSWER: Duration = Duration::from_secs(30);
/// For one try.
const TRY: Duration = Duration::from_secs(5);
/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// For the next record of a topic whose end is known.
pub(super) const NEXT_RECORD: Duration = Duration::from_secs(30);

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
    /// What it cannot process.
    pub letters: String,
    /// Partitions of each.
    pub partitions: i32,
}

impl Topics {
    /// Create them.
    ///
    /// # Errors
    /// Kafka refuses or does not answer.
    pub fn create(&self, bootstrap: &str) -> Result<(), Trouble> {
        let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
        let new = |name| NewTopic::new(name, self.partitions, TopicReplication::Fixed(1));
        let output = new(&self.output).set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for created in runtime
            .block_on(admin.create_topics(&[new(&self.input), new(&self.letters), output], &options))?
        {
            created.map_err(|(topic, code)| format!("topic {topic} was not created: {code}"))?;
        }
        Ok(())
    }
}

/// A consumer that is asked until it answers.
struct Asker {
    consumer: BaseConsumer,
    bootstrap: String,
}

impl Asker {
    fn new(bootstrap: &str, config: &ClientConfig) -> Result<Asker, Trouble> {
        Ok(Asker { consumer: config.create()?, bootstrap: bootstrap.to_owned() })
    }

    /// The end of a partition. A new topic has no leader for a moment: asked again until there is one.
    fn end(&self, topic: &str, partition: i32) -> Result<i64, Trouble> {
        let ask = || {
            let ends = self.consumer.fetch_watermarks(topic, partition, TRY);
            if ends.is_err() {
                // What was heard while it had no leader is kept for a quarter of an hour, unless it is asked for again.
                drop(self.consumer.fetch_metadata(Some(topic), TRY));
            }
            ends
        };
        let (_, end) =
            self.answer(ask).map_err(|error| format!("the end of {topic}/{partition}: {error}"))?;
        Ok(end)
    }

    fn answer<T>(&self, ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
        let (begun, mut ear) = (Instant::now(), Ear::new(&self.bootstrap));
        loop {
            match ask() {
                Err(_) if begun.elapsed() < ANSWER => {
                    ear.strain(self.consumer.client());
                    std::thread::sleep(AGAIN);
                }
                answered => return answered,
            }
        }
    }
}

/// Looks at ends and committed offsets.
pub struct Watcher {
    asker: Asker,
    topics: Topics,
}

impl Watcher {
    /// One that sees the offsets of this group.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(bootstrap: &str, topics: &Topics, group: &str) -> Result<Watcher, Trouble> {
        let mut config = client(bootstrap);
        config.set("group.id", group).set("enable.auto.commit", "false");
        Ok(Watcher { asker: Asker::new(bootstrap, &config)?, topics: topics.clone() })
    }

    /// The ends of a topic's partitions.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn ends(&self, topic: &str) -> Result<Vec<i64>, Trouble> {
        (0..self.topics.partitions).map(|p| self.asker.end(topic, p)).collect()
    }

    /// Records of the input that are not committed yet.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn lag(&self) -> Result<i64, Trouble> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topics.input, 0, self.topics.partitions - 1);
        let ask = || self.asker.consumer.committed_offsets(list.clone(), TRY);
        let committed = self.asker.answer(ask)?;
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

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Partition it stands in.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Time the broker or the client gave it, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What it is.
    pub bytes: Vec<u8>,
}

impl Value {
    /// The record of a load that this is.
    ///
    /// # Errors
    /// It is none.
    pub fn record(&self) -> Result<Record, String> {
        record::read(&self.bytes, self.partition, self.timestamp_ms)
    }
}

/// Which records a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those of transactions that are committed, and those of none.
    Committed,
    /// Those of transactions that were aborted too.
    Uncommitted,
}

/// Reads the records of a topic from its begin.
pub struct Reading {
    asker: Asker,
    ear: Ear,
    topic: String,
    /// By partition, the offset below which everything came.
    next: Vec<i64>,
}

impl Reading {
    /// Read committed records of all partitions.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Result<Reading, Trouble> {
        Reading::of(bootstrap, topic, partitions, Isolation::Committed)
    }

    /// Read all partitions.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn of(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        isolation: Isolation,
    ) -> Result<Reading, Trouble> {
        let isolation = match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        };
        let mut config = client(bootstrap);
        config
            .set("group.id", "chaos-reader")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", isolation)
            .set("fetch.queue.backoff.ms", "10");
        let asker = Asker::new(bootstrap, &config)?;
        // Asked first, or the first record waits for a timer of a second.
        for partition in 0..partitions {
            asker.end(topic, partition)?;
        }
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Offset(0))?;
        }
        asker.consumer.assign(&list)?;
        let next = vec![0; usize::try_from(partitions).unwrap_or(0)];
        Ok(Reading { asker, ear: Ear::new(bootstrap), topic: topic.to_owned(), next })
    }

    /// The next record, if one comes soon.
    ///
    /// # Errors
    /// What the client says of a broker that is away, too.
    pub fn poll(&mut self) -> Result<Option<Value>, Trouble> {
        let consumer = &self.asker.consumer;
        let message = match consumer.poll(AGAIN) {
            Some(Ok(message)) => message,
            nothing => {
                self.ear.strain(consumer.client());
                return nothing.transpose().map(|_| None).map_err(Into::into);
            }
        };
        self.ear.heard();
        let value = Value {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            bytes: message.payload().unwrap_or_default().to_vec(),
        };
        if let Some(next) = usize::try_from(value.partition).ok().and_then(|p| self.next.get_mut(p)) {
            *next = value.offset + 1;
        }
        Ok(Some(value))
    }

    /// Read to the ends as they are now.
    ///
    /// # Errors
    /// Nothing came for that long.
    pub fn to_end(&mut self, within: Duration, add: &mut impl FnMut(&Value)) -> Result<(), Trouble> {
        let partitions = i32::try_from(self.next.len())?;
        let ends: Vec<i64> =
            (0..partitions).map(|p| self.asker.end(&self.topic, p)).collect::<Result<_, _>>()?;
        let mut heard = Instant::now();
        while self.next.iter().zip(&ends).any(|(next, end)| next < end) {
            match self.poll() {
                Ok(Some(value)) => {
                    add(&value);
                    heard = Instant::now();
                }
                Err(trouble) if heard.elapsed() > within => return Err(trouble),
                Ok(None) if heard.elapsed() > within => {
                    let (topic, next) = (&self.topic, &self.next);
                    return Err(format!("{topic} gave nothing more at {next:?}; it ends at {ends:?}").into());
                }
                // Marks of transactions take offsets: where nothing comes any more the position tells.
                Ok(None) | Err(_) => self.pass_marks()?,
            }
        }
        Ok(())
    }

    fn pass_marks(&mut self) -> Result<(), Trouble> {
        for at in self.asker.consumer.position()?.elements() {
            if let (Ok(partition), Offset::Offset(offset)) = (usize::try_from(at.partition()), at.offset()) {
                self.next[partition] = offset.max(self.next[partition]);
            }
        }
        Ok(())
    }
}

/// Read the values of a topic from its begin to its end now, those of a partition in the order of their offsets.
///
/// # Errors
/// Kafka does not give all the records.
pub fn read_values(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<Value>, Trouble> {
    let mut values = Vec::new();
    Reading::start(bootstrap, topic, partitions)?.to_end(NEXT_RECORD, &mut |v| values.push(v.clone()))?;
    Ok(values)
}

/// The records of a load in a topic, from its begin to its end now.
///
/// # Errors
/// Kafka does not give all the records, or one of them is not ours.
pub fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<Record>, Trouble> {
    let values = read_values(bootstrap, topic, partitions)?;
    Ok(values.iter().map(Value::record).collect::<Result<_, _>>()?)
}

/// Partitions of a topic where a transaction is open: readers of committed records stand before its end.
///
/// # Errors
/// Kafka does not answer.
pub fn open_transactions(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<i32>, Trouble> {
    let reader = |isolation: &str| {
        let mut config = client(bootstrap);
        Asker::new(bootstrap, config.set("group.id", "chaos-reader").set("isolation.level", isolation))
    };
    let (stable, all) = (reader("read_committed")?, reader("read_uncommitted")?);
    let mut open = Vec::new();
    for partition in 0..partitions {
        if stable.end(topic, partition)? < all.end(topic, partition)? {
            open.push(partition);
        }
    }
    Ok(open)
}
