//! Reads the partitions of one task, each through a queue of its own.

use crate::{
    consumer::SharedConsumer,
    errors::{self, code, is_out_of_range},
    native::{Failure, Message, Queue},
    requests::{Answer, LogEnd},
};
use pelton_sabotage::{Defect, breaks};
use pelton_sdk::{Budget, EndError, ErrorKind, Lag, Polled, Source};
use pelton_types::{Batch, Offset, Partition, Record, Span};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

/// Guess of a record's size before the first has been seen.
const RECORD_BYTES: usize = 256;

/// See the module's text.
pub(crate) struct KafkaSource {
    consumer: Arc<SharedConsumer>,
    partitions: Vec<Partition>,
    readers: Vec<Reader>,
    /// Whose turn it is.
    turn: usize,
    /// The last episode of unreachable brokers that was reported.
    reported: u64,
    /// Topics whose absence was reported.
    missing: HashSet<Arc<str>>,
    /// Kept between polls for its capacity.
    scratch: Vec<Message>,
}

struct Reader {
    partition: Partition,
    queue: Queue,
    /// Offset of the next record.
    next: Offset,
    /// What the client called its position when this reader began: left over from an earlier reader, if anything.
    stale: Option<Offset>,
    /// Taken from the queue beyond the budget, or behind an error.
    stash: VecDeque<Message>,
    /// Mean size of a record, for how many to take at once.
    record_bytes: usize,
    broken: Broken,
}

/// Why a reader reads no more.
enum Broken {
    No,
    /// Its position is outside the log; the broker was asked what it keeps.
    OutOfRange {
        earliest: u64,
        latest: u64,
        first: Option<Option<Offset>>,
        end: Option<Option<Offset>>,
    },
    /// For good.
    Stopped(EndError),
}

impl KafkaSource {
    pub(crate) fn new(consumer: Arc<SharedConsumer>, partitions: Vec<Partition>) -> Self {
        Self {
            consumer,
            partitions,
            readers: Vec::new(),
            turn: 0,
            reported: 0,
            missing: HashSet::new(),
            scratch: Vec::new(),
        }
    }

    /// Trouble that was not reported yet.
    fn trouble(&mut self) -> Result<(), EndError> {
        if let Some(failure) = self.consumer.served().reach.unreported(&mut self.reported) {
            return Err(errors::unreachable(&self.consumer.bootstrap, failure));
        }
        let mut last: Option<&Arc<str>> = None;
        for reader in &self.readers {
            let topic = &reader.partition.topic;
            if last.replace(topic).is_some_and(|seen| seen == topic) {
                continue;
            }
            if !self.consumer.is_missing(topic) {
                self.missing.remove(topic);
            } else if self.missing.insert(topic.clone()) {
                return Err(errors::missing(topic, &self.consumer.bootstrap));
            }
        }
        Ok(())
    }
}

