//! Names and counters.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// A position in a partition: of the next record to read, as in Kafka.
pub type Offset = i64;
/// Counts the grants of one task, strictly rising; a higher epoch fences a lower one.
pub type Epoch = u64;
/// Counts coordinator leaderships.
pub type Term = u64;
/// One version of a stage's map from shards to tasks.
pub type Generation = u32;

/// A pipeline's name within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PipelineName {
    /// Namespace, `default` unless given.
    pub namespace: String,
    /// `metadata.name` of the definition.
    pub name: String,
}

impl PipelineName {
    /// A name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The consumer group under which offsets are committed, `pelton.<namespace>.<name>`
    /// (`exactly-once` P1): what lag tools look for.
    pub fn group_id(&self) -> String {
        format!("pelton.{}.{}", self.namespace, self.name)
    }
}

impl fmt::Display for PipelineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The unit of assignment: a set of shards of one stage.
///
/// The uuid belongs to the pipeline object, so that a pipeline deleted and created again under its old name
/// never meets the offsets metadata of the first one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Identity of the pipeline object, hexadecimal with dashes.
    pub uuid: String,
    /// Stage within the pipeline, counted from 0.
    pub stage: u32,
    /// Generation of the stage's map.
    pub generation: Generation,
    /// Index of the task within its generation.
    pub index: u32,
}

impl TaskId {
    /// `pelton.<namespace>.<uuid>.<stage>.g<generation>.t<index>` (`exactly-once` P1): no worker's name and no
    /// epoch in it, because the broker fences by this id.
    pub fn transactional_id(&self) -> String {
        format!(
            "pelton.{}.{}.{}.g{}.t{}",
            self.pipeline.namespace, self.uuid, self.stage, self.generation, self.index
        )
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}.g{}.t{}]", self.pipeline, self.stage, self.generation, self.index)
    }
}

/// A partition of an input: `topic` is the queue's name for it (for a file, its path), `index` counts from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Topic, or what stands for one.
    pub topic: Arc<str>,
    /// Partition number.
    pub index: i32,
}

impl Partition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, index: i32) -> Self {
        Self { topic: topic.into(), index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_the_protocol_names_them() {
        let task = TaskId {
            pipeline: PipelineName::new("default", "digits"),
            uuid: "0d9c".into(),
            stage: 0,
            generation: 1,
            index: 3,
        };
        assert_eq!(task.transactional_id(), "pelton.default.0d9c.0.g1.t3");
        assert_eq!(task.pipeline.group_id(), "pelton.default.digits");
        assert_eq!(task.to_string(), "default/digits[0.g1.t3]");
    }
}
