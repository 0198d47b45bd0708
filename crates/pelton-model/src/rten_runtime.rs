//! The built-in runtime: `rten`, in Rust, on the CPU.

use crate::{
    error::ModelError,
    model::{Model, Port, Runtime},
    onnx_check,
    tensor::{Dim, ElementType, Rows, TensorInfo},
};
use rten::{
    DataType, Dimension, LoadErrorKind, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueType,
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
        refuse_obvious_strangers(&bytes)?;
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

/// What files look like that people take for models; everything else is up to the parser.
fn refuse_obvious_strangers(bytes: &[u8]) -> Result<(), ModelError> {
    let looks = match bytes {
        [] => "the file is empty",
        [b'P', b'K', 3, 4, ..] => "it is a zip archive (a PyTorch or NumPy file?); export to ONNX",
        [0x89, b'H', b'D', b'F', ..] => "it is an HDF5 file (Keras?); export to ONNX",
        [0x1f, 0x8b, ..] => "it is compressed with gzip",
        _ if bytes.starts_with(b"version https://git-lfs") => "it is a Git LFS pointer; run git lfs pull",
        // A model begins with a control character, the tag of its first field.
        _ if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            "it looks like text"
        }
        _ => return Ok(()),
    };
    Err(ModelError::NotAModel { why: looks.into() })
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

    /// One run of exactly these rows; appends the results.
    fn run_once(
        &self,
        input: &Port,
        output: &Port,
        rows: &[f32],
        count: usize,
        out: &mut Rows,
    ) -> Result<(), ModelError> {
        let unknown =
            |port: &Port| ModelError::Run { why: format!("the model has no tensor number {}", port.index) };
        let from = *self.input_ids.get(input.index).ok_or_else(|| unknown(input))?;
        let to = *self.output_ids.get(output.index).ok_or_else(|| unknown(output))?;
        let mut dims = Vec::with_capacity(1 + input.dims.len());
        dims.push(count);
        dims.extend_from_slice(&input.dims);
        let view: TensorView<'_, f32> = TensorView::from_data(&dims, rows);
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let mut results = self
            .model
            .run(vec![(from, view.into())], &[to], Some(options))
            .map_err(|e| ModelError::Run { why: e.to_string() })?;
        match results.pop() {
            Some(Value::FloatTensor(result)) => take_rows(&result, output, count, out),
            Some(other) => Err(wrong(output, count, &format!("{:?} elements", other.dtype()))),
            None => Err(wrong(output, count, "nothing")),
        }
    }
}

fn take_rows(result: &Tensor<f32>, output: &Port, count: usize, out: &mut Rows) -> Result<(), ModelError> {
    if result.shape() != [count, output.width()] {
        return Err(wrong(output, count, &format!("{:?}", result.shape())));
    }
    out.append(&Rows::from_values(output.width(), result.to_vec()));
    Ok(())
}

fn wrong(output: &Port, count: usize, given: &str) -> ModelError {
    ModelError::Shape {
        tensor: output.name.clone(),
        expected: format!("[{count}, {}]", output.width()),
        given: given.to_owned(),
    }
}

impl Model for RtenModel {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    fn run(&mut self, input: &Port, output: &Port, rows: &Rows) -> Result<Rows, ModelError> {
        if rows.width() != input.width() {
            return Err(ModelError::Shape {
                tensor: input.name.clone(),
                expected: format!("{} numbers in a row", input.width()),
                given: rows.width().to_string(),
            });
        }
        let mut out = Rows::new(output.width());
        let Some(batch) = input.batch else {
            if !rows.is_empty() {
                self.run_once(input, output, rows.values(), rows.len(), &mut out)?;
            }
            return Ok(out);
        };
        // A model exported for a fixed batch: fill up the last run with zeros and drop what comes of them.
        for chunk in rows.values().chunks(batch * input.width()) {
            let mut padded = chunk.to_vec();
            padded.resize(batch * input.width(), 0.0);
            self.run_once(input, output, &padded, batch, &mut out)?;
        }
        Ok(out.slice(0, rows.len()))
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
