//! Options of `infer`, and what they come to once checked.

use pelton_model::{Limits, ModelFile, Port, RtenRuntime, Runtime, lookup};
use pelton_model::{Model, ModelError};
use pelton_sdk::{BuildContext, OptionError, member::Path, parse_options};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Rows in one run at most: more gains nothing on a CPU and only delays.
const MAX_BATCH: usize = 4096;
/// A longer wait than this is surely a slip of the unit.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Run a model over a field of each record and write what it found into the record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct InferOptions {
    /// Model: a file of the models directory (`digits.onnx`), `name@version`, or a `file://` URL.
    model: String,
    input: InputOptions,
    output: OutputOptions,
    /// Names of the classes, in the model's order: a list, or a file with one on each line. Without it the label is the
    /// number of the class.
    labels: Option<Labels>,
    /// Records in one run of the model at most.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 4096))]
    max_batch: usize,
    /// How long a record waits for others to fill the run, such as `5ms`.
    #[serde(default = "default_delay")]
    max_delay: String,
}

fn default_batch() -> usize {
    32
}

fn default_delay() -> String {
    "5ms".into()
}

fn one() -> f32 {
    1.0
}

/// Where the model's numbers come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InputOptions {
    /// The field with the numbers, such as `.pixels` (an array, nested arrays are read row by row); or a list of fields
    /// with one number each.
    field: OneOrMany,
    /// Each number is multiplied by this.
    #[serde(default = "one")]
    scale: f32,
    /// Then this is added.
    #[serde(default)]
    offset: f32,
    /// The model's input tensor; not needed when it has only one.
    name: Option<String>,
}

/// Where the results go. At least one of `label`, `score`, `scores`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputOptions {
    /// Gets the class with the highest score, such as `.label`.
    label: Option<String>,
    /// Gets that score.
    score: Option<String>,
    /// Gets all scores, as an array in the model's order.
    scores: Option<String>,
    /// The model's output tensor; the first when not given.
    name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
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
    pub fields: Vec<Path>,
    pub scale: f32,
    pub offset: f32,
    /// Numbers the model takes from one record.
    pub width: usize,
    /// Names of top-level members.
    pub label: Option<String>,
    pub score: Option<String>,
    pub scores: Option<String>,
    /// JSON text of each class's label.
    pub labels: Vec<String>,
    pub limits: Limits,
}

/// Options that were checked against the model, and the model.
pub(crate) struct Checked {
    pub plan: Plan,
    pub name: String,
    pub file: ModelFile,
    pub model: Box<dyn Model>,
    pub input: Port,
    pub output: Port,
}

