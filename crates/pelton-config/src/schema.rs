//! JSON Schema of a definition file, the options of every component merged in.

use crate::{
    component::Role,
    document::{API_VERSION, DECODE, DEFAULT_NAMESPACE, Delivery, ENCODE},
    path::path_schema,
};
use pelton_sdk::Registry;
use serde_json::{Map, Value, json};

/// JSON Schema of one document of a definition file, as `pelton schema` prints it and editors use it.
pub fn schema(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    let source = ends(registry, Role::Source, &mut definitions);
    let sink = ends(registry, Role::Sink, &mut definitions);
    let operator = operators(registry, &mut definitions);
    let label = json!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" });
    let word = json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,62}$" });
    let named = |target: &str| {
        json!({
            "type": "object", "minProperties": 1,
            "propertyNames": word, "additionalProperties": { "$ref": format!("#/$defs/{target}") }
        })
    };
    let spec = json!({
        "type": "object",
        "properties": {
            "delivery": {
                "description": "What is promised about each record.",
                "enum": [Delivery::AtLeastOnce.as_str(), Delivery::ExactlyOnce.as_str()],
                "default": Delivery::AtLeastOnce.as_str()
            },
            "commitInterval": {
                "description": "Time between commits of a task, such as `1s` or `200ms`.",
                "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,3})? *(ms|s|m|h|d)$", "default": "1s"
            },
            "tasks": {
                "description": "Tasks per stage; by default one for each partition, at most 8.",
                "type": "integer", "minimum": 1, "maximum": 10_000
            },
            "sources": named("source"),
            "operators": {
                "description": "Steps, in order. Each reads the one before it unless it names its `inputs`.",
                "type": "array", "items": { "$ref": "#/$defs/operator" }
            },
            "sinks": named("sink"),
            "onError": {
                "description": "What becomes of a record that cannot be processed. Without it, its task stops.",
                "type": "object", "additionalProperties": false, "required": ["deadLetter"],
                "properties": { "deadLetter": { "$ref": "#/$defs/deadLetter" } }
            },
            "tests": {
                "description": "Tests of the pipeline, for `pelton test`.",
                "type": "array", "items": { "$ref": "#/$defs/test" }
            }
        },
        "required": ["sources", "sinks"],
        "additionalProperties": false
    });
    definitions.extend(tests());
    definitions.insert("deadLetter".to_owned(), one_of(&sink, Map::new(), &[]));
    definitions.insert("source".to_owned(), one_of(&source, source_fields(registry), &[]));
    definitions.insert("sink".to_owned(), one_of(&sink, sink_fields(registry), &[]));
    let fields = Map::from_iter([("name".to_owned(), word), ("inputs".to_owned(), inputs())]);
    definitions.insert("operator".to_owned(), one_of(&operator, fields, &["name"]));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pelton pipeline",
        "type": "object",
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "enum": ["Pipeline", "Feed"] },
            "metadata": {
                "type": "object", "additionalProperties": false, "required": ["name"],
                "properties": {
                    "name": label,
                    "namespace": { "allOf": [label], "default": DEFAULT_NAMESPACE },
                    "labels": { "type": "object", "additionalProperties": { "type": "string" } }
                }
            },
            "spec": spec
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "$defs": definitions
    })
}

fn inputs() -> Value {
    json!({
        "description": "Sources and operators to read; `name.port` for one output of an operator.",
        "type": "array", "minItems": 1, "items": { "type": "string" }
    })
}

fn source_fields(registry: &Registry) -> Map<String, Value> {
    let mut key = path_schema();
    key["description"] = json!("Your word that the record key is this field.");
    let mut fields = Map::from_iter([("key".to_owned(), key)]);
    if registry.find_operator(DECODE).is_some() {
        let part = |name: &str| json!({ "$ref": format!("#/$defs/operator.{DECODE}/properties/{name}") });
        fields.insert("decode".to_owned(), part("format"));
        fields.insert("schema".to_owned(), part("schema"));
    } else {
        // Values pass as they are; that can always be said.
        fields.insert("decode".to_owned(), json!({ "enum": ["json", "bytes"] }));
    }
    fields
}

fn sink_fields(registry: &Registry) -> Map<String, Value> {
    let mut key = path_schema();
    key["description"] = json!("The record key is set from this field.");
    let mut fields = Map::from_iter([("inputs".to_owned(), inputs()), ("key".to_owned(), key)]);
    if registry.find_operator(ENCODE).is_some() {
        fields.insert("encode".to_owned(), json!({ "$ref": format!("#/$defs/operator.{ENCODE}") }));
    }
    fields
}

