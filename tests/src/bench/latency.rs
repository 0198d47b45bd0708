//! End to end: from the moment a record should be sent until a consumer has it.

use super::{
    Setting,
    figures::{Bar, Figures},
    load::{client, consumer, create, unique},
    process::Target,
};
use crate::chaos::topics::Trouble;
use rdkafka::{
    Message,
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
/// Time between two records.
const INTERVAL: Duration = Duration::from_millis(1);
/// Not counted: connections, first batches, a JVM that warms up.
const WARM_UP: u64 = 3_000;
/// Counted in each round.
const RECORDS: u64 = 10_000;
/// Sleeping is this inexact; the rest of a wait is spent turning.
const INEXACT: Duration = Duration::from_micros(150);
/// For a record that does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thousand records a second, each broker in turns.
pub fn measure(setting: &Setting, targets: &[&dyn Target], figures: &mut Figures) -> Result<(), Trouble> {
    for _ in 0..setting.rounds {
        for target in targets {
            let mut micros = round(*target)?;
            micros.sort_unstable();
            let quantile = |of: f64| {
                let at = ((micros.len() as f64 * of) as usize).min(micros.len().saturating_sub(1));
                micros.get(at).map_or(f64::NAN, |micros| *micros as f64 / 1e3)
            };
            figures.add("end to end at 1,000/s, median, ms", Bar::None, target.name(), quantile(0.5));
            figures.add("end to end at 1,000/s, p99, ms", Bar::Below(1.0), target.name(), quantile(0.99));
            figures.add("end to end at 1,000/s, p99.9, ms", Bar::None, target.name(), quantile(0.999));
        }
    }
    Ok(())
}

/// Microseconds of each record, from when it should have been sent: a sender that was held up counts as slow.
fn round(target: &dyn Target) -> Result<Vec<u64>, Trouble> {
    let topic = unique("bench-latency");
    create(target, &topic, PARTITIONS)?;
    let mut config = client(target);
    config.set("fetch.wait.max.ms", "100").set("socket.nagle.disable", "true");
    let consumer = consumer(&mut config, &topic, PARTITIONS)?;
    let mut config = client(target);
    config.set("linger.ms", "0").set("socket.nagle.disable", "true").set("acks", "all");
    let producer: BaseProducer = config.create()?;
    let begin = Instant::now() + Duration::from_millis(500);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&producer, &topic, begin));
        let taken = receive(&consumer, begin);
        sender.join().map_err(|_| "the sender panicked")??;
        taken
    })
}

fn send(producer: &BaseProducer, topic: &str, begin: Instant) -> Result<(), Trouble> {
    let padding = [b'x'; 192];
    for number in 0..WARM_UP + RECORDS {
        let due = begin + INTERVAL * u32::try_from(number)?;
        let left = due.saturating_duration_since(Instant::now());
        std::thread::sleep(left.saturating_sub(INEXACT));
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let value = [&number.to_be_bytes()[..], &padding].concat();
        let partition = i32::try_from(number % PARTITIONS as u64)?;
        let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(PATIENCE)?)
}

fn receive(consumer: &rdkafka::consumer::BaseConsumer, begin: Instant) -> Result<Vec<u64>, Trouble> {
    let mut micros = Vec::new();
    for _ in 0..WARM_UP + RECORDS {
        let message = consumer.poll(PATIENCE).ok_or("a record did not come")??;
        let now = Instant::now();
        let number = message.payload().and_then(|value| value.first_chunk::<8>());
        let number = u64::from_be_bytes(*number.ok_or("a record that nobody sent")?);
        if number >= WARM_UP {
            let due = begin + INTERVAL * u32::try_from(number)?;
            micros.push(u64::try_from(now.saturating_duration_since(due).as_micros())?);
        }
    }
    Ok(micros)
}
