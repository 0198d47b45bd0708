//! The documents in the store. Each carries the number of its schema; a newer one than this build knows is refused
//! instead of read wrongly.

use super::{StoreError, Versioned};
use pelton_types::{Epoch, Generation, Incident, Offset, Partition, Term};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Schema of every document this build writes.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Written<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

/// A document of the store.
pub trait Document: Serialize + DeserializeOwned {
    /// As bytes, with its schema.
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&Written { schema: SCHEMA, body: self })
            .expect("documents have text keys and no cycles")
    }

    /// From bytes.
    ///
    /// # Errors
    /// When it is damaged, or of a newer schema.
    fn decode(key: &str, stored: &Versioned) -> Result<Self, StoreError> {
        let unreadable = |cause: String| StoreError::Unreadable { key: key.to_owned(), cause };
        let head: SchemaOnly =
            serde_json::from_slice(&stored.value).map_err(|e| unreadable(e.to_string()))?;
        if head.schema > SCHEMA {
            return Err(unreadable(format!("schema {} is above {SCHEMA}", head.schema)));
        }
        serde_json::from_slice(&stored.value).map_err(|e| unreadable(e.to_string()))
    }
}

/// Who leads. Every write of a coordinator also compares this key, so that one that lost its leadership writes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// Rises with every start.
    pub term: Term,
    /// Who, for people.
    pub holder: String,
}
impl Document for Leader {}

/// What a user wants of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// To run.
    Running,
    /// To stand still, and keep its place.
    Paused,
    /// To be gone, once every task is let go.
    Deleted,
}

/// A pipeline, without its definitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRecord {
    /// Identity of the object.
    pub uuid: String,
    /// `Pipeline` or `Feed`.
    pub kind: String,
    /// Newest revision.
    pub revision: u64,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970 of the last apply, pause or resume.
    pub changed_ms: i64,
    /// Outputs and offsets are committed together: then a generation is retired before the next is granted.
    #[serde(default)]
    pub exactly_once: bool,
    /// Stages, in order.
    pub stages: Vec<StageRecord>,
    /// Maps of generations that are not retired yet: stage, map.
    #[serde(default)]
    pub past: Vec<(u32, StageRecord)>,
    /// Generations before the newest whose tasks were not all let go: stage, generation, tasks. Nothing of the
    /// newest is granted while there are any.
    pub retiring: Vec<(u32, Generation, u32)>,
}
impl Document for PipelineRecord {}

/// A stage's map from shards to tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageRecord {
    /// Version of the map; starts at 1.
    pub generation: Generation,
    /// How many tasks the shards are dealt to.
    pub tasks: u32,
    /// Partitions of each topic of each source when the map was made: source, topic, partitions.
    pub topics: Vec<(String, String, u32)>,
}

/// One accepted definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRecord {
    /// Canonical JSON, as text.
    pub definition: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}
impl Document for RevisionRecord {}

/// What is remembered of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// Of the newest grant; 0 before the first.
    pub epoch: Epoch,
    /// Nobody ever reported it running.
    pub virgin: bool,
    /// Its bounded sources came to their end, with everything committed.
    pub completed: bool,
    /// What stopped it, until somebody acts.
    pub stopped: Option<Incident>,
}
impl Document for EpochRecord {}

/// An open incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentRecord {
    /// What.
    pub incident: Incident,
    /// What it concerns: a task, a worker, a pipeline.
    pub subject: String,
    /// Namespace of what it concerns, empty when it has none.
    pub namespace: String,
    /// Pipeline it concerns, empty when it has none.
    pub pipeline: String,
    /// Milliseconds since 1970.
    pub since_ms: i64,
}
impl Document for IncidentRecord {}

/// Where a pipeline stood when somebody asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavepointRecord {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Revision at that time.
    pub revision: u64,
    /// The next offset to read: topic, partition, offset.
    pub positions: Vec<(String, i32, i64)>,
}
impl Document for SavepointRecord {}

impl SavepointRecord {
    /// Of these next offsets to read.
    pub fn new(at_ms: i64, revision: u64, partitions: &[(Partition, Offset)]) -> SavepointRecord {
        let plain = |(of, at): &(Partition, Offset)| (of.topic.to_string(), of.index, *at);
        SavepointRecord { at_ms, revision, positions: partitions.iter().map(plain).collect() }
    }

