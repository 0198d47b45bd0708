//! `kafka` ends over [`SimKafka`]: what a pipeline sees.

use super::{
    cluster::BEGAN_MS,
    kafka::{Line, Lost, Pending, Sabotage, SimKafka},
};
use pelton_broker::records::{NewRecord, StoredRecord};
use pelton_sdk::{
    BoxFuture, Budget, Committed, Connector, ConnectorFactory, EndError, Lag, Offsets, OptionError, Polled,
    Pushed, Scope, Sink, SinkSpec, Source, SourceShape, SourceSpec, TopicCatalog, Wake,
};
use pelton_types::{Batch, Code, Offset, Partition, Record};
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    future::ready,
    sync::Arc,
    task::Poll,
    time::Duration,
};

/// Records of one fetch: few, so that a task has many batches.
const FETCH: usize = 50;
/// The broker holds an empty fetch for this long.
const FETCH_WAIT: Duration = Duration::from_millis(15);
/// Produce requests on the way, of one sink.
const IN_FLIGHT: usize = 4;
/// Records of one produce request.
const PRODUCE: usize = 64;
/// What a sabotaged sink is behind with.
const LATE: Duration = Duration::from_millis(60);

/// The connector `kafka` of one worker.
pub struct SimKafkaFactory {
    kafka: SimKafka,
    worker: Arc<str>,
}

impl SimKafkaFactory {
    /// For the worker (or coordinator) of this name.
    pub fn new(kafka: &SimKafka, worker: &str) -> Self {
        Self { kafka: kafka.clone(), worker: worker.into() }
    }
}

impl ConnectorFactory for SimKafkaFactory {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn summary(&self) -> &'static str {
        "a simulated Kafka"
    }
    fn source_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::json_schema!({ "type": "object" }))
    }
    fn sink_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::json_schema!({ "type": "object" }))
    }
    fn check_source(&self, options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        let topics = options["topics"].as_array().map(|all| all.iter().filter_map(Value::as_str));
        let topics: Vec<String> = topics.into_iter().flatten().map(str::to_owned).collect();
        if topics.is_empty() {
            return Err(vec![OptionError::at("/topics", "name at least one topic")]);
        }
        Ok(SourceShape { topics, partitions: None, bounded: false })
    }
    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        topic_of(options)
            .map(|topic| vec![topic])
            .ok_or_else(|| vec![OptionError::at("/topic", "name a topic")])
    }
    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        Some(Arc::new(Catalog(self.kafka.clone())))
    }
    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(SimConnector { kafka: self.kafka.clone(), worker: self.worker.clone(), wake: scope.wake })
    }
}

fn topic_of(options: &Value) -> Option<String> {
    options["topic"].as_str().map(str::to_owned)
}

struct Catalog(SimKafka);

impl TopicCatalog for Catalog {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<u32>, EndError>> {
        Box::pin(ready(Ok(self.0.broker().partitions(topic))))
    }
    fn create<'a>(&'a self, topic: &'a str, partitions: u32) -> BoxFuture<'a, Result<(), EndError>> {
        // It may exist: that is what is wanted.
        let _ = self.0.broker().create_topic(topic, partitions);
        Box::pin(ready(Ok(())))
    }
}

struct SimConnector {
    kafka: SimKafka,
    worker: Arc<str>,
    wake: Wake,
}

impl SimConnector {
    fn client(&self) -> Client {
        Client { kafka: self.kafka.clone(), wake: self.wake.clone(), line: Line::new(self.worker.clone()) }
    }
}

impl Connector for SimConnector {
    fn source(&mut self, _: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        Ok(Box::new(SimSource { client: self.client(), reads: Vec::new(), turn: 0 }))
    }
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        let topic = topic_of(&spec.options).ok_or_else(|| no_topic(""))?;
        let count = self.kafka.broker().partitions(&topic).ok_or_else(|| no_topic(&topic))?;
        Ok(Box::new(SimSink {
            client: self.client(),
            topic: topic.into(),
            count,
            in_flight: VecDeque::new(),
            batch: 0,
            kept_back: None,
            failed: false,
        }))
    }
    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        let group = spec.task.pipeline.group_id().into();
        Ok(Box::new(SimOffsets { client: self.client(), group, read: None, commit: None }))
    }
}

fn no_topic(topic: &str) -> EndError {
    EndError::stop(Code::TopicMissing, format!("topic `{topic}` does not exist"))
}

struct Client {
    kafka: SimKafka,
    wake: Wake,
    line: Line,
}

struct Read {
    partition: Partition,
    at: Offset,
    end: Option<Offset>,
    fetch: Option<Pending<(Vec<StoredRecord>, Offset)>>,
}

