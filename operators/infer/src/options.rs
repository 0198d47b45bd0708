//! Options of `infer`, and what they come to once checked.

mod input;

pub(crate) use input::{Format, Input, Source};

use crate::known;
use input::InputOptions;
use pelton_model::{Digest, Engine, Limits, Model, ModelError, Port, Runtime, Signature, lookup};
use pelton_sdk::{BuildContext, OptionError, Order, member::Path, parse_options};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Rows in one run at most: more gains nothing on a CPU and only delays.
const MAX_BATCH: usize = 4096;
/// Batches beyond this are not tried by themselves: on a core of a CPU none gained from more.
const MOST_MEASURED: usize = 64;
/// A longer wait than this is surely a slip of the unit.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Run a model over fields of each record and write what it found into the record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct InferOptions {
    /// Model: a file of the models directory (`digits.onnx`), `name@version`, or a `file://` URL.
    model: String,
    /// What runs it: `rten` is built in; `onnxruntime` is in the image `pelton-onnx`, has all operators and is faster on
    /// convolutions; `auto` is that one where it is there.
    #[serde(default)]
    runtime: RuntimeName,
    /// Where the numbers of the model's only input come from.
    input: Option<InputOptions>,
    /// The same for a model with several inputs, each with its `name`.
    #[serde(default)]
    inputs: Vec<InputOptions>,
    /// Where the results of one output go.
    output: Option<OutputOptions>,
    /// The same for several outputs, each with its `name`.
    #[serde(default)]
    outputs: Vec<OutputOptions>,
    /// Names of the classes of `output`, in the model's order: a list, or a file with one on each line. Without it the
    /// label is the number of the class.
    labels: Option<Labels>,
    /// Records in one run of the model at most: a number, or `auto`, which measures at the start what is worth it.
    #[serde(default)]
    max_batch: BatchSize,
    /// How long a record waits for others to fill the run, such as `5ms`.
    #[serde(default = "default_delay")]
    max_delay: String,
    /// In which order records leave. `key` keeps that of the partition.
    #[serde(default)]
    order: Order,
}

/// What runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RuntimeName {
    #[default]
    Auto,
    Rten,
    OnnxRuntime,
}

impl From<RuntimeName> for Engine {
    fn from(name: RuntimeName) -> Self {
        match name {
            RuntimeName::Auto => Engine::Auto,
            RuntimeName::Rten => Engine::Rten,
            RuntimeName::OnnxRuntime => Engine::OnnxRuntime,
        }
    }
}

/// Rows in a run at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum BatchSize {
    /// So many.
    Fixed(usize),
    /// What is measured.
    #[default]
    #[serde(with = "auto")]
    #[schemars(with = "String", extend("enum" = ["auto"]))]
    Auto,
}

/// The word `auto`.
mod auto {
    use serde::{Deserialize, Deserializer, de::Error};
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        match &*String::deserialize(from)? {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor `auto`"))),
        }
    }
}

fn default_delay() -> String {
    "5ms".into()
}

fn default_k() -> usize {
    5
}

fn one() -> f32 {
    1.0
}

/// Where the results go. At least one of `label`, `score`, `scores`, `top`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputOptions {
    /// Gets the class with the highest score, such as `.label`.
    label: Option<String>,
    /// Gets that score.
    score: Option<String>,
    /// Gets all numbers, as an array in the model's order.
    scores: Option<String>,
    /// Gets the `k` best classes, as an array of `{label, score}`.
    top: Option<String>,
    /// How many `top` gets.
    #[serde(default = "default_k")]
    #[schemars(range(min = 1, max = 1000))]
    k: usize,
    /// Turn the model's numbers into shares of one first: for models that end with logits.
    #[serde(default)]
    softmax: bool,
    /// Names of this output's classes, as the option `labels`.
    labels: Option<Labels>,
    /// Dimensions of one record's results, where the model leaves them open.
    shape: Option<Vec<usize>>,
    /// The model's output tensor; the first when not given.
    name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Labels {
    List(Vec<String>),
    File(String),
}

/// What an operator does with each record.
#[derive(Debug)]
pub(crate) struct Plan {
    pub inputs: Vec<Input>,
    /// The value of a record is the input, so the results replace it.
    pub replace: bool,
    /// Reading a record takes long: it is done where the model runs.
    pub slow: bool,
    /// Numbers the model takes from one record.
    pub width: usize,
    pub outputs: Vec<Output>,
    pub limits: Limits,
    pub order: Order,
}

/// What is written of one output. Names are those of top-level members.
#[derive(Debug)]
pub(crate) struct Output {
    pub label: Option<String>,
    pub score: Option<String>,
    pub scores: Option<String>,
    pub top: Option<String>,
    pub k: usize,
    pub softmax: bool,
    /// Labels are names, not the numbers of classes.
    pub named: bool,
    /// JSON text of each class's label.
    pub labels: Vec<String>,
    pub width: usize,
}

