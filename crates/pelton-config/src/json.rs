//! Canonical JSON of a document, and what differs between two.

use crate::{
    definition::Definition,
    document::{API_VERSION, Document, EndDef, Input, OperatorDef, PipelineSpec, SinkDef, SourceDef},
    problem::Report,
    reader::Problems,
    units::format_duration,
    yaml::{Node, quote},
};
use serde_json::{Map, Value, json};

/// Canonical JSON of a document: the shape of the file, defaults filled in. It goes over the wire and into the store.
pub fn to_json(document: &Document) -> Value {
    let Document { kind, metadata, spec } = document;
    let mut names = Map::from_iter([
        ("name".to_owned(), json!(metadata.name)),
        ("namespace".to_owned(), json!(metadata.namespace)),
    ]);
    if !metadata.labels.is_empty() {
        names.insert("labels".to_owned(), json!(metadata.labels));
    }
    json!({ "apiVersion": API_VERSION, "kind": kind.as_str(), "metadata": names, "spec": spec_json(spec) })
}

fn spec_json(spec: &PipelineSpec) -> Value {
    let mut out = Map::new();
    out.insert("delivery".to_owned(), json!(spec.delivery.as_str()));
    out.insert("commitInterval".to_owned(), json!(format_duration(spec.commit_interval)));
    if let Some(tasks) = spec.tasks {
        out.insert("tasks".to_owned(), json!(tasks));
    }
    let sources: Map<_, _> = spec.sources.iter().map(|(name, s)| (name.clone(), source_json(s))).collect();
    out.insert("sources".to_owned(), Value::Object(sources));
    if !spec.operators.is_empty() {
        out.insert("operators".to_owned(), spec.operators.iter().map(operator_json).collect());
    }
    let sinks: Map<_, _> = spec.sinks.iter().map(|(name, s)| (name.clone(), sink_json(s))).collect();
    out.insert("sinks".to_owned(), Value::Object(sinks));
    if let Some(EndDef { connector, options }) = &spec.on_error.dead_letter {
        out.insert("onError".to_owned(), json!({ "deadLetter": { connector: options } }));
    }
    Value::Object(out)
}

fn source_json(source: &SourceDef) -> Value {
    let mut out = Map::from_iter([(source.connector.clone(), source.options.clone())]);
    out.insert("decode".to_owned(), source.decode.clone());
    out.extend(source.schema.iter().map(|schema| ("schema".to_owned(), schema.clone())));
    out.extend(source.key.iter().map(|key| ("key".to_owned(), json!(key))));
    Value::Object(out)
}

fn operator_json(operator: &OperatorDef) -> Value {
    let mut out = Map::from_iter([(operator.kind.clone(), operator.options.clone())]);
    out.insert("name".to_owned(), json!(operator.name));
    out.extend(inputs_json(&operator.inputs));
    Value::Object(out)
}

fn sink_json(sink: &SinkDef) -> Value {
    let mut out = Map::from_iter([(sink.connector.clone(), sink.options.clone())]);
    out.extend(inputs_json(&sink.inputs));
    out.extend(sink.encode.iter().map(|form| ("encode".to_owned(), form.clone())));
    out.extend(sink.key.iter().map(|key| ("key".to_owned(), json!(key))));
    Value::Object(out)
}

fn inputs_json(inputs: &[Input]) -> Option<(String, Value)> {
    let names: Vec<String> = inputs.iter().map(Input::to_string).collect();
    (!names.is_empty()).then(|| ("inputs".to_owned(), json!(names)))
}

/// Back from [`to_json`]. Checks the shape and how nodes are connected, not the options of components.
///
/// # Errors
/// Every mistake; without places.
pub fn from_json(value: &Value) -> Result<Document, Report> {
    let mut problems = Problems::new("definition");
    let document = Definition::new(&mut problems, None).document(&Node::from_value(value));
    problems.finish(document)?.ok_or_else(|| {
        let mut problems = Problems::new("definition");
        problems.at(Default::default(), "it holds no document");
        problems.finish(()).err().unwrap_or_default()
    })
}

/// What changes from one revision to the next, a line each: `operators.large.filter: ".a > 1" -> ".a > 2"`.
pub fn diff(old: &Document, new: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", &by_name(to_json(old)), &by_name(to_json(new)), &mut lines);
    let order = |document: &Document| -> Vec<String> {
        document.spec.operators.iter().map(|operator| operator.name.clone()).collect()
    };
    let (before, after) = (order(old), order(new));
    let common = |from: &[String], to: &[String]| -> Vec<String> {
        from.iter().filter(|name| to.contains(name)).cloned().collect()
    };
    if common(&before, &after) != common(&after, &before) {
        lines.push(format!("operators: order {} -> {}", before.join(", "), after.join(", ")));
    }
    lines
}

/// Operators under their names, and without the envelope, so that paths read as a person would say them.
fn by_name(mut document: Value) -> Value {
    let mut spec = document.get_mut("spec").map(Value::take).unwrap_or_default();
    if let Some(operators) = spec.get_mut("operators") {
        let named = operators.as_array().into_iter().flatten().map(|operator| {
            let mut operator = operator.clone();
            let name = operator.as_object_mut().and_then(|o| o.remove("name"));
            (name.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(), operator)
        });
        *operators = Value::Object(named.collect());
    }
    if let Some(spec) = spec.as_object_mut() {
        for key in ["kind", "metadata"] {
            spec.extend(document.get_mut(key).map(|value| (key.to_owned(), value.take())));
        }
    }
    spec
}

fn compare(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (before.get(key), after.get(key)) {
                    (Some(old), Some(new)) => compare(&path, old, new, lines),
                    (None, Some(Value::Object(map))) if is_group(&path) => {
                        lines.extend(
                            map.iter().map(|(name, value)| format!("{path}.{name}: added, {}", short(value))),
                        );
                    }
                    (Some(Value::Object(map)), None) if is_group(&path) => {
                        lines.extend(map.keys().map(|name| format!("{path}.{name}: removed")));
                    }
                    (None, Some(new)) => lines.push(format!("{path}: added, {}", short(new))),
                    (Some(_), None) => lines.push(format!("{path}: removed")),
                    (None, None) => {}
                }
            }
        }
        (old, new) => lines.push(format!("{path}: {} -> {}", short(old), short(new))),
    }
}

fn is_group(path: &str) -> bool {
    ["sources", "operators", "sinks"].contains(&path)
}

/// A value on one line.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) if text.trim_end().contains('\n') => {
            format!("a text of {} lines", text.lines().count())
        }
        Value::String(text) => quote(text),
        other => {
            let text = other.to_string();
            if text.chars().count() <= 120 {
                text
            } else {
                format!("{}...", text.chars().take(117).collect::<String>())
            }
        }
    }
}