impl Source for KafkaSource {
    fn warm(&mut self) {
        let mut topics: Vec<Arc<str>> = self.partitions.iter().map(|p| p.topic.clone()).collect();
        topics.dedup();
        self.consumer.warm(&topics);
    }

    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        self.stop();
        self.partitions = at.iter().map(|(p, _)| p.clone()).collect();
        self.warm();
        let queues = self.consumer.assign(at)?;
        let stale = self.consumer.taken_up_to(&self.partitions);
        self.readers = at
            .iter()
            .zip(queues)
            .zip(stale)
            .map(|(((partition, next), queue), stale)| Reader::new(partition.clone(), queue, *next, stale))
            .collect();
        self.turn = 0;
        Ok(())
    }

    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        self.trouble()?;
        let count = self.readers.len();
        for i in 0..count {
            let at = (self.turn + i) % count;
            let polled = self.readers[at].poll(&self.consumer, budget, &mut self.scratch)?;
            if let Some(batch) = polled {
                self.turn = (at + 1) % count;
                self.consumer.served().alive();
                return Ok(Polled::Batch(batch));
            }
        }
        Ok(Polled::Pending)
    }

    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        if self.readers.is_empty() {
            return Vec::new();
        }
        let partitions: Vec<_> = self.readers.iter().map(|r| r.partition.clone()).collect();
        let taken = self.consumer.taken_up_to(&partitions);
        for (reader, taken) in self.readers.iter_mut().zip(taken) {
            reader.pass_markers(taken);
        }
        self.readers.iter().map(|r| (r.partition.clone(), r.next)).collect()
    }

    fn lag(&mut self) -> Vec<Lag> {
        let positions = self.positions();
        let mut state = self.consumer.served();
        state.refresh_ends();
        positions
            .into_iter()
            // An end heard before the last records were read is behind them.
            .map(|(partition, position)| {
                let end = state.end_of(&partition).map(|end| end.max(position));
                Lag { partition, position, end }
            })
            .collect()
    }

    fn stop(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let partitions: Vec<_> = self.readers.iter().map(|r| r.partition.clone()).collect();
        self.consumer.unassign(&partitions);
        self.readers.clear();
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Reader {
    fn new(partition: Partition, queue: Queue, next: Offset, stale: Option<Offset>) -> Self {
        Self {
            partition,
            queue,
            next,
            stale,
            stash: VecDeque::new(),
            record_bytes: RECORD_BYTES,
            broken: Broken::No,
        }
    }

    /// The client's position is behind everything taken out, markers included: use it when all of that was delivered.
    fn pass_markers(&mut self, taken: Option<Offset>) {
        if taken != self.stale && !breaks(Defect::PositionFromCount) {
            self.stale = None;
            if self.stash.is_empty() && matches!(self.broken, Broken::No) {
                self.next = self.next.max(taken.unwrap_or(self.next));
            }
        }
    }

    fn poll(
        &mut self,
        consumer: &SharedConsumer,
        budget: Budget,
        scratch: &mut Vec<Message>,
    ) -> Result<Option<Batch>, EndError> {
        match &self.broken {
            Broken::No => {}
            Broken::Stopped(error) => return Err(error.clone()),
            Broken::OutOfRange { .. } => return self.await_range(consumer).map(|()| None),
        }
        scratch.clear();
        scratch.extend(self.stash.drain(..));
        if scratch.is_empty() && self.queue.signal().take() {
            let want = (budget.bytes / self.record_bytes.max(1)).clamp(1, budget.records.max(1));
            if self.queue.take_messages(want, scratch) == want {
                self.queue.signal().set();
            }
        }
        if scratch.is_empty() {
            return Ok(None);
        }
        let cut = cut(scratch, budget, self.next);
        let batch = self.copy(&scratch[..cut.until]);
        let failure = scratch.get(cut.until).and_then(Message::failure);
        // An error behind records waits until they were handed on.
        let rest = cut.until + usize::from(failure.is_some() && batch.is_empty());
        self.stash.extend(scratch.drain(rest..));
        scratch.clear();
        match failure {
            Some(failure) if batch.is_empty() => self.fail(consumer, &failure).map(|()| None),
            _ => Ok((!batch.is_empty()).then_some(batch)),
        }
    }

    fn copy(&mut self, messages: &[Message]) -> Batch {
        let bytes: usize = messages.iter().map(Message::size).sum();
        let mut batch = Batch::with_capacity(self.partition.clone(), messages.len(), bytes);
        for message in messages.iter().filter(|m| m.failure().is_none()) {
            // A reader assigned early skips what its predecessor did meanwhile.
            if message.offset() < self.next {
                continue;
            }
            let key = batch.put(message.key());
            let value = batch.put(message.value());
            let headers = message.headers();
            let headers = if headers.is_empty() { Span::NULL } else { put_headers(&mut batch, headers) };
            let (timestamp_ms, offset) = (message.timestamp_ms(), message.offset());
            batch.records.push(Record { key, value, headers, timestamp_ms, offset });
            self.next = if breaks(Defect::PositionFromCount) { self.next + 1 } else { offset + 1 };
        }
        if !batch.is_empty() {
            self.record_bytes = bytes / messages.len().max(1);
            batch.mark_origin();
        }
        batch
    }

    fn fail(&mut self, consumer: &SharedConsumer, failure: &Failure) -> Result<(), EndError> {
        if failure.code == code::PARTITION_EOF {
            return Ok(());
        }
        if is_out_of_range(failure.code) {
            tracing::debug!(partition = %self.partition, offset = self.next, "out of range: {}", failure.text);
            let mut state = consumer.served();
            let of = [self.partition.clone()];
            self.broken = Broken::OutOfRange {
                earliest: state.requests.log_ends(&of, LogEnd::Earliest),
                latest: state.requests.log_ends(&of, LogEnd::Latest),
                first: None,
                end: None,
            };
            return Ok(());
        }
        let error = errors::reading(&self.partition, &consumer.bootstrap, failure);
        if error.kind == ErrorKind::Stop {
            self.broken = Broken::Stopped(error.clone());
        }
        Err(error)
    }

    fn await_range(&mut self, consumer: &SharedConsumer) -> Result<(), EndError> {
        let Broken::OutOfRange { earliest, latest, first, end } = &mut self.broken else { return Ok(()) };
        let mut state = consumer.served();
        for (number, slot) in [(*earliest, &mut *first), (*latest, &mut *end)] {
            if let Some(answer) = state.requests.take(number) {
                *slot = Some(offset_in(answer));
            }
        }
        let (Some(first), Some(end)) = (*first, *end) else { return Ok(()) };
        let error = errors::out_of_range(&self.partition, self.next, first.zip(end));
        self.broken = Broken::Stopped(error.clone());
        Err(error)
    }
}

fn offset_in(answer: Answer) -> Option<Offset> {
    let Answer::Partitions(Ok(all)) = answer else { return None };
    all.first().filter(|e| e.failure.is_none() && e.offset >= 0).map(|e| e.offset)
}

fn put_headers(batch: &mut Batch, headers: crate::native::Headers<'_>) -> Span {
    let all: Vec<_> = headers.collect();
    batch.put_headers(all.iter().map(|(name, value)| (name.as_ref(), *value)))
}

/// Where a batch ends: before an error, or behind the record that reaches the budget.
struct Cut {
    until: usize,
}

fn cut(messages: &[Message], budget: Budget, next: Offset) -> Cut {
    let (mut bytes, mut records) = (0, 0);
    for (i, message) in messages.iter().enumerate() {
        if message.failure().is_some() {
            return Cut { until: i };
        }
        if message.offset() >= next {
            bytes += message.size();
            records += 1;
        }
        if bytes >= budget.bytes || records >= budget.records.max(1) {
            return Cut { until: i + 1 };
        }
    }
    Cut { until: messages.len() }
}