/// Options that were checked against the model.
pub(crate) struct Checked {
    pub plan: Plan,
    pub name: String,
    pub digest: Digest,
    pub runtime: &'static dyn Runtime,
    pub signature: Signature,
}

/// Find every mistake; the model is loaded on the way, unless it is known already.
pub(crate) fn check(options: &Value, context: &BuildContext) -> Result<Checked, Vec<OptionError>> {
    let options: InferOptions = parse_options(options)?;
    let mut errors = Vec::new();
    let given_inputs = one_or_list("input", &options.input, &options.inputs, &mut errors);
    let given_outputs = one_or_list("output", &options.output, &options.outputs, &mut errors);
    let mut inputs: Vec<Option<Input>> =
        given_inputs.iter().map(|(at, given)| input::read(at, given, &mut errors)).collect();
    input::agree(&given_inputs, &mut errors);
    let mut seen = Vec::new();
    let mut outputs: Vec<Output> =
        given_outputs.iter().map(|(at, output)| members(at, output, &mut seen, &mut errors)).collect();
    let limits = limits(&options, &mut errors);
    let names: Vec<Names> = given_outputs
        .iter()
        .map(|(at, output)| label_names(at, output, &options, context, &mut errors))
        .collect();
    let runtime = Engine::from(options.runtime).runtime();
    let runtime = runtime.map_err(|e| errors.push(known::model_error("/runtime", &e)));
    let Ok(runtime) = runtime else { return Err(errors) };
    let model = known::describe(&options.model, runtime, context, &mut errors);
    let Some(model) = model else { return Err(errors) };
    let tensors = &*model.tensors;
    let mut ports: [Vec<Port>; 2] = Default::default();
    for ((at, given), input) in given_inputs.iter().zip(&mut inputs) {
        let port = Port::input(tensors, given.name.as_deref(), given.shape.as_deref());
        let at_name = if given.name.is_some() { format!("{at}/name") } else { "/model".into() };
        let at_port = if given.shape.is_some() { format!("{at}/shape") } else { at_name };
        if let Some(port) = keep_port(port, &at_port, &mut errors) {
            if let Some(input) = input {
                input::fit(input, at, given, (tensors, &port), &mut errors);
            }
            ports[0].push(port);
        }
    }
    for (((at, given), output), names) in given_outputs.iter().zip(&mut outputs).zip(names) {
        let port = Port::output(tensors, given.name.as_deref(), given.shape.as_deref());
        let at_name = if given.name.is_some() { format!("{at}/name") } else { "/model".into() };
        let at = if given.shape.is_some() { format!("{at}/shape") } else { at_name };
        if let Some(port) = keep_port(port, &at, &mut errors) {
            fit_output(output, names, tensors, &port, &mut errors);
            ports[1].push(port);
        }
    }
    let (Some(limits), true) = (limits, errors.is_empty()) else { return Err(errors) };
    let [input_ports, output_ports] = ports;
    let signature = Signature::new(tensors, input_ports, output_ports)
        .map_err(|e| vec![known::model_error("/inputs", &e)])?;
    let inputs: Vec<Input> = inputs.into_iter().flatten().collect();
    let plan = Plan {
        width: signature.input_width(),
        replace: inputs.iter().any(|input| matches!(input.source, Source::Record)),
        slow: inputs.iter().any(|input| input.image.is_some()),
        inputs,
        outputs,
        limits,
        order: options.order,
    };
    Ok(Checked { plan, name: options.model, digest: model.digest, runtime, signature })
}

/// Names of classes, and where they were given.
type Names = (String, Option<Vec<String>>);

/// `input: ...` or `inputs: [...]`, each with its pointer.
fn one_or_list<'o, T>(
    name: &str,
    one: &'o Option<T>,
    list: &'o [T],
    errors: &mut Vec<OptionError>,
) -> Vec<(String, &'o T)> {
    match (one, list) {
        (Some(one), []) => vec![(format!("/{name}"), one)],
        (None, [_, ..]) => list.iter().enumerate().map(|(i, each)| (format!("/{name}s/{i}"), each)).collect(),
        (Some(_), _) => {
            errors.push(OptionError::at(format!("/{name}s"), format!("`{name}` is given as well")));
            Vec::new()
        }
        (None, []) => {
            errors.push(OptionError::at("", format!("`{name}` is missing")));
            Vec::new()
        }
    }
}

fn keep_port(port: Result<Port, ModelError>, at: &str, errors: &mut Vec<OptionError>) -> Option<Port> {
    port.map_err(|e| errors.push(known::model_error(at, &e))).ok()
}