/// Schemas of a test and its parts.
fn tests() -> Map<String, Value> {
    let duration = json!({
        "description": "Time that passes, such as `10s`.",
        "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,3})? *(ms|s|m|h|d)$"
    });
    let records = json!({
        "description": "A record is its value (a text or JSON), or a mapping of `value`, `key`, `headers`, `timestamp`.",
        "type": "array"
    });
    let send = json!({
        "description": "Records by source.", "type": "object", "additionalProperties": records
    });
    let closed = |properties: Value, required: &[&str]| {
        json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false
        })
    };
    let expected = closed(
        json!({
            "records": records, "order": { "enum": ["exact", "key", "any"], "default": "exact" },
            "match": { "enum": ["exact", "partial"], "default": "exact" },
            "tolerance": { "type": "number", "minimum": 0 }
        }),
        &[],
    );
    let text = json!({ "type": "string" });
    let letter = closed(json!({ "cause": text, "operator": text, "value": {} }), &[]);
    let count = json!({ "type": "integer", "minimum": 0 });
    let chosen = json!({ "anyOf": [{ "const": "all" }, { "type": "array", "items": count }] });
    let fail = closed(json!({ "operator": text, "records": chosen, "cause": text }), &["operator"]);
    let stub = closed(json!({ "operator": text, "answers": { "type": "array" } }), &["operator", "answers"]);
    let some = |one: &Value| json!({ "anyOf": [one, { "type": "array", "items": one }] });
    let step = closed(json!({ "send": send, "advance": duration }), &[]);
    let test = closed(
        json!({
            "name": text, "send": send, "advance": duration,
            "steps": { "type": "array", "items": step },
            "expect": {
                "description": "What each sink is to get.", "type": "object",
                "additionalProperties": { "anyOf": [records, expected] }
            },
            "deadLetters": {
                "description": "What is to become a dead letter: a part of the cause, or a mapping.",
                "type": "array", "items": { "anyOf": [text, letter] }
            },
            "filtered": {
                "description": "Records dropped on purpose, in all or by operator.",
                "anyOf": [count, { "type": "object", "additionalProperties": count }]
            },
            "fail": some(&fail), "stub": some(&stub)
        }),
        &["name"],
    );
    Map::from_iter([("test".to_owned(), test)])
}

/// A component's name, its summary and where its options' schema stands.
type Component = (&'static str, &'static str, String);

fn ends(registry: &Registry, role: Role, definitions: &mut Map<String, Value>) -> Vec<Component> {
    let (prefix, used) = if role == Role::Source { ("source", "source") } else { ("sink", "sink") };
    let found = registry.connectors().filter_map(|factory| {
        let options = role.schema(registry, factory.name())?;
        let place = format!("{prefix}.{}", factory.name());
        definitions.insert(place.clone(), moved(options, &format!("#/$defs/{used}.{}", factory.name())));
        Some((factory.name(), factory.summary(), place))
    });
    found.collect()
}

fn operators(registry: &Registry, definitions: &mut Map<String, Value>) -> Vec<Component> {
    let found = registry.operators().map(|factory| {
        let place = format!("operator.{}", factory.name());
        let options = moved(factory.schema().to_value(), &format!("#/$defs/{place}"));
        definitions.insert(place.clone(), options);
        (factory.name(), factory.summary(), place)
    });
    found.collect()
}

/// An object with exactly one of the components beside its own fields.
fn one_of(components: &[Component], fields: Map<String, Value>, required: &[&str]) -> Value {
    let mut properties = fields;
    for (name, summary, place) in components {
        properties.insert(
            (*name).to_owned(),
            json!({ "description": summary, "$ref": format!("#/$defs/{place}") }),
        );
    }
    let choices: Vec<Value> = components.iter().map(|(name, ..)| json!({ "required": [name] })).collect();
    let mut out = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false
    });
    if !choices.is_empty() {
        out["oneOf"] = Value::Array(choices);
    }
    out
}

/// A schema that now stands at `place`: references into itself follow, `$schema` and `title` go.
fn moved(mut schema: Value, place: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
    }
    follow(&mut schema, place);
    schema
}

fn follow(schema: &mut Value, place: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| follow(item, place)),
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(target) if key == "$ref" && target.starts_with('#') => {
                        *target = format!("{place}{}", &target[1..]);
                    }
                    value => follow(value, place),
                }
            }
        }
        _ => {}
    }
}