struct SimSource {
    client: Client,
    reads: Vec<Read>,
    turn: usize,
}

impl Client {
    fn fetch(&mut self, partition: &Partition, at: Offset) -> Pending<(Vec<StoredRecord>, Offset)> {
        let partition = partition.clone();
        self.kafka.call(&mut self.line, &self.wake, FETCH_WAIT, move |broker, _| {
            let from = (&*partition.topic, partition.index);
            let records = broker.read(from, at, FETCH).unwrap_or_default();
            (records, broker.end_offset(from).unwrap_or(at))
        })
    }
}

impl Source for SimSource {
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        // Answers to older fetches are for positions that do not count any more.
        let read = |(partition, at): &(Partition, Offset)| Read {
            partition: partition.clone(),
            at: *at,
            end: None,
            fetch: None,
        };
        self.reads = at.iter().map(read).collect();
        Ok(())
    }

    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        let count = self.reads.len();
        for i in 0..count {
            let index = (self.turn + i) % count;
            let read = &mut self.reads[index];
            let Some(fetch) = &read.fetch else {
                read.fetch = Some(self.client.fetch(&read.partition, read.at));
                continue;
            };
            let Some(answer) = fetch.take() else { continue };
            read.fetch = None;
            if answer.is_err() {
                self.client.line.reconnect();
            }
            let (mut records, end) = answer.unwrap_or_default();
            read.end = (end > 0).then_some(end).or(read.end);
            records.truncate(budget.records);
            if let Some(last) = records.last() {
                read.at = last.offset + 1;
                self.turn = index + 1;
            }
            let batch = batch(&read.partition, &records);
            read.fetch = Some(self.client.fetch(&read.partition, read.at));
            if !batch.is_empty() {
                return Ok(Polled::Batch(batch));
            }
        }
        Ok(Polled::Pending)
    }

    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        self.reads.iter().map(|read| (read.partition.clone(), read.at)).collect()
    }

    fn lag(&mut self) -> Vec<Lag> {
        let lag = |read: &Read| Lag { partition: read.partition.clone(), position: read.at, end: read.end };
        self.reads.iter().map(lag).collect()
    }

    fn stop(&mut self) {
        self.reads.clear();
    }
}

fn batch(partition: &Partition, records: &[StoredRecord]) -> Batch {
    let mut batch = Batch::new(partition.clone());
    for StoredRecord { offset, record } in records {
        let (key, value) = (batch.put(record.key.as_deref()), batch.put(record.value.as_deref()));
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let headers = batch.put_headers(headers);
        batch.records.push(Record {
            key,
            value,
            headers,
            timestamp_ms: record.timestamp_ms,
            offset: *offset,
        });
    }
    batch.mark_origin();
    batch
}

struct SimSink {
    client: Client,
    topic: Arc<str>,
    count: u32,
    in_flight: VecDeque<Pending<()>>,
    /// Batches taken, for sabotage.
    batch: u64,
    kept_back: Option<NewRecord>,
    failed: bool,
}

impl SimSink {
    fn collect_answers(&mut self) {
        while let Some(answer) = self.in_flight.front().and_then(Pending::take) {
            self.in_flight.pop_front();
            self.failed |= answer == Err(Lost);
        }
    }

    fn send(&mut self, records: Vec<NewRecord>, later: Duration) {
        let mut by_partition: BTreeMap<i32, Vec<NewRecord>> = BTreeMap::new();
        for record in records {
            let partition = partition_of(record.key.as_deref(), self.count);
            by_partition.entry(partition).or_default().push(record);
        }
        let topic = self.topic.clone();
        let Client { kafka, wake, line } = &mut self.client;
        let sent = kafka.call(line, wake, later, move |broker, notes| {
            for (partition, records) in &by_partition {
                let to = (&*topic, *partition);
                let offset =
                    broker.append(to, records, BEGAN_MS).expect("the topic exists and there are records");
                notes.stored(to, offset, records);
            }
        });
        self.in_flight.push_back(sent);
    }

    /// What a broken program would do to these records; how much later they are sent.
    fn spoil(&mut self, records: &mut Vec<NewRecord>) -> Duration {
        let seventh = self.batch.is_multiple_of(7);
        match self.client.kafka.sabotage() {
            Some(Sabotage::DropsABatch) if seventh => records.clear(),
            Some(Sabotage::FlushesEarly) => return LATE,
            Some(Sabotage::Reorders) => {
                if seventh && self.kept_back.is_none() {
                    self.kept_back = (!records.is_empty()).then(|| records.remove(0));
                } else {
                    records.extend(self.kept_back.take());
                }
            }
            _ => {}
        }
        Duration::ZERO
    }
}

