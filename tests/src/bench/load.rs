//! Topics filled and read through librdkafka, as fast as it goes.

use super::{
    figures::{Bar, Figures},
    process::Target,
};
use crate::chaos::topics::Trouble;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For anything a broker is asked; 2,000 partitions take a real Kafka a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// Different values of a load, so that a codec has something to do.
const VALUES: usize = 4_096;

/// A client's settings.
pub fn client(target: &dyn Target) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", target.bootstrap()).set("client.id", "bench");
    config
}

/// A name that no earlier run used.
pub fn unique(prefix: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("{prefix}-{}", since.map_or(0, |since| since.as_nanos()))
}

/// Create a topic.
pub fn create(target: &dyn Target, topic: &str, partitions: i32) -> Result<(), Trouble> {
    let admin: AdminClient<DefaultClientContext> = client(target).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for created in runtime.block_on(admin.create_topics([&new], &options))? {
        created.map_err(|(topic, code)| format!("topic {topic} was not created: {code}"))?;
    }
    // A real Kafka answers before every partition has its leader.
    let begun = Instant::now();
    loop {
        let metadata = admin.inner().fetch_metadata(Some(topic), PATIENCE)?;
        let ready = metadata.topics().first().map_or(0, |topic| {
            topic.partitions().iter().filter(|p| p.leader() >= 0 && p.error().is_none()).count()
        });
        if ready == usize::try_from(partitions)? {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{ready} of {partitions} partitions have a leader").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Values of `bytes` bytes: members of an event with text that compresses by about half.
pub fn values(bytes: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut mixed = seed | 1;
    let value = |number: usize| {
        let mut value =
            format!(r#"{{"kind":"bid","number":{number},"channel":"channel-{}","extra":""#, number % 100)
                .into_bytes();
        while value.len() + 2 < bytes {
            mixed = mixed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            value.push(b"abcdefghijklmnopqrstuvwxyz234567"[(mixed >> 59) as usize]);
        }
        value.extend(b"\"}");
        value
    };
    (0..VALUES).map(value).collect()
}

/// What a load writes.
#[derive(Clone, Copy, Debug)]
pub struct Amount<'a> {
    pub topic: &'a str,
    pub partitions: i32,
    pub records: u64,
}

/// Write records in turns over the partitions, and have all of them acknowledged.
pub fn produce(config: &ClientConfig, to: Amount<'_>, values: &[Vec<u8>]) -> Result<(), Trouble> {
    let producer: BaseProducer = config.create()?;
    let (mut sent, partitions) = (0_u64, u64::try_from(to.partitions)?);
    while sent < to.records {
        let value = &values[usize::try_from(sent)? % values.len()];
        let partition = i32::try_from(sent % partitions)?;
        match producer.send(BaseRecord::<(), _>::to(to.topic).partition(partition).payload(value)) {
            Ok(()) => sent += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
        if sent.is_multiple_of(1_000) {
            producer.poll(Duration::ZERO);
        }
    }
    Ok(producer.flush(PATIENCE)?)
}

/// A consumer of all partitions from their begin on.
pub fn consumer(config: &mut ClientConfig, topic: &str, partitions: i32) -> Result<BaseConsumer, Trouble> {
    config.set("group.id", "bench").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Read so many records; fails if they do not come, or bring another number of bytes than `value_bytes` each.
pub fn fetch(target: &dyn Target, from: Amount<'_>, value_bytes: usize) -> Result<(), Trouble> {
    let mut config = client(target);
    config.set("fetch.queue.backoff.ms", "10");
    let consumer = consumer(&mut config, from.topic, from.partitions)?;
    let (mut read, mut bytes, mut heard) = (0, 0, Instant::now());
    while read < from.records {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                bytes += message?.payload_len();
                read += 1;
                if read % 1_000 == 0 {
                    heard = Instant::now();
                }
            }
            None if heard.elapsed() > PATIENCE => {
                return Err(format!("{read} of {} records came", from.records).into());
            }
            None => {}
        }
    }
    if bytes as u64 != from.records * value_bytes as u64 {
        return Err(format!("{read} records brought {bytes} bytes").into());
    }
    Ok(())
}

/// A topic of 2,000 partitions: make it, write ten records to each, read them all.
pub fn many_partitions(targets: &[&dyn Target], figures: &mut Figures) -> Result<(), Trouble> {
    const PARTITIONS: i32 = 2_000;
    let values = values(200, 1);
    for target in targets {
        let topic = unique("bench-wide");
        let amount = Amount { topic: &topic, partitions: PARTITIONS, records: 10 * PARTITIONS as u64 };
        let mut step = |name: &str, work: &mut dyn FnMut() -> Result<(), Trouble>| {
            let begun = Instant::now();
            work()?;
            figures.add(name, Bar::None, target.name(), begun.elapsed().as_secs_f64());
            Ok::<_, Trouble>(())
        };
        step("2,000 partitions: create, s", &mut || create(*target, &topic, PARTITIONS))?;
        step("2,000 partitions: 20,000 records in, s", &mut || {
            produce(client(*target).set("linger.ms", "5"), amount, &values)
        })?;
        step("2,000 partitions: 20,000 records out, s", &mut || fetch(*target, amount, 200))?;
    }
    Ok(())
}
