//! From a spec to a graph: which node reads which output, in an order that can be run.

use crate::{
    document::{DECODE, Input, OperatorDef, PipelineSpec, SourceDef},
    suggest,
};
use pelton_sdk::{BuildContext, OperatorShape, OptionError, Registry, types::RecordSchema};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Mistakes after which no more references are looked at: nobody reads more, and finding near words takes time.
const MOST_ERRORS: usize = 200;

/// An output that something reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// A source, by its index in [`Graph::sources`].
    Source(usize),
    /// An operator, by its index in [`Graph::operators`], and its port: 0 is the main one.
    Operator(usize, usize),
}

/// Who reads an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reader {
    /// An operator, by its index in [`Graph::operators`].
    Operator(usize),
    /// A sink, by its index in [`Graph::sinks`].
    Sink(usize),
}

/// An operator of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphOperator {
    /// Its name.
    pub name: String,
    /// Its index in [`PipelineSpec::operators`].
    pub def: usize,
    /// What it reads.
    pub inputs: Vec<Output>,
    /// Its outputs beside the main one; port 1 is the first.
    pub ports: Vec<String>,
}

/// A sink of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSink {
    /// Its name in [`PipelineSpec::sinks`].
    pub name: String,
    /// What it reads.
    pub inputs: Vec<Output>,
}

/// A spec with its references resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Names of the sources, in the order of [`PipelineSpec::sources`].
    pub sources: Vec<String>,
    /// Operators in topological order: each reads only sources and operators before it.
    pub operators: Vec<GraphOperator>,
    /// Sinks, in the order of [`PipelineSpec::sinks`].
    pub sinks: Vec<GraphSink>,
}

impl Graph {
    /// Who reads an output, operators first.
    pub fn readers(&self, output: Output) -> Vec<Reader> {
        let operators = self.operators.iter().enumerate().filter(|(_, o)| o.inputs.contains(&output));
        let sinks = self.sinks.iter().enumerate().filter(|(_, s)| s.inputs.contains(&output));
        operators.map(|(at, _)| Reader::Operator(at)).chain(sinks.map(|(at, _)| Reader::Sink(at))).collect()
    }
}

/// Where in a spec a chain is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// A source, by name.
    Source(String),
    /// An operator, by its index in the spec.
    Operator(usize),
    /// One of an operator's `inputs`.
    OperatorInput(usize, usize),
    /// One of a sink's `inputs`.
    SinkInput(String, usize),
}

/// A mistake in how nodes are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainError {
    /// Where.
    pub at: At,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Operators so that each comes after those it reads; those of a circle come last, as they stand.
pub(crate) fn order_of(operators: &[OperatorDef]) -> Vec<usize> {
    let names: BTreeMap<&str, usize> =
        operators.iter().enumerate().rev().map(|(at, operator)| (operator.name.as_str(), at)).collect();
    let mut done = vec![false; operators.len()];
    let mut order = Vec::with_capacity(operators.len());
    loop {
        let before = order.len();
        for (at, operator) in operators.iter().enumerate() {
            let waits = match operator.inputs.as_slice() {
                [] => at > 0 && !done[at - 1],
                inputs => inputs.iter().any(|i| names.get(i.node.as_str()).is_some_and(|&on| !done[on])),
            };
            if !done[at] && !waits {
                done[at] = true;
                order.push(at);
            }
        }
        if order.len() == before {
            order.extend((0..operators.len()).filter(|&at| !done[at]));
            return order;
        }
    }
}

