//! Inference: models behind one trait, and a service that fills batches across the tasks of an executor.
//!
//! * [`lookup`]: from the name in a pipeline to bytes and their digest;
//! * [`Runtime`] and [`Model`]: what an inference engine must do; [`RtenRuntime`] is the built-in one, ONNX
//!   Runtime is loaded where it is there; [`Engine`] chooses;
//! * [`Service`]: a thread that runs one model in micro-batches for many [`Client`]s.
//!
//! This crate knows nothing of records, pipelines or executors: rows of numbers in, rows of numbers out.

mod batches;
mod calibrate;
mod engine;
mod error;
pub mod lookup;
mod model;
mod onnx_check;
mod onnx_runtime;
mod rten_runtime;
pub mod service;
mod strangers;
mod tensor;

pub use engine::Engine;
pub use error::ModelError;
pub use lookup::{Digest, ModelFile};
pub use model::{Model, Port, Runtime, Signature};
pub use rten_runtime::RtenRuntime;
pub use service::{Answer, Client, Limits, Service};
pub use tensor::{Dim, ElementType, Rows, TensorInfo};
