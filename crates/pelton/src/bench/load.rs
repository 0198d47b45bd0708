//! The load: records written and read through a connector, on threads of their own.

use super::{Figures, Rate};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use pelton_sdk::{
    Budget, Connector, ConnectorFactory, EndError, ErrorKind, Polled, Scope, Sink, SinkSpec, Source,
    SourceSpec, Wake,
};
use pelton_types::{Batch, Code, Offset, Partition, PipelineName, Record, Span, TaskId};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Client queues of each end, bytes.
const QUEUE_BYTES: usize = 64 << 20;
/// Records handed over at once in the throughput parts.
const BATCH: usize = 1_000;
/// What one poll may return.
const BUDGET: Budget = Budget { records: 2_000, bytes: 4 << 20 };
/// How long the queue may give nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest nap; a wake-up ends it.
const NAP: Duration = Duration::from_millis(50);
/// Bytes that carry the time a record was due.
const STAMP: usize = 8;

/// Next offset of each partition.
type Positions = Vec<(Partition, Offset)>;

/// The topic and how to reach it.
pub(super) struct Ends {
    pub factory: Arc<dyn ConnectorFactory>,
    pub topic: String,
    pub partitions: u32,
}

/// What to measure.
pub(super) struct Load {
    pub ends: Ends,
    pub duration: Duration,
    pub rate: u32,
    pub size: usize,
    pub compression: String,
    pub progress: ProgressBar,
    /// True: whoever asked wants no more of it.
    pub stop: watch::Receiver<bool>,
}

impl Ends {
    fn connector(&self) -> Box<dyn Connector> {
        let wake = Wake::thread(thread::current());
        self.factory.connect(Scope { wake, executor: 0, queue_bytes: QUEUE_BYTES })
    }

    fn sink(&self, compression: &str, linger: &str) -> Result<Box<dyn Sink>, EndError> {
        let options = json!({ "topic": self.topic, "compression": compression, "linger": linger });
        self.connector().sink(&SinkSpec { task: task(), name: "bench".into(), options })
    }

    /// A source behind everything that the topic holds now, and where that is.
    fn source(&self) -> Result<(Box<dyn Source>, Positions), EndError> {
        let partitions: Vec<Partition> =
            (0..self.partitions).map(|i| Partition::new(self.topic.as_str(), i as i32)).collect();
        let options = json!({ "topics": [self.topic], "start": "latest" });
        let spec = SourceSpec { task: task(), name: "bench".into(), options, partitions };
        let mut connector = self.connector();
        let mut offsets = connector.offsets(&spec)?;
        offsets.start_read(&spec.partitions);
        let mut patience = Patience::new();
        let committed = loop {
            match offsets.poll_read() {
                Poll::Ready(Ok(committed)) => break committed,
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => patience.nap("the topic's ends")?,
            }
        };
        let at: Vec<_> = committed.into_iter().map(|c| (c.partition, c.start)).collect();
        Ok((connector.source(&spec)?, at))
    }
}

/// Not a task of anybody's: names the group of the clients, which commit nothing.
fn task() -> TaskId {
    let pipeline = PipelineName::new("pelton", "bench");
    TaskId { pipeline, uuid: "bench".into(), stage: 0, generation: 0, index: 0 }
}

