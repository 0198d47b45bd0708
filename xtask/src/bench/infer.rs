//! `cargo xtask bench infer`: records through the operator beside rows through its model alone.

use std::path::PathBuf;

use clap::Args;

use crate::shell;

/// What `cargo xtask bench infer` may be told.
#[derive(Args, Clone, Debug)]
pub struct Infer {
    /// An ONNX model with one input of 32-bit floats.
    #[arg(long, default_value = "examples/digits/digits.onnx")]
    model: PathBuf,
    /// Rows in a run; `auto`: the size with the highest rate of the model alone.
    #[arg(long, default_value = "auto")]
    batch: String,
}

/// Measures.
pub fn run(options: &Infer) -> Result<(), String> {
    let example = ["run", "--release", "--package", "pelton-infer", "--example", "rate", "--"];
    shell::run(shell::cargo(example).arg(&options.model).arg(&options.batch))
}
