//! A queue in memory that misbehaves on request, and a bench to step an executor by hand.
#![allow(dead_code)]
// The exemption of tests is for functions marked `#[test]`; these are called by them.
#![allow(clippy::unwrap_used)]

use pelton_checkpoint::{Delivery, Grant};
use pelton_runtime::{
    Board, Command, Executor, ExecutorEvent, ExecutorHandle, ExecutorOptions, Metrics, StagePlan, Step,
    TaskSnapshot, TaskState,
    executor::AssignedPartitions,
    plan::{Input, OperatorPlan, SinkPlan, SourcePlan},
};
use pelton_sdk::{
    Budget, BuildContext, Collector, Committed, Connector, ConnectorFactory, EndError, Lag, Offsets,
    Operator, OperatorFactory, OperatorShape, OptionError, Polled, Producer, ProducerSpec, Pushed, Registry,
    Scope, Sink, SinkSpec, Source, SourceShape, SourceSpec, TopicCatalog, Wake,
};
use pelton_types::{Batch, Code, Offset, Partition, PipelineName, Record, Span, TaskId};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

/// What is in the queue and what goes wrong next.
#[derive(Default)]
pub struct Shelf {
    pub topics: BTreeMap<Partition, Vec<(String, String)>>,
    pub offsets: BTreeMap<Partition, (Offset, String)>,
    pub out: Vec<(String, String)>,
    pub letters: Vec<(String, Vec<(String, String)>)>,
    /// Everything the sink took, stored or not.
    pub taken: Vec<(String, String)>,
    pub fail_flushes: u32,
    pub fail_commits: u32,
    pub sink_room: Option<usize>,
    pub bounded: bool,
    pub flushes: u32,
    pub commits: u32,
    pub max_in_flight: usize,
    /// Sources that exist.
    pub sources: usize,
    /// What sinks take is in a transaction until offsets are committed.
    pub transactional: bool,
    pub open_out: Vec<(String, String)>,
    pub open_letters: Vec<(String, Vec<(String, String)>)>,
    /// Producers discarded: what a sink took before is gone.
    pub producers: u32,
    /// Commits that are refused because somebody else initialised the producer.
    pub fence_commits: u32,
    /// Commits that fail happen all the same.
    pub failed_commits_happen: bool,
}

impl Shelf {
    fn commit(&mut self, positions: Vec<(Partition, Offset)>, metadata: &str) {
        self.commits += 1;
        self.out.append(&mut self.open_out);
        self.letters.append(&mut self.open_letters);
        for (partition, offset) in positions {
            self.offsets.insert(partition, (offset, metadata.to_owned()));
        }
    }
}

/// The producer of a transactional shelf.
pub struct QueueProducer {
    queue: Queue,
    offsets: QueueOffsets,
}

impl Producer for QueueProducer {
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        QueueConnector(self.queue.clone()).sink(spec)
    }
    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str) {
        self.offsets.start_commit(positions, metadata);
    }
    fn poll_commit(&mut self) -> Poll<Result<bool, EndError>> {
        self.offsets.poll_commit().map_ok(|()| true)
    }
    fn start_close(&mut self) {
        self.discard();
    }
    fn poll_close(&mut self) -> Poll<()> {
        Poll::Ready(())
    }
    fn start_init(&mut self, _: bool) {
        self.discard();
    }
    fn poll_init(&mut self) -> Poll<Result<(), EndError>> {
        Poll::Ready(Ok(()))
    }
    fn discard(&mut self) {
        self.offsets.commit = None;
        self.queue.with(|shelf| {
            shelf.open_out.clear();
            shelf.open_letters.clear();
            shelf.producers += 1;
        });
    }
}

#[derive(Clone, Default)]
pub struct Queue(pub Arc<Mutex<Shelf>>);

