//! From the nodes of a document to a [`Document`], every mistake noted.

use crate::{
    clusters,
    component::Role,
    document::{
        API_VERSION, DEFAULT_COMMIT_INTERVAL, DEFAULT_NAMESPACE, Delivery, Document, EndDef, Kind, Metadata,
        OnError, PipelineSpec,
    },
    problem::Place,
    reader::{Fields, Problems, Rule},
    units::parse_duration,
    yaml::{Data, Node},
};
use pelton_sdk::{BuildContext, OperatorShape, Registry, types::RecordSchema};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Most tasks of a stage.
const MOST_TASKS: u64 = 10_000;
/// A commit costs milliseconds; and what is not committed for an hour is read again after a failure.
const COMMIT_INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(3600)];
/// A third of Kafka's default `transaction.max.timeout.ms`: a commit may take its time too.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(300);

/// Keys of the envelope.
pub(crate) const DOCUMENT_KEYS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
pub(crate) const METADATA_KEYS: [&str; 3] = ["name", "namespace", "labels"];
pub(crate) const SPEC_KEYS: [&str; 8] =
    ["delivery", "commitInterval", "tasks", "sources", "operators", "sinks", "onError", "tests"];
/// Keys beside the component's.
pub(crate) const SOURCE_KEYS: [&str; 3] = ["decode", "schema", "key"];
pub(crate) const OPERATOR_KEYS: [&str; 2] = ["name", "inputs"];
pub(crate) const SINK_KEYS: [&str; 3] = ["inputs", "key", "encode"];

/// What a definition is checked against.
#[derive(Clone, Copy)]
pub(crate) struct Components<'a> {
    pub registry: &'a Registry,
    pub context: &'a BuildContext,
    /// The file, for places inside programs.
    pub text: &'a str,
}

/// Reads one document. Without components (`None`) only its shape is checked.
pub(crate) struct Definition<'a> {
    pub problems: &'a mut Problems,
    pub components: Option<Components<'a>>,
    pub(crate) places: Places,
    pub(crate) shapes: Vec<Option<OperatorShape>>,
    /// What is known of the records of each source.
    pub(crate) schemas: BTreeMap<String, Option<Arc<RecordSchema>>>,
    /// Names and references were read in full, so that the chain can be looked at.
    pub(crate) connected: bool,
    /// Topics that are read, by name and what is said of their cluster.
    pub(crate) read: BTreeMap<(String, String), Place>,
    /// Topics that are written.
    pub(crate) written: Vec<((String, String), Place)>,
}

/// Where the nodes of the chain stand.
#[derive(Default)]
pub(crate) struct Places {
    pub sources: BTreeMap<String, Place>,
    pub operators: Vec<(Place, Vec<Place>)>,
    pub sinks: BTreeMap<String, Vec<Place>>,
}

