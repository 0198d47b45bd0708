//! What a definition file says, as types.

use crate::tests::TestDef;
use pelton_types::PipelineName;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// The `apiVersion` of every document.
pub const API_VERSION: &str = "pelton.dev/v1";
/// Namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Tasks of a stage unless the definition says otherwise: enough for a laptop and a small cluster, and each costs a
/// client or two.
pub const DEFAULT_TASKS: u32 = 8;
/// `commitInterval` of a pipeline that gives none.
pub const DEFAULT_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The connector whose ends are Kafka topics.
pub const KAFKA: &str = "kafka";

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A pipeline.
    Pipeline,
    /// Same shape; `pelton dev` runs it beside the pipelines of the file and keeps it out of their account.
    Feed,
}

impl Kind {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Pipeline => "Pipeline",
            Kind::Feed => "Feed",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One document of a definition file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Pipeline or feed.
    pub kind: Kind,
    /// Its name.
    pub metadata: Metadata,
    /// What it does.
    pub spec: PipelineSpec,
}

impl Document {
    /// Namespace and name.
    pub fn name(&self) -> PipelineName {
        PipelineName::new(&self.metadata.namespace, &self.metadata.name)
    }
}

/// Name and labels of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Unique in its namespace.
    pub name: String,
    /// `default` unless given.
    pub namespace: String,
    /// For people and selectors.
    pub labels: BTreeMap<String, String>,
}

/// What a pipeline promises about each record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Every record has its effect; after a failure it may have it twice.
    #[default]
    AtLeastOnce,
    /// Every record has its effect once. Not accepted yet.
    ExactlyOnce,
}

impl Delivery {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::ExactlyOnce => "exactly-once",
        }
    }
}

/// What a pipeline does.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineSpec {
    /// What is promised about each record.
    pub delivery: Delivery,
    /// Time between commits of a task.
    pub commit_interval: Duration,
    /// Tasks per stage; the coordinator decides when `None`.
    pub tasks: Option<u32>,
    /// Sources by name.
    pub sources: BTreeMap<String, SourceDef>,
    /// Operators, in the order of the file.
    pub operators: Vec<OperatorDef>,
    /// Sinks by name.
    pub sinks: BTreeMap<String, SinkDef>,
    /// What becomes of a record that cannot be processed.
    pub on_error: OnError,
    /// Its tests: for `pelton test` only, neither sent nor stored.
    pub tests: Vec<TestDef>,
}

/// The operator that reads the values of a source; its `format` is the source's `decode`.
pub const DECODE: &str = "decode";
/// The operator that writes the values of a sink.
pub const ENCODE: &str = "encode";
/// Forms that are what they are: nothing is done for them.
const PLAIN: [&str; 2] = ["json", "bytes"];

/// Where records come from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceDef {
    /// Connector, such as `kafka`: the component's key in the file.
    pub connector: String,
    /// The value under that key.
    pub options: Value,
    /// How values are read: a word such as `json`, or one with its options.
    pub decode: Value,
    /// Fields with their types, as they are written.
    pub schema: Option<Value>,
    /// The user's word that the record key is this field: a path such as `.customer`.
    pub key: Option<String>,
}

impl SourceDef {
    /// Options of the [`DECODE`] operator that stands behind this source; `None`: values pass as they are.
    pub fn step(&self) -> Option<Value> {
        decode_step(&self.decode, self.schema.as_ref())
    }
}

pub(crate) fn decode_step(decode: &Value, schema: Option<&Value>) -> Option<Value> {
    let plain = decode.as_str().is_some_and(|form| PLAIN.contains(&form));
    match schema {
        None if plain => None,
        None => Some(json!({ "format": decode })),
        Some(schema) => Some(json!({ "format": decode, "schema": schema })),
    }
}

/// One step of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorDef {
    /// Unique among sources and operators.
    pub name: String,
    /// Operator, such as `filter`: the component's key in the file.
    pub kind: String,
    /// The value under that key.
    pub options: Value,
    /// Where its records come from; empty: the operator before it, for the first one all sources.
    pub inputs: Vec<Input>,
}

/// Where results go.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkDef {
    /// Connector, such as `kafka`.
    pub connector: String,
    /// The value under that key.
    pub options: Value,
    /// Where its records come from; empty: the last operator, without operators all sources.
    pub inputs: Vec<Input>,
    /// The record key is set from this field: a path such as `.id`.
    pub key: Option<String>,
    /// How values are written: a word such as `json`, or one with its options.
    pub encode: Option<Value>,
}

impl SinkDef {
    /// Options of the [`ENCODE`] operator that stands before this sink; `None`: values pass as they are.
    pub fn step(&self) -> Option<Value> {
        let plain = |form: &Value| form.as_str().is_some_and(|form| PLAIN.contains(&form));
        self.encode.clone().filter(|form| !plain(form))
    }
}

/// A name in `inputs`: `large`, or `route.errors` for one port of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Input {
    /// A source or an operator.
    pub node: String,
    /// Output of the operator; `None` is the main one.
    pub port: Option<String>,
}

impl Input {
    /// From `node` or `node.port`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('.') {
            Some((node, port)) => Self { node: node.to_owned(), port: Some(port.to_owned()) },
            None => Self { node: text.to_owned(), port: None },
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        match &self.port {
            Some(port) => write!(f, ".{port}"),
            None => Ok(()),
        }
    }
}

/// What becomes of a record that cannot be processed. Without a dead letter its task stops with an incident.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnError {
    /// Where such records are kept.
    pub dead_letter: Option<EndDef>,
}

/// A connector with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct EndDef {
    /// Connector, such as `kafka`.
    pub connector: String,
    /// The value under that key.
    pub options: Value,
}

/// Kafka topics of a pipeline, each named once and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Read by its sources.
    pub read: BTreeSet<String>,
    /// Written by its sinks.
    pub written: BTreeSet<String>,
    /// Written with records that could not be processed.
    pub dead_letter: BTreeSet<String>,
}

impl Topics {
    /// All of them.
    pub fn all(&self) -> BTreeSet<String> {
        [&self.read, &self.written, &self.dead_letter].into_iter().flatten().cloned().collect()
    }
}

impl PipelineSpec {
    /// Topics that the `kafka` ends name (`topics` or `topic` of their options).
    pub fn topics(&self) -> Topics {
        let named =
            |connector: &str, options: &Value| if connector == KAFKA { topic_names(options) } else { vec![] };
        Topics {
            read: self.sources.values().flat_map(|s| named(&s.connector, &s.options)).collect(),
            written: self.sinks.values().flat_map(|s| named(&s.connector, &s.options)).collect(),
            dead_letter: self
                .on_error
                .dead_letter
                .iter()
                .flat_map(|s| named(&s.connector, &s.options))
                .collect(),
        }
    }
}

fn topic_names(options: &Value) -> Vec<String> {
    let many = options.get("topics").and_then(Value::as_array).into_iter().flatten();
    let one = options.get("topic").into_iter();
    many.chain(one).filter_map(Value::as_str).map(str::to_owned).collect()
}
