//! From a checked definition to what a task runs.

use pelton_config::{
    DECODE, Delivery, Document, ENCODE, PipelineSpec, SourceDef,
    chain::{self, Graph, Output},
};
use pelton_runtime::plan::{Input, OperatorPlan, SinkPlan, SourcePlan, StagePlan};
use pelton_sabotage::{Defect, breaks};
use pelton_sdk::{BuildContext, Registry};
use serde_json::Value;

/// The operator that sets a record's key; a sink's `key:` becomes one in front of it.
const KEY_OPERATOR: &str = "key";

/// The plan of a pipeline's only stage.
///
/// # Errors
/// A line for each thing this binary cannot build; a definition the coordinator accepted has none, unless the worker is
/// of another version or lacks a model file.
pub fn stage_plan(
    document: &Document,
    revision: u64,
    registry: &Registry,
    context: &BuildContext,
) -> Result<StagePlan, Vec<String>> {
    let spec = &document.spec;
    let graph = chain::graph(spec, registry, context)?;
    let mut plan = StagePlan {
        pipeline: document.name(),
        revision,
        delivery: match spec.delivery {
            Delivery::AtLeastOnce => pelton_checkpoint::Delivery::AtLeastOnce,
            Delivery::ExactlyOnce if breaks(Defect::NoTransaction) => {
                pelton_checkpoint::Delivery::AtLeastOnce
            }
            Delivery::ExactlyOnce => pelton_checkpoint::Delivery::ExactlyOnce,
        },
        commit_interval: spec.commit_interval,
        sources: Vec::new(),
        operators: Vec::new(),
        sinks: Vec::new(),
        dead_letter: spec.on_error.dead_letter.as_ref().map(|end| SinkPlan {
            name: "deadLetter".into(),
            connector: end.connector.clone(),
            options: end.options.clone(),
            inputs: Vec::new(),
        }),
    };
    for name in &graph.sources {
        if let Some(source) = spec.sources.get(name) {
            plan.sources.push(SourcePlan {
                name: name.clone(),
                connector: source.connector.clone(),
                options: source.options.clone(),
            });
        }
    }
    let read = readings(&graph, spec, &mut plan);
    let from = Renumbered { sources: read, operators: plan.operators.len() };
    for node in &graph.operators {
        let operator = &spec.operators[node.def];
        plan.operators.push(OperatorPlan {
            name: node.name.clone(),
            kind: operator.kind.clone(),
            options: operator.options.clone(),
            inputs: from.inputs(&node.inputs),
        });
    }
    for node in &graph.sinks {
        let Some(sink) = spec.sinks.get(&node.name) else { continue };
        let mut from = from.inputs(&node.inputs);
        if let Some(path) = &sink.key {
            plan.operators.push(OperatorPlan {
                name: format!("{}.key", node.name),
                kind: KEY_OPERATOR.into(),
                options: Value::String(path.clone()),
                inputs: from,
            });
            from = vec![Input::Operator { index: plan.operators.len() - 1, port: 0 }];
        }
        if let Some(options) = sink.step() {
            plan.operators.push(OperatorPlan {
                name: format!("{}.encode", node.name),
                kind: ENCODE.into(),
                options,
                inputs: from,
            });
            from = vec![Input::Operator { index: plan.operators.len() - 1, port: 0 }];
        }
        plan.sinks.push(SinkPlan {
            name: node.name.clone(),
            connector: sink.connector.clone(),
            options: sink.options.clone(),
            inputs: from,
        });
    }
    let missing = plan.missing(registry);
    if missing.is_empty() {
        Ok(plan)
    } else {
        Err(missing.iter().map(|name| format!("this binary has no `{name}`")).collect())
    }
}

/// Operators that read the values of sources, put before all others; for each source what reads it.
fn readings(graph: &Graph, spec: &PipelineSpec, plan: &mut StagePlan) -> Vec<Input> {
    let mut read = Vec::with_capacity(graph.sources.len());
    for (index, name) in graph.sources.iter().enumerate() {
        read.push(match spec.sources.get(name).and_then(SourceDef::step) {
            None => Input::Source(index),
            Some(options) => {
                plan.operators.push(OperatorPlan {
                    name: format!("{name}.decode"),
                    kind: DECODE.into(),
                    options,
                    inputs: vec![Input::Source(index)],
                });
                Input::Operator { index: plan.operators.len() - 1, port: 0 }
            }
        });
    }
    read
}

/// Outputs of the graph as inputs of the plan.
struct Renumbered {
    /// What stands for each source.
    sources: Vec<Input>,
    /// Operators of the plan before those of the graph.
    operators: usize,
}

impl Renumbered {
    fn inputs(&self, outputs: &[Output]) -> Vec<Input> {
        let input = |output: &Output| match *output {
            Output::Source(index) => self.sources[index],
            Output::Operator(index, port) => Input::Operator { index: self.operators + index, port },
        };
        outputs.iter().map(input).collect()
    }
}
