//! The built-in runtime: `rten`, in Rust, on the CPU.

use crate::{
    batches,
    error::ModelError,
    model::{Model, Port, Runtime, Signature},
    onnx_check, strangers,
    tensor::{Dim, ElementType, Rows, TensorInfo},
};
use rten::{
    DataType, Dimension, LoadErrorKind, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView,
    ValueType,
};
use rten_tensor::{Tensor, TensorView, prelude::*};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// ONNX models through `rten`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtenRuntime;

impl Runtime for RtenRuntime {
    fn name(&self) -> &'static str {
        "rten"
    }

    fn load(&self, bytes: Vec<u8>) -> Result<Box<dyn Model>, ModelError> {
        strangers::refuse(&bytes)?;
        onnx_check::check(&bytes).map_err(|why| ModelError::NotAModel { why })?;
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        // The parser reads bytes from outside; a panic in it must not take an executor down.
        let model = catch_unwind(AssertUnwindSafe(|| options.load(bytes)))
            .map_err(|panic| ModelError::NotAModel {
                why: format!("its parser panicked: {}", panic_text(&*panic)),
            })?
            .map_err(|e| load_error(&e))?;
        Ok(Box::new(RtenModel::new(model)))
    }
}

fn load_error(error: &rten::LoadError) -> ModelError {
    let why = error.to_string();
    match error.kind() {
        LoadErrorKind::UnknownFileType => {
            ModelError::NotAModel { why: "its bytes are of no known format".into() }
        }
        LoadErrorKind::ParseError => ModelError::NotAModel { why },
        LoadErrorKind::FormatNotEnabled => {
            ModelError::NotAModel { why: "it is in rten's own format; use the .onnx file".into() }
        }
        LoadErrorKind::OperatorInvalid => match why.split_once(" operator not supported") {
            Some((before, _)) => {
                let operator = before.rsplit("operator error: ").next().unwrap_or(before).to_owned();
                let node = error.node().map(|node| format!(" (node `{node}`)")).unwrap_or_default();
                ModelError::UnsupportedOperator { operator: format!("{operator}{node}") }
            }
            None => ModelError::Invalid { why },
        },
        _ => ModelError::Invalid { why },
    }
}

/// The message of a panic, as far as it is text.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

struct RtenModel {
    model: rten::Model,
    // One thread: rten hands the work of a run to a pool as big as the machine otherwise, and an executor is a core.
    pool: Arc<ThreadPool>,
    input_ids: Vec<NodeId>,
    output_ids: Vec<NodeId>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl RtenModel {
    fn new(model: rten::Model) -> Self {
        let describe = |ids: &[NodeId]| ids.iter().map(|id| tensor_info(&model, *id)).collect::<Vec<_>>();
        let (input_ids, output_ids) = (model.input_ids().to_vec(), model.output_ids().to_vec());
        let (inputs, outputs) = (describe(&input_ids), describe(&output_ids));
        Self {
            model,
            pool: Arc::new(ThreadPool::with_num_threads(1)),
            input_ids,
            output_ids,
            inputs,
            outputs,
        }
    }

    /// One run of exactly these rows: the numbers of each output.
    fn run_once(
        &self,
        signature: &Signature,
        rows: &[f32],
        count: usize,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let unknown =
            |port: &Port| ModelError::Run { why: format!("the model has no tensor number {}", port.index) };
        let mut inputs = Vec::with_capacity(signature.inputs.len());
        let mut from = 0;
        for port in &signature.inputs {
            let id = *self.input_ids.get(port.index).ok_or_else(|| unknown(port))?;
            inputs.push((id, tensor(port, rows, signature.input_width(), from, count)));
            from += port.width();
        }
        let ids =
            signature.outputs.iter().map(|p| self.output_ids.get(p.index).copied().ok_or_else(|| unknown(p)));
        let ids: Vec<NodeId> = ids.collect::<Result<_, _>>()?;
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let results = self
            .model
            .run(inputs, &ids, Some(options))
            .map_err(|e| ModelError::Run { why: e.to_string() })?;
        if results.len() != signature.outputs.len() {
            return Err(ModelError::Run { why: format!("it gave {} tensors", results.len()) });
        }
        signature.outputs.iter().zip(&results).map(|(port, result)| numbers(port, result, count)).collect()
    }
}

/// The tensor of one input: the numbers of each row from `from` on.
fn tensor<'r>(port: &Port, rows: &'r [f32], row: usize, from: usize, count: usize) -> ValueOrView<'r> {
    let dims = batches::shape(port, count);
    let own = batches::column(port, rows, row, from);
    // A number that the type cannot hold becomes the nearest that it can.
    match port.element {
        ElementType::F32 if row == port.width() => TensorView::from_data(&dims, rows).into(),
        ElementType::F32 => Tensor::from_data(&dims, own.collect::<Vec<_>>()).into(),
        ElementType::I32 => Tensor::from_data(&dims, own.map(|n| n as i32).collect::<Vec<_>>()).into(),
        ElementType::I8 => Tensor::from_data(&dims, own.map(|n| n as i8).collect::<Vec<_>>()).into(),
        ElementType::U8 => Tensor::from_data(&dims, own.map(|n| n as u8).collect::<Vec<_>>()).into(),
    }
}

/// The numbers of one output, row after row.
fn numbers(port: &Port, result: &Value, count: usize) -> Result<Vec<f32>, ModelError> {
    let shape = result.shape();
    if shape.first() != Some(&count) || shape[1..] != port.dims[..] {
        return Err(batches::wrong(port, count, &format!("{:?}", &shape[..])));
    }
    Ok(match result {
        Value::FloatTensor(t) => t.to_vec(),
        Value::Int32Tensor(t) => t.iter().map(|n| *n as f32).collect(),
        Value::Int8Tensor(t) => t.iter().map(|n| f32::from(*n)).collect(),
        Value::UInt8Tensor(t) => t.iter().map(|n| f32::from(*n)).collect(),
        other => return Err(batches::wrong(port, count, &format!("{:?} elements", other.dtype()))),
    })
}

impl Model for RtenModel {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    fn run(&mut self, signature: &Signature, rows: &Rows) -> Result<Rows, ModelError> {
        batches::run_all(signature, rows, |numbers, count| self.run_once(signature, numbers, count))
    }
}

fn tensor_info(model: &rten::Model, id: NodeId) -> TensorInfo {
    let node = model.node_info(id);
    let element = node.as_ref().and_then(|n| n.dtype()).and_then(|t| match t {
        ValueType::Tensor(DataType::Float) => Some(ElementType::F32),
        ValueType::Tensor(DataType::Int32) => Some(ElementType::I32),
        ValueType::Tensor(DataType::Int8) => Some(ElementType::I8),
        ValueType::Tensor(DataType::UInt8) => Some(ElementType::U8),
        _ => None,
    });
    let dims = node.as_ref().and_then(|n| n.shape()).map(|dims| {
        dims.into_iter()
            .map(|dim| match dim {
                Dimension::Fixed(n) => Dim::Fixed(n),
                Dimension::Symbolic(name) => Dim::Symbolic(name),
            })
            .collect()
    });
    let name = node.as_ref().and_then(|n| n.name()).unwrap_or_default().to_owned();
    TensorInfo { name, element, dims }
}