fn fit_output(
    output: &mut Output,
    (at, names): Names,
    model: &dyn Model,
    port: &Port,
    errors: &mut Vec<OptionError>,
) {
    output.width = port.width();
    output.named = names.is_some();
    output.labels = match names {
        None => (0..port.width()).map(|i| i.to_string()).collect(),
        Some(names) => {
            if names.len() != port.width() {
                let message =
                    format!("{} labels are given, the model has {} classes", names.len(), port.width());
                errors.push(
                    OptionError::at(at, message)
                        .hint(format!("its output is `{}`", model.outputs()[port.index])),
                );
            }
            names.into_iter().map(|name| Value::String(name).to_string()).collect()
        }
    };
}

fn keep<T>(found: Result<T, String>, at: &str, errors: &mut Vec<OptionError>) -> Option<T> {
    found
        .map_err(|message| {
            errors.push(OptionError::at(at, message).hint("a path is written `.pixels` or `.image.pixels`"))
        })
        .ok()
}

/// The members that an output writes.
fn members(at: &str, given: &OutputOptions, seen: &mut Vec<String>, errors: &mut Vec<OptionError>) -> Output {
    let asked =
        [("label", &given.label), ("score", &given.score), ("scores", &given.scores), ("top", &given.top)];
    if asked.iter().all(|(_, path)| path.is_none()) {
        errors.push(
            OptionError::at(at, "nothing of the result is written")
                .hint("name a member, such as `label: .label`"),
        );
    }
    between(format!("{at}/k"), given.k, 1000, errors);
    let [label, score, scores, top] = asked.map(|(key, text)| {
        let at = format!("{at}/{key}");
        let path = keep(Path::parse(text.as_deref()?), &at, errors)?;
        let Some(name) = path.top_level() else {
            let message =
                format!("`{path}` lies inside another member; infer writes members of the record itself");
            errors.push(
                OptionError::at(at, message)
                    .hint("write `.label`, and move it with a `map` behind this step"),
            );
            return None;
        };
        if seen.iter().any(|other| other == name) {
            errors.push(OptionError::at(at, format!("`{path}` is written twice")));
            return None;
        }
        seen.push(name.to_owned());
        Some(name.to_owned())
    });
    let (k, softmax) = (given.k, given.softmax);
    Output { label, score, scores, top, k, softmax, named: false, labels: Vec::new(), width: 0 }
}

/// Refuse a number that is not between 1 and `most`.
pub(crate) fn between(at: String, number: usize, most: usize, errors: &mut Vec<OptionError>) {
    if !(1..=most).contains(&number) {
        errors.push(OptionError::at(at, format!("{number} is not between 1 and {most}")));
    }
}

fn limits(options: &InferOptions, errors: &mut Vec<OptionError>) -> Option<Limits> {
    let (max_batch, calibrate) = match options.max_batch {
        BatchSize::Fixed(rows) => (rows, false),
        BatchSize::Auto => (MOST_MEASURED, true),
    };
    between("/maxBatch".into(), max_batch, MAX_BATCH, errors);
    match duration(&options.max_delay) {
        Some(max_delay) if max_delay <= MAX_DELAY => Some(Limits { max_batch, max_delay, calibrate }),
        Some(_) => {
            let message = format!(
                "`{}` is longer than the {} s that are allowed",
                options.max_delay,
                MAX_DELAY.as_secs()
            );
            errors.push(OptionError::at("/maxDelay", message));
            None
        }
        None => {
            let message = format!("`{}` is not a duration", options.max_delay);
            errors.push(OptionError::at("/maxDelay", message).hint("write `500us`, `5ms` or `1s`"));
            None
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let n: u64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(Duration::from_micros(n)),
        "ms" => Some(Duration::from_millis(n)),
        "s" => Some(Duration::from_secs(n)),
        _ => None,
    }
}

fn label_names(
    at: &str,
    output: &OutputOptions,
    options: &InferOptions,
    context: &BuildContext,
    errors: &mut Vec<OptionError>,
) -> Names {
    // `labels` beside `output` is the short form for the only one there is.
    let (at, labels) = match (&output.labels, &options.labels) {
        (Some(labels), _) => (format!("{at}/labels"), Some(labels)),
        (None, labels) => ("/labels".to_owned(), labels.as_ref().filter(|_| options.outputs.is_empty())),
    };
    let names = match labels {
        None => None,
        Some(Labels::List(names)) => Some(names.clone()),
        Some(Labels::File(name)) => lookup::read_text(name, &context.models)
            .map(|text| text.lines().map(str::to_owned).collect())
            .map_err(|e| errors.push(OptionError::at(at.clone(), e.to_string())))
            .ok(),
    };
    (at, names)
}
