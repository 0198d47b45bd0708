//! What the user wrote under `route`.

use crate::Mode;
use pelton_expr::Program;
use pelton_sdk::{BuildContext, OptionError};
use serde_json::Value;

pub(crate) struct Options {
    pub(crate) routes: Vec<RouteOptions>,
    pub(crate) mode: Mode,
}

pub(crate) struct RouteOptions {
    pub(crate) name: String,
    pub(crate) condition: Program,
}

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
        },
        "required": ["routes"],
        "additionalProperties": false,
    })
}

const EXAMPLE: &str = "write `routes: [{ errors: \".status >= 500\" }, { slow: \".millis > 1000\" }]`";

/// Read the options and compile the conditions; all mistakes at once.
pub(crate) fn parse(options: &Value, context: &BuildContext) -> Result<Options, Vec<OptionError>> {
    let Value::Object(members) = options else {
        return Err(vec![OptionError::at("", format!("expected `routes`, got {options}")).hint(EXAMPLE)]);
    };
    let mut errors = Vec::new();
    for name in members.keys().filter(|name| *name != "routes" && *name != "mode") {
        let error = OptionError::at(format!("/{}", escape(name)), format!("unknown option `{name}`"));
        errors.push(error.hint("the options are `routes` and `mode`"));
    }
    let mode = mode(members.get("mode"), &mut errors);
    let listed = match members.get("routes") {
        Some(routes) => list(routes, mode, &mut errors),
        None => {
            errors.push(OptionError::at("", "`routes` is missing").hint(EXAMPLE));
            Vec::new()
        }
    };
    let mut routes: Vec<RouteOptions> = Vec::new();
    for (n, (pointer, name, condition)) in listed.iter().enumerate() {
        check_name(pointer, name, &listed[..n], &mut errors);
        match compile(pointer, condition, context) {
            Ok(condition) => routes.push(RouteOptions { name: (*name).to_owned(), condition }),
            Err(mistakes) => errors.extend(mistakes),
        }
    }
    if errors.is_empty() { Ok(Options { routes, mode }) } else { Err(errors) }
}

fn mode(given: Option<&Value>, errors: &mut Vec<OptionError>) -> Mode {
    match given.map(Value::as_str) {
        None | Some(Some("first")) => Mode::First,
        Some(Some("all")) => Mode::All,
        Some(_) => {
            let error = OptionError::at("/mode", format!("unknown mode {}", given.unwrap_or(&Value::Null)));
            errors.push(error.hint("the modes are `first` and `all`"));
            Mode::All
        }
    }
}

/// A route as written: pointer to its condition, name, condition.
type Listed<'v> = (String, &'v str, &'v Value);

fn list<'v>(routes: &'v Value, mode: Mode, errors: &mut Vec<OptionError>) -> Vec<Listed<'v>> {
    let mut listed = Vec::new();
    match routes {
        Value::Array(entries) => {
            for (n, entry) in entries.iter().enumerate() {
                match entry.as_object().filter(|members| members.len() == 1) {
                    Some(members) => listed.extend(
                        members
                            .iter()
                            .map(|(name, c)| (format!("/routes/{n}/{}", escape(name)), name.as_str(), c)),
                    ),
                    None => errors.push(
                        OptionError::at(
                            format!("/routes/{n}"),
                            format!("expected one `name: condition`, got {entry}"),
                        )
                        .hint(EXAMPLE),
                    ),
                }
            }
        }
        Value::Object(members) => {
            if mode == Mode::First && members.len() > 1 {
                let error =
                    OptionError::at("/routes", "a map has no order, and `mode: first` goes by the order");
                errors.push(error.hint(format!("{EXAMPLE}, or set `mode: all`")));
            }
            listed.extend(
                members.iter().map(|(name, c)| (format!("/routes/{}", escape(name)), name.as_str(), c)),
            );
        }
        other => {
            errors.push(OptionError::at("/routes", format!("expected a list, got {other}")).hint(EXAMPLE))
        }
    }
    if listed.is_empty() && errors.is_empty() {
        errors.push(OptionError::at("/routes", "there are no routes").hint(EXAMPLE));
    }
    listed
}

fn check_name(pointer: &str, name: &str, before: &[Listed<'_>], errors: &mut Vec<OptionError>) {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let error = OptionError::at(pointer, format!("`{name}` is no name for an output"));
        errors.push(error.hint("a name begins with a letter and has letters, digits, `-` and `_`"));
    } else if name == "default" {
        let error = OptionError::at(pointer, "`default` cannot be the name of a route");
        errors.push(error.hint("records no condition is true for leave by the operator's own name"));
    } else if before.iter().any(|(_, other, _)| *other == name) {
        let error = OptionError::at(pointer, format!("there are two routes `{name}`"));
        errors.push(error.hint("join their conditions with `||`"));
    }
}

fn compile(pointer: &str, condition: &Value, context: &BuildContext) -> Result<Program, Vec<OptionError>> {
    let Value::String(source) = condition else {
        let error = OptionError::at(pointer, format!("expected a VRL condition as text, got {condition}"));
        return Err(vec![error.hint(EXAMPLE)]);
    };
    Program::compile_filter_for(source, context.input.as_deref()).map_err(|mistakes| {
        let error = |m: pelton_expr::CompileError| OptionError {
            pointer: pointer.to_owned(),
            span: Some(m.span),
            message: m.message,
            hint: m.hint,
        };
        mistakes.into_iter().map(error).collect()
    })
}

/// A name as a part of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