    /// The next offset to read of each partition.
    pub fn partitions(&self) -> impl Iterator<Item = (Partition, Offset)> + '_ {
        self.positions.iter().map(|(topic, index, at)| (Partition::new(topic.as_str(), *index), *at))
    }
}

/// Somebody changed by hand what a pipeline will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Who, as the client says.
    pub by: String,
    /// What was done.
    pub what: String,
    /// Why, in their words.
    pub reason: String,
}
impl Document for AuditRecord {}

/// A pipeline object that was deleted: a worker that still holds one of its tasks is told to let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Milliseconds since 1970.
    pub at_ms: i64,
}
impl Document for Deleted {}

/// Where documents are kept.
pub mod keys {
    use pelton_types::{Code, PipelineName, TaskId};

    /// The [`Leader`](super::Leader).
    pub const LEADER: &str = "leader";
    /// All [`PipelineRecord`](super::PipelineRecord)s.
    pub const PIPELINES: &str = "pipeline/";
    /// All [`RevisionRecord`](super::RevisionRecord)s.
    pub const REVISIONS: &str = "revision/";
    /// All [`EpochRecord`](super::EpochRecord)s.
    pub const EPOCHS: &str = "epoch/";
    /// All [`IncidentRecord`](super::IncidentRecord)s.
    pub const INCIDENTS: &str = "incident/";
    /// All [`SavepointRecord`](super::SavepointRecord)s.
    pub const SAVEPOINTS: &str = "savepoint/";
    /// All [`AuditRecord`](super::AuditRecord)s.
    pub const AUDIT: &str = "audit/";
    /// All [`Deleted`](super::Deleted) pipelines.
    pub const DELETED: &str = "deleted/";

    /// A pipeline's key. Names hold no slash.
    pub fn pipeline(name: &PipelineName) -> String {
        format!("{PIPELINES}{}/{}", name.namespace, name.name)
    }
    /// The name in a pipeline's key.
    pub fn pipeline_name(key: &str) -> Option<PipelineName> {
        let (namespace, name) = key.strip_prefix(PIPELINES)?.split_once('/')?;
        Some(PipelineName::new(namespace, name))
    }
    /// A revision's key; ordered by number.
    pub fn revision(uuid: &str, number: u64) -> String {
        format!("{REVISIONS}{uuid}/{number:020}")
    }
    /// Pipeline object and number in a revision's key.
    pub fn revision_number(key: &str) -> Option<(&str, u64)> {
        let (uuid, number) = key.strip_prefix(REVISIONS)?.split_once('/')?;
        Some((uuid, number.parse().ok()?))
    }
    /// A task's key.
    pub fn epoch(task: &TaskId) -> String {
        format!("{EPOCHS}{}/{}/{}/{}", task.uuid, task.stage, task.generation, task.index)
    }
    /// An open incident's key: one for each subject and code.
    pub fn incident(subject: &str, code: Code) -> String {
        format!("{INCIDENTS}{subject}/{code}")
    }
    /// A savepoint's key.
    pub fn savepoint(uuid: &str, name: &str) -> String {
        format!("{SAVEPOINTS}{uuid}/{name}")
    }
    /// Pipeline object and name in a savepoint's key.
    pub fn savepoint_name(key: &str) -> Option<(&str, &str)> {
        key.strip_prefix(SAVEPOINTS)?.split_once('/')
    }
    /// The key of an audit's entry; ordered by number.
    pub fn audit(uuid: &str, number: u64) -> String {
        format!("{AUDIT}{uuid}/{number:020}")
    }
    /// Pipeline object and number in the key of an audit's entry.
    pub fn audit_number(key: &str) -> Option<(&str, u64)> {
        let (uuid, number) = key.strip_prefix(AUDIT)?.split_once('/')?;
        Some((uuid, number.parse().ok()?))
    }
    /// A deleted pipeline object's key.
    pub fn deleted(uuid: &str) -> String {
        format!("{DELETED}{uuid}")
    }
}