impl<'a> Definition<'a> {
    pub fn new(problems: &'a mut Problems, components: Option<Components<'a>>) -> Self {
        Self {
            problems,
            components,
            places: Places::default(),
            shapes: Vec::new(),
            schemas: BTreeMap::new(),
            connected: true,
            read: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    /// The document, with defaults where something is wrong.
    pub fn document(&mut self, node: &Node) -> Option<Document> {
        let fields = self.problems.fields(node, "the document", &DOCUMENT_KEYS)?;
        let version = match fields.get("apiVersion") {
            None => {
                self.missing(
                    &fields,
                    "the document",
                    "apiVersion",
                    &format!("add `apiVersion: {API_VERSION}`"),
                );
                None
            }
            Some(node) => self.problems.choice(node, "`apiVersion`", &[(API_VERSION, ())]),
        };
        let kind = match fields.get("kind") {
            None => {
                self.missing(&fields, "the document", "kind", "add `kind: Pipeline`");
                None
            }
            Some(node) => {
                let kinds = [("Pipeline", Kind::Pipeline), ("Feed", Kind::Feed)];
                self.problems.choice(node, "`kind`", &kinds)
            }
        };
        if version.is_none()
            && kind.is_none()
            && fields.get("apiVersion").is_some()
            && fields.get("kind").is_some()
        {
            // Another kind of resource altogether.
            return None;
        }
        let metadata = match fields.get("metadata") {
            None => {
                self.missing(&fields, "the document", "metadata", "add `metadata: { name: my-pipeline }`");
                None
            }
            Some(node) => self.metadata(node),
        };
        let spec = match fields.get("spec") {
            None => {
                self.missing(&fields, "the document", "spec", "add `spec:` with `sources` and `sinks`");
                None
            }
            Some(node) => self.spec(node),
        };
        Some(Document { kind: kind?, metadata: metadata?, spec: spec? })
    }

    pub(crate) fn missing(&mut self, fields: &Fields<'_>, what: &str, key: &str, hint: &str) {
        if !fields.meant.iter().any(|meant| meant == key) {
            self.problems.hint(fields.place, format!("{what} has no `{key}`"), Some(hint.to_owned()));
        }
    }

    fn metadata(&mut self, node: &Node) -> Option<Metadata> {
        let fields = self.problems.fields(node, "`metadata`", &METADATA_KEYS)?;
        let name = match fields.get("name") {
            None => {
                self.missing(&fields, "`metadata`", "name", "add `name: my-pipeline`");
                None
            }
            Some(node) => self.label(node, "name"),
        };
        let namespace = match fields.get("namespace") {
            None => Some(DEFAULT_NAMESPACE.to_owned()),
            Some(node) => self.label(node, "namespace"),
        };
        let mut labels = BTreeMap::new();
        if let Some(node) = fields.get("labels") {
            for (key, value) in self.problems.mapping(node, "`labels`")? {
                if let Some(text) = self.problems.text(value, &format!("label `{}`", key.name)) {
                    labels.insert(key.name.clone(), text.to_owned());
                }
            }
        }
        Some(Metadata { name: name?, namespace: namespace?, labels })
    }

    fn label(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.problems.text(node, &format!("`{what}`"))?;
        self.problems.name(node.place, what, text, Rule::Label).then(|| text.to_owned())
    }

    fn spec(&mut self, node: &Node) -> Option<PipelineSpec> {
        let fields = self.problems.fields(node, "`spec`", &SPEC_KEYS)?;
        let mut spec = PipelineSpec {
            delivery: fields.get("delivery").and_then(|n| self.delivery(n)).unwrap_or_default(),
            commit_interval: fields
                .get("commitInterval")
                .and_then(|n| self.commit_interval(n))
                .unwrap_or(DEFAULT_COMMIT_INTERVAL),
            tasks: fields.get("tasks").and_then(|n| self.tasks(n)),
            sources: self.sources(&fields),
            operators: fields.get("operators").map(|n| self.operators(n)).unwrap_or_default(),
            sinks: self.sinks(&fields),
            on_error: fields.get("onError").and_then(|n| self.on_error(n)).unwrap_or_default(),
            tests: Vec::new(),
        };
        if let Some(node) = fields.get("tests") {
            let operators: Vec<String> = spec.operators.iter().map(|o| o.name.clone()).collect();
            spec.tests = self.tests(node, &operators);
        }
        self.loops();
        self.check_transactions(&spec, fields.get("commitInterval"));
        if let (Delivery::ExactlyOnce, Some(node), Some(components)) =
            (spec.delivery, fields.get("delivery"), &self.components)
            && let Some((message, hint)) = clusters::fault(&spec, components.registry)
        {
            self.problems.hint(node.place, message, Some(hint));
        }
        if self.connected && !spec.sources.is_empty() && !spec.sinks.is_empty() {
            self.chain(&spec);
        }
        Some(spec)
    }

    fn delivery(&mut self, node: &Node) -> Option<Delivery> {
        let known = [Delivery::AtLeastOnce, Delivery::ExactlyOnce].map(|d| (d.as_str(), d));
        self.problems.choice(node, "`delivery`", &known)
    }

    /// A transaction is open from one commit to the next, and brokers bound how long one may be.
    fn check_transactions(&mut self, spec: &PipelineSpec, interval: Option<&Node>) {
        if let (Delivery::ExactlyOnce, Some(node)) = (spec.delivery, interval)
            && spec.commit_interval > LONGEST_TRANSACTION
        {
            let hint = "readers of the output wait for each commit; `1s` is usual".to_owned();
            let message = "under `exactly-once` `commitInterval` must be at most `5m`: brokers abort transactions that \
                           are open for longer than 15 minutes";
            self.problems.hint(node.place, message, Some(hint));
        }
    }

    fn commit_interval(&mut self, node: &Node) -> Option<Duration> {
        let text = match &node.data {
            Data::Scalar(Value::Number(number)) => number.to_string(),
            Data::Scalar(Value::String(text)) => text.clone(),
            _ => {
                let message =
                    format!("`commitInterval` must be a duration such as `1s`, found {}", node.describe());
                self.problems.at(node.place, message);
                return None;
            }
        };
        match parse_duration(&text) {
            Err(message) => self.problems.at(node.place, format!("`commitInterval`: {message}")),
            Ok(interval) if interval < COMMIT_INTERVALS[0] || interval > COMMIT_INTERVALS[1] => {
                self.problems
                    .at(node.place, format!("`commitInterval` must be from `10ms` to `1h`, found `{text}`"));
            }
            Ok(interval) => return Some(interval),
        }
        None
    }

    fn tasks(&mut self, node: &Node) -> Option<u32> {
        let Data::Scalar(Value::Number(number)) = &node.data else {
            self.problems
                .at(node.place, format!("`tasks` must be a whole number, found {}", node.describe()));
            return None;
        };
        match number.as_u64().filter(|n| (1..=MOST_TASKS).contains(n)) {
            Some(tasks) => u32::try_from(tasks).ok(),
            None => {
                let message =
                    format!("`tasks` must be a whole number from 1 to {MOST_TASKS}, found {number}");
                self.problems.at(node.place, message);
                None
            }
        }
    }

    fn on_error(&mut self, node: &Node) -> Option<OnError> {
        let fields = self.problems.fields(node, "`onError`", &["deadLetter"])?;
        let Some(node) = fields.get("deadLetter") else {
            self.missing(&fields, "`onError`", "deadLetter", "add `deadLetter: { kafka: { topic: ... } }`");
            return None;
        };
        let entries = self.problems.mapping(node, "`deadLetter`")?;
        let found = self.component(Role::DeadLetter, "`deadLetter`", node.place, &entries, &[], None)?;
        self.written.extend(found.topics_at());
        Some(OnError { dead_letter: Some(EndDef { connector: found.name, options: found.options }) })
    }
}

/// Names of documents must be distinct within a file.
pub(crate) fn check_names(documents: &[(Document, Place)], problems: &mut Problems) {
    for (at, (document, place)) in documents.iter().enumerate() {
        if let Some((_, first)) = documents[..at].iter().find(|(d, _)| d.name() == document.name()) {
            let hint = Some(format!("the first one begins in line {}", first.line));
            let message = format!("the file holds two documents named `{}`", document.metadata.name);
            problems.hint(*place, message, hint);
        }
    }
}
