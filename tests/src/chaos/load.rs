//! The load: records at a steady rate until it is told to end, every one acknowledged by all replicas.

use super::{
    ear::Ear,
    record,
    topics::{Trouble, client},
};
use rdkafka::{
    ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Time between two bursts.
const TICK: Duration = Duration::from_millis(10);
/// For the last records to be acknowledged.
const FLUSH: Duration = Duration::from_secs(60);

/// A running load.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Load {
    /// Start to write.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn start(bootstrap: &str, topic: &str, per_second: u64) -> Result<Load, Trouble> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut config = client(bootstrap);
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random");
        let deliveries = Deliveries::default();
        let acknowledged = deliveries.acknowledged.clone();
        let producer: BaseProducer<Deliveries> = config.create_with_context(deliveries)?;
        let (topic, told, count, ear) = (topic.to_owned(), stop.clone(), sent.clone(), Ear::new(bootstrap));
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || write(&producer, ear, &topic, per_second, &told, &count))?;
        Ok(Load { stop, sent, acknowledged, thread })
    }

    /// Records handed to the client so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// End, have everything acknowledged, and say how many records there are.
    ///
    /// # Errors
    /// A record was not acknowledged: then the input is not what it should be.
    pub fn stop(self) -> Result<u64, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| "the load panicked")?;
        Ok(ended?)
    }
}

/// What became of the records.
#[derive(Default)]
struct Deliveries {
    acknowledged: Arc<AtomicU64>,
    first_refused: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) => {
                let text = format!("a record of the load for partition {}: {error}", message.partition());
                self.first_refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
            }
        }
    }
}

fn write(
    producer: &BaseProducer<Deliveries>,
    mut ear: Ear,
    topic: &str,
    per_second: u64,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<u64, String> {
    let begun = Instant::now();
    let (mut id, mut value, mut key) = (0, String::new(), String::new());
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) * per_second / 1_000;
        while id < due {
            record::write(id, &mut value);
            key.clear();
            key += &record::place(id).0.to_string();
            match producer.send(BaseRecord::to(topic).key(&key).payload(&value)) {
                Ok(()) => id += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => break,
                Err((error, _)) => return Err(format!("the load: {error}")),
            }
        }
        sent.store(id, Ordering::Relaxed);
        let before = producer.context().acknowledged.load(Ordering::Relaxed);
        producer.poll(TICK);
        if producer.context().acknowledged.load(Ordering::Relaxed) > before {
            ear.heard();
        } else {
            ear.strain(producer.client());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    producer.flush(FLUSH).map_err(|error| format!("the last records of the load: {error}"))?;
    let refused = producer.context().first_refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    refused.map_or(Ok(id), Err)
}
