//! Toy components: enough of `kafka`, `file`, `stdout`, `filter`, `map`, `route` and `infer` to be checked against.

use pelton_config::{Document, Report, parse};
use pelton_sdk::{
    BuildContext, Connector, ConnectorFactory, Operator, OperatorFactory, OperatorShape, OptionError,
    Registry, Scope, SourceShape, TopicCatalog, parse_options,
};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema only")]
pub struct KafkaSource {
    /// Topics to read.
    #[schemars(length(min = 1))]
    topics: Vec<String>,
    start: Option<Start>,
    max_bytes: Option<u32>,
    connection: Option<String>,
    password: Option<SecretRef>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema only")]
struct SecretRef {
    secret_ref: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Start {
    /// The first record kept.
    Earliest,
    /// Behind the last record.
    Latest,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema only")]
struct KafkaSink {
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    topic: String,
    compression: Option<String>,
    connection: Option<String>,
    #[schemars(with = "Option<String>")]
    linger: std::time::Duration,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileOptions {
    path: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema only")]
struct Infer {
    model: String,
    input: Tensor,
    #[schemars(range(min = 1, max = 1024))]
    max_batch: Option<u32>,
    max_delay: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema only")]
struct Tensor {
    field: String,
    scale: Option<f64>,
}

struct End(&'static str);

impl ConnectorFactory for End {
    fn name(&self) -> &'static str {
        self.0
    }
    fn summary(&self) -> &'static str {
        "a toy end"
    }
    fn source_schema(&self) -> Option<Schema> {
        match self.0 {
            "kafka" => Some(schema_for!(KafkaSource)),
            "file" => Some(schema_for!(FileOptions)),
            _ => None,
        }
    }
    fn sink_schema(&self) -> Option<Schema> {
        match self.0 {
            "kafka" => Some(schema_for!(KafkaSink)),
            "file" => Some(schema_for!(FileOptions)),
            _ => Some(schema_for!(NoOptions)),
        }
    }
    fn check_source(&self, options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        if self.0 == "file" && !parse_options::<FileOptions>(options)?.path.ends_with(".jsonl") {
            let error = OptionError::at("/path", format!("{} is no JSON lines file", options["path"]));
            return Err(vec![error.hint("the name must end with `.jsonl`")]);
        }
        Ok(SourceShape { topics: vec!["t".into()], partitions: None, bounded: false })
    }
    fn check_sink(&self, _: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Ok(vec![])
    }
    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }
    fn cluster(&self, options: &Value) -> Option<String> {
        let named = options["connection"].as_str().unwrap_or("the default connection");
        (self.0 == "kafka").then(|| named.to_owned())
    }
    fn connect(&self, _: Scope) -> Box<dyn Connector> {
        unreachable!("a definition is checked, never run, here")
    }
}

struct Step(&'static str);

/// A program is wrong where it says `BAD`.
fn check_program(pointer: &str, program: &str) -> Vec<OptionError> {
    let bad = program.match_indices("BAD");
    bad.map(|(at, _)| OptionError::at(pointer, "undefined variable `BAD`").span(at..at + 3)).collect()
}

impl OperatorFactory for Step {
    fn name(&self) -> &'static str {
        self.0
    }
    fn summary(&self) -> &'static str {
        "a toy operator"
    }
    fn schema(&self) -> Schema {
        match self.0 {
            "route" => {
                let program =
                    json!({ "type": "string", "minLength": 1, "contentMediaType": "application/vrl" });
                let one = json!({ "type": "object", "maxProperties": 1, "additionalProperties": program });
                schemars::json_schema!({
                    "type": "object",
                    "properties": {
                        "routes": {
                            "oneOf": [
                                { "type": "array", "minItems": 1, "items": one },
                                { "type": "object", "minProperties": 1, "additionalProperties": program },
                            ],
                        },
                        "mode": { "enum": ["first", "all"] },
                    },
                    "required": ["routes"],
                    "additionalProperties": false,
                })
            }
            "infer" => schema_for!(Infer),
            _ => schema_for!(String),
        }
    }
    fn check(&self, options: &Value, _: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let mut errors = Vec::new();
        let mut ports = Vec::new();
        match options {
            Value::String(program) => errors.extend(check_program("", program)),
            Value::Object(route) if self.0 == "route" => {
                let programs = route["routes"].as_object().into_iter().flatten();
                let programs = programs.map(|(port, program)| (format!("/routes/{port}"), port, program));
                let listed = route["routes"].as_array().into_iter().flatten().enumerate();
                let listed = listed.flat_map(|(at, entry)| {
                    let entries = entry.as_object().into_iter().flatten();
                    entries.map(move |(port, program)| (format!("/routes/{at}/{port}"), port, program))
                });
                for (pointer, port, program) in programs.chain(listed) {
                    errors.extend(check_program(&pointer, program.as_str().unwrap_or_default()));
                    ports.push(port.clone());
                }
            }
            other => {
                let model = other["model"].as_str().unwrap_or_default();
                if model != "digits.onnx" {
                    errors.push(
                        OptionError::at("/model", format!("there is no model `{model}` in `models`"))
                            .hint("there are: `digits.onnx`"),
                    );
                }
            }
        }
        if errors.is_empty() { Ok(OperatorShape { ports, ..OperatorShape::default() }) } else { Err(errors) }
    }
    fn build(&self, _: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        unreachable!("a definition is checked, never run, here")
    }
}

pub fn registry() -> Registry {
    let ends =
        ["kafka", "file", "stdout"].into_iter().fold(Registry::default(), |r, name| r.connector(End(name)));
    ["filter", "map", "route", "infer"].into_iter().fold(ends, |r, name| r.operator(Step(name)))
}

pub fn read(file: &str, text: &str) -> Result<Vec<Document>, Report> {
    let env = |name: &str| match name {
        "TOPIC" => Some("orders".to_owned()),
        "TASKS" => Some("4".to_owned()),
        _ => None,
    };
    parse(file, text, &registry(), &BuildContext::detached("models"), &env)
}
