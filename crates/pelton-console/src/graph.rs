//! A pipeline's definition as nodes and edges, to be drawn.

use pelton_config::{EndDef, Input, PipelineSpec};
use serde_json::{Value, json};

/// Nodes and edges of a definition in its canonical JSON; `null` when it cannot be read.
pub(crate) fn graph(definition: &str) -> Value {
    let document =
        serde_json::from_str(definition).ok().and_then(|json| pelton_config::from_json(&json).ok());
    document.map_or(Value::Null, |document| of_spec(&document.spec))
}

fn of_spec(spec: &PipelineSpec) -> Value {
    let (mut nodes, mut edges) = (Vec::new(), Vec::new());
    for (name, source) in &spec.sources {
        nodes.push(node(name, "source", &source.connector, &source.options));
    }
    for (at, operator) in spec.operators.iter().enumerate() {
        nodes.push(node(&operator.name, "operator", &operator.kind, &operator.options));
        connect(spec, at, &operator.inputs, &operator.name, &mut edges);
    }
    for (name, sink) in &spec.sinks {
        nodes.push(node(name, "sink", &sink.connector, &sink.options));
        connect(spec, spec.operators.len(), &sink.inputs, name, &mut edges);
    }
    let letters = spec.on_error.dead_letter.as_ref();
    let letters =
        letters.map(|EndDef { connector, options }| json!({ "type": connector, "topics": topics(options) }));
    json!({ "nodes": nodes, "edges": edges, "deadLetters": letters })
}

fn node(name: &str, kind: &str, component: &str, options: &Value) -> Value {
    json!({ "name": name, "kind": kind, "type": component, "topics": topics(options) })
}

/// Topics that an end names, whatever it is.
fn topics(options: &Value) -> Vec<&str> {
    let many = options.get("topics").and_then(Value::as_array).into_iter().flatten();
    many.chain(options.get("topic")).filter_map(Value::as_str).collect()
}

/// What a node reads: what it names, otherwise the operator before it, otherwise all sources.
fn connect(spec: &PipelineSpec, before: usize, inputs: &[Input], to: &str, edges: &mut Vec<Value>) {
    let mut edge =
        |from: &str, port: Option<&String>| edges.push(json!({ "from": from, "port": port, "to": to }));
    match (inputs, before.checked_sub(1).and_then(|at| spec.operators.get(at))) {
        ([], Some(operator)) => edge(&operator.name, None),
        ([], None) => spec.sources.keys().for_each(|source| edge(source, None)),
        (named, _) => named.iter().for_each(|input| edge(&input.node, input.port.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_read_what_they_name_and_otherwise_what_stands_before_them() {
        let definition = json!({
            "apiVersion": "pelton.dev/v1", "kind": "Pipeline", "metadata": { "name": "p" },
            "spec": {
                "sources": { "a": { "kafka": { "topics": ["x", "y"] } }, "b": { "kafka": { "topics": ["z"] } } },
                "operators": [
                    { "name": "split", "route": { "big": ".n > 1" } },
                    { "name": "keep", "filter": ".n > 2" },
                ],
                "sinks": {
                    "rest": { "kafka": { "topic": "rest" }, "inputs": ["split.big"] },
                    "out": { "kafka": { "topic": "out" } },
                },
                "onError": { "deadLetter": { "kafka": { "topic": "dead" } } },
            },
        });
        let graph = graph(&definition.to_string());
        let edge = |from: &str, port: Option<&str>, to: &str| json!({ "from": from, "port": port, "to": to });
        assert_eq!(
            graph["edges"],
            json!([
                edge("a", None, "split"),
                edge("b", None, "split"),
                edge("split", None, "keep"),
                edge("keep", None, "out"),
                edge("split", Some("big"), "rest"),
            ])
        );
        assert_eq!(
            graph["nodes"][0],
            json!({ "name": "a", "kind": "source", "type": "kafka", "topics": ["x", "y"] })
        );
        assert_eq!(graph["deadLetters"], json!({ "type": "kafka", "topics": ["dead"] }));
        assert_eq!(super::graph("no definition"), Value::Null);
    }
}
