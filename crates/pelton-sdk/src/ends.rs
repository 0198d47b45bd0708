//! Sources, sinks, and where positions are kept.

use crate::{EndError, OptionError, Wake};
use pelton_types::{Batch, Code, Offset, Partition, TaskId};
use serde_json::Value;
use std::{future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

/// How much a poll may return.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Records at most.
    pub records: usize,
    /// Bytes of keys, values and headers at about most: a source stops after the record that reaches it.
    pub bytes: usize,
}

/// What a poll of a source gave.
#[derive(Debug)]
pub enum Polled {
    /// Records of one partition; [`Batch::mark_origin`] was called.
    Batch(Batch),
    /// Nothing now; the executor is woken when that changes.
    Pending,
    /// A bounded source has delivered everything.
    End,
}

/// Distance of one partition's position from its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: Partition,
    /// Next offset to read.
    pub position: Offset,
    /// End for this reader (last stable offset where transactions exist); `None` when not known yet.
    pub end: Option<Offset>,
}

impl Lag {
    /// Records (at most: markers count) between position and end.
    pub fn records(&self) -> Option<u64> {
        self.end.map(|end| u64::try_from(end - self.position).unwrap_or(0))
    }
}

/// Reads the partitions of one task.
pub trait Source: Send {
    /// Connect and learn where partitions live, ahead of the grant, so that `start` is fast. Returns at once.
    fn warm(&mut self) {}
    /// Begin at these offsets, of every partition of the task.
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError>;
    /// The next batch, of whichever partition has records; fair between partitions. Returns at once. An error of kind
    /// `Retry` is reported once per episode; the source goes on by itself.
    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError>;
    /// Offset of the next record of every partition: past all that `poll` delivered, and past markers.
    fn positions(&mut self) -> Vec<(Partition, Offset)>;
    /// Where the ends are, from what is known without asking (refreshed in the background).
    fn lag(&mut self) -> Vec<Lag>;
    /// Stop reading and let go of the partitions.
    fn stop(&mut self);
}

/// What a push to a sink did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Records taken, from the first asked for.
    pub taken: usize,
    /// The record after those was refused for good (too large, say), and why. Go on behind it.
    pub rejected: Option<String>,
}

/// Writes records. May be shared by the tasks of an executor behind the scenes.
pub trait Sink: Send {
    /// Take records from index `from` on, as many as fit now. Fewer means: full, the executor is woken when there is room.
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError>;
    /// Send out everything taken so far.
    fn start_flush(&mut self);
    /// Ready when everything taken before `start_flush` is stored, or an error when some of it is not.
    fn poll_flush(&mut self) -> Poll<Result<(), EndError>>;
}

/// What was committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: Partition,
    /// Committed offset; `None` when there is none.
    pub offset: Option<Offset>,
    /// Where to start: the committed offset, or what the source's `start:` means now.
    pub start: Offset,
    /// The text committed with it.
    pub metadata: Option<String>,
}

/// Committed positions of one task's partitions. Calls return at once; poll again after a wake-up.
pub trait Offsets: Send {
    /// Ask for what is committed.
    fn start_read(&mut self, partitions: &[Partition]);
    /// The answer, one entry for each partition asked for.
    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>>;
    /// Commit positions, all with the same text.
    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str);
    /// Ready when the commit is durable.
    fn poll_commit(&mut self) -> Poll<Result<(), EndError>>;
}

/// The transactional producer of one task, under exactly-once: what its sinks took since the last commit and the
/// positions of a commit become durable together, or not at all. Calls return at once; poll again after a wake-up.
///
/// Whoever holds it initialises it first, and again after it was discarded. An error of a commit says nothing about
/// its outcome: discard, initialise, and read what is committed.
pub trait Producer: Send {
    /// A sink whose records go into the transaction. A flush of it is part of the commit.
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError>;
    /// Connect ahead of the grant, so that `start_init` is fast.
    fn warm(&mut self) {}
    /// Make a new producer and initialise it, which fences the one before, whoever has it. `throw_away`: a second one
    /// of the same id first, because a transaction of it may be open.
    fn start_init(&mut self, throw_away: bool);
    /// Ready when it may be used.
    fn poll_init(&mut self) -> Poll<Result<(), EndError>>;
    /// Commit the transaction with these positions, all with the same text. Sinks take nothing until it is over.
    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str);
    /// Ready when the commit is durable; `true`: no request went unanswered since the init, so that none can still be
    /// on its way (P7).
    fn poll_commit(&mut self) -> Poll<Result<bool, EndError>>;
    /// Drop it, whatever its state: nothing it was given since the last commit may become visible.
    fn discard(&mut self);
    /// Let go for good: abort what is open, so that readers do not wait for it.
    fn start_close(&mut self);
    /// Ready when that is done, or takes too long.
    fn poll_close(&mut self) -> Poll<()>;
}

