//! What the user wrote under `parse`.

use crate::formats::{
    Format,
    access::Access,
    grok,
    pairs::Pairs,
    pattern::Pattern,
    syslog::{Form, Syslog},
};
use pelton_expr::{Kind, Path};
use pelton_sdk::{OptionError, Options};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The options, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub format: Format,
    pub source: Source,
    pub into: Option<String>,
    pub on_mismatch: OnMismatch,
}

/// Where the line is.
#[derive(Debug)]
pub(crate) enum Source {
    /// The record is the line.
    Record,
    Field(Path),
}

/// What happens to a line that is otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnMismatch {
    Fail,
    Pass,
    Drop,
}

const FORMATS: [&str; 6] = ["regex", "grok", "nginx", "apache", "syslog", "keyValue"];
const KNOWN: &[&str] =
    &["regex", "grok", "nginx", "apache", "syslog", "keyValue", "field", "into", "types", "onMismatch"];
const EXAMPLE: &str = "write `parse: { nginx: combined }`";
/// Long enough for any pattern somebody wrote by hand.
const MAX_PATTERN: usize = 64 << 10;

pub(crate) fn schema() -> schemars::Schema {
    let text = |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
    schemars::json_schema!({
        "type": "object",
        "description": "Reads fields out of lines of text.",
        "properties": {
            "regex": text("A regular expression with named groups."),
            "grok": text("A grok pattern, such as `%{IP:client} %{WORD:method}`."),
            "nginx": text("`combined`, or a `log_format` as nginx has it."),
            "apache": { "enum": ["common", "combined"], "description": "A log format of Apache's." },
            "syslog": { "enum": ["rfc5424", "rfc3164", "auto"], "description": "A form of syslog messages." },
            "keyValue": {
                "description": "Pairs of keys and values.",
                "oneOf": [
                    { "const": true },
                    {
                        "type": "object",
                        "properties": {
                            "pair": text("What stands between two pairs."),
                            "between": text("What stands between key and value."),
                        },
                        "additionalProperties": false,
                    },
                ],
            },
            "field": { "type": "string", "default": ".message", "description": "The field with the line, or `.`." },
            "into": text("The member that gets an object of the fields."),
            "types": {
                "type": "object",
                "additionalProperties": { "enum": ["string", "integer", "float", "boolean"] },
                "description": "Types of fields that are no texts.",
            },
            "onMismatch": {
                "enum": ["fail", "pass", "drop"], "default": "fail",
                "description": "What happens to a line that is otherwise.",
            },
        },
        "additionalProperties": false,
    })
}

pub(crate) fn parse(options: &Value) -> Result<Settings, Vec<OptionError>> {
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let types = types(&mut read);
    let given: Vec<&str> = FORMATS.into_iter().filter(|name| read.get(name).is_some()).collect();
    let format = match given[..] {
        [one] => {
            if read.get("types").is_some() && matches!(one, "nginx" | "apache" | "syslog") {
                read.wrong("types", format!("`{one}` knows the types of its fields"), "leave `types` out");
            }
            format(one, &types, &mut read)
        }
        [] => {
            if read.exist() {
                let error = OptionError::at("", format!("one of `{}` is missing", FORMATS.join("`, `")));
                read.push(error.hint(EXAMPLE));
            }
            None
        }
        [first, second, ..] => {
            read.wrong(second, format!("there are both `{first}` and `{second}`"), "keep one of them");
            None
        }
    };
    let source = match read.text("field").unwrap_or(".message") {
        "." => Some(Source::Record),
        text => match text.parse::<Path>() {
            Ok(path) => Some(Source::Field(path)),
            Err(e) => {
                read.push(OptionError::at("/field", e.message).span(e.span).hint("name a field: `.message`"));
                None
            }
        },
    };
    let into = read.text("into");
    let into = into.map(|name| name.strip_prefix('.').unwrap_or(name).to_owned());
    if into.as_ref().is_some_and(|name| name.is_empty() || name.contains('.')) {
        read.wrong("into", "`into` names one member of the record", "write `into: http`");
    }
    let words = [("fail", OnMismatch::Fail), ("pass", OnMismatch::Pass), ("drop", OnMismatch::Drop)];
    let on_mismatch = read.choice("onMismatch", &words).unwrap_or(OnMismatch::Fail);
    let made = format.zip(source).map(|(format, source)| Settings { format, source, into, on_mismatch });
    read.finish(made)
}

