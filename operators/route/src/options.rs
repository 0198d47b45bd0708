//! What the user wrote under `route`.

use crate::Mode;
use pelton_expr::{CompileError, Program};
use pelton_sdk::{BuildContext, OptionError, Options, types::RecordSchema};
use serde_json::Value;

/// What the operator was told, checked.
pub(crate) struct Parsed {
    /// Names of the outputs, in order: those records are sent to, then `else`.
    pub(crate) ports: Vec<String>,
    /// Port of the records that go nowhere else; 0 is the operator's own output.
    pub(crate) otherwise: usize,
    pub(crate) choice: Choice,
}

/// How outputs are chosen.
pub(crate) enum Choice {
    Conditions { conditions: Vec<Program>, mode: Mode },
    Expression { program: Program, outputs: Vec<String> },
}

impl Choice {
    /// The programs that records are looked through for.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Program> {
        match self {
            Self::Conditions { conditions, .. } => conditions.as_slice(),
            Self::Expression { program, .. } => std::slice::from_ref(program),
        }
        .iter()
    }

    /// The same, to be fitted to each other.
    pub(crate) fn programs_mut(&mut self) -> impl Iterator<Item = &mut Program> {
        match self {
            Self::Conditions { conditions, .. } => conditions.as_mut_slice(),
            Self::Expression { program, .. } => std::slice::from_mut(program),
        }
        .iter_mut()
    }
}

const KNOWN: &[&str] = &["routes", "mode", "to", "outputs", "else"];

pub(crate) fn schema() -> schemars::Schema {
    let route = serde_json::json!({
        "type": "string", "minLength": 1, "contentMediaType": "application/vrl", "description": "A VRL condition.",
    });
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "routes": {
                "description": "Outputs by name, each with the condition for it, in order.",
                "oneOf": [
                    {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": route,
                        },
                    },
                    { "type": "object", "minProperties": 1, "additionalProperties": route },
                ],
            },
            "mode": {
                "enum": ["first", "all"],
                "default": "first",
                "description": "first: to the first output whose condition is true; all: to every such output.",
            },
            "to": {
                "type": "string",
                "minLength": 1,
                "contentMediaType": "application/vrl",
                "description": "A VRL expression that names outputs: a text, a list of texts, or \"*\" for all.",
            },
            "outputs": {
                "type": "array",
                "minItems": 1,
                "items": { "type": "string" },
                "description": "The names that `to` may give.",
            },
            "else": {
                "type": "string",
                "description": "Name of the output for records that go nowhere else.",
            },
        },
        "additionalProperties": false,
    })
}

const EXAMPLE: &str = "write `routes: [{ errors: \".status >= 500\" }, { slow: \".millis > 1000\" }]`";

/// Read the options and compile what is to be compiled; all mistakes at once.
pub(crate) fn parse(options: &Value, context: &BuildContext) -> Result<Parsed, Vec<OptionError>> {
    let schema = context.input.as_deref();
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let mode = read.choice("mode", &[("first", Mode::First), ("all", Mode::All)]);
    let otherwise = read.text("else");
    let mut ports = Vec::new();
    let choice = match (read.get("routes"), read.get("to")) {
        (Some(_), Some(_)) => {
            read.wrong("to", "there are both `routes` and `to`", "keep one of them");
            None
        }
        (Some(routes), None) => {
            if read.get("outputs").is_some() {
                read.wrong("outputs", "`outputs` belongs to `to`", "`routes` names its outputs itself");
            }
            conditions(routes, mode.unwrap_or(Mode::First), schema, &mut read, &mut ports)
        }
        (None, Some(_)) => {
            if mode.is_some() {
                read.wrong("mode", "`mode` belongs to `routes`", "`to` gives a name, a list, or `\"*\"`");
            }
            expression(schema, &mut read, &mut ports)
        }
        (None, None) => {
            if read.exist() {
                let error = OptionError::at("", "`routes` is missing, or `to` with `outputs`");
                read.push(error.hint(EXAMPLE));
            }
            None
        }
    };
    if let Some(name) = otherwise {
        check_name("/else", name, &ports, &mut read);
        ports.push(name.to_owned());
    }
    let otherwise = if otherwise.is_some() { ports.len() } else { 0 };
    read.finish(choice.map(|choice| Parsed { ports, otherwise, choice }))
}

