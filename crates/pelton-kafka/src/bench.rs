//! What a pipeline's data path costs beside the client library alone: two loops that copy a topic to another of the
//! same size, measured in records per CPU-second of this process. For `examples/copy.rs` and `cargo xtask bench copy`.

mod commit;

pub use commit::commits;

use crate::{
    KafkaFactory, KafkaOptions,
    consumer::Topic,
    link::Links,
    native::{Client, ClientKind, Message, Queue},
    options::Compression,
    requests::PartitionList,
    settings::{self, ProducerKey, QueueShare},
};
use pelton_sdk::{
    Budget, Connector, ConnectorFactory, Polled, Scope, Sink, SinkSpec, Source, SourceSpec, Wake,
};
use pelton_types::{Batch, Partition, PipelineName, Record, Span, TaskId};
use rdkafka_sys as sys;
use serde_json::json;
use std::{
    error::Error,
    ffi::c_void,
    fmt::Write,
    task::Poll,
    time::{Duration, Instant},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Client queues of both loops, bytes.
const QUEUE_BYTES: usize = 128 << 20;
/// Records and bytes taken at once by both loops.
const BUDGET: Budget = Budget { records: 2_000, bytes: 1 << 20 };
/// Commits and flushes of both loops.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// What a loop did.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Records copied.
    pub records: u64,
    /// User and system time of all threads of this process, seconds.
    pub cpu_seconds: f64,
    /// Wall time, seconds.
    pub seconds: f64,
}

impl Figures {
    /// Records per CPU-second.
    pub fn per_cpu_second(&self) -> f64 {
        self.records as f64 / self.cpu_seconds
    }

    /// Measure a loop.
    pub fn measure(records: u64, copy: impl FnOnce() -> Outcome<()>) -> Outcome<Figures> {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        copy()?;
        Ok(Figures { records, cpu_seconds: cpu_seconds() - cpu, seconds: wall.elapsed().as_secs_f64() })
    }
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    // SAFETY: all-zero is a valid `rusage`, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Create a topic and wait for it.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: u32) -> Outcome<()> {
    let factory = factory(bootstrap)?;
    let catalog = factory.catalog(&json!({})).ok_or("no catalog")?;
    let mut call = catalog.create(topic, partitions);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let Poll::Ready(done) = call.as_mut().poll(&mut context) {
            return Ok(done?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fill a topic with JSON records of `value_bytes` in the manner of an auction's bids: eight members, a price in the
/// middle, text that compresses by half. Keys have 8 bytes, and records stand where Kafka's partitioner puts them.
pub fn fill(bootstrap: &str, topic: &str, records: u64, value_bytes: usize) -> Outcome<()> {
    let mut connector = connect(&factory(bootstrap)?);
    let mut sink = sink(&mut *connector, topic, "fill")?;
    let (mut id, mut value) = (0, String::new());
    while id < records {
        let mut batch =
            Batch::with_capacity(Partition::new("generated", 0), 2_000, 2_000 * (value_bytes + 8));
        for i in id..(id + 2_000).min(records) {
            let key = batch.put(Some(format!("{:08}", i % 100_000).as_bytes()));
            bid(i, value_bytes, &mut value);
            let value = batch.put(Some(value.as_bytes()));
            batch.records.push(Record {
                key,
                value,
                headers: Span::NULL,
                timestamp_ms: -1,
                offset: i as i64,
            });
        }
        id += batch.len() as u64;
        push_all(&mut *sink, &batch)?;
    }
    flush(&mut *sink)
}

/// One value; the same for the same number. `bytes` should be 200 or more.
fn bid(number: u64, bytes: usize, into: &mut String) {
    // Knuth's multiplicative hash: numbers and letters that do not repeat, without a generator to carry along.
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (auction, bidder, price) = (mixed >> 50, (mixed >> 40) & 0xFFF, (mixed >> 20) & 0xF_FFFF);
    into.clear();
    // Writing to a string does not fail.
    let _ = write!(
        into,
        r#"{{"kind":"bid","auction":{auction},"bidder":{bidder},"price":{price},"channel":"channel-{}","url":"https://auctions.example/item/{auction}?channel={}","at":{},"extra":""#,
        bidder % 100,
        bidder % 100,
        1_700_000_000_000 + number
    );
    while into.len() + 2 < bytes {
        mixed = mixed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        // 32 letters and digits: five bits of text a byte.
        into.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(mixed >> 59) as usize]));
    }
    into.push_str("\"}");
}

