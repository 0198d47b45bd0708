//! From a plan to a chain: every operator knows what its records look like, and what its neighbours look for in them.

use super::{Chain, Node, Target, neighbours};
use crate::{
    plan::{Input, OperatorPlan, StagePlan},
    tap::Taps,
};
use pelton_sdk::{BuildContext, OperatorFactory, OperatorShape, OptionError, Registry};
use pelton_types::{Account, RecordSchema};
use std::sync::Arc;

/// An operator that passed its check.
struct Checked {
    factory: Arc<dyn OperatorFactory>,
    shape: OperatorShape,
    context: BuildContext,
}

type Errors = Vec<(String, OptionError)>;

impl Chain {
    /// Build the operators of a plan.
    ///
    /// # Errors
    /// What the operators' options get wrong, each with the operator's name; `check` at submit finds the same.
    pub fn build(plan: &StagePlan, registry: &Registry, context: &BuildContext) -> Result<Chain, Errors> {
        let mut checked = check(plan, registry, context)?;
        let members: Vec<_> = checked.iter().map(|operator| operator.shape.members.as_slice()).collect();
        let shared = neighbours::plan(&plan.operators, &members);
        for (operator, fields) in checked.iter_mut().zip(shared) {
            operator.context.fields = fields;
        }
        make(plan, checked)
    }

    /// The same chain, in which no operator uses what another one found: what tests and measurements compare with.
    ///
    /// # Errors
    /// As [`Chain::build`].
    pub fn build_apart(
        plan: &StagePlan,
        registry: &Registry,
        context: &BuildContext,
    ) -> Result<Chain, Errors> {
        make(plan, check(plan, registry, context)?)
    }

    fn connect(&mut self, inputs: &[Input], to: Target) {
        for input in inputs {
            let outputs = match *input {
                Input::Source(index) => self.sources.get_mut(index).map(|(_, outputs)| outputs),
                Input::Operator { index, port } => {
                    self.nodes.get_mut(index).and_then(|node| node.outputs.get_mut(port))
                }
            };
            if let Some(outputs) = outputs {
                outputs.push(to);
            }
        }
    }
}

fn check(plan: &StagePlan, registry: &Registry, context: &BuildContext) -> Result<Vec<Checked>, Errors> {
    let mut checked = Vec::new();
    let mut errors = Vec::new();
    let mut known: Vec<Option<Arc<RecordSchema>>> = Vec::new();
    for operator in &plan.operators {
        let mut context = context.with_input(input_of(&operator.inputs, &known));
        context.calls = context.calls.of_operator(&operator.name);
        match check_one(operator, registry, context) {
            Ok(operator) => {
                known.push(operator.shape.output.clone());
                checked.push(operator);
            }
            Err(found) => {
                known.push(None);
                errors.extend(found.into_iter().map(|e| (operator.name.clone(), e)));
            }
        }
    }
    if errors.is_empty() { Ok(checked) } else { Err(errors) }
}

fn check_one(
    operator: &OperatorPlan,
    registry: &Registry,
    context: BuildContext,
) -> Result<Checked, Vec<OptionError>> {
    let factory = registry.find_operator(&operator.kind).ok_or_else(|| {
        vec![OptionError::at("", format!("this binary has no operator `{}`", operator.kind))]
    })?;
    let shape = factory.check(&operator.options, &context)?;
    Ok(Checked { factory: factory.clone(), shape, context })
}

fn make(plan: &StagePlan, checked: Vec<Checked>) -> Result<Chain, Errors> {
    let mut chain = Chain {
        nodes: Vec::new(),
        sources: plan.sources.iter().map(|s| (s.name.clone(), Vec::new())).collect(),
        sinks: plan.sinks.iter().map(|s| s.name.clone()).collect(),
        taps: Taps::default(),
    };
    let mut errors = Vec::new();
    for (operator, Checked { factory, shape, context }) in plan.operators.iter().zip(checked) {
        match factory.build(&operator.options, &context) {
            Ok(built) => chain.nodes.push(Node {
                name: operator.name.clone(),
                factory,
                options: operator.options.clone(),
                context,
                operator: built,
                outputs: vec![Vec::new(); shape.ports.len() + 1],
                account: Account::default(),
                meter: None,
            }),
            Err(found) => errors.extend(found.into_iter().map(|e| (operator.name.clone(), e))),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for (index, operator) in plan.operators.iter().enumerate() {
        chain.connect(&operator.inputs, Target::Operator(index));
    }
    for (index, sink) in plan.sinks.iter().enumerate() {
        chain.connect(&sink.inputs, Target::Sink(index));
    }
    Ok(chain)
}

/// What is known of the records an operator reads, from what is known of those that leave the operators before it. Sources
/// say nothing: what they know is said by a `decode` operator behind them.
fn input_of(inputs: &[Input], known: &[Option<Arc<RecordSchema>>]) -> Option<Arc<RecordSchema>> {
    let of = |input: &Input| match *input {
        Input::Source(_) => None,
        Input::Operator { index, .. } => known.get(index).cloned().flatten(),
    };
    let (first, others) = inputs.split_first()?;
    others.iter().try_fold(of(first)?, |all, other| {
        let other = of(other)?;
        Some(if all == other { all } else { Arc::new(all.union(&other)) })
    })
}
