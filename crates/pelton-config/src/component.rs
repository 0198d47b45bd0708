//! Single-key components: `kafka: { ... }`, `filter: "..."`, exactly one beside the common keys.

use crate::{
    definition::Components,
    document::KAFKA,
    options,
    problem::Place,
    reader::{Problems, Rule, named},
    suggest,
    yaml::{Data, Key, Node, quote},
};
use pelton_sdk::{OperatorShape, Registry};
use serde_json::Value;

/// What a component is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Operator,
    Sink,
    DeadLetter,
}

impl Role {
    /// The word for what is missing.
    fn word(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            _ => "connector",
        }
    }

    /// What an end is used as.
    fn use_word(self) -> &'static str {
        match self {
            Role::Source => "a source",
            Role::Operator => "an operator",
            Role::Sink => "a sink",
            Role::DeadLetter => "a dead letter",
        }
    }

    /// The components that can be used so.
    pub fn names(self, registry: &Registry) -> Vec<&'static str> {
        match self {
            Role::Operator => registry.operators().map(|f| f.name()).collect(),
            _ => registry
                .connectors()
                .filter(|f| self.schema(registry, f.name()).is_some())
                .map(|f| f.name())
                .collect(),
        }
    }

    /// Schema of a component's options in this use.
    pub fn schema(self, registry: &Registry, name: &str) -> Option<Value> {
        let schema = match self {
            Role::Operator => Some(registry.find_operator(name)?.schema()),
            Role::Source => registry.find_connector(name)?.source_schema(),
            Role::Sink | Role::DeadLetter => registry.find_connector(name)?.sink_schema(),
        };
        schema.map(|schema| schema.to_value())
    }
}

/// A component of the file.
pub(crate) struct Found {
    pub name: String,
    pub options: Value,
    /// Of an operator whose options are right.
    pub shape: Option<OperatorShape>,
    /// Kafka topics, where they stand.
    pub topics: Vec<(String, Place)>,
}

impl Found {
    /// Its topics, each with what is said of its cluster: one name in two clusters is two topics.
    pub fn topics_at(&self) -> Vec<((String, String), Place)> {
        let said = |key: &str| self.options.get(key).and_then(Value::as_str).unwrap_or_default();
        let cluster = format!("{}/{}", said("connection"), said("brokers"));
        self.topics.iter().map(|(topic, place)| ((topic.clone(), cluster.clone()), *place)).collect()
    }
}

/// Find and check the one component among the entries of `owner`.
pub(crate) fn component(
    problems: &mut Problems,
    components: Option<Components<'_>>,
    role: Role,
    owner: &str,
    place: Place,
    entries: &[(&Key, &Node)],
    common: &[&str],
) -> Option<Found> {
    let names = components.map(|c| role.names(c.registry));
    let is_component = |name: &str| names.as_ref().is_none_or(|names| names.contains(&name));
    let others = entries.iter().filter(|(key, _)| !common.contains(&key.name.as_str()));
    let (known, unknown): (Vec<_>, Vec<_>) = others.partition(|(key, _)| is_component(&key.name));
    for (key, _) in &unknown {
        unknown_component(problems, components, role, owner, key, common, !known.is_empty());
    }
    if let [first, second, ..] = known.as_slice() {
        let (what, hint) = match role {
            Role::Operator => ("does two things", "keep one, and make an operator of its own for the other"),
            _ => ("has two connectors", "keep one, and make an entry of its own for the other"),
        };
        let message = format!("{owner} {what}, `{}` and `{}`", first.0.name, second.0.name);
        problems.hint(second.0.place, message, Some(hint.to_owned()));
    }
    if known.is_empty() && unknown.is_empty() {
        let names = names.unwrap_or_default();
        let hint = (!names.is_empty()).then(|| format!("add one of {}", suggest::list(names)));
        let message = match role {
            Role::Operator => format!("{owner} does not say what it does"),
            _ => format!("{owner} has no connector"),
        };
        problems.hint(place, message, hint);
    }
    let (key, node) = known.first()?;
    let mut options = node.to_value();
    let mut shape = None;
    // Before the component looks at them: a name of a topic is refused by its rule, not by a pattern.
    let topics = if key.name == KAFKA && role != Role::Operator { topics(node) } else { Vec::new() };
    if components.is_some() {
        topics.iter().for_each(|(topic, place)| check_topic(problems, topic, *place));
    }
    if let Some(components) = components {
        options::check_secrets(node, problems);
        if let Some(schema) = role.schema(components.registry, &key.name) {
            if options.is_null() && takes_mapping(&schema) {
                options = Value::Object(serde_json::Map::new());
            }
            // The component is asked in any case, so that a wrong option hides no mistake in another one.
            let wrong = options::check_schema(&schema, node, &options, (&key.name, owner), problems);
            shape = ask_component(problems, components, role, owner, &key.name, (node, &wrong), &options)
                .filter(|_| wrong.is_nothing());
        }
    }
    Some(Found { name: key.name.clone(), options, shape, topics })
}