/// The client library alone: batches out of one queue, each record produced to the partition it came from, offsets
/// committed once a second, with the settings the pipeline's clients have.
pub fn bare_copy(bootstrap: &str, from: &str, to: &str, partitions: u32, records: u64) -> Outcome<Figures> {
    Figures::measure(records, || bare_loop(bootstrap, from, to, partitions, records))
}

fn bare_loop(bootstrap: &str, from: &str, to: &str, partitions: u32, records: u64) -> Outcome<()> {
    let link = Links::new(&KafkaOptions::new(bootstrap)).of(None, None)?;
    // One queue for all partitions may hold what the others' queues hold together.
    let (count, each) = (partitions as usize, QueueShare::of(QUEUE_BYTES, 2 * partitions as usize));
    let share = QueueShare { records: each.records * count, bytes: each.bytes * count };
    let group = unique("bare");
    let consumer = Client::new(ClientKind::Consumer, &settings::consumer(&link, 0, &group, share), &link)?;
    let key = ProducerKey {
        link: link.label.clone(),
        compression: Compression::Lz4,
        linger: Duration::from_millis(5),
        in_flight_bytes: QUEUE_BYTES / 2,
    };
    let producer = Client::new(ClientKind::Producer, &settings::producer(&link, &key, 0), &link)?;
    let out = Topic::new(&producer, to).ok_or("no topic to write to")?;
    let queue = Queue::main(&consumer, ClientKind::Consumer, &Wake::none());
    let all: Vec<_> = (0..partitions as i32).map(|p| Partition::new(from, p)).collect();
    let list = PartitionList::new(all.iter().map(|p| (p, 0)), None);
    // SAFETY: live handles; the list is copied.
    crate::consumer::take_error(unsafe { sys::rd_kafka_incremental_assign(consumer.raw(), list.raw()) })
        .map_err(|f| f.text)?;
    let (mut copied, mut next, mut messages) = (0, vec![0; all.len()], Vec::new());
    let mut commit_at = Instant::now() + COMMIT_EVERY;
    while copied < records {
        if queue.take_messages(BUDGET.records, &mut messages) == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        for message in messages.drain(..) {
            if message.failure().is_none() {
                next[message.partition() as usize] = message.offset() + 1;
                bare_produce(&producer, &out, &message)?;
                copied += 1;
            }
        }
        if Instant::now() >= commit_at || copied >= records {
            // SAFETY: live handles.
            while unsafe { sys::rd_kafka_flush(producer.raw(), 1) as i32 } != 0 {}
            let positions = PartitionList::new(all.iter().zip(next.iter().copied()), None);
            // SAFETY: live handles; the list is copied. Not waited for.
            unsafe { sys::rd_kafka_commit(consumer.raw(), positions.raw(), 1) };
            commit_at = Instant::now() + COMMIT_EVERY;
        }
    }
    Ok(())
}

