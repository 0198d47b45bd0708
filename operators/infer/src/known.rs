//! Models that an executor knows: each is read and loaded once, however many operators and tasks name it.

use pelton_model::{
    Digest, Model, ModelError, ModelFile, Rows, Runtime, Service, Signature, TensorInfo, lookup,
};
use pelton_sdk::{BuildContext, OptionError, Services};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// What is known of the model with one digest.
#[derive(Default)]
pub(crate) struct Known {
    tensors: Option<Arc<Tensors>>,
    /// Loaded by a check, for the build that follows.
    spare: Option<Box<dyn Model>>,
    /// Times it was loaded.
    pub loads: usize,
}

/// A service while somebody uses it: it ends with its last operator, not with the executor.
pub(crate) type Running = Mutex<Weak<Service>>;

/// A model's inputs and outputs without the model.
pub(crate) struct Tensors {
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl Model for Tensors {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }
    fn run(&mut self, _: &Signature, _: &Rows) -> Result<Rows, ModelError> {
        Err(ModelError::Run { why: "only its description is here".into() })
    }
}

/// A model as far as options are checked against it.
pub(crate) struct Described {
    pub digest: Digest,
    pub tensors: Arc<Tensors>,
}

/// The slot of a model and what runs it among the things an executor shares.
pub(crate) fn slot(digest: Digest, runtime: &dyn Runtime, services: &Services) -> Arc<Mutex<Known>> {
    let key = format!("infer model {digest} {}", runtime.name());
    match services.get_or_try_insert(&key, || Ok::<_, Infallible>(Mutex::<Known>::default())) {
        Ok(Some(slot)) => slot,
        // Nobody else uses such a key; if somebody did, the model would be loaded for each operator.
        Ok(None) | Err(_) => Arc::default(),
    }
}

/// Find a model and learn its tensors.
pub(crate) fn describe(
    name: &str,
    runtime: &dyn Runtime,
    context: &BuildContext,
    errors: &mut Vec<OptionError>,
) -> Option<Described> {
    let file =
        lookup::read(name, &context.models).map_err(|e| errors.push(model_error("/model", &e))).ok()?;
    let slot = slot(file.digest, runtime, &context.services);
    let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tensors) = known.tensors.clone() {
        return Some(Described { digest: file.digest, tensors });
    }
    let digest = file.digest;
    let model = load(name, file, runtime, &mut known).map_err(|error| errors.push(error)).ok()?;
    let tensors = Arc::new(Tensors { inputs: model.inputs().to_vec(), outputs: model.outputs().to_vec() });
    known.tensors = Some(tensors.clone());
    // Where operators run, one is built next; whoever only checks must not keep a model for it.
    known.spare = context.background.available().then_some(model);
    Some(Described { digest, tensors })
}

/// The model itself, to be run.
pub(crate) fn take(
    name: &str,
    digest: Digest,
    runtime: &dyn Runtime,
    context: &BuildContext,
) -> Result<Box<dyn Model>, OptionError> {
    let slot = slot(digest, runtime, &context.services);
    let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spare) = known.spare.take() {
        return Ok(spare);
    }
    let file = lookup::read(name, &context.models).map_err(|e| model_error("/model", &e))?;
    if file.digest != digest {
        let message = format!("model `{name}` ({}) changed while it was read", file.path.display());
        return Err(OptionError::at("/model", message).hint("apply again once it is written"));
    }
    load(name, file, runtime, &mut known)
}

fn load(
    name: &str,
    file: ModelFile,
    runtime: &dyn Runtime,
    known: &mut Known,
) -> Result<Box<dyn Model>, OptionError> {
    known.loads += 1;
    runtime.load(file.bytes).map_err(|e| {
        let mut error = model_error("/model", &e);
        error.message = format!("model `{name}` ({}): {}", file.path.display(), error.message);
        error
    })
}

/// A mistake that the model shows.
pub(crate) fn model_error(at: &str, error: &ModelError) -> OptionError {
    let made = OptionError::at(at, error.to_string());
    match error {
        ModelError::Missing { .. } => made.hint("put the file there, or give its place as file:///..."),
        ModelError::UnknownTensor { kind, .. } => made.hint(format!("use the {kind}'s name in the model")),
        ModelError::NoRuntime { .. } => made.hint(
            "run the image `pelton-onnx`, which has it, or leave the choice to Pelton with `runtime: auto`",
        ),
        ModelError::UnsupportedOperator { .. } => {
            made.hint("export the model with plain operators (without `ai.onnx.ml`, for instance)")
        }
        ModelError::Shape { .. } => {
            made.hint("name each input in `inputs`, and give a `shape` where the model has none")
        }
        _ => made,
    }
}
