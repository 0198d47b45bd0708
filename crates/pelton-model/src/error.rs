//! What can go wrong with a model, by what the reader can do about it.

use std::path::PathBuf;

/// A model cannot be found, loaded or run. Messages are lowercase and carry real values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The name is not one a model can have.
    #[error("`{name}` is not a model name: {why}")]
    BadName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No file of that name.
    #[error("model `{name}` is not in {}: {}", .searched.display(), found_there(.present))]
    Missing {
        /// The name as given.
        name: String,
        /// The directory that was searched.
        searched: PathBuf,
        /// Models that are there, `None` when the directory itself cannot be read.
        present: Option<Vec<String>>,
    },
    /// The file is there and cannot be read.
    #[error("model file {} cannot be read: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: String,
    },
    /// ONNX Runtime was asked for.
    #[error("there is no ONNX Runtime here: {why}")]
    NoRuntime {
        /// What the loader said, or that there is none.
        why: String,
    },
    /// The bytes are no model of a kind the runtime knows.
    #[error("not an ONNX model: {why}")]
    NotAModel {
        /// What the bytes look like, or what the parser said.
        why: String,
    },
    /// The model uses an operator that the runtime lacks.
    #[error("the model uses an operator this runtime lacks: {operator}")]
    UnsupportedOperator {
        /// The operator, and its node where known.
        operator: String,
    },
    /// The model was parsed and cannot be used.
    #[error("the model cannot be loaded: {why}")]
    Invalid {
        /// What the runtime said.
        why: String,
    },
    /// Rows of the wrong width, or a tensor of a shape that rows do not fit.
    #[error("tensor `{tensor}`: expected {expected}, given {given}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// What fits.
        expected: String,
        /// What it is.
        given: String,
    },
    /// The model has no tensor of that name.
    #[error("the model has no {kind} `{name}`; it has {}", quoted(.has))]
    UnknownTensor {
        /// `input` or `output`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        has: Vec<String>,
    },
    /// A run failed.
    #[error("the model failed: {why}")]
    Run {
        /// What the runtime said.
        why: String,
    },
}

fn found_there(names: &Option<Vec<String>>) -> String {
    match names {
        None => "the directory does not exist or cannot be read".into(),
        Some(names) if names.is_empty() => "no model is there".into(),
        Some(names) => format!("there are {}", quoted(names)),
    }
}

/// Names as a list for a sentence: `a`, `b`, and at most a screen of them.
fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut list: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.len() > SHOWN {
        list.push(format!("{} more", names.len() - SHOWN));
    }
    if list.is_empty() { "none".into() } else { list.join(", ") }
}
