//! Sources, operators and sinks of a definition, and how they are connected.

use crate::{
    chain,
    component::{Found, Role, component},
    definition::{Definition, OPERATOR_KEYS, SINK_KEYS, SOURCE_KEYS},
    document::{Decode, Input, OperatorDef, PipelineSpec, SinkDef, SourceDef},
    path::is_path,
    problem::Place,
    reader::{Fields, Rule},
    yaml::{Data, Key, Node},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most sources, operators or sinks of a pipeline.
const MOST_NODES: usize = 1000;

impl Definition<'_> {
    pub(crate) fn sources(&mut self, fields: &Fields<'_>) -> BTreeMap<String, SourceDef> {
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

    pub(crate) fn sinks(&mut self, fields: &Fields<'_>) -> BTreeMap<String, SinkDef> {
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
        if entries.len() > MOST_NODES {
            let message = format!("`{section}` has {} entries, the limit is {MOST_NODES}", entries.len());
            self.problems.at(node.place, message);
            self.connected = false;
            return Vec::new();
        }
        entries.retain(|(key, _)| {
            let fine = self.problems.name(key.place, &format!("name of a {one}"), &key.name, Rule::Word);
            self.connected &= fine;
            fine
        });
        entries
    }

    pub(crate) fn operators(&mut self, node: &Node) -> Vec<OperatorDef> {
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
        if items.len() > MOST_NODES {
            let message = format!("`operators` has {} entries, the limit is {MOST_NODES}", items.len());
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

    pub(crate) fn component(
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
    pub(crate) fn loops(&mut self) {
        for (topic, place) in std::mem::take(&mut self.written) {
            if self.read.contains_key(&topic) {
                let hint = Some("write to another topic".to_owned());
                let message =
                    format!("topic `{topic}` is read by this pipeline too, its output would come back to it");
                self.problems.hint(place, message, hint);
            }
        }
    }

    pub(crate) fn chain(&mut self, spec: &PipelineSpec) {
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
