//! Sources, operators and sinks of a definition, and how they are connected.

use crate::{
    chain,
    component::{Found, Role, check_step, component},
    definition::{Components, Definition, OPERATOR_KEYS, SINK_KEYS, SOURCE_KEYS},
    document::{DECODE, ENCODE, Input, OperatorDef, PipelineSpec, SinkDef, SourceDef, decode_step},
    path::is_path,
    problem::Place,
    reader::{Fields, Rule},
    yaml::{Data, Key, Node},
};
use pelton_sdk::types::RecordSchema;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

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
            let path = of("key").and_then(|node| self.path(node));
            let (decode, schema) = self.decoding(&owner, &key.name, of("decode"), of("schema"));
            if let Some(found) = self.component(Role::Source, &owner, key.place, &entries, &SOURCE_KEYS, None)
            {
                let topics = found.topics_at();
                let options = found.options;
                let source = SourceDef { connector: found.name, options, decode, schema, key: path };
                for (topic, place) in topics {
                    self.read.entry(topic).or_insert(place);
                }
                sources.insert(key.name.clone(), source);
            }
        }
        sources
    }

    /// `decode` and `schema` of a source, checked as options of the operator that carries them out.
    fn decoding(
        &mut self,
        owner: &str,
        source: &str,
        decode: Option<&Node>,
        schema: Option<&Node>,
    ) -> (Value, Option<Value>) {
        let value = decode.map_or_else(|| Value::from("json"), Node::to_value);
        let written = schema.map(Node::to_value);
        if let Some(step) = decode_step(&value, written.as_ref()) {
            let part = |name: &str, node: Option<&Node>| {
                node.map(|node| (Key { name: name.to_owned(), place: node.place }, node.clone()))
            };
            let entries = [part("format", decode), part("schema", schema)].into_iter().flatten().collect();
            let place = decode.or(schema).map(|node| node.place).unwrap_or_default();
            let node = Node { place, source: None, data: Data::Mapping(entries) };
            let shape = check_step(self.problems, self.components, owner, DECODE, &node, &step);
            self.schemas.insert(source.to_owned(), shape.and_then(|shape| shape.output));
        }
        (value, written)
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
            let encode = of("encode").map(|node| {
                let form = node.to_value();
                check_step(self.problems, self.components, &owner, ENCODE, node, &form);
                form
            });
            let Some(found) = self.component(Role::Sink, &owner, key.place, &entries, &SINK_KEYS, None)
            else {
                continue;
            };
            self.written.extend(found.topics_at());
            sinks.insert(
                key.name.clone(),
                SinkDef { connector: found.name, options: found.options, inputs, key: path, encode },
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
        let named: Vec<_> = items.iter().filter_map(|item| self.begin_operator(item, &mut seen)).collect();
        self.shapes = vec![None; named.len()];
        let mut defs: Vec<OperatorDef> = named
            .iter()
            .map(|(name, inputs, _)| OperatorDef {
                name: name.clone().unwrap_or_default(),
                kind: String::new(),
                options: Value::Null,
                inputs: inputs.clone(),
            })
            .collect();
        // In the order of the chain, so that each is checked against what is known of its records.
        let mut outputs = vec![None; named.len()];
        for at in chain::order_of(&defs) {
            let (name, _, item) = &named[at];
            let owner = name.as_ref().map_or("the operator".to_owned(), |name| format!("operator `{name}`"));
            let entries = Self::kept(item);
            let input = chain::input_of(&defs, at, &self.schemas, &outputs);
            let found =
                self.component(Role::Operator, &owner, item.place, &entries, &OPERATOR_KEYS, input.clone());
            if let Some(Found { name, options, shape, .. }) = found {
                let factory = self.components.and_then(|c| c.registry.find_operator(&name));
                let kept = input.filter(|_| factory.is_some_and(|factory| factory.keeps_values()));
                outputs[at] = shape.as_ref().map_or(kept, |shape| shape.output.clone());
                defs[at].kind = name;
                defs[at].options = options;
                self.shapes[at] = shape;
            }
        }
        defs
    }

    /// Entries of a mapping whose doubles were noted before.
    fn kept(node: &Node) -> Vec<(&Key, &Node)> {
        let Data::Mapping(entries) = &node.data else { return Vec::new() };
        let first = |at: usize, key: &Key| !entries[..at].iter().any(|(other, _)| other.name == key.name);
        let kept = entries.iter().enumerate().filter(|(at, (key, _))| first(*at, key));
        kept.map(|(_, (key, node))| (key, node)).collect()
    }

    /// Name and inputs of an operator.
    fn begin_operator<'n>(
        &mut self,
        node: &'n Node,
        seen: &mut BTreeMap<String, Place>,
    ) -> Option<(Option<String>, Vec<Input>, &'n Node)> {
        let Some(entries) = self.problems.mapping(node, "the operator") else {
            self.connected = false;
            return None;
        };
        let of = |name: &str| entries.iter().find(|(k, _)| k.name == name).map(|(_, n)| *n);
        let name = self.operator_name(node, of("name"), seen);
        let (inputs, places) = of("inputs").map(|node| self.inputs(node)).unwrap_or_default();
        self.places.operators.push((of("name").map_or(node.place, |n| n.place), places));
        self.connected &= name.is_some();
        Some((name, inputs, node))
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
        input: Option<Arc<RecordSchema>>,
    ) -> Option<Found> {
        let context = self.components.map(|c| c.context.with_input(input));
        let components =
            self.components.zip(context.as_ref()).map(|(c, context)| Components { context, ..c });
        component(self.problems, components, role, owner, place, entries, common)
    }

    /// What a pipeline writes must not come back into it.
    pub(crate) fn loops(&mut self) {
        for (topic, place) in std::mem::take(&mut self.written) {
            if self.read.contains_key(&topic) {
                let hint = Some("write to another topic".to_owned());
                let (topic, _) = topic;
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