fn format(name: &'static str, types: &HashMap<String, Kind>, read: &mut Options<'_>) -> Option<Format> {
    let made = match name {
        "keyValue" => return pairs(types, read).map(Format::Pairs),
        "syslog" => {
            let forms = [("rfc5424", Form::Rfc5424), ("rfc3164", Form::Rfc3164), ("auto", Form::Auto)];
            return read.choice("syslog", &forms).map(|form| Format::Syslog(Syslog::new(form)));
        }
        name => {
            let text = read.text(name)?;
            if text.len() > MAX_PATTERN {
                Err(format!("the pattern has {} bytes, and may have {MAX_PATTERN}", text.len()))
            } else {
                match name {
                    "nginx" => Access::nginx(text).map(Format::Access),
                    "apache" => Access::apache(text).map(Format::Access),
                    "regex" => regex(text, types),
                    _ => from_grok(text, types),
                }
            }
        }
    };
    made.map_err(|message| {
        let hint = match name {
            "regex" | "grok" => {
                "look-around and back-references do not exist here; `(?P<name>...)` names a group"
            }
            _ => "write `combined`, or the format as the server has it",
        };
        read.wrong(name, message, hint);
    })
    .ok()
}

fn regex(text: &str, types: &HashMap<String, Kind>) -> Result<Format, String> {
    let field = |name: &str| (name.to_owned(), types.get(name).copied().unwrap_or_default());
    named(Pattern::compile(text, field)?, types)
}

fn from_grok(text: &str, types: &HashMap<String, Kind>) -> Result<Format, String> {
    let expanded = grok::expand(text).map_err(|(at, message)| format!("{message}, at byte {at}"))?;
    let field = |group: &str| {
        let number = group.strip_prefix('f').and_then(|n| n.parse::<usize>().ok());
        let (name, kind) = number
            .and_then(|n| expanded.fields.get(n).cloned())
            .unwrap_or_else(|| (group.to_owned(), Kind::String));
        let kind = types.get(&name).copied().unwrap_or(kind);
        (name, kind)
    };
    named(Pattern::compile(&expanded.regex, field)?, types)
}

/// A pattern without names would give nothing; a type of a field that it does not have is a slip of the pen.
fn named(pattern: Pattern, types: &HashMap<String, Kind>) -> Result<Format, String> {
    if pattern.fields().next().is_none() {
        return Err("the pattern names no field".to_owned());
    }
    match types.keys().find(|name| !pattern.fields().any(|field| field == *name)) {
        Some(name) => Err(format!("`types` names `{name}`, which the pattern does not have")),
        None => Ok(Format::Pattern(Box::new(pattern))),
    }
}

fn pairs(types: &HashMap<String, Kind>, read: &mut Options<'_>) -> Option<Pairs> {
    let made = |pair: &str, between: &str| Pairs {
        pair: pair.to_owned(),
        between: between.to_owned(),
        types: types.clone(),
    };
    let given = read.get("keyValue")?;
    if *given == Value::Bool(true) {
        return Some(made(" ", "="));
    }
    let mut inner = Options::of(given, &["pair", "between"], "write `keyValue: true`");
    let (pair, between) = (inner.text("pair").unwrap_or(" "), inner.text("between").unwrap_or("="));
    if pair.is_empty() || between.is_empty() || pair == between {
        inner.wrong("pair", "pairs and keys are ended by two different texts", "write `pair: \" \"`");
    }
    match inner.finish(Some(())) {
        Ok(()) => Some(made(pair, between)),
        Err(errors) => {
            for error in errors {
                read.push(OptionError { pointer: format!("/keyValue{}", error.pointer), ..error });
            }
            None
        }
    }
}

fn types(read: &mut Options<'_>) -> HashMap<String, Kind> {
    let mut types = HashMap::new();
    let Some(given) = read.get("types") else { return types };
    let Value::Object(members) = given else {
        read.wrong(
            "types",
            format!("expected types by field, got {given}"),
            "write `types: { size: integer }`",
        );
        return types;
    };
    for (name, word) in members {
        let kind = match word.as_str() {
            Some("string") => Kind::String,
            Some("integer") => Kind::Integer,
            Some("float") => Kind::Float,
            Some("boolean") => Kind::Boolean,
            _ => {
                let error = OptionError::at(format!("/types/{name}"), format!("{word} is no type"));
                read.push(error.hint("the types are `string`, `integer`, `float` and `boolean`"));
                continue;
            }
        };
        types.insert(name.clone(), kind);
    }
    types
}
