//! What a task runs: one stage of a pipeline, resolved and checked.

use pelton_checkpoint::Delivery;
use pelton_sdk::Registry;
use pelton_types::PipelineName;
use serde_json::Value;
use std::time::Duration;

/// Where a node's records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A source, by index.
    Source(usize),
    /// An output of an operator that stands before this one; port 0 is the main one.
    Operator {
        /// Index of the operator.
        index: usize,
        /// Its output.
        port: usize,
    },
}

/// A source of the stage.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// Name in the definition.
    pub name: String,
    /// Key of the connector.
    pub connector: String,
    /// Its options.
    pub options: Value,
}

/// An operator of the stage.
#[derive(Clone, Debug)]
pub struct OperatorPlan {
    /// Name in the definition.
    pub name: String,
    /// Key of the operator.
    pub kind: String,
    /// Its options.
    pub options: Value,
    /// Where its records come from.
    pub inputs: Vec<Input>,
}

/// A sink of the stage.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// Name in the definition.
    pub name: String,
    /// Key of the connector.
    pub connector: String,
    /// Its options.
    pub options: Value,
    /// Where its records come from.
    pub inputs: Vec<Input>,
}

/// One stage of one revision of a pipeline. Operators are in topological order.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The revision.
    pub revision: u64,
    /// What is promised about outputs.
    pub delivery: Delivery,
    /// Time between commits.
    pub commit_interval: Duration,
    /// Sources.
    pub sources: Vec<SourcePlan>,
    /// Operators.
    pub operators: Vec<OperatorPlan>,
    /// Sinks.
    pub sinks: Vec<SinkPlan>,
    /// Where records go that cannot be processed; without it such a record stops the task.
    pub dead_letter: Option<SinkPlan>,
}

impl StagePlan {
    /// Components this binary lacks; empty when the plan can be built.
    pub fn missing(&self, registry: &Registry) -> Vec<String> {
        let connectors = self
            .sources
            .iter()
            .map(|s| &s.connector)
            .chain(self.sinks.iter().map(|s| &s.connector))
            .chain(self.dead_letter.iter().map(|s| &s.connector))
            .filter(|name| registry.find_connector(name).is_none());
        let operators =
            self.operators.iter().map(|o| &o.kind).filter(|kind| registry.find_operator(kind).is_none());
        connectors.chain(operators).cloned().collect()
    }
}
