//! The custom resource `Pipeline`, from the schema of definition files.

use crate::{
    resource::MOST_INCIDENTS,
    structural::{RULES, structural},
};
use serde_json::{Value, json};

/// Group of the resource.
pub const GROUP: &str = "pelton.dev";
/// Its version.
pub const VERSION: &str = "v1";
/// Its kind.
pub const KIND: &str = "Pipeline";
/// Its name in paths.
pub const PLURAL: &str = "pipelines";

/// Most sources, and most sinks. The API server bounds the cost of a rule by what it may run over.
const MOST_ENDS: u32 = 100;
/// Most operators, for the same reason.
const MOST_OPERATORS: u32 = 500;

/// The custom resource definition, from the schema that `pelton schema` prints.
pub fn definition(schema: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND, "listKind": "PipelineList", "plural": PLURAL, "singular": "pipeline",
                "shortNames": ["pl"], "categories": ["pelton"]
            },
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "schema": { "openAPIV3Schema": resource(schema) },
                "subresources": {
                    "status": {},
                    "scale": { "specReplicasPath": ".spec.tasks", "statusReplicasPath": ".status.tasks" }
                },
                "additionalPrinterColumns": columns()
            }]
        }
    })
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str, description: &str| json!({ "name": name, "type": kind, "jsonPath": path, "description": description });
    let mut all = vec![
        column("Phase", "string", ".status.phase", "What it does."),
        column(
            "Ready",
            "string",
            ".status.conditions[?(@.type==\"Ready\")].status",
            "It runs as it is defined.",
        ),
        column("Tasks", "integer", ".status.tasks", "Tasks it is divided into."),
        column("Running", "integer", ".status.running", "Tasks that run the newest revision."),
        column("Lag", "integer", ".status.lag", "Records that wait to be read."),
        column("Revision", "integer", ".status.revision", "Its newest revision."),
        column("Age", "date", ".metadata.creationTimestamp", "Since when it exists."),
    ];
    let trouble = ".status.conditions[?(@.type==\"Degraded\")].message";
    let mut message = column("Message", "string", trouble, "What is wrong with it.");
    message["priority"] = 1.into();
    all.push(message);
    all.into()
}

fn resource(schema: &Value) -> Value {
    let mut spec = structural(schema, &schema["properties"]["spec"]);
    for (ends, what) in [("sources", "reads at least one source"), ("sinks", "writes to at least one sink")] {
        let place = &mut spec["properties"][ends];
        if let Some(place) = place.as_object_mut() {
            place.remove("minProperties");
        }
        place["maxProperties"] = MOST_ENDS.into();
        place[RULES] = json!([{ "rule": "size(self) > 0", "message": format!("a pipeline {what}") }]);
    }
    operators(&mut spec["properties"]["operators"]);
    interval(&mut spec["properties"]["commitInterval"]);
    json!({
        "description": "A Pelton pipeline: where it reads, what it does with each record, and where it writes.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status()
        },
        RULES: [{
            // A dot would be taken for the one between namespace and name in the name of the consumer group.
            "rule": "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
            "message": "the name of a pipeline has at most 63 small letters, digits and dashes, and no dots"
        }]
    })
}

fn operators(place: &mut Value) {
    place["maxItems"] = MOST_OPERATORS.into();
    // Two of one name are refused by the API server itself.
    place["x-kubernetes-list-type"] = "map".into();
    place["x-kubernetes-list-map-keys"] = json!(["name"]);
    // A name and a component.
    place["items"]["minProperties"] = 2.into();
}

/// The pattern of a duration with words of our own.
fn interval(place: &mut Value) {
    let pattern = place.as_object_mut().and_then(|place| place.remove("pattern"));
    if let Some(pattern) = pattern.as_ref().and_then(Value::as_str) {
        place["maxLength"] = 20.into();
        let pattern = pattern.replace('\\', "\\\\");
        place[RULES] = json!([{
            "rule": format!("self.matches('{pattern}')"),
            "message": "the time between commits is a number with a unit, such as 1s or 200ms"
        }]);
    }
}

/// Schema of what [`crate::Status`] is written as.
fn status() -> Value {
    let number =
        |description: &str| json!({ "type": "integer", "format": "int64", "description": description });
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "description": "What is so.",
        "type": "object",
        "properties": {
            "observedGeneration": number("Generation of the definition that this is about."),
            "phase": text("pending, running, paused, completed, failed or deleting; refused when no revision was accepted."),
            "revision": number("Newest revision at the coordinator."),
            "uuid": text("Identity of the pipeline at the coordinator."),
            "tasks": number("Tasks it is divided into."),
            "running": number("Tasks that run the newest revision."),
            "lag": number("Records between what is read and the ends of the partitions; absent when not known."),
            "incidents": {
                "description": "Open incidents, the oldest first; at most ten.",
                "type": "array", "maxItems": MOST_INCIDENTS,
                "items": {
                    "type": "object", "required": ["code", "message"],
                    "properties": {
                        "code": text("Code, with a page in docs/incidents."),
                        "subject": text("What it concerns."),
                        "message": text("What happened."),
                        "remedy": text("What to do.")
                    }
                }
            },
            "conditions": {
                "description": "Ready: it runs as defined. Progressing: it is on its way there. Degraded: something is wrong.",
                "type": "array",
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object", "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": text("Ready, Progressing or Degraded."),
                        "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                        "observedGeneration": number("Generation that it was set for."),
                        "lastTransitionTime": { "type": "string", "format": "date-time" },
                        "reason": text("Why, in one word."),
                        "message": text("Why, for people.")
                    }
                }
            }
        }
    })
}