/// What a connector needs of the executor it serves.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Wakes the executor.
    pub wake: Wake,
    /// Its number within the process, for client names.
    pub executor: usize,
    /// Bytes that the client's own queues may hold, in all.
    pub queue_bytes: usize,
}

/// What a source is made from.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The task it belongs to.
    pub task: TaskId,
    /// The source's name in the definition.
    pub name: String,
    /// The value under the connector's key.
    pub options: Value,
    /// The task's partitions of this source.
    pub partitions: Vec<Partition>,
}

/// What a sink is made from.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    /// The task it belongs to.
    pub task: TaskId,
    /// The sink's name in the definition.
    pub name: String,
    /// The value under the connector's key.
    pub options: Value,
}

/// What a transactional producer is made from.
#[derive(Clone, Debug)]
pub struct ProducerSpec {
    /// The task it belongs to.
    pub task: TaskId,
    /// The options of one of the task's ends; they name the cluster of all.
    pub options: Value,
    /// Time between commits: a transaction is open for as long.
    pub commit_interval: Duration,
}

/// One executor's connections to one kind of queue; shares clients between the tasks of the executor.
pub trait Connector: Send {
    /// A source for a task. Returns at once; trouble with the queue shows when it is polled.
    fn source(&mut self, spec: &SourceSpec) -> Result<Box<dyn Source>, EndError>;
    /// A sink for a task.
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError>;
    /// Where the positions of a source are kept.
    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError>;
    /// The transactional producer of a task.
    fn producer(&mut self, spec: &ProducerSpec) -> Result<Box<dyn Producer>, EndError> {
        let task = &spec.task;
        let text =
            format!("task {task}: this kind of queue has no transactions; use `delivery: at-least-once`");
        Err(EndError::stop(Code::BadPipeline, text))
    }
}

/// What the planner must know of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceShape {
    /// Topics it reads, co-partitioned; for an end that is no queue, one name that stands for it.
    pub topics: Vec<String>,
    /// Partitions, where the options alone decide; `None`: ask the catalog.
    pub partitions: Option<u32>,
    /// It comes to an end.
    pub bounded: bool,
}

/// Makes connectors of one kind; knows their options.
pub trait ConnectorFactory: Send + Sync {
    /// The key in a pipeline definition, such as `kafka`.
    fn name(&self) -> &'static str;
    /// What it does, in one line.
    fn summary(&self) -> &'static str;
    /// Schema of a source's options; `None` when it cannot be a source.
    fn source_schema(&self) -> Option<schemars::Schema>;
    /// Schema of a sink's options; `None` when it cannot be a sink.
    fn sink_schema(&self) -> Option<schemars::Schema>;
    /// Find all mistakes in a source's options.
    fn check_source(&self, options: &Value) -> Result<SourceShape, Vec<OptionError>>;
    /// Find all mistakes in a sink's options; the topics it writes.
    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>>;
    /// Topics, where this kind of queue has them: of the cluster that an end's options name.
    fn catalog(&self, options: &Value) -> Option<Arc<dyn TopicCatalog>>;
    /// The cluster that an end's options name, for people and to be compared: a transaction cannot span two of them.
    /// `None`: this kind of end takes part in no transaction.
    fn cluster(&self, _options: &Value) -> Option<String> {
        None
    }
    /// Connections for one executor.
    fn connect(&self, scope: Scope) -> Box<dyn Connector>;
}

/// A boxed future, so that the traits need no async crate.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How well a topic's records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durability {
    /// Copies of each partition; the fewest of any.
    pub replicas: u32,
    /// Copies that have a record before it is acknowledged, at least.
    pub min_in_sync: u32,
}

/// Topics of a queue, for the coordinator.
pub trait TopicCatalog: Send + Sync {
    /// Number of partitions, `None` when the topic does not exist.
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<u32>, EndError>>;
    /// How well a topic's records are kept; `None` when the topic does not exist, or this kind of queue does not say.
    fn durability<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, Result<Option<Durability>, EndError>> {
        Box::pin(async { Ok(None) })
    }
    /// Create a topic; fine when it exists.
    fn create<'a>(&'a self, topic: &'a str, partitions: u32) -> BoxFuture<'a, Result<(), EndError>>;
    /// Delete a topic with all its records; fine when there is none.
    fn delete<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), EndError>> {
        let text = format!("topic {topic} cannot be deleted: this kind of queue has no such call");
        Box::pin(async move { Err(EndError::stop(Code::TopicMissing, text)) })
    }
}
