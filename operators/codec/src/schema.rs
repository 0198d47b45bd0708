//! A schema as the user writes it.

use crate::format::pointer;
use pelton_sdk::{
    OptionError,
    types::schema::{Field, FieldKind, RecordSchema, WORDS},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most objects and lists within each other: as deep as anybody reads.
const DEEPEST: usize = 16;
const FORMS: &str = "write `name: string`, `name?: string` for one that may be missing, `[string]` for a list, \
                     `{ zip: string }` for an object";

/// JSON Schema of a schema.
pub(crate) fn schema() -> Value {
    json!({
        "description": "Fields with their types; a `?` behind a name says that it may be missing or null.",
        "type": "object", "minProperties": 1,
        "propertyNames": { "minLength": 1 }, "additionalProperties": { "$ref": "#/$defs/type" },
        "examples": [{ "price": "float", "customer": "string", "placedAt": "timestamp", "note?": "string" }],
    })
}

/// JSON Schema of a type.
pub(crate) fn type_schema() -> Value {
    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    json!({
        "anyOf": [
            { "enum": words },
            { "type": "array", "minItems": 1, "maxItems": 1, "items": { "$ref": "#/$defs/type" } },
            { "type": "object", "propertyNames": { "minLength": 1 }, "additionalProperties": { "$ref": "#/$defs/type" } },
        ],
    })
}

/// Read the value of `schema`; all mistakes at once.
pub(crate) fn parse(value: &Value) -> Result<RecordSchema, Vec<OptionError>> {
    let Value::Object(members) = value else {
        let error =
            OptionError::at("/schema", format!("`schema` must be a mapping of fields, found {value}"));
        return Err(vec![error.hint(FORMS)]);
    };
    let mut errors = Vec::new();
    let schema = fields("/schema", members, DEEPEST, &mut errors);
    if members.is_empty() {
        errors.push(OptionError::at("/schema", "`schema` names no field").hint(FORMS));
    }
    if errors.is_empty() { Ok(schema) } else { Err(errors) }
}

fn fields(
    at: &str,
    members: &Map<String, Value>,
    depth: usize,
    errors: &mut Vec<OptionError>,
) -> RecordSchema {
    let mut fields = BTreeMap::new();
    for (written, value) in members {
        let place = format!("{at}/{}", pointer(written));
        let (name, optional) = match written.strip_suffix('?') {
            Some(name) => (name, true),
            None => (written.as_str(), false),
        };
        if name.is_empty() {
            errors.push(OptionError::at(&place, format!("{written:?} is no name of a field")).hint(FORMS));
        }
        let kind = kind(&place, name, value, depth, errors);
        if fields.insert(name.to_owned(), Field { kind, optional }).is_some() {
            errors.push(
                OptionError::at(&place, format!("field `{name}` stands twice, with `?` and without"))
                    .hint("keep one of them"),
            );
        }
    }
    RecordSchema { fields, open: false }
}

/// A type; `any` where it is wrong.
fn kind(at: &str, name: &str, value: &Value, depth: usize, errors: &mut Vec<OptionError>) -> FieldKind {
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => {
            let message = format!("field `{name}`: more than {DEEPEST} objects and lists within each other");
            errors.push(OptionError::at(at, message).hint("write `any` for what is deeper"));
            FieldKind::Any
        }
        Value::Array(items) => {
            let [item] = items.as_slice() else {
                let message = format!("field `{name}`: a list has one type, found {}", items.len());
                errors.push(
                    OptionError::at(at, message).hint("write `[string]`, or `[any]` for a list of anything"),
                );
                return FieldKind::Any;
            };
            let kind = kind(&format!("{at}/0"), name, item, depth - 1, errors);
            FieldKind::Array(Box::new(Field::required(kind)))
        }
        Value::Object(members) => FieldKind::Object(fields(at, members, depth - 1, errors)),
        Value::String(word) => match WORDS.iter().find(|(known, _)| known == word) {
            Some((_, kind)) => kind.clone(),
            None => {
                errors.push(unknown_word(at, name, word));
                FieldKind::Any
            }
        },
        other => {
            errors.push(OptionError::at(at, format!("field `{name}`: {other} is no type")).hint(FORMS));
            FieldKind::Any
        }
    }
}

/// Names that other systems give our types.
const ALIASES: [(&str, &str); 16] = [
    ("bool", "boolean"),
    ("int", "integer"),
    ("int32", "integer"),
    ("int64", "integer"),
    ("long", "integer"),
    ("double", "float"),
    ("number", "float"),
    ("decimal", "float"),
    ("float64", "float"),
    ("str", "string"),
    ("text", "string"),
    ("varchar", "string"),
    ("date", "timestamp"),
    ("datetime", "timestamp"),
    ("time", "timestamp"),
    ("object", "{ name: string }"),
];

fn unknown_word(at: &str, name: &str, word: &str) -> OptionError {
    let error = OptionError::at(at, format!("field `{name}`: there is no type {word:?}"));
    let known = |text: &str| WORDS.iter().any(|(known, _)| *known == text);
    if let Some(plain) = word.strip_suffix('?').filter(|plain| known(plain)) {
        return error.hint(format!("the `?` stands behind the name: `{name}?: {plain}`"));
    }
    let lower = word.to_ascii_lowercase();
    if let Some((_, ours)) = ALIASES.iter().find(|(theirs, _)| *theirs == lower) {
        return error.hint(format!("write `{name}: {ours}`"));
    }
    if lower == "array" || lower == "list" {
        return error.hint(format!("write `{name}: [string]`, or `{name}: [any]`"));
    }
    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    match pelton_sdk::nearest(word, words.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => {
            let listed: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
            error.hint(format!("types are {}, `[TYPE]` and `{{ name: TYPE }}`", listed.join(", ")))
        }
    }
}
