//! ONNX Runtime: a C++ library that is loaded when it is first asked for. It has all operators, and is several times
//! faster on convolutions; the built-in runtime needs no library.

use crate::{
    batches,
    error::ModelError,
    model::{Model, Port, Runtime, Signature},
    onnx_check, strangers,
    tensor::{Dim, ElementType, Rows, TensorInfo},
};
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue, builder::SessionBuilder},
    value::{DynValue, Outlet, Tensor, TensorElementType, ValueType},
};
use std::{borrow::Cow, env, sync::OnceLock};

/// Names the library's file, as other programs that load it know; otherwise the loader looks where it always does.
const PLACE: &str = "ORT_DYLIB_PATH";
/// The file's name without a version, as a system's packages and our image have it.
const LIBRARY: &str = "libonnxruntime.so";

/// ONNX models through ONNX Runtime, on the CPU.
pub(crate) struct OnnxRuntime {
    environment: Environment,
}

impl OnnxRuntime {
    /// The library, loaded with the first call. There can be one of it in a process.
    ///
    /// # Errors
    /// It cannot be loaded: where it was looked for, and what the loader said.
    pub(crate) fn loaded() -> Result<&'static Self, ModelError> {
        static LOADED: OnceLock<Result<OnnxRuntime, String>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            if is_static() {
                return Err("this pelton is one static file, which can load none".into());
            }
            let place = env::var(PLACE).ok().filter(|path| !path.is_empty());
            let place = place.unwrap_or_else(|| LIBRARY.into());
            let environment = ort::init_from(&place).map_err(|e| format!("{e}; {PLACE} names the file"))?;
            // It would tell its vendor about its use.
            let environment = environment.with_name("pelton").with_telemetry(false);
            let environment = environment.build().map_err(|e| e.to_string())?;
            tracing::info!(library = place, "ONNX Runtime is loaded: {}", ort::info());
            Ok(Self { environment })
        });
        loaded
            .as_ref()
            .map_err(|why| ModelError::NoRuntime { why: format!("its library is not loaded: {why}") })
    }
}

/// Whether this program came without a dynamic loader. It would crash as it loads a library, not be refused.
fn is_static() -> bool {
    // SAFETY: it reads what the kernel gave the process at its start.
    let loader = unsafe { libc::getauxval(libc::AT_BASE) };
    loader == 0
}

impl Runtime for OnnxRuntime {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn load(&self, bytes: Vec<u8>) -> Result<Box<dyn Model>, ModelError> {
        strangers::refuse(&bytes)?;
        onnx_check::check(&bytes).map_err(|why| ModelError::NotAModel { why })?;
        let failed = |e: ort::Error| load_error(&e);
        // One thread, as an executor is a core; and none that waits by turning round.
        let refused = |e: ort::Error<SessionBuilder>| ModelError::Invalid { why: e.message().to_owned() };
        let builder = Session::builder(&self.environment).map_err(failed)?;
        let builder = builder.with_intra_threads(1).map_err(refused)?;
        let builder = builder.with_inter_threads(1).map_err(refused)?;
        let mut builder = builder.with_intra_op_spinning(false).map_err(refused)?;
        let session = builder.commit_from_memory(&bytes).map_err(failed)?;
        Ok(Box::new(OnnxModel::new(session)))
    }
}

fn load_error(error: &ort::Error) -> ModelError {
    let why = error.message().to_owned();
    match error.code() {
        ort::ErrorCode::InvalidProtobuf | ort::ErrorCode::NoModel => ModelError::NotAModel { why },
        ort::ErrorCode::NotImplemented => ModelError::UnsupportedOperator { operator: why },
        _ => ModelError::Invalid { why },
    }
}

struct OnnxModel {
    session: Session,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    /// Of the inputs. Rows know no 64-bit integers; the library must be given what the model names.
    elements: Vec<Option<TensorElementType>>,
}

impl OnnxModel {
    fn new(session: Session) -> Self {
        let inputs: Vec<TensorInfo> = session.inputs().iter().map(tensor_info).collect();
        let outputs = session.outputs().iter().map(tensor_info).collect();
        let elements = session.inputs().iter().map(|input| input.dtype().tensor_type()).collect();
        Self { session, inputs, outputs, elements }
    }

