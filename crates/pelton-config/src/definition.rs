//! From the nodes of a document to a [`Document`], every mistake noted.

use crate::{
    chain,
    component::{Found, Role, component},
    document::{
        API_VERSION, DEFAULT_COMMIT_INTERVAL, DEFAULT_NAMESPACE, Decode, Delivery, Document, EndDef, Input,
        Kind, Metadata, OnError, OperatorDef, PipelineSpec, SinkDef, SourceDef,
    },
    problem::Place,
    reader::{Fields, Problems, Rule},
    units::parse_duration,
    yaml::{Data, Key, Node},
};
use pelton_sdk::{BuildContext, OperatorShape, Registry};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Most operators of a pipeline, and most tasks.
const MOST_OPERATORS: usize = 1000;
const MOST_TASKS: u64 = 10_000;
/// A commit costs milliseconds; and what is not committed for an hour is read again after a failure.
const COMMIT_INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(3600)];

/// Keys of the envelope.
pub(crate) const DOCUMENT_KEYS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
pub(crate) const METADATA_KEYS: [&str; 3] = ["name", "namespace", "labels"];
pub(crate) const SPEC_KEYS: [&str; 7] =
    ["delivery", "commitInterval", "tasks", "sources", "operators", "sinks", "onError"];
/// Keys beside the component's.
pub(crate) const SOURCE_KEYS: [&str; 2] = ["decode", "key"];
pub(crate) const OPERATOR_KEYS: [&str; 2] = ["name", "inputs"];
pub(crate) const SINK_KEYS: [&str; 2] = ["inputs", "key"];

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
    places: Places,
    shapes: Vec<Option<OperatorShape>>,
    /// Names and references were read in full, so that the chain can be looked at.
    connected: bool,
    /// Topics that are read, by name.
    read: BTreeMap<String, Place>,
    /// Topics that are written.
    written: Vec<(String, Place)>,
}

/// Where the nodes of the chain stand.
#[derive(Default)]
struct Places {
    sources: BTreeMap<String, Place>,
    operators: Vec<(Place, Vec<Place>)>,
    sinks: BTreeMap<String, Vec<Place>>,
}

