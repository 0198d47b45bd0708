//! What the user wrote under `split`.

use pelton_expr::Path;
use pelton_sdk::{OptionError, Options};
use serde_json::{Value, json};
use std::fmt;

/// The options, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub source: Source,
    /// Names and fields that every element gets.
    pub keep: Vec<(String, Path)>,
    pub into: Option<String>,
    pub max_elements: usize,
}

/// Where the array is.
#[derive(Debug)]
pub(crate) enum Source {
    Record,
    Field(Path),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => f.write_str("the record"),
            Self::Field(path) => write!(f, "field {path}"),
        }
    }
}

const KNOWN: &[&str] = &["field", "keep", "into", "maxElements"];
const EXAMPLE: &str = "write `split: { field: .items }`";
const MAX_ELEMENTS: u64 = 1000;

pub(crate) fn schema() -> schemars::Schema {
    let field = json!({ "type": "string", "minLength": 1 });
    schemars::json_schema!({
        "type": "object",
        "description": "Makes a record of each element of an array.",
        "properties": {
            "field": { "type": "string", "default": ".", "description": "The field with the array, or `.`." },
            "keep": {
                "description": "Fields of the record that every element gets.",
                "oneOf": [
                    { "type": "array", "items": field },
                    { "type": "object", "additionalProperties": field },
                ],
            },
            "into": { "type": "string", "minLength": 1, "description": "The member that gets the element." },
            "maxElements": {
                "type": "integer", "minimum": 1, "maximum": 100_000, "default": MAX_ELEMENTS,
                "description": "An array with more elements fails.",
            },
        },
        "additionalProperties": false,
    })
}

pub(crate) fn parse(options: &Value) -> Result<Settings, Vec<OptionError>> {
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let source = match read.text("field").unwrap_or(".") {
        "." => Some(Source::Record),
        text => path("/field", text, &mut read).map(Source::Field),
    };
    let keep = keep(&mut read);
    let into = read.text("into").map(|name| name.strip_prefix('.').unwrap_or(name).to_owned());
    if into.as_ref().is_some_and(|name| name.is_empty() || name.contains('.')) {
        read.wrong("into", "`into` names one member of the record", "write `into: item`");
    }
    if let Some((name, _)) = keep.iter().find(|(name, _)| into.as_ref() == Some(name)) {
        read.wrong("into", format!("`{name}` is kept under that name already"), "take another name");
    }
    let max_elements = read.whole("maxElements", 1..=100_000).unwrap_or(MAX_ELEMENTS) as usize;
    read.finish(source.map(|source| Settings { source, keep, into, max_elements }))
}

fn keep(read: &mut Options<'_>) -> Vec<(String, Path)> {
    let mut kept: Vec<(String, Path)> = Vec::new();
    let listed: Vec<(String, Option<&str>, &Value)> = match read.get("keep") {
        None => return kept,
        Some(Value::Array(fields)) => {
            fields.iter().enumerate().map(|(n, field)| (format!("/keep/{n}"), None, field)).collect()
        }
        Some(Value::Object(fields)) => {
            fields.iter().map(|(name, field)| (format!("/keep/{name}"), Some(name.as_str()), field)).collect()
        }
        Some(other) => {
            read.wrong("keep", format!("expected a list of fields, got {other}"), "write `keep: [.orderId]`");
            return kept;
        }
    };
    for (pointer, name, field) in listed {
        let Some(text) = field.as_str() else {
            read.push(OptionError::at(pointer, format!("expected a field, got {field}")));
            continue;
        };
        let Some(path) = path(&pointer, text, read) else { continue };
        let name = name.or_else(|| path.name()).unwrap_or_default().to_owned();
        if kept.iter().any(|(known, _)| *known == name) {
            let error = OptionError::at(pointer, format!("two fields would be kept as `{name}`"));
            read.push(error.hint("give names: `keep: { order: .id, customer: .customer.id }`"));
            continue;
        }
        kept.push((name, path));
    }
    kept
}

fn path(pointer: &str, text: &str, read: &mut Options<'_>) -> Option<Path> {
    text.parse::<Path>()
        .map_err(|e| {
            read.push(OptionError::at(pointer, e.message).span(e.span).hint("name a field: `.items`"))
        })
        .ok()
}
