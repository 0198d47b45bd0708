#![doc = include_str!("../README.md")]

use pelton_expr::Path;
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Verdicts,
    types::{Batch, Span},
};
use serde_json::Value;

/// Makes `key` operators.
#[derive(Debug, Default)]
pub struct KeyFactory;

impl OperatorFactory for KeyFactory {
    fn name(&self) -> &'static str {
        "key"
    }

    fn summary(&self) -> &'static str {
        "sets the record key from a field"
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The field whose text becomes the record key.",
            "oneOf": [
                { "type": "string", "minLength": 1, "examples": [".id", ".customer.name"] },
                {
                    "type": "object",
                    "properties": { "field": { "type": "string", "minLength": 1 } },
                    "required": ["field"],
                    "additionalProperties": false,
                },
            ],
        })
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let output = context.input.clone();
        parse(options).map(|_| OperatorShape { rekeys: true, output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Key { path: parse(options)?, text: Vec::new(), verdicts: Verdicts::default() }))
    }
}

const HINT: &str = "name a field: `key: .id`";

fn parse(options: &Value) -> Result<Path, Vec<OptionError>> {
    match options {
        Value::String(text) => path("", text).map_err(|e| vec![e]),
        Value::Object(members) => {
            let mut errors: Vec<_> = members
                .keys()
                .filter(|name| *name != "field")
                .map(|name| {
                    OptionError::at(pointer(name), format!("unknown option `{name}`"))
                        .hint("the only one is `field`")
                })
                .collect();
            let field = match members.get("field") {
                Some(Value::String(text)) => path("/field", text),
                Some(other) => {
                    Err(OptionError::at("/field", format!("expected a field, got {other}")).hint(HINT))
                }
                None => Err(OptionError::at("", "`field` is missing").hint(HINT)),
            };
            match field {
                Ok(path) if errors.is_empty() => Ok(path),
                Ok(_) => Err(errors),
                Err(error) => {
                    errors.push(error);
                    Err(errors)
                }
            }
        }
        other => Err(vec![OptionError::at("", format!("expected a field, got {other}")).hint(HINT)]),
    }
}

/// A JSON pointer to a member.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn path(pointer: &str, text: &str) -> Result<Path, OptionError> {
    text.parse()
        .map_err(|e: pelton_expr::PathError| OptionError::at(pointer, e.message).span(e.span).hint(HINT))
}

struct Key {
    path: Path,
    /// The key of the record in hand, on its way from the value to a buffer of its own.
    text: Vec<u8>,
    verdicts: Verdicts,
}

impl Operator for Key {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        batch.seal();
        for index in 0..batch.len() {
            let key = self.key_of(&mut batch, index);
            if let Ok(Some(key)) = key {
                batch.records[index].key = key;
                batch.rekeyed = true;
            }
            self.verdicts.note(key.map(|_| true));
        }
        self.verdicts.settle(batch, out);
    }
}

impl Key {
    /// The new key; `None` when the record has it already.
    fn key_of(&mut self, batch: &mut Batch, index: usize) -> Result<Option<Span>, String> {
        let record = batch.records[index];
        if record.value.is_null() {
            return Err(format!("the record has no value, so no field {}", self.path));
        }
        let text = self.path.get(batch.value(&record)).map_err(|e| e.to_string())?;
        let Some(text) = text else {
            return Err(format!("field {} is missing or null, so the record has no key", self.path));
        };
        if batch.key(&record) == Some(text.as_bytes()) {
            return Ok(None);
        }
        self.text.clear();
        self.text.extend_from_slice(text.as_bytes());
        Ok(Some(batch.put(Some(&self.text))))
    }
}