fn bare_produce(producer: &Client, topic: &Topic, message: &Message) -> Outcome<()> {
    loop {
        let pointer =
            |b: Option<&[u8]>| b.map_or(std::ptr::null_mut(), |b| b.as_ptr().cast_mut().cast::<c_void>());
        let (value, key) = (message.value(), message.key());
        // SAFETY: the call copies value and key, which live as long as the message.
        let refused = unsafe {
            sys::rd_kafka_produce(
                topic.raw(),
                message.partition(),
                sys::RD_KAFKA_MSG_F_COPY,
                pointer(value),
                value.map_or(0, <[u8]>::len),
                pointer(key),
                key.map_or(0, <[u8]>::len),
                std::ptr::null_mut(),
            ) != 0
        };
        if !refused {
            return Ok(());
        }
        // SAFETY: reads the thread's last error.
        match unsafe { sys::rd_kafka_last_error() as i32 } {
            crate::errors::code::QUEUE_FULL => std::thread::sleep(Duration::from_micros(200)),
            code => return Err(crate::native::error_text(code).into()),
        }
        // SAFETY: a live handle.
        unsafe { sys::rd_kafka_poll(producer.raw(), 0) };
    }
}

/// The same through [`Source`] and [`Sink`], as a pipeline's task uses them.
pub fn ends_copy(bootstrap: &str, from: &str, to: &str, partitions: u32, records: u64) -> Outcome<Figures> {
    Figures::measure(records, || ends_loop(bootstrap, from, to, partitions, records))
}

fn ends_loop(bootstrap: &str, from: &str, to: &str, partitions: u32, records: u64) -> Outcome<()> {
    let name = unique("ends");
    let mut connector = connect(&factory(bootstrap)?);
    let spec = SourceSpec {
        task: task(&name),
        name: "in".into(),
        options: json!({ "topics": [from] }),
        partitions: (0..partitions as i32).map(|p| Partition::new(from, p)).collect(),
    };
    let mut source: Box<dyn Source> = connector.source(&spec)?;
    let mut offsets = connector.offsets(&spec)?;
    let mut sink = sink(&mut *connector, to, &name)?;
    let start: Vec<_> = spec.partitions.iter().map(|p| (p.clone(), 0)).collect();
    source.start(&start)?;
    let mut copied = 0;
    let mut commit_at = Instant::now() + COMMIT_EVERY;
    while copied < records {
        match source.poll(BUDGET)? {
            Polled::Batch(batch) => {
                push_all(&mut *sink, &batch)?;
                copied += batch.len() as u64;
            }
            _ => std::thread::park_timeout(Duration::from_millis(100)),
        }
        if Instant::now() >= commit_at || copied >= records {
            flush(&mut *sink)?;
            offsets.start_commit(&source.positions(), "");
            while offsets.poll_commit()?.is_pending() {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            commit_at = Instant::now() + COMMIT_EVERY;
        }
    }
    Ok(())
}

fn factory(bootstrap: &str) -> Outcome<KafkaFactory> {
    KafkaFactory::new(KafkaOptions::new(bootstrap)).map_err(|e| format!("{e:?}").into())
}

fn connect(factory: &KafkaFactory) -> Box<dyn Connector> {
    let wake = Wake::thread(std::thread::current());
    factory.connect(Scope { wake, executor: 0, queue_bytes: QUEUE_BYTES })
}

fn task(name: &str) -> TaskId {
    let pipeline = PipelineName::new("bench", name);
    TaskId { pipeline, uuid: "0".into(), stage: 0, generation: 1, index: 0 }
}

fn sink(connector: &mut dyn Connector, topic: &str, name: &str) -> Outcome<Box<dyn Sink>> {
    Ok(connector.sink(&SinkSpec {
        task: task(name),
        name: "out".into(),
        options: json!({ "topic": topic }),
    })?)
}

fn push_all(sink: &mut dyn Sink, batch: &Batch) -> Outcome<()> {
    let mut from = 0;
    loop {
        let pushed = sink.push(batch, from)?;
        if let Some(why) = pushed.rejected {
            return Err(why.into());
        }
        from += pushed.taken;
        if from >= batch.len() {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn flush(sink: &mut dyn Sink) -> Outcome<()> {
    sink.start_flush();
    loop {
        if let Poll::Ready(done) = sink.poll_flush() {
            return Ok(done?);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A name that no earlier run used.
pub fn unique(prefix: &str) -> String {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{prefix}-{nanos}")
}

/// The middle one of an odd number of figures.
pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
