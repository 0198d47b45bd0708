//! A cluster to test against, and ends of a pipeline without a pipeline.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod holder;

use pelton_broker::server::{self, Running};
use pelton_kafka::{KafkaFactory, KafkaOptions};
use pelton_sdk::{
    Budget, Committed, Connector, ConnectorFactory, EndError, Offsets, Polled, Producer, ProducerSpec, Scope,
    Sink, SinkSpec, Source, SourceSpec, Wake,
};
use pelton_types::{Batch, Header, Partition, PipelineName, Record, Span, TaskId};
use serde_json::json;
use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// Nothing here takes longer unless it hangs.
const GUARD: Duration = Duration::from_secs(60);

pub enum Cluster {
    Embedded { running: Option<Running>, data: TempDir, bootstrap: String },
    Real { bootstrap: String },
}

/// The embedded broker, and a real one where `PELTON_TEST_KAFKA` names it.
pub fn clusters() -> Vec<Cluster> {
    let real = std::env::var("PELTON_TEST_KAFKA").ok().map(|bootstrap| Cluster::Real { bootstrap });
    [Some(Cluster::embedded()), real].into_iter().flatten().collect()
}

/// An address where nobody listens yet.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Cluster {
    pub fn embedded() -> Cluster {
        let mut cluster = Cluster::down("127.0.0.1:0");
        cluster.up();
        cluster
    }

    /// An embedded broker that is not running yet.
    pub fn down(listen: &str) -> Cluster {
        Cluster::Embedded { running: None, data: TempDir::new().unwrap(), bootstrap: listen.into() }
    }

    pub fn up(&mut self) {
        let Cluster::Embedded { running, data, bootstrap } = self else { panic!("not ours to start") };
        let mut options = server::Options::new(bootstrap.clone(), data.path());
        options.auto_create_topics = true;
        let started = server::serve(options).unwrap();
        *bootstrap = started.bootstrap();
        *running = Some(started);
    }

    pub fn stop(&mut self) {
        let Cluster::Embedded { running, .. } = self else { panic!("not ours to stop") };
        running.take().unwrap().stop().unwrap();
    }

    pub fn bootstrap(&self) -> &str {
        match self {
            Cluster::Embedded { bootstrap, .. } | Cluster::Real { bootstrap } => bootstrap,
        }
    }

    pub fn factory(&self) -> KafkaFactory {
        KafkaFactory::new(KafkaOptions::new(self.bootstrap()).client_id("test")).unwrap()
    }

    /// A new topic under a name of its own.
    pub fn topic(&self, name: &str, partitions: u32) -> String {
        let name = unique(name);
        block_on(self.factory().catalog(&json!({})).unwrap().create(&name, partitions)).unwrap();
        name
    }

    pub fn executor(&self) -> Executor {
        Executor::of(&self.factory())
    }
}

pub fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}-{nanos}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Run a future that some other thread completes.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
            return out;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The test's thread as an executor.
pub struct Executor {
    pub connector: Box<dyn Connector>,
    pub pipeline: String,
}

impl Executor {
    pub fn of(factory: &KafkaFactory) -> Executor {
        let wake = Wake::thread(std::thread::current());
        let scope = Scope { wake, executor: 0, queue_bytes: 64 << 20 };
        Executor { connector: factory.connect(scope), pipeline: unique("pipeline") }
    }

    /// Of the same pipeline as another one: a task's successor.
    pub fn successor_of(&mut self, other: &Executor) {
        self.pipeline.clone_from(&other.pipeline);
    }

    fn task(&self) -> TaskId {
        TaskId {
            pipeline: PipelineName::new("test", &self.pipeline),
            uuid: self.pipeline.clone(),
            stage: 0,
            generation: 1,
            index: 0,
        }
    }

    pub fn group(&self) -> String {
        self.task().pipeline.group_id()
    }

    pub fn source_spec(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        start: &str,
    ) -> SourceSpec {
        SourceSpec {
            task: self.task(),
            name: "in".into(),
            options: json!({ "topics": [topic], "start": start }),
            partitions: partitions.into_iter().map(|p| Partition::new(topic, p)).collect(),
        }
    }

    pub fn source(&mut self, topic: &str, partitions: impl IntoIterator<Item = i32>) -> Box<dyn Source> {
        let spec = self.source_spec(topic, partitions, "earliest");
        self.connector.source(&spec).unwrap()
    }

    /// A source that reads from the beginning.
    pub fn reading(
        &mut self,
        topic: &str,
        partitions: impl IntoIterator<Item = i32> + Clone,
    ) -> Box<dyn Source> {
        let mut source = self.source(topic, partitions.clone());
        source.start(&at(topic, partitions, 0)).unwrap();
        source
    }

    pub fn offsets(&mut self, topic: &str, start: &str) -> Box<dyn Offsets> {
        let spec = self.source_spec(topic, [0], start);
        self.connector.offsets(&spec).unwrap()
    }

    /// The task's transactional producer; needs a source or offsets of the task.
    pub fn producer(&mut self) -> Box<dyn Producer> {
        let commit_interval = Duration::from_secs(1);
        self.connector
            .producer(&ProducerSpec { task: self.task(), options: json!({}), commit_interval })
            .unwrap()
    }

    pub fn sink_spec(&self, topic: &str) -> SinkSpec {
        SinkSpec { task: self.task(), name: "out".into(), options: json!({ "topic": topic }) }
    }

    pub fn sink(&mut self, topic: &str) -> Box<dyn Sink> {
        self.sink_with(json!({ "topic": topic }))
    }