impl Queue {
    pub fn with<R>(&self, f: impl FnOnce(&mut Shelf) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
    pub fn fill(&self, partitions: i32, records: usize) {
        self.with(|shelf| {
            for n in 0..records {
                let partition = Partition::new("in", n as i32 % partitions);
                let record = (format!("k{}", n as i32 % partitions), format!("v{n}"));
                shelf.topics.entry(partition).or_default().push(record);
            }
        });
    }
    pub fn out(&self) -> Vec<String> {
        self.with(|shelf| shelf.out.iter().map(|(_, v)| v.clone()).collect())
    }
}

struct QueueSource {
    queue: Queue,
    at: BTreeMap<Partition, Offset>,
    turn: usize,
}

impl Source for QueueSource {
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        self.at = at.iter().cloned().collect();
        Ok(())
    }
    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        let shelf = self.queue.0.lock().unwrap();
        let partitions: Vec<_> = self.at.keys().cloned().collect();
        for i in 0..partitions.len() {
            let partition = &partitions[(self.turn + i) % partitions.len()];
            let log = shelf.topics.get(partition).cloned().unwrap_or_default();
            let from = self.at[partition] as usize;
            if from >= log.len() {
                continue;
            }
            self.turn += i + 1;
            let mut batch = Batch::new(partition.clone());
            for (n, (k, v)) in log.iter().enumerate().skip(from).take(budget.records) {
                let (key, value) = (batch.put(Some(k.as_bytes())), batch.put(Some(v.as_bytes())));
                let record = Record { key, value, headers: Span::NULL, timestamp_ms: 1, offset: n as Offset };
                batch.records.push(record);
            }
            batch.mark_origin();
            *self.at.get_mut(partition).unwrap() += batch.len() as Offset;
            return Ok(Polled::Batch(batch));
        }
        Ok(if shelf.bounded { Polled::End } else { Polled::Pending })
    }
    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        self.at.clone().into_iter().collect()
    }
    fn lag(&mut self) -> Vec<Lag> {
        let shelf = self.queue.0.lock().unwrap();
        let end = |p: &Partition| shelf.topics.get(p).map_or(0, |log| log.len() as Offset);
        self.at.iter().map(|(p, o)| Lag { partition: p.clone(), position: *o, end: Some(end(p)) }).collect()
    }
    fn stop(&mut self) {
        self.at.clear();
    }
}

impl Drop for QueueSource {
    fn drop(&mut self) {
        self.queue.with(|shelf| shelf.sources -= 1);
    }
}

struct QueueSink {
    queue: Queue,
    name: String,
    pending: Vec<(String, String)>,
    letters: Vec<(String, Vec<(String, String)>)>,
    flushing: bool,
    producer: u32,
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

impl QueueSink {
    /// What was given to a producer that is gone is gone.
    fn follow(&mut self, shelf: &Shelf) {
        if std::mem::replace(&mut self.producer, shelf.producers) != shelf.producers {
            self.pending.clear();
            self.letters.clear();
        }
    }
}

impl Sink for QueueSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        let queue = self.queue.clone();
        let mut shelf = queue.0.lock().unwrap();
        self.follow(&shelf);
        let room = shelf.sink_room.unwrap_or(usize::MAX).saturating_sub(self.pending.len());
        let mut pushed = Pushed::default();
        for record in batch.records.iter().skip(from).take(room) {
            let (key, value) = (text(batch.key(record)), text(batch.value(record)));
            if value.contains("too-large") {
                pushed.rejected = Some("too large".into());
                return Ok(pushed);
            }
            if self.name == "deadLetter" {
                let headers = batch.headers(record).map(|(n, v)| (n.to_owned(), text(v))).collect();
                self.letters.push((value, headers));
            } else {
                shelf.taken.push((key.clone(), value.clone()));
                self.pending.push((key, value));
            }
            pushed.taken += 1;
        }
        let in_flight = self.pending.len();
        shelf.max_in_flight = shelf.max_in_flight.max(in_flight);
        Ok(pushed)
    }
    fn start_flush(&mut self) {
        self.flushing = true;
    }
    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        assert!(std::mem::take(&mut self.flushing), "flushed once for each start");
        let queue = self.queue.clone();
        let mut shelf = queue.0.lock().unwrap();
        self.follow(&shelf);
        shelf.flushes += 1;
        if shelf.fail_flushes > 0 {
            shelf.fail_flushes -= 1;
            self.pending.clear();
            self.letters.clear();
            return Poll::Ready(Err(EndError::retry(Code::SinkFailed, "the sink lost a record")));
        }
        let shelf = &mut *shelf;
        let (out, letters) = match shelf.transactional {
            true => (&mut shelf.open_out, &mut shelf.open_letters),
            false => (&mut shelf.out, &mut shelf.letters),
        };
        out.append(&mut self.pending);
        letters.append(&mut self.letters);
        Poll::Ready(Ok(()))
    }
}

struct QueueOffsets {
    queue: Queue,
    read: Vec<Partition>,
    commit: Option<(Vec<(Partition, Offset)>, String)>,
}