fn expression(
    schema: Option<&RecordSchema>,
    read: &mut Options<'_>,
    ports: &mut Vec<String>,
) -> Option<Choice> {
    let names = read.texts("outputs");
    for (n, name) in names.iter().enumerate() {
        check_name(&format!("/outputs/{n}"), name, ports, read);
        ports.push((*name).to_owned());
    }
    match read.get("outputs") {
        None => read.missing("outputs", "list the names that `to` may give: `outputs: [eu, us]`"),
        Some(Value::Array(none)) if none.is_empty() => {
            read.wrong("outputs", "there are no outputs", "list the names that `to` may give");
        }
        Some(_) => {}
    }
    let source = read.text("to")?;
    match Program::compile_value(source, schema) {
        Ok(program) => Some(Choice::Expression { program, outputs: ports.clone() }),
        Err(mistakes) => {
            mistakes.into_iter().for_each(|m| read.push(mistake("/to", m)));
            None
        }
    }
}

fn conditions(
    routes: &Value,
    mode: Mode,
    schema: Option<&RecordSchema>,
    read: &mut Options<'_>,
    ports: &mut Vec<String>,
) -> Option<Choice> {
    let mut conditions = Vec::new();
    for (pointer, name, condition) in list(routes, mode, read) {
        check_name(&pointer, name, ports, read);
        ports.push(name.to_owned());
        match compile(&pointer, condition, schema) {
            Ok(condition) => conditions.push(condition),
            Err(mistakes) => mistakes.into_iter().for_each(|m| read.push(m)),
        }
    }
    Some(Choice::Conditions { conditions, mode })
}

/// A route as written: pointer to its condition, name, condition.
type Listed<'v> = (String, &'v str, &'v Value);

fn list<'v>(routes: &'v Value, mode: Mode, read: &mut Options<'_>) -> Vec<Listed<'v>> {
    let mut listed = Vec::new();
    match routes {
        Value::Array(entries) => {
            for (n, entry) in entries.iter().enumerate() {
                let pointer = format!("/routes/{n}");
                match entry.as_object().filter(|members| members.len() == 1) {
                    Some(members) => listed.extend(
                        members
                            .iter()
                            .map(|(name, c)| (format!("{pointer}/{}", escape(name)), name.as_str(), c)),
                    ),
                    None => {
                        let error = format!("expected one `name: condition`, got {entry}");
                        read.push(OptionError::at(pointer, error).hint(EXAMPLE));
                    }
                }
            }
            if entries.is_empty() {
                read.wrong("routes", "there are no routes", EXAMPLE);
            }
        }
        Value::Object(members) => {
            if mode == Mode::First && members.len() > 1 {
                let hint = format!("{EXAMPLE}, or set `mode: all`");
                read.wrong("routes", "a map has no order, and `mode: first` goes by the order", hint);
            }
            if members.is_empty() {
                read.wrong("routes", "there are no routes", EXAMPLE);
            }
            listed.extend(
                members.iter().map(|(name, c)| (format!("/routes/{}", escape(name)), name.as_str(), c)),
            );
        }
        other => read.wrong("routes", format!("expected a list, got {other}"), EXAMPLE),
    }
    listed
}

fn check_name(pointer: &str, name: &str, before: &[String], read: &mut Options<'_>) {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let (message, hint) = if !plain || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let hint = "a name begins with a letter and has letters, digits, `-` and `_`";
        (format!("`{name}` is no name for an output"), hint)
    } else if name == "default" {
        let hint = "name the output of all other records with `else:`, or read the operator's own name";
        ("`default` cannot be the name of an output".to_owned(), hint)
    } else if before.iter().any(|other| other == name) {
        (format!("there are two outputs `{name}`"), "join their conditions with `||`")
    } else {
        return;
    };
    read.push(OptionError::at(pointer, message).hint(hint));
}

fn compile(
    pointer: &str,
    condition: &Value,
    schema: Option<&RecordSchema>,
) -> Result<Program, Vec<OptionError>> {
    let Value::String(source) = condition else {
        let error = OptionError::at(pointer, format!("expected a VRL condition as text, got {condition}"));
        return Err(vec![error.hint(EXAMPLE)]);
    };
    Program::compile_filter_for(source, schema)
        .map_err(|mistakes| mistakes.into_iter().map(|m| mistake(pointer, m)).collect())
}

fn mistake(pointer: &str, m: CompileError) -> OptionError {
    OptionError { pointer: pointer.to_owned(), span: Some(m.span), message: m.message, hint: m.hint }
}

/// A name as a part of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