    /// One run of exactly these rows: the numbers of each output.
    fn run_once(
        &mut self,
        signature: &Signature,
        rows: &[f32],
        count: usize,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let failed = |e: ort::Error| ModelError::Run { why: e.message().to_owned() };
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        let mut from = 0;
        for port in &signature.inputs {
            let element = self.elements.get(port.index).copied().flatten();
            let numbers = batches::column(port, rows, signature.input_width(), from);
            let value = tensor(port, element, numbers, count).map_err(failed)?;
            inputs.push((Cow::Borrowed(port.name.as_str()), value.into()));
            from += port.width();
        }
        let results = self.session.run(inputs).map_err(failed)?;
        let column = |port: &Port| match results.get(&port.name) {
            Some(result) => numbers(port, result, count),
            None => Err(ModelError::Run { why: format!("it gave no tensor `{}`", port.name) }),
        };
        signature.outputs.iter().map(column).collect()
    }
}

impl Model for OnnxModel {
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

/// The tensor of one input. A number that the type cannot hold becomes the nearest that it can.
fn tensor(
    port: &Port,
    element: Option<TensorElementType>,
    numbers: impl Iterator<Item = f32>,
    count: usize,
) -> ort::Result<DynValue> {
    let shape = batches::shape(port, count);
    Ok(match element {
        Some(TensorElementType::Int64) => {
            Tensor::from_array((shape, numbers.map(|n| n as i64).collect::<Vec<_>>()))?.into_dyn()
        }
        Some(TensorElementType::Int32) => {
            Tensor::from_array((shape, numbers.map(|n| n as i32).collect::<Vec<_>>()))?.into_dyn()
        }
        Some(TensorElementType::Int8) => {
            Tensor::from_array((shape, numbers.map(|n| n as i8).collect::<Vec<_>>()))?.into_dyn()
        }
        Some(TensorElementType::Uint8) => {
            Tensor::from_array((shape, numbers.map(|n| n as u8).collect::<Vec<_>>()))?.into_dyn()
        }
        // Of any other type it says itself that these do not fit.
        _ => Tensor::from_array((shape, numbers.collect::<Vec<_>>()))?.into_dyn(),
    })
}

/// The numbers of one output, row after row.
fn numbers(port: &Port, result: &DynValue, count: usize) -> Result<Vec<f32>, ModelError> {
    let (Some(shape), Some(element)) = (result.dtype().tensor_shape(), result.dtype().tensor_type()) else {
        return Err(batches::wrong(port, count, "no tensor"));
    };
    let fits = |(given, wanted): (&i64, &usize)| usize::try_from(*given).is_ok_and(|given| given == *wanted);
    let wanted = batches::shape(port, count);
    if shape.len() != wanted.len() || !shape.iter().zip(&wanted).all(fits) {
        return Err(batches::wrong(port, count, &format!("{:?}", &shape[..])));
    }
    let numbers = match element {
        TensorElementType::Float32 => result.try_extract_tensor::<f32>().map(|(_, all)| all.to_vec()),
        TensorElementType::Int64 => {
            result.try_extract_tensor::<i64>().map(|(_, all)| all.iter().map(|n| *n as f32).collect())
        }
        TensorElementType::Int32 => {
            result.try_extract_tensor::<i32>().map(|(_, all)| all.iter().map(|n| *n as f32).collect())
        }
        TensorElementType::Int8 => {
            result.try_extract_tensor::<i8>().map(|(_, all)| all.iter().map(|n| f32::from(*n)).collect())
        }
        TensorElementType::Uint8 => {
            result.try_extract_tensor::<u8>().map(|(_, all)| all.iter().map(|n| f32::from(*n)).collect())
        }
        other => return Err(batches::wrong(port, count, &format!("{other} elements"))),
    };
    numbers.map_err(|e| ModelError::Run { why: e.message().to_owned() })
}

fn tensor_info(outlet: &Outlet) -> TensorInfo {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return TensorInfo { name, element: None, dims: None };
    };
    let element = match ty {
        TensorElementType::Float32 => Some(ElementType::F32),
        TensorElementType::Int32 | TensorElementType::Int64 => Some(ElementType::I32),
        TensorElementType::Int8 => Some(ElementType::I8),
        TensorElementType::Uint8 => Some(ElementType::U8),
        _ => None,
    };
    let symbols = dimension_symbols.iter().map(ToString::to_string).chain(std::iter::repeat(String::new()));
    let dims = shape.iter().zip(symbols).map(|(size, symbol)| match usize::try_from(*size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) if symbol.is_empty() => Dim::Symbolic("?".into()),
        Err(_) => Dim::Symbolic(symbol),
    });
    TensorInfo { name, element, dims: Some(dims.collect()) }
}