impl<'a> Definition<'a> {
    pub fn new(problems: &'a mut Problems, components: Option<Components<'a>>) -> Self {
        Self {
            problems,
            components,
            places: Places::default(),
            shapes: Vec::new(),
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

    fn missing(&mut self, fields: &Fields<'_>, what: &str, key: &str, hint: &str) {
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
        let spec = PipelineSpec {
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
        };
        self.loops();
        if self.connected && !spec.sources.is_empty() && !spec.sinks.is_empty() {
            self.chain(&spec);
        }
        Some(spec)
    }

    fn delivery(&mut self, node: &Node) -> Option<Delivery> {
        let known = [Delivery::AtLeastOnce, Delivery::ExactlyOnce].map(|d| (d.as_str(), d));
        let delivery = self.problems.choice(node, "`delivery`", &known)?;
        if delivery == Delivery::ExactlyOnce {
            let hint =
                "write `delivery: at-least-once`: nothing is lost, after a failure a record may come twice";
            self.problems.hint(
                node.place,
                "`exactly-once` is not supported by this version yet",
                Some(hint.to_owned()),
            );
        }
        Some(delivery)
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

    fn sources(&mut self, fields: &Fields<'_>) -> BTreeMap<String, SourceDef> {
        let mut sources = BTreeMap::new();
        for (key, node) in self.ends(fields, "sources") {
            self.places.sources.insert(key.name.clone(), key.place);
            let owner = format!("source `{}`", key.name);
            let Some(entries) = self.problems.mapping(node, &owner) else { continue };
            let of = |name: &str| entries.iter().find(|(k, _)| k.name == name).map(|(_, n)| *n);
            let decode = of("decode").and_then(|node| {
                let known = [Decode::Json, Decode::Bytes].map(|d| (d.as_str(), d));
                self.problems.choice(node, "`decode`", &known)
            });
            let path = of("key").and_then(|node| self.path(node));
            if let Some(found) = self.component(Role::Source, &owner, key.place, &entries, &SOURCE_KEYS) {
                let decode = decode.unwrap_or_default();
                let source = SourceDef { connector: found.name, options: found.options, decode, key: path };
                for (topic, place) in found.topics {
                    self.read.entry(topic).or_insert(place);
                }
                sources.insert(key.name.clone(), source);
            }
        }
        sources
    }

    fn sinks(&mut self, fields: &Fields<'_>) -> BTreeMap<String, SinkDef> {
        let mut sinks = BTreeMap::new();
        for (key, node) in self.ends(fields, "sinks") {
            let owner = format!("sink `{}`", key.name);
            let Some(entries) = self.problems.mapping(node, &owner) else { continue };
            let of = |name: &str| entries.iter().find(|(k, _)| k.name == name).map(|(_, n)| *n);
            let (inputs, places) = of("inputs").map(|node| self.inputs(node)).unwrap_or_default();
            self.places.sinks.insert(key.name.clone(), places);
            let path = of("key").and_then(|node| self.path(node));
            let Some(found) = self.component(Role::Sink, &owner, key.place, &entries, &SINK_KEYS) else {
                continue;
            };
            self.written.extend(found.topics);
            sinks.insert(
                key.name.clone(),
                SinkDef { connector: found.name, options: found.options, inputs, key: path },
            );
        }
        sinks
    }

    /// The named entries of `sources` or `sinks`.
    fn ends<'n>(&mut self, fields: &Fields<'n>, section: &str) -> Vec<(&'n Key, &'n Node)> {
        let one = section.trim_end_matches('s');
        let hint = format!("add `{section}: {{ my-{one}: {{ kafka: {{ ... }} }} }}`");
        let Some(node) = fields.get(section) else {
            self.missing(fields, "`spec`", section, &hint);
            return Vec::new();
        };
        let empty = node.is_null() || matches!(&node.data, Data::Mapping(entries) if entries.is_empty());
        if empty {
            let message = format!("`{section}` is empty, a pipeline needs at least one {one}");
            self.problems.hint(node.place, message, Some(hint));
            return Vec::new();
        }
        let mut entries = self.problems.mapping(node, &format!("`{section}`")).unwrap_or_default();
        entries.retain(|(key, _)| {
            let fine = self.problems.name(key.place, &format!("name of a {one}"), &key.name, Rule::Word);
            self.connected &= fine;
            fine
        });
        entries
    }

    fn operators(&mut self, node: &Node) -> Vec<OperatorDef> {
        let items = match &node.data {
            Data::List(items) => items,
            Data::Scalar(Value::Null) => return Vec::new(),
            _ => {
                let hint = Some("begin each operator with `- name: ...`".to_owned());
                let message = format!("`operators` must be a list, found {}", node.describe());
                self.problems.hint(node.place, message, hint);
                self.connected = false;
                return Vec::new();
            }
        };
        if items.len() > MOST_OPERATORS {
            let message = format!("`operators` has {} entries, the limit is {MOST_OPERATORS}", items.len());
            self.problems.at(node.place, message);
            self.connected = false;
            return Vec::new();
        }
        let mut seen = BTreeMap::new();
        items.iter().filter_map(|item| self.operator(item, &mut seen)).collect()
    }

    fn operator(&mut self, node: &Node, seen: &mut BTreeMap<String, Place>) -> Option<OperatorDef> {
        let Some(entries) = self.problems.mapping(node, "the operator") else {
            self.connected = false;
            return None;
        };
        let of = |name: &str| entries.iter().find(|(k, _)| k.name == name).map(|(_, n)| *n);
        let name = self.operator_name(node, of("name"), seen);
        let owner = name.as_ref().map_or("the operator".to_owned(), |name| format!("operator `{name}`"));
        let (inputs, places) = of("inputs").map(|node| self.inputs(node)).unwrap_or_default();
        self.places.operators.push((of("name").map_or(node.place, |n| n.place), places));
        self.connected &= name.is_some();
        let found = self.component(Role::Operator, &owner, node.place, &entries, &OPERATOR_KEYS);
        let (kind, options, shape) = found.map(|f| (f.name, f.options, f.shape)).unwrap_or_default();
        self.shapes.push(shape);
        Some(OperatorDef { name: name.unwrap_or_default(), kind, options, inputs })
    }

    fn operator_name(
        &mut self,
        operator: &Node,
        name: Option<&Node>,
        seen: &mut BTreeMap<String, Place>,
    ) -> Option<String> {
        let Some(node) = name else {
            let hint = Some("add `name: ...`; metrics and `inputs` go by it".to_owned());
            self.problems.hint(operator.place, "the operator has no `name`", hint);
            return None;
        };
        let name = self.problems.text(node, "`name` of the operator")?;
        if !self.problems.name(node.place, "name of an operator", name, Rule::Word) {
            return None;
        }
        let taken = match (seen.get(name), self.places.sources.get(name)) {
            (Some(place), _) => Some(("an operator", place)),
            (None, Some(place)) => Some(("a source", place)),
            (None, None) => None,
        };
        if let Some((what, place)) = taken {
            let hint = match place.line {
                0 => "names of sources and operators are distinct".to_owned(),
                line => format!("it is in line {line}; names of sources and operators are distinct"),
            };
            self.problems.hint(node.place, format!("there is {what} `{name}` already"), Some(hint));
            return None;
        }
        seen.insert(name.to_owned(), node.place);
        Some(name.to_owned())
    }

    fn inputs(&mut self, node: &Node) -> (Vec<Input>, Vec<Place>) {
        let Data::List(items) = &node.data else {
            let hint = node.as_str().map(|text| format!("write `inputs: [{text}]`"));
            let message = format!("`inputs` must be a list of names, found {}", node.describe());
            self.problems.hint(node.place, message, hint);
            self.connected = false;
            return Default::default();
        };
        if items.is_empty() {
            let hint = "leave it out to read the operator before, or name a source or an operator";
            self.problems.hint(node.place, "`inputs` is empty", Some(hint.to_owned()));
        }
        let named = items.iter().filter_map(|item| match self.problems.text(item, "a name in `inputs`") {
            Some(text) => Some((Input::parse(text), item.place)),
            None => {
                self.connected = false;
                None
            }
        });
        named.unzip()
    }

    /// A path to a field: `.id`, `.user.id`, `.items[0].id`, `."user id"`.
    fn path(&mut self, node: &Node) -> Option<String> {
        let text = self.problems.text(node, "`key`")?;
        if is_path(text) {
            return Some(text.to_owned());
        }
        let hint = match is_path(&format!(".{text}")) {
            true => format!("did you mean `.{text}`?"),
            false => "write a path such as `.id`, `.user.id` or `.items[0].id`".to_owned(),
        };
        self.problems.hint(node.place, format!("`key`: {:?} is no path to a field", text), Some(hint));
        None
    }

    fn on_error(&mut self, node: &Node) -> Option<OnError> {
        let fields = self.problems.fields(node, "`onError`", &["deadLetter"])?;
        let Some(node) = fields.get("deadLetter") else {
            self.missing(&fields, "`onError`", "deadLetter", "add `deadLetter: { kafka: { topic: ... } }`");
            return None;
        };
        let entries = self.problems.mapping(node, "`deadLetter`")?;
        let found = self.component(Role::DeadLetter, "`deadLetter`", node.place, &entries, &[])?;
        self.written.extend(found.topics);
        Some(OnError { dead_letter: Some(EndDef { connector: found.name, options: found.options }) })
    }

    fn component(
        &mut self,
        role: Role,
        owner: &str,
        place: Place,
        entries: &[(&Key, &Node)],
        common: &[&str],
    ) -> Option<Found> {
        component(self.problems, self.components, role, owner, place, entries, common)
    }

    /// What a pipeline writes must not come back into it.
    fn loops(&mut self) {
        for (topic, place) in std::mem::take(&mut self.written) {
            if self.read.contains_key(&topic) {
                let hint = Some("write to another topic".to_owned());
                let message =
                    format!("topic `{topic}` is read by this pipeline too, its output would come back to it");
                self.problems.hint(place, message, hint);
            }
        }
    }

    fn chain(&mut self, spec: &PipelineSpec) {
        let Err(errors) = chain::resolve(spec, &self.shapes) else { return };
        for error in errors {
            let input = |places: Option<&Vec<Place>>, at: usize| places.and_then(|p| p.get(at)).copied();
            let place = match &error.at {
                chain::At::Source(name) => self.places.sources.get(name).copied(),
                chain::At::Operator(at) => self.places.operators.get(*at).map(|(place, _)| *place),
                chain::At::OperatorInput(at, index) => {
                    input(self.places.operators.get(*at).map(|(_, inputs)| inputs), *index)
                }
                chain::At::SinkInput(name, index) => input(self.places.sinks.get(name), *index),
            };
            self.problems.hint(place.unwrap_or_default(), error.message, error.hint);
        }
    }
}

fn is_path(text: &str) -> bool {
    let mut rest = text;
    let mut steps = 0;
    while let Some(tail) = rest.strip_prefix('.') {
        let end = if let Some(quoted) = tail.strip_prefix('"') {
            quoted.find('"').filter(|end| *end > 0).map(|end| end + 2)
        } else {
            let end = tail
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '@'))
                .unwrap_or(tail.len());
            (end > 0).then_some(end)
        };
        let Some(end) = end else { return false };
        rest = &tail[end..];
        steps += 1;
        while let Some(tail) = rest.strip_prefix('[') {
            match tail.split_once(']') {
                Some((index, after))
                    if !index.is_empty() && index.len() < 10 && index.chars().all(|c| c.is_ascii_digit()) =>
                {
                    rest = after;
                }
                _ => return false,
            }
        }
    }
    steps > 0 && rest.is_empty()
}

/// JSON Schema of a path.
pub(crate) fn path_schema() -> Value {
    json!({ "type": "string", "pattern": r#"^(\.([A-Za-z0-9_@]+|"[^"]+")(\[[0-9]{1,9}\])*)+$"# })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_fields() {
        for path in [".id", ".user.id", ".items[0].id", ".\"user id\"", ".a[0][1]", "._x.@t"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", ".", "id", ".a.", "..a", ".a b", ".a[x]", ".a[", ".\"\"", ".a-b"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