/// What is known of the records that an operator reads: what holds for those of all its inputs.
pub(crate) fn input_of(
    operators: &[OperatorDef],
    at: usize,
    sources: &BTreeMap<String, Option<Arc<RecordSchema>>>,
    outputs: &[Option<Arc<RecordSchema>>],
) -> Option<Arc<RecordSchema>> {
    let output = |at: usize| outputs.get(at).cloned().flatten();
    let named = |name: &str| match sources.get(name) {
        Some(schema) => schema.clone(),
        None => output(operators.iter().position(|operator| operator.name == name)?),
    };
    let inputs: Vec<Option<Arc<RecordSchema>>> = match operators[at].inputs.as_slice() {
        [] if at > 0 => vec![output(at - 1)],
        [] => sources.values().cloned().collect(),
        inputs => inputs.iter().map(|input| named(&input.node)).collect(),
    };
    let mut inputs = inputs.into_iter();
    let first = inputs.next()??;
    inputs.try_fold(first, |known, other| {
        let other = other?;
        Some(if known == other { known } else { Arc::new(known.union(&other)) })
    })
}

/// Shapes of a spec's operators, in its order. Errors carry the operator's index.
pub fn shapes(
    spec: &PipelineSpec,
    registry: &Registry,
    context: &BuildContext,
) -> Result<Vec<OperatorShape>, Vec<(usize, OptionError)>> {
    let schema = |source: &SourceDef| {
        let decode = registry.find_operator(DECODE)?;
        decode.check(&source.step()?, context).ok()?.output
    };
    let sources = spec.sources.iter().map(|(name, source)| (name.clone(), schema(source))).collect();
    let mut shapes = vec![None; spec.operators.len()];
    let mut outputs = vec![None; spec.operators.len()];
    let mut wrong = Vec::new();
    for index in order_of(&spec.operators) {
        let operator = &spec.operators[index];
        let context = context.with_input(input_of(&spec.operators, index, &sources, &outputs));
        match registry.find_operator(&operator.kind) {
            None => {
                wrong.push((index, OptionError::at("", format!("there is no operator `{}`", operator.kind))))
            }
            Some(factory) => match factory.check(&operator.options, &context) {
                Ok(shape) => {
                    outputs[index] = shape.output.clone();
                    shapes[index] = Some(shape);
                }
                Err(errors) => wrong.extend(errors.into_iter().map(|e| (index, e))),
            },
        }
    }
    if wrong.is_empty() { Ok(shapes.into_iter().flatten().collect()) } else { Err(wrong) }
}

/// The graph of a spec that was checked before: shapes from the registry, then [`resolve`].
///
/// # Errors
/// A line for each mistake, with the name of the operator.
pub fn graph(spec: &PipelineSpec, registry: &Registry, context: &BuildContext) -> Result<Graph, Vec<String>> {
    let shapes = shapes(spec, registry, context).map_err(|wrong| {
        let name = |at: usize| spec.operators.get(at).map_or("?", |o| o.name.as_str());
        wrong.iter().map(|(at, e)| format!("operator `{}`: {}", name(*at), e.message)).collect::<Vec<_>>()
    })?;
    let shapes: Vec<Option<OperatorShape>> = shapes.into_iter().map(Some).collect();
    resolve(spec, &shapes).map_err(|errors| errors.into_iter().map(|e| e.message).collect())
}

/// A node of the spec while the graph is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Source(usize),
    Operator(usize),
}

/// Connect the nodes of a spec. `shapes` are those of its operators, in its order; an operator without one
/// (`None`, because its options are wrong) is taken to have every port that is asked of it.
///
/// A node of which nothing is read is refused, its records would be lost. A single port that nothing reads is allowed:
/// what goes there is dropped on purpose and counts as filtered.
pub fn resolve(spec: &PipelineSpec, shapes: &[Option<OperatorShape>]) -> Result<Graph, Vec<ChainError>> {
    let mut resolver = Resolver { spec, shapes, names: names(spec), errors: Vec::new() };
    let operators: Vec<Vec<(Node, usize)>> =
        (0..spec.operators.len()).map(|at| resolver.operator(at)).collect();
    let sinks: Vec<(String, Vec<(Node, usize)>)> =
        spec.sinks.iter().map(|(name, sink)| (name.clone(), resolver.sink(name, &sink.inputs))).collect();
    if resolver.errors.is_empty() {
        resolver.unread(&operators, &sinks);
    }
    let order = match topological(&operators) {
        Ok(order) => order,
        Err(cycle) => {
            resolver.cycle(&cycle);
            Vec::new()
        }
    };
    if !resolver.errors.is_empty() {
        return Err(resolver.errors);
    }
    let mut position = vec![0; order.len()];
    for (at, &def) in order.iter().enumerate() {
        position[def] = at;
    }
    let output = |&(node, port): &(Node, usize)| match node {
        Node::Source(at) => Output::Source(at),
        Node::Operator(def) => Output::Operator(position[def], port),
    };
    let ports =
        |def: usize| shapes.get(def).and_then(Option::as_ref).map(|s| s.ports.clone()).unwrap_or_default();
    Ok(Graph {
        sources: spec.sources.keys().cloned().collect(),
        operators: order
            .iter()
            .map(|&def| GraphOperator {
                name: spec.operators[def].name.clone(),
                def,
                inputs: operators[def].iter().map(output).collect(),
                ports: ports(def),
            })
            .collect(),
        sinks: sinks
            .iter()
            .map(|(name, inputs)| GraphSink {
                name: name.clone(),
                inputs: inputs.iter().map(output).collect(),
            })
            .collect(),
    })
}

