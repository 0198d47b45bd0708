//! Which runtime runs a model.

use crate::{error::ModelError, model::Runtime, onnx_runtime::OnnxRuntime, rten_runtime::RtenRuntime};

/// A runtime as a pipeline names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// ONNX Runtime where its library is there, otherwise the built-in one.
    #[default]
    Auto,
    /// The built-in one.
    Rten,
    /// ONNX Runtime, a library beside this program.
    OnnxRuntime,
}

impl Engine {
    /// The runtime itself.
    ///
    /// # Errors
    /// ONNX Runtime was asked for and cannot be loaded.
    pub fn runtime(self) -> Result<&'static dyn Runtime, ModelError> {
        match self {
            Self::Rten => Ok(&RtenRuntime),
            Self::OnnxRuntime => OnnxRuntime::loaded().map(|runtime| runtime as &dyn Runtime),
            Self::Auto => Self::OnnxRuntime.runtime().or(Ok(&RtenRuntime)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_runtime_is_always_there() {
        assert_eq!(Engine::Rten.runtime().map(Runtime::name).ok(), Some("rten"));
        assert!(Engine::Auto.runtime().is_ok());
    }
}
