//! Errors by what the reader can do about them.

use pelton_types::Code;
use std::ops::Range;

/// What to do about an [`EndError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It may pass: wait, say so, try again.
    Retry,
    /// Nothing goes on until somebody acts.
    Stop,
    /// Somebody else owns the task now.
    Fenced,
}

/// A source, sink or offset store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EndError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// The incident it makes if it lasts.
    pub code: Code,
    /// What, where and why: lowercase, real values, no full stop.
    pub message: String,
}

impl EndError {
    /// It may pass.
    pub fn retry(code: Code, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Retry, code, message: message.into() }
    }
    /// Somebody else took over.
    pub fn fenced(code: Code, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Fenced, code, message: message.into() }
    }
    /// Somebody must act.
    pub fn stop(code: Code, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Stop, code, message: message.into() }
    }
}

/// A mistake in a component's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// JSON pointer within the options; empty for the whole.
    pub pointer: String,
    /// Bytes within the text at `pointer`, when the mistake is inside a program or expression.
    pub span: Option<Range<usize>>,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl OptionError {
    /// A mistake at a pointer.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), span: None, message: message.into(), hint: None }
    }
    /// With advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// With the place inside a program.
    pub fn span(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }
}