/// Find every mistake; the model is loaded on the way.
pub(crate) fn check(options: &Value, context: &BuildContext) -> Result<Checked, Vec<OptionError>> {
    let options: InferOptions = parse_options(options)?;
    let mut errors = Vec::new();
    let (pointers, fields): (Vec<String>, Vec<&str>) = match &options.input.field {
        OneOrMany::One(field) => (vec!["/input/field".into()], vec![field]),
        OneOrMany::Many(all) => (
            (0..all.len()).map(|i| format!("/input/field/{i}")).collect(),
            all.iter().map(String::as_str).collect(),
        ),
    };
    let fields: Vec<Path> = pointers
        .iter()
        .zip(fields)
        .filter_map(|(at, text)| keep(Path::parse(text), at, &mut errors))
        .collect();
    if pointers.is_empty() {
        errors.push(OptionError::at("/input/field", "the list of fields is empty"));
    }
    for (at, number) in [("/input/scale", options.input.scale), ("/input/offset", options.input.offset)] {
        if !number.is_finite() {
            errors.push(OptionError::at(at, format!("{number} is not a finite 32-bit number")));
        }
    }
    let [label, score, scores] = outputs(&options.output, &mut errors);
    let limits = limits(&options, &mut errors);
    let names = label_names(options.labels.as_ref(), context, &mut errors);
    let model = load(&options, context, &mut errors);
    let (Some(limits), Some((file, model, input, output))) = (limits, model) else { return Err(errors) };

    let many = matches!(options.input.field, OneOrMany::Many(_));
    if many && pointers.len() != input.width() {
        let message =
            format!("{} fields are given, the model takes {} numbers", pointers.len(), input.width());
        errors.push(
            OptionError::at("/input/field", message)
                .hint(format!("its input is `{}`", model.inputs()[input.index])),
        );
    }
    let labels = match names {
        None => (0..output.width()).map(|i| i.to_string()).collect(),
        Some(names) => {
            if names.len() != output.width() {
                let message =
                    format!("{} labels are given, the model has {} classes", names.len(), output.width());
                errors.push(
                    OptionError::at("/labels", message)
                        .hint(format!("its output is `{}`", model.outputs()[output.index])),
                );
            }
            names.into_iter().map(|name| Value::String(name).to_string()).collect()
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let (scale, offset, width) = (options.input.scale, options.input.offset, input.width());
    let plan = Plan { fields, scale, offset, width, label, score, scores, labels, limits };
    Ok(Checked { plan, name: options.model, file, model, input, output })
}

fn keep<T>(found: Result<T, String>, at: &str, errors: &mut Vec<OptionError>) -> Option<T> {
    found
        .map_err(|message| {
            errors.push(OptionError::at(at, message).hint("a path is written `.pixels` or `.image.pixels`"))
        })
        .ok()
}

fn outputs(options: &OutputOptions, errors: &mut Vec<OptionError>) -> [Option<String>; 3] {
    let given = [("label", &options.label), ("score", &options.score), ("scores", &options.scores)];
    if given.iter().all(|(_, path)| path.is_none()) {
        errors.push(
            OptionError::at("/output", "nothing of the result is written")
                .hint("name a member, such as `label: .label`"),
        );
    }
    let mut seen: Vec<String> = Vec::new();
    given.map(|(key, text)| {
        let at = format!("/output/{key}");
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
    })
}

fn limits(options: &InferOptions, errors: &mut Vec<OptionError>) -> Option<Limits> {
    if !(1..=MAX_BATCH).contains(&options.max_batch) {
        errors.push(OptionError::at(
            "/maxBatch",
            format!("{} is not between 1 and {MAX_BATCH}", options.max_batch),
        ));
    }
    match duration(&options.max_delay) {
        Some(max_delay) if max_delay <= MAX_DELAY => Some(Limits { max_batch: options.max_batch, max_delay }),
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
    labels: Option<&Labels>,
    context: &BuildContext,
    errors: &mut Vec<OptionError>,
) -> Option<Vec<String>> {
    match labels? {
        Labels::List(names) => Some(names.clone()),
        Labels::File(name) => lookup::read_text(name, &context.models)
            .map(|text| text.lines().map(str::to_owned).collect())
            .map_err(|e| errors.push(OptionError::at("/labels", e.to_string())))
            .ok(),
    }
}

type Loaded = (ModelFile, Box<dyn Model>, Port, Port);

fn load(options: &InferOptions, context: &BuildContext, errors: &mut Vec<OptionError>) -> Option<Loaded> {
    let mut note = |at: &str, error: &ModelError| errors.push(model_error(at, error));
    let mut file = lookup::read(&options.model, &context.models).map_err(|e| note("/model", &e)).ok()?;
    let bytes = std::mem::take(&mut file.bytes);
    let model = RtenRuntime
        .load(bytes)
        .map_err(|e| {
            let mut error = model_error("/model", &e);
            error.message = format!("model `{}` ({}): {}", options.model, file.path.display(), error.message);
            errors.push(error);
        })
        .ok()?;
    let mut note = |at: &str, error: &ModelError| errors.push(model_error(at, error));
    let at = |name: &Option<String>, with: &'static str| if name.is_some() { with } else { "/model" };
    let input = Port::input(&*model, options.input.name.as_deref());
    let output = Port::output(&*model, options.output.name.as_deref());
    let input = input.map_err(|e| note(at(&options.input.name, "/input/name"), &e)).ok();
    let output = output.map_err(|e| note(at(&options.output.name, "/output/name"), &e)).ok();
    Some((file, model, input?, output?))
}

fn model_error(at: &str, error: &ModelError) -> OptionError {
    let made = OptionError::at(at, error.to_string());
    match error {
        ModelError::Missing { .. } => made.hint("put the file there, or give its place as file:///..."),
        ModelError::UnknownTensor { kind, .. } => made.hint(format!("use the {kind}'s name in the model")),
        ModelError::UnsupportedOperator { .. } => {
            made.hint("export the model with plain operators (without `ai.onnx.ml`, for instance)")
        }
        ModelError::Shape { .. } => {
            made.hint("export the model with input [batch, ...] and output [batch, n]")
        }
        _ => made,
    }
}