/// Check options that stand at a source or a sink and are those of an operator.
pub(crate) fn check_step(
    problems: &mut Problems,
    components: Option<Components<'_>>,
    owner: &str,
    operator: &str,
    node: &Node,
    options: &Value,
) -> Option<OperatorShape> {
    let components = components?;
    let checked = components.registry.find_operator(operator)?.check(options, components.context);
    let nothing = options::Wrong::default();
    checked
        .map_err(|errors| options::note_errors(components.text, node, errors, &nothing, owner, problems))
        .ok()
}

/// The component's own checks, which know what a schema cannot say.
fn ask_component(
    problems: &mut Problems,
    components: Components<'_>,
    role: Role,
    owner: &str,
    name: &str,
    (node, wrong): (&Node, &options::Wrong),
    options: &Value,
) -> Option<OperatorShape> {
    let Components { registry, context, text } = components;
    let checked = match role {
        Role::Operator => registry.find_operator(name)?.check(options, context).map(Some),
        Role::Source => registry.find_connector(name)?.check_source(options).map(|_| None),
        Role::Sink | Role::DeadLetter => registry.find_connector(name)?.check_sink(options).map(|_| None),
    };
    match checked {
        Ok(shape) => shape,
        Err(errors) => {
            options::note_errors(text, node, errors, wrong, owner, problems);
            None
        }
    }
}

fn unknown_component(
    problems: &mut Problems,
    components: Option<Components<'_>>,
    role: Role,
    owner: &str,
    key: &Key,
    common: &[&str],
    has_one: bool,
) {
    let Some(registry) = components.map(|c| c.registry) else { return };
    let names = role.names(registry);
    let elsewhere = match role {
        Role::Operator => {
            registry.find_connector(&key.name).map(|_| "a connector, for `sources` and `sinks`")
        }
        _ if registry.find_connector(&key.name).is_some() => Some("a connector"),
        _ => registry.find_operator(&key.name).map(|_| "an operator, for `operators`"),
    };
    if let Some(what) = elsewhere {
        let message = match what {
            "a connector" => format!("`{}` cannot be {}", key.name, role.use_word()),
            what => format!("`{}` is {what}", key.name),
        };
        return problems.hint(key.place, message, Some(format!("known here: {}", suggest::list(names))));
    }
    let known = names.iter().copied().chain(common.iter().copied());
    let near = suggest::did_you_mean(&key.name, known);
    let message = match has_one || suggest::nearest(&key.name, common.iter().copied()).is_some() {
        true => format!("unknown key {} in {owner}", named(&key.name)),
        false => format!("there is no {} {}", role.word(), named(&key.name)),
    };
    let hint = near.or_else(|| match has_one {
        true => Some(format!("known here: {}", suggest::list(common.iter().copied()))),
        false => Some(format!("{}s: {}", role.word(), suggest::list(names))),
    });
    problems.hint(key.place, message, hint);
}

/// Nothing written under such a component's key means: all its defaults.
fn takes_mapping(schema: &Value) -> bool {
    schema.get("type").is_some_and(|t| t == "object") || schema.get("properties").is_some()
}

/// Topics in the options of a Kafka end.
fn topics(node: &Node) -> Vec<(String, Place)> {
    let Data::Mapping(entries) = &node.data else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in entries {
        match (key.name.as_str(), &value.data) {
            ("topic", _) => found.extend(value.as_str().map(|t| (t.to_owned(), value.place))),
            ("topics", Data::List(items)) => {
                found.extend(
                    items.iter().filter_map(|item| item.as_str().map(|t| (t.to_owned(), item.place))),
                );
            }
            _ => {}
        }
    }
    found
}

fn check_topic(problems: &mut Problems, topic: &str, place: Place) {
    if !Rule::Topic.allows(topic) {
        let message = format!("{} is not a valid topic name", quote(topic));
        problems.hint(place, message, Some(Rule::Topic.text().to_owned()));
        problems.silence(place);
    }
}