impl Offsets for QueueOffsets {
    fn start_read(&mut self, partitions: &[Partition]) {
        self.read = partitions.to_vec();
    }
    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>> {
        let shelf = self.queue.0.lock().unwrap();
        let committed = |partition: &Partition| {
            let found = shelf.offsets.get(partition);
            Committed {
                partition: partition.clone(),
                offset: found.map(|(o, _)| *o),
                start: found.map_or(0, |(o, _)| *o),
                metadata: found.map(|(_, m)| m.clone()),
            }
        };
        Poll::Ready(Ok(self.read.iter().map(committed).collect()))
    }
    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str) {
        assert!(self.commit.is_none(), "no commit overtakes another");
        self.commit = Some((positions.to_vec(), metadata.to_owned()));
    }
    fn poll_commit(&mut self) -> Poll<Result<(), EndError>> {
        let Some((positions, metadata)) = self.commit.take() else { return Poll::Pending };
        let mut shelf = self.queue.0.lock().unwrap();
        if shelf.fence_commits > 0 {
            shelf.fence_commits -= 1;
            return Poll::Ready(Err(EndError::fenced(
                Code::CommitFailed,
                "somebody else initialised the id",
            )));
        }
        if shelf.fail_commits > 0 {
            shelf.fail_commits -= 1;
            if shelf.failed_commits_happen {
                shelf.commit(positions, &metadata);
            }
            return Poll::Ready(Err(EndError::retry(Code::CommitFailed, "no coordinator of the group")));
        }
        shelf.commit(positions, &metadata);
        Poll::Ready(Ok(()))
    }
}

struct QueueConnector(Queue);

impl Connector for QueueConnector {
    fn source(&mut self, _: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        self.0.with(|shelf| shelf.sources += 1);
        Ok(Box::new(QueueSource { queue: self.0.clone(), at: BTreeMap::new(), turn: 0 }))
    }
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        Ok(Box::new(QueueSink {
            queue: self.0.clone(),
            name: spec.name.clone(),
            pending: vec![],
            letters: vec![],
            flushing: false,
            producer: 0,
        }))
    }
    fn offsets(&mut self, _: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        Ok(Box::new(QueueOffsets { queue: self.0.clone(), read: vec![], commit: None }))
    }
    fn producer(&mut self, _: &ProducerSpec) -> Result<Box<dyn Producer>, EndError> {
        let offsets = QueueOffsets { queue: self.0.clone(), read: vec![], commit: None };
        Ok(Box::new(QueueProducer { queue: self.0.clone(), offsets }))
    }
}

pub struct QueueFactory(pub Queue);

impl ConnectorFactory for QueueFactory {
    fn name(&self) -> &'static str {
        "queue"
    }
    fn summary(&self) -> &'static str {
        "a queue in memory"
    }
    fn source_schema(&self) -> Option<schemars::Schema> {
        None
    }
    fn sink_schema(&self) -> Option<schemars::Schema> {
        None
    }
    fn check_source(&self, _: &Value) -> Result<SourceShape, Vec<OptionError>> {
        Ok(SourceShape { topics: vec!["in".into()], partitions: None, bounded: false })
    }
    fn check_sink(&self, _: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Ok(vec![])
    }
    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }
    fn connect(&self, _: Scope) -> Box<dyn Connector> {
        Box::new(QueueConnector(self.0.clone()))
    }
}

/// An operator made of a function: keep, drop, fail or panic by the value's text; `hold` keeps batches until flushed.
pub struct ByText {
    hold: bool,
    held: Vec<Batch>,
    flush: bool,
    lose: bool,
}

impl ByText {
    fn sort(&self, mut batch: Batch, out: &mut Collector) {
        let values: Vec<String> = batch.records.iter().map(|r| text(batch.value(r))).collect();
        let mut keep = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match value.as_str() {
                v if v.contains("panic") => panic!("cannot bear {v}"),
                v if v.contains("poison") => out.fail(&mut batch, index, "it is poison"),
                v if v.contains("drop") => out.filtered(1),
                _ => keep.push(index),
            }
        }
        if self.lose {
            keep.pop();
        }
        let kept = batch.subset(keep);
        out.emit(kept);
    }
}

impl Operator for ByText {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        if self.hold {
            self.held.push(batch);
        } else {
            self.sort(batch, out);
        }
    }
    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        if std::mem::take(&mut self.flush) || self.held() > 50 {
            for batch in std::mem::take(&mut self.held) {
                self.sort(batch, out);
            }
        }
        None
    }
    fn flush(&mut self) {
        self.flush = true;
    }
    fn held(&self) -> u64 {
        self.held.iter().map(|b| b.len() as u64).sum()
    }
}

pub struct ByTextFactory;

impl OperatorFactory for ByTextFactory {
    fn name(&self) -> &'static str {
        "byText"
    }
    fn summary(&self) -> &'static str {
        "does what the text says"
    }
    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!({})
    }
    fn check(&self, _: &Value, _: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        Ok(OperatorShape::default())
    }
    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(ByText { hold: options == "hold", held: vec![], flush: false, lose: options == "lose" }))
    }
}

/// An executor stepped by hand, with a clock of its own.
pub struct Bench {
    pub queue: Queue,
    pub executor: Executor,
    pub handle: ExecutorHandle,
    pub events: Arc<Mutex<Vec<ExecutorEvent>>>,
    pub board: Board,
    pub metrics: pelton_telemetry::Metrics,
    pub now: Instant,
}