fn names(spec: &PipelineSpec) -> BTreeMap<&str, Node> {
    let operators = spec.operators.iter().enumerate().map(|(at, o)| (o.name.as_str(), Node::Operator(at)));
    let sources = spec.sources.keys().enumerate().map(|(at, name)| (name.as_str(), Node::Source(at)));
    operators.chain(sources).collect()
}

struct Resolver<'a> {
    spec: &'a PipelineSpec,
    shapes: &'a [Option<OperatorShape>],
    names: BTreeMap<&'a str, Node>,
    errors: Vec<ChainError>,
}

impl Resolver<'_> {
    fn all_sources(&self) -> Vec<(Node, usize)> {
        (0..self.spec.sources.len()).map(|at| (Node::Source(at), 0)).collect()
    }

    fn operator(&mut self, at: usize) -> Vec<(Node, usize)> {
        let inputs = &self.spec.operators[at].inputs;
        match (inputs.is_empty(), at) {
            (true, 0) => self.all_sources(),
            (true, _) => vec![(Node::Operator(at - 1), 0)],
            (false, _) => self.named(inputs, |input| At::OperatorInput(at, input)),
        }
    }

    fn sink(&mut self, name: &str, inputs: &[Input]) -> Vec<(Node, usize)> {
        match (inputs.is_empty(), self.spec.operators.len()) {
            (true, 0) => self.all_sources(),
            (true, n) => vec![(Node::Operator(n - 1), 0)],
            (false, _) => self.named(inputs, |input| At::SinkInput(name.to_owned(), input)),
        }
    }

    fn named(&mut self, inputs: &[Input], at: impl Fn(usize) -> At) -> Vec<(Node, usize)> {
        let mut found = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            if self.errors.len() >= MOST_ERRORS {
                break;
            }
            match self.output(input) {
                // By its name as well: of an operator whose options are wrong, all outputs are one.
                Ok(output) if found.contains(&output) && inputs[..index].contains(input) => {
                    self.errors.push(ChainError {
                        at: at(index),
                        message: format!("`{input}` is named twice in these `inputs`"),
                        hint: Some("name each input once".to_owned()),
                    })
                }
                Ok(output) => found.push(output),
                Err((message, hint)) => self.errors.push(ChainError { at: at(index), message, hint }),
            }
        }
        found
    }

    fn output(&self, input: &Input) -> Result<(Node, usize), (String, Option<String>)> {
        let Some(&node) = self.names.get(input.node.as_str()) else {
            if self.spec.sinks.contains_key(&input.node) {
                let hint = Some("`inputs` names sources and operators".to_owned());
                return Err((format!("`{}` is a sink, nothing can be read from it", input.node), hint));
            }
            let hint = suggest::did_you_mean(&input.node, self.names.keys().copied())
                .or_else(|| Some(format!("there are: {}", suggest::list(self.names.keys().copied()))));
            return Err((format!("there is no source or operator `{}`", input.node), hint));
        };
        match (node, &input.port) {
            (_, None) => Ok((node, 0)),
            (Node::Source(_), Some(port)) => {
                let hint = Some(format!("write `{}`", input.node));
                Err((format!("`{}` is a source and has no output `{port}`", input.node), hint))
            }
            (Node::Operator(at), Some(port)) => match self.shapes.get(at).and_then(Option::as_ref) {
                None => Ok((node, 0)),
                Some(shape) => match shape.ports.iter().position(|p| p == port) {
                    Some(index) => Ok((node, index + 1)),
                    None => {
                        let hint = if shape.ports.is_empty() {
                            Some(format!("it has one output only: write `{}`", input.node))
                        } else {
                            suggest::did_you_mean(port, shape.ports.iter().map(String::as_str)).or_else(
                                || {
                                    Some(format!(
                                        "it has: {}",
                                        suggest::list(shape.ports.iter().map(String::as_str))
                                    ))
                                },
                            )
                        };
                        Err((format!("operator `{}` has no output `{port}`", input.node), hint))
                    }
                },
            },
        }
    }

    /// A source or an operator that nothing reads would drop records without a trace.
    fn unread(&mut self, operators: &[Vec<(Node, usize)>], sinks: &[(String, Vec<(Node, usize)>)]) {
        let inputs = operators.iter().chain(sinks.iter().map(|(_, inputs)| inputs));
        let all: BTreeSet<Node> = inputs.flatten().map(|(from, _)| *from).collect();
        let read = |node: Node| all.contains(&node);
        for (at, name) in self.spec.sources.keys().enumerate() {
            if !read(Node::Source(at)) {
                self.errors.push(ChainError {
                    at: At::Source(name.clone()),
                    message: format!("nothing reads source `{name}`"),
                    hint: Some(format!(
                        "name it in the `inputs` of an operator or a sink: `inputs: [{name}]`"
                    )),
                });
            }
        }
        for (at, operator) in self.spec.operators.iter().enumerate() {
            if !read(Node::Operator(at)) {
                let name = &operator.name;
                self.errors.push(ChainError {
                    at: At::Operator(at),
                    message: format!("nothing reads operator `{name}`, its records would be lost"),
                    hint: Some(format!(
                        "name it in the `inputs` of an operator or a sink: `inputs: [{name}]`"
                    )),
                });
            }
        }
    }

    fn cycle(&mut self, cycle: &[usize]) {
        let name = |&at: &usize| self.spec.operators[at].name.as_str();
        let first = cycle.first().copied().unwrap_or_default();
        let path: Vec<&str> = cycle.iter().chain(cycle.first()).map(name).collect();
        self.errors.push(ChainError {
            at: At::Operator(first),
            message: format!("operators read each other in a circle: {}", path.join(" <- ")),
            hint: Some("an operator may read only what does not depend on it".to_owned()),
        });
    }
}

/// Operators so that each comes after what it reads, otherwise in the order of the spec; or a circle of them.
fn topological(inputs: &[Vec<(Node, usize)>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order = Vec::with_capacity(inputs.len());
    let mut done = vec![false; inputs.len()];
    let waits = |at: usize, done: &[bool]| {
        inputs[at].iter().find_map(|(node, _)| match node {
            Node::Operator(on) if !done[*on] => Some(*on),
            _ => None,
        })
    };
    while order.len() < inputs.len() {
        match (0..inputs.len()).find(|&at| !done[at] && waits(at, &done).is_none()) {
            Some(at) => {
                done[at] = true;
                order.push(at);
            }
            None => {
                // All that is left waits for another that is left, so following the waits must meet itself.
                let mut path: Vec<usize> = (0..inputs.len()).filter(|&at| !done[at]).take(1).collect();
                while let Some(next) = path.last().and_then(|&at| waits(at, &done)) {
                    if let Some(start) = path.iter().position(|&at| at == next) {
                        path.drain(..start);
                        break;
                    }
                    path.push(next);
                }
                return Err(path);
            }
        }
    }
    Ok(order)
}