impl Load {
    /// All parts; nothing when it was stopped.
    pub fn run(&self) -> Result<Option<Figures>, EndError> {
        let (_, ends) = self.ends.source()?;
        self.progress.set_message("writing");
        let produced = self.write()?;
        self.progress.set_message("reading");
        let fetched = self.read(&ends, produced.records)?;
        self.progress.set_message("measuring latency");
        self.progress.set_position(2 * self.duration.as_millis() as u64);
        let latency = self.latency()?;
        self.progress.finish_and_clear();
        Ok((!self.is_stopped()).then_some(Figures { produced, fetched, latency }))
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Write as fast as the queue takes it.
    fn write(&self) -> Result<Rate, EndError> {
        let mut sink = self.ends.sink(&self.compression, "5ms")?;
        let start = Instant::now();
        let mut records = 0u64;
        let mut filler = Filler::new(self.size);
        while start.elapsed() < self.duration && !self.is_stopped() {
            let mut batch =
                Batch::with_capacity(Partition::new("bench", 0), BATCH, BATCH * (self.size + STAMP));
            for _ in 0..BATCH {
                filler.add(&mut batch, records, 0);
                records += 1;
            }
            push(&mut *sink, &batch)?;
            self.progress.set_position(start.elapsed().min(self.duration).as_millis() as u64);
        }
        flush(&mut *sink)?;
        Ok(Rate { records, bytes: records * self.size as u64, seconds: start.elapsed().as_secs_f64() })
    }

    /// Read it all back.
    fn read(&self, at: &[(Partition, Offset)], records: u64) -> Result<Rate, EndError> {
        let (mut source, _) = self.ends.source()?;
        let start = Instant::now();
        source.start(at)?;
        let (mut seen, mut bytes) = (0, 0);
        let mut patience = Patience::new();
        let span = self.duration.as_millis() as u64;
        while seen < records && !self.is_stopped() {
            match source.poll(BUDGET) {
                Ok(Polled::Batch(batch)) => {
                    seen += batch.len() as u64;
                    bytes += batch.records.iter().map(|r| r.value.len() as u64).sum::<u64>();
                    self.progress.set_position(span + span * seen.min(records) / records.max(1));
                    patience = Patience::new();
                }
                Ok(_) => patience.nap("records that were written")?,
                Err(e) if e.kind == ErrorKind::Retry => patience.nap(&e.to_string())?,
                Err(e) => return Err(e),
            }
        }
        Ok(Rate { records: seen, bytes, seconds: start.elapsed().as_secs_f64() })
    }

    /// Write at a steady rate and time each record from due to read.
    fn latency(&self) -> Result<Histogram<u64>, EndError> {
        // Three digits from a microsecond to an hour.
        let mut latency = Histogram::new_with_bounds(1, 3_600_000_000, 3)
            .map_err(|e| EndError::stop(Code::SourceFailed, format!("no histogram: {e}")))?;
        let (mut source, at) = self.ends.source()?;
        source.start(&at)?;
        let total = (self.duration.as_secs_f64() * f64::from(self.rate)).max(1.0) as u64;
        let origin = Instant::now() + Duration::from_millis(200);
        let gone = AtomicBool::new(false);
        let written = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let result = self.write_steadily(origin, total);
                gone.store(result.is_err(), Ordering::Release);
                result
            });
            let result = self.time(&mut *source, origin, total, &gone, &mut latency);
            let written = writer
                .join()
                .unwrap_or_else(|_| Err(EndError::stop(Code::SinkFailed, "the writing thread ended")));
            written.and(result)
        });
        written.map(|()| latency)
    }

    fn write_steadily(&self, origin: Instant, total: u64) -> Result<(), EndError> {
        let mut sink = self.ends.sink(&self.compression, "0ms")?;
        let mut filler = Filler::new(self.size);
        let due = |n: u64| Duration::from_secs_f64(n as f64 / f64::from(self.rate));
        let mut next = 0;
        while next < total && !self.is_stopped() {
            if let Some(wait) = (origin + due(next)).checked_duration_since(Instant::now()) {
                thread::sleep(wait);
            }
            let now = origin.elapsed();
            let mut batch = Batch::new(Partition::new("bench", 0));
            while next < total && due(next) <= now && batch.len() < BATCH {
                filler.add(&mut batch, next, due(next).as_micros() as u64);
                next += 1;
            }
            push(&mut *sink, &batch)?;
        }
        flush(&mut *sink)
    }

    fn time(
        &self,
        source: &mut dyn Source,
        origin: Instant,
        total: u64,
        gone: &AtomicBool,
        latency: &mut Histogram<u64>,
    ) -> Result<(), EndError> {
        let mut seen = 0;
        let mut patience = Patience::new();
        let span = self.duration.as_millis() as u64;
        while seen < total && !self.is_stopped() && !gone.load(Ordering::Acquire) {
            match source.poll(BUDGET) {
                Ok(Polled::Batch(batch)) => {
                    let now = origin.elapsed().as_micros() as u64;
                    for record in &batch.records {
                        // Another writer's records are no measurement of ours.
                        let Some(due) = batch.value(record).and_then(stamp) else { continue };
                        latency.saturating_record(now.saturating_sub(due).max(1));
                        seen += 1;
                    }
                    self.progress.set_position(2 * span + span * seen.min(total) / total);
                    patience = Patience::new();
                }
                Ok(_) => patience.nap("records that were written")?,
                Err(e) if e.kind == ErrorKind::Retry => patience.nap(&e.to_string())?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// First bytes of a record's value, so that others' records are told apart.
const MARK: [u8; STAMP] = *b"pltbench";

fn stamp(value: &[u8]) -> Option<u64> {
    let rest = value.strip_prefix(&MARK)?;
    rest.get(..STAMP).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

/// Makes values that compress by about half: hexadecimal digits of a generator that never repeats.
struct Filler {
    size: usize,
    state: u64,
}

impl Filler {
    fn new(size: usize) -> Self {
        Self { size, state: 0x9E37_79B9_7F4A_7C15 }
    }

    fn add(&mut self, batch: &mut Batch, number: u64, due: u64) {
        let key = batch.put(Some(&number.to_be_bytes()));
        let size = self.size;
        let value = batch.put_with(|out| {
            let start = out.len();
            out.extend_from_slice(&MARK);
            out.extend_from_slice(&due.to_le_bytes());
            while out.len() - start < size {
                // Xorshift, period 2^64 - 1 (Marsaglia 2003).
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                let word = self.state;
                out.extend((0..16).map(|i| b"0123456789abcdef"[(word >> (4 * i)) as usize & 15]));
            }
            out.truncate(start + size);
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(value) = value;
        batch.records.push(Record {
            key,
            value,
            headers: Span::NULL,
            timestamp_ms: -1,
            offset: number as i64,
        });
    }
}

fn push(sink: &mut dyn Sink, batch: &Batch) -> Result<(), EndError> {
    let (mut taken, mut patience) = (0, Patience::new());
    while taken < batch.len() {
        let pushed = sink.push(batch, taken)?;
        if let Some(why) = pushed.rejected {
            return Err(EndError::stop(Code::SinkFailed, why));
        }
        if pushed.taken > 0 {
            patience = Patience::new();
        }
        taken += pushed.taken;
        if taken < batch.len() {
            patience.nap("room for more records")?;
        }
    }
    Ok(())
}

fn flush(sink: &mut dyn Sink) -> Result<(), EndError> {
    sink.start_flush();
    let mut patience = Patience::new();
    loop {
        match sink.poll_flush() {
            Poll::Ready(done) => return done,
            Poll::Pending => patience.nap("records to be stored")?,
        }
    }
}

/// Waits for wake-ups, but not for ever.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    fn nap(&mut self, what: &str) -> Result<(), EndError> {
        if Instant::now() >= self.0 {
            let text = format!("waited {} s for {what}", PATIENCE.as_secs());
            return Err(EndError::retry(Code::BrokerUnreachable, text));
        }
        thread::park_timeout(NAP);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::queue::Queue;

    fn load(queue: Queue, stop: bool) -> Load {
        Load {
            ends: Ends { factory: Arc::new(queue), topic: "bench".into(), partitions: 1 },
            duration: Duration::from_millis(500),
            rate: 1_000,
            size: 32,
            compression: "none".into(),
            progress: ProgressBar::hidden(),
            stop: watch::channel(stop).1,
        }
    }

    #[test]
    fn records_that_were_due_during_a_stall_count_with_the_time_they_waited() {
        let stall = Duration::from_millis(300);
        let figures = load(Queue::new(20, stall), false).run().unwrap().unwrap();
        assert_eq!(figures.latency.len(), 500);
        // Those of its first 200 ms waited for 100 ms and more. One that counts from sending sees a few of them.
        let late = figures.latency.count_between(99_000, u64::MAX);
        assert!(late >= 150, "{late} records waited");
    }

    #[test]
    fn a_measurement_that_is_stopped_gives_no_figures() {
        assert!(load(Queue::new(usize::MAX, Duration::ZERO), true).run().unwrap().is_none());
    }
}