    pub fn sink_with(&mut self, options: serde_json::Value) -> Box<dyn Sink> {
        self.connector.sink(&SinkSpec { task: self.task(), name: "out".into(), options }).unwrap()
    }
}

pub fn at(topic: &str, partitions: impl IntoIterator<Item = i32>, offset: i64) -> Vec<(Partition, i64)> {
    partitions.into_iter().map(|p| (Partition::new(topic, p), offset)).collect()
}

pub const BUDGET: Budget = Budget { records: 1_000, bytes: 1 << 20 };

/// For [`until`].
pub fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Step until `done` says so, sleeping like an executor: until woken, or a little while.
pub fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(done) = step() {
            return done;
        }
        assert!(since.elapsed() < GUARD, "gave up waiting: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// One record as tests see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp_ms: i64,
}

pub fn seen(batch: &Batch) -> Vec<Seen> {
    let owned = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
    let record = |r: &Record| Seen {
        partition: batch.partition.index,
        offset: r.offset,
        key: owned(batch.key(r)),
        value: owned(batch.value(r)),
        headers: batch.headers(r).map(|(n, v)| (n.to_owned(), owned(v))).collect(),
        timestamp_ms: r.timestamp_ms,
    };
    batch.records.iter().map(record).collect()
}

/// The next batch.
pub fn next(source: &mut dyn Source) -> Batch {
    until("a batch", || match source.poll(BUDGET).unwrap() {
        Polled::Batch(batch) => Some(batch),
        _ => None,
    })
}

/// Exactly `count` records.
pub fn read(source: &mut dyn Source, count: usize) -> Vec<Seen> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(seen(&next(source)));
    }
    assert_eq!(all.len(), count, "more records than were written");
    all
}

pub fn batch_of(partition: Partition, records: &[(Option<&str>, Option<&str>)]) -> Batch {
    let mut batch = Batch::new(partition);
    for (i, (key, value)) in records.iter().enumerate() {
        let key = batch.put(key.map(str::as_bytes));
        let value = batch.put(value.map(str::as_bytes));
        batch.records.push(Record { key, value, headers: Span::NULL, timestamp_ms: -1, offset: i as i64 });
    }
    batch
}

pub fn with_headers(batch: &mut Batch, index: usize, headers: &[Header<'_>]) {
    batch.records[index].headers = batch.put_headers(headers.iter().copied());
}

/// Values `name0..` with keys of the same name.
pub fn numbered(from: Partition, name: &str, count: usize) -> Batch {
    let all: Vec<String> = (0..count).map(|i| format!("{name}{i}")).collect();
    let pairs: Vec<_> = all.iter().map(|t| (Some(t.as_str()), Some(t.as_str()))).collect();
    batch_of(from, &pairs)
}

pub fn push_all(sink: &mut dyn Sink, batch: &Batch) {
    let mut from = 0;
    until("room in the sink", || {
        let pushed = sink.push(batch, from).unwrap();
        assert_eq!(pushed.rejected, None);
        from += pushed.taken;
        (from == batch.len()).then_some(())
    });
}

pub fn flush(sink: &mut dyn Sink) -> Result<(), EndError> {
    sink.start_flush();
    until("a flush", || ready(sink.poll_flush()))
}

/// Write `count` records into one partition of a topic.
pub fn fill(executor: &mut Executor, topic: &str, partitions: u32, count: usize) {
    // Batches that say they come from this very topic keep their partition.
    let _source = executor.source(topic, 0..partitions as i32);
    let mut source = executor.source(topic, 0..partitions as i32);
    source.warm();
    let mut sink = executor.sink(topic);
    for p in 0..partitions as i32 {
        push_all(&mut *sink, &numbered(Partition::new(topic, p), &format!("p{p}n"), count));
    }
    flush(&mut *sink).unwrap();
}

pub fn committed(offsets: &mut dyn Offsets, partitions: &[Partition]) -> Result<Vec<Committed>, EndError> {
    offsets.start_read(partitions);
    until("committed offsets", || ready(offsets.poll_read()))
}

pub fn commit(offsets: &mut dyn Offsets, positions: &[(Partition, i64)], text: &str) -> Result<(), EndError> {
    offsets.start_commit(positions, text);
    until("a commit", || ready(offsets.poll_commit()))
}

/// The secured listeners of a real Apache Kafka: `tests/infra/kafka/README.md` says what there is.
pub struct Kafka {
    dir: PathBuf,
}

impl Kafka {
    /// Where `PELTON_TEST_KAFKA_SECURE` says; none where it says nothing, and this run may skip.
    pub fn secure() -> Option<Kafka> {
        let dir = std::env::var_os("PELTON_TEST_KAFKA_SECURE").filter(|dir| !dir.is_empty());
        let all = std::env::var("PELTON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(dir.is_some() || !all, "PELTON_TEST_KAFKA_SECURE is not set, and this run may skip nothing");
        if dir.is_none() {
            eprintln!(
                "skipped: PELTON_TEST_KAFKA_SECURE is not set; `cargo xtask infra kafka up --secure` prints it"
            );
        }
        Some(Kafka { dir: dir?.into() })
    }

    /// `host:port` of a listener.
    pub fn at(&self, listener: &str) -> String {
        let all = std::fs::read_to_string(self.dir.join("listeners")).unwrap();
        let found = all.lines().find_map(|line| line.strip_prefix(listener)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no listener {listener} in {all}")).to_owned()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}