impl Sink for SimSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        self.collect_answers();
        let mut pushed = Pushed::default();
        while self.in_flight.len() < IN_FLIGHT && from + pushed.taken < batch.len() {
            let rest = batch.records.iter().skip(from + pushed.taken).take(PRODUCE);
            let mut records: Vec<NewRecord> = rest.map(|record| stored(batch, record)).collect();
            pushed.taken += records.len();
            self.batch += 1;
            let later = self.spoil(&mut records);
            if !records.is_empty() {
                self.send(records, later);
            }
        }
        Ok(pushed)
    }

    fn start_flush(&mut self) {
        let records: Vec<NewRecord> = self.kept_back.take().into_iter().collect();
        if !records.is_empty() {
            self.send(records, Duration::ZERO);
        }
    }

    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        self.collect_answers();
        if self.client.kafka.sabotage() == Some(Sabotage::FlushesEarly) {
            return Poll::Ready(Ok(()));
        }
        if !self.in_flight.is_empty() {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.failed) {
            self.client.line.reconnect();
            let why = format!("records for topic {} were not acknowledged in time", self.topic);
            return Poll::Ready(Err(EndError::retry(Code::SinkFailed, why)));
        }
        Poll::Ready(Ok(()))
    }
}

fn stored(batch: &Batch, record: &Record) -> NewRecord {
    let bytes = |value: Option<&[u8]>| value.map(|v| v.to_vec().into());
    NewRecord {
        key: bytes(batch.key(record)),
        value: bytes(batch.value(record)),
        headers: batch.headers(record).map(|(name, value)| (name.to_owned(), bytes(value))).collect(),
        timestamp_ms: record.timestamp_ms,
    }
}

/// Partition of a key: FNV-1a is as good as any, as long as a key stays where it is.
pub(super) fn partition_of(key: Option<&[u8]>, count: u32) -> i32 {
    let hash = key
        .unwrap_or_default()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash % count.max(1)).unwrap_or(0)
}

struct SimOffsets {
    client: Client,
    group: Arc<str>,
    read: Option<Pending<Vec<Committed>>>,
    commit: Option<Pending<()>>,
}

impl Offsets for SimOffsets {
    fn start_read(&mut self, partitions: &[Partition]) {
        let (group, partitions) = (self.group.clone(), partitions.to_vec());
        let Client { kafka, wake, line } = &mut self.client;
        self.read = Some(kafka.call(line, wake, Duration::ZERO, move |broker, _| {
            let committed = |partition: &Partition| {
                let found = broker.committed(&group, (&partition.topic, partition.index));
                Committed {
                    partition: partition.clone(),
                    offset: found.as_ref().map(|c| c.offset),
                    start: found.as_ref().map_or(0, |c| c.offset),
                    metadata: found.map(|c| c.metadata),
                }
            };
            partitions.iter().map(committed).collect()
        }));
    }

    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>> {
        let Some(answer) = self.read.as_ref().and_then(Pending::take) else { return Poll::Pending };
        self.read = None;
        Poll::Ready(answer.map_err(|Lost| self.lost("read")))
    }

    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str) {
        let ahead = self.client.kafka.sabotage() == Some(Sabotage::CommitsAhead);
        let mut positions = positions.to_vec();
        let (group, metadata) = (self.group.clone(), metadata.to_owned());
        let Client { kafka, wake, line } = &mut self.client;
        self.commit = Some(kafka.call(line, wake, Duration::ZERO, move |broker, notes| {
            if ahead {
                for (partition, at) in &mut positions {
                    *at = broker.end_offset((&partition.topic, partition.index)).unwrap_or(*at);
                }
            }
            let offsets: Vec<_> =
                positions.iter().map(|(p, at)| ((&*p.topic, p.index), *at, &*metadata)).collect();
            broker.commit_all(&group, &offsets).expect("the partitions exist");
            notes.committed(&positions, &metadata);
        }));
    }

    fn poll_commit(&mut self) -> Poll<Result<(), EndError>> {
        let Some(answer) = self.commit.as_ref().and_then(Pending::take) else { return Poll::Pending };
        self.commit = None;
        Poll::Ready(answer.map_err(|Lost| self.lost("commit")))
    }
}

impl SimOffsets {
    fn lost(&mut self, what: &str) -> EndError {
        self.client.line.reconnect();
        let why = format!("the broker did not answer a {what} of group {} in time", self.group);
        EndError::retry(Code::BrokerUnreachable, why)
    }
}
