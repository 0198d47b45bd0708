//! `${NAME}` and `${NAME:default}` in the texts of a definition.
//!
//! * Missing without default is a mistake; `${NAME:}` is an empty default.
//! * `$${` stands for `${`; any other `$` stands for itself.
//! * A plain scalar (no quotes, no block) is read again after substitution: `tasks: ${TASKS:4}` is a number.
//! * Keys are not looked at, and neither are programs: a text directly under an operator's key (`filter: ...`), or one
//!   whose schema says `contentMediaType: application/vrl`. What a program does must be seen in the file.

use crate::{
    problem::Place,
    reader::Problems,
    span,
    yaml::{Data, Node},
};
use pelton_sdk::Registry;
use serde_json::{Number, Value};

/// Marks texts in an operator's schema that are programs.
pub(crate) const PROGRAM: &str = "application/vrl";

pub(crate) struct Substitution<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub registry: &'a Registry,
    pub text: &'a str,
}

impl Substitution<'_> {
    /// Substitute in a whole document.
    pub fn document(&self, node: &mut Node, problems: &mut Problems) {
        let Data::Mapping(entries) = &mut node.data else { return };
        for (key, value) in entries {
            match &mut value.data {
                Data::Mapping(spec) if key.name == "spec" => {
                    for (key, value) in spec {
                        match &mut value.data {
                            Data::List(operators) if key.name == "operators" => {
                                operators.iter_mut().for_each(|o| self.operator(o, problems));
                            }
                            // What is sent and expected is data.
                            _ if key.name == "tests" => {}
                            _ => self.node(value, problems),
                        }
                    }
                }
                _ => self.node(value, problems),
            }
        }
    }

    fn operator(&self, node: &mut Node, problems: &mut Problems) {
        let Data::Mapping(entries) = &mut node.data else { return self.node(node, problems) };
        for (key, value) in entries {
            match self.registry.find_operator(&key.name) {
                None => self.node(value, problems),
                Some(_) if value.as_str().is_some() => {}
                Some(factory) => {
                    let schema = factory.schema().to_value();
                    self.options(value, &schema, &[&schema], problems);
                }
            }
        }
    }

    /// Options of an operator, side by side with the schemas that may apply to them.
    fn options(&self, node: &mut Node, root: &Value, schemas: &[&Value], problems: &mut Problems) {
        let mut here = Vec::new();
        schemas.iter().for_each(|schema| alternatives(root, schema, 8, &mut here));
        if here.iter().any(|schema| schema.get("contentMediaType").is_some_and(|t| t == PROGRAM)) {
            return;
        }
        let below = |keys: &[&str]| -> Vec<&Value> {
            here.iter().filter_map(|schema| keys.iter().try_fold(*schema, |at, key| at.get(*key))).collect()
        };
        match &mut node.data {
            Data::Scalar(_) => self.node(node, problems),
            Data::List(items) => {
                let schemas = below(&["items"]);
                items.iter_mut().for_each(|item| self.options(item, root, &schemas, problems));
            }
            Data::Mapping(entries) => {
                for (key, value) in entries {
                    let named = below(&["properties", &key.name]);
                    let schemas = if named.is_empty() { below(&["additionalProperties"]) } else { named };
                    self.options(value, root, &schemas, problems);
                }
            }
        }
    }

    fn node(&self, node: &mut Node, problems: &mut Problems) {
        match &mut node.data {
            Data::List(items) => items.iter_mut().for_each(|item| self.node(item, problems)),
            Data::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| self.node(value, problems)),
            Data::Scalar(Value::String(text)) if text.contains("${") => {
                let plain =
                    node.source.is_some_and(|(at, _)| span::style(self.text, at) == span::Style::Plain);
                let before = problems.len();
                let expanded = expand(text, self.env, node.place, problems);
                node.data = Data::Scalar(if plain { typed(expanded) } else { Value::String(expanded) });
                node.source = None;
                if problems.len() > before {
                    problems.silence(node.place);
                }
            }
            Data::Scalar(_) => {}
        }
    }
}

/// A schema behind its `$ref`s, or the schemas it is a choice of; `depth` ends circles.
fn alternatives<'s>(root: &'s Value, schema: &'s Value, depth: usize, out: &mut Vec<&'s Value>) {
    if depth == 0 {
        return;
    }
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    if let Some(schema) = target.and_then(|target| root.pointer(target)) {
        alternatives(root, schema, depth - 1, out);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        let choices = schema.get(choice).and_then(Value::as_array);
        choices.into_iter().flatten().for_each(|schema| alternatives(root, schema, depth - 1, out));
    }
    out.push(schema);
}

/// A text as YAML reads a plain scalar: numbers and booleans are no texts.
fn typed(text: String) -> Value {
    match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) if number.to_string() == text => number.into(),
            (_, Ok(number))
                if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !text.starts_with("0x") =>
            {
                // `007` is a name more often than a number.
                let leading = text.trim_start_matches('-').starts_with('0') && !text.contains('.');
                let number = Number::from_f64(number).filter(|_| !leading || text == "0");
                number.map_or(Value::String(text), Value::Number)
            }
            _ => Value::String(text),
        },
    }
}

fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>, place: Place, problems: &mut Problems) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            let hint = Some("close it with `}`, or write `$${` for a plain `${`".to_owned());
            problems.hint(place, "`${` is never closed", hint);
            return text.to_owned();
        };
        let inner = &rest[at + 2..at + end];
        let (name, default) =
            inner.split_once(':').map_or((inner, None), |(name, default)| (name, Some(default)));
        let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match (valid, env(name).filter(|_| valid), default) {
            (false, _, _) => {
                let hint = Some("write `${NAME}` or `${NAME:default}`, or `$${` for a plain `${`".to_owned());
                problems.hint(place, format!("`${{{inner}}}` does not name an environment variable"), hint);
            }
            (true, Some(value), _) => out.push_str(&value),
            (true, None, Some(default)) => out.push_str(default),
            (true, None, None) => {
                let hint = Some(format!("set it, or give a default: `${{{name}:default}}`"));
                problems.hint(place, format!("the environment variable `{name}` is not set"), hint);
            }
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let mut problems = Problems::new("f");
        let env = |name: &str| (name == "HOST").then(|| "kafka".to_owned());
        let value = expand(text, &env, Place::new(1, 1), &mut problems);
        problems.finish(value).map_err(|report| report.problems[0].message.clone())
    }

    #[test]
    fn variables_defaults_and_escapes_are_put_in() {
        assert_eq!(expanded("${HOST}:9092"), Ok("kafka:9092".into()));
        assert_eq!(expanded("${PORT:90:92}-${PORT:}"), Ok("90:92-".into()));
        assert_eq!(expanded("$${HOST} costs $5 or $$"), Ok("${HOST} costs $5 or $$".into()));
        assert_eq!(expanded("${PORT}"), Err("the environment variable `PORT` is not set".into()));
        assert!(expanded("${1X}").is_err());
        assert!(expanded("${HOST").is_err());
    }

    #[test]
    fn plain_values_are_typed_as_yaml_would() {
        assert_eq!(typed("4".into()), Value::from(4));
        assert_eq!(typed("0.5".into()), Value::from(0.5));
        assert_eq!(typed("true".into()), Value::from(true));
        for text in ["007", "1s", "", "-", "inf", "0x10", "1.2.3"] {
            assert_eq!(typed(text.into()), Value::from(text));
        }
    }
}