pub const INTERVAL: Duration = Duration::from_millis(100);

pub fn plan(operator: &str, dead_letters: bool) -> StagePlan {
    let sink = |name: &str, inputs| SinkPlan {
        name: name.into(),
        connector: "queue".into(),
        options: Value::Null,
        inputs,
    };
    StagePlan {
        pipeline: PipelineName::new("default", "p"),
        revision: 1,
        delivery: Delivery::AtLeastOnce,
        commit_interval: INTERVAL,
        sources: vec![SourcePlan { name: "in".into(), connector: "queue".into(), options: Value::Null }],
        operators: vec![OperatorPlan {
            name: "judge".into(),
            kind: "byText".into(),
            options: operator.into(),
            inputs: vec![Input::Source(0)],
        }],
        sinks: vec![sink("out", vec![Input::Operator { index: 0, port: 0 }])],
        dead_letter: dead_letters.then(|| sink("deadLetter", vec![])),
    }
}

pub fn task() -> TaskId {
    TaskId {
        pipeline: PipelineName::new("default", "p"),
        uuid: "u".into(),
        stage: 0,
        generation: 1,
        index: 0,
    }
}

impl Bench {
    pub fn new(queue: &Queue) -> Bench {
        let events: Arc<Mutex<Vec<ExecutorEvent>>> = Arc::default();
        let sink = events.clone();
        let board = Board::default();
        let metrics = pelton_telemetry::Metrics::new("worker");
        let now = Instant::now();
        let options = ExecutorOptions {
            index: 0,
            registry: Registry::default().connector(QueueFactory(queue.clone())).operator(ByTextFactory),
            models: ".".into(),
            budget: Budget { records: 10, bytes: 1 << 20 },
            queue_bytes: 1 << 20,
            origin: now,
            clock: Instant::now,
            // Records are of the first millisecond of 1970.
            wall_clock: || 2_001,
            events: Arc::new(move |event| sink.lock().unwrap().push(event)),
            board: board.clone(),
            metrics: Metrics::register(&metrics).unwrap(),
            background: pelton_sdk::Background::none(),
        };
        let (executor, handle) = Executor::new(options, Wake::none());
        Bench { queue: queue.clone(), executor, handle, events, board, metrics, now }
    }

    pub fn start(&mut self, plan: StagePlan, partitions: i32, epoch: u64) {
        let own: Vec<_> = (0..partitions).map(|i| Partition::new("in", i)).collect();
        let grant = Grant {
            task: task(),
            epoch,
            term: 1,
            virgin: epoch == 1,
            partitions: own.clone(),
            heard: Vec::new(),
        };
        let partitions = AssignedPartitions { sources: BTreeMap::from([("in".to_owned(), own)]), tasks: 1 };
        self.handle.send(Command::Start { grant, plan: Arc::new(plan), partitions });
    }

    pub fn warm(&mut self, plan: StagePlan, partitions: i32) {
        let own: Vec<_> = (0..partitions).map(|i| Partition::new("in", i)).collect();
        let partitions = AssignedPartitions { sources: BTreeMap::from([("in".to_owned(), own)]), tasks: 1 };
        self.handle.send(Command::Warm { task: task(), plan: Arc::new(plan), partitions });
    }

    /// Step and let time pass until `done`, for at most ten simulated seconds.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Bench) -> bool) {
        let limit = self.now + Duration::from_secs(10);
        while !done(self) {
            assert!(self.now < limit, "never happened: {what}; the board says {:?}", self.board.all());
            self.step();
        }
    }

    pub fn step(&mut self) {
        let step = self.executor.step(self.now);
        let asked: Vec<_> = self.events.lock().unwrap().iter().cloned().collect();
        for event in asked {
            if let ExecutorEvent::Confirm { task, .. } = event {
                self.handle.send(Command::Confirmed { task, newest: Some(true) });
            }
        }
        if let Step::Waiting { .. } = step {
            self.now += Duration::from_millis(5);
        }
    }

    /// The value of a metric on the page, by its name and labels.
    pub fn shown(&self, series: &str) -> Option<f64> {
        let page = self.metrics.page().unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    /// Last word about the task.
    pub fn last(&self) -> Option<TaskSnapshot> {
        self.events.lock().unwrap().iter().rev().find_map(|event| match event {
            ExecutorEvent::Changed(snapshot) => Some((**snapshot).clone()),
            ExecutorEvent::Confirm { .. } => None,
        })
    }

    pub fn ended_as(&self, state: TaskState) -> bool {
        self.last().is_some_and(|s| s.state == state)
    }
}

pub fn committed(queue: &Queue, partition: i32) -> Offset {
    queue.with(|shelf| shelf.offsets.get(&Partition::new("in", partition)).map_or(-1, |(o, _)| *o))
}
