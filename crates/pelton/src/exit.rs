//! How a command ends: a code that scripts rely on, and what a person reads.

use std::{fmt, process::ExitCode};
use tonic::Code;

/// Exit codes (sysexits where one fits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something unexpected.
    Unexpected = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Something this depends on does not answer.
    Unavailable = 69,
    /// Something that must hold does not: an incident stopped a task, records are unaccounted for.
    Invariant = 70,
    /// Somebody else took over: restart me.
    Fenced = 75,
    /// Not permitted.
    NotPermitted = 77,
    /// The configuration or a definition is wrong; trying again is no use.
    BadConfiguration = 78,
}

/// A command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What, where, why, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
    /// A wrong configuration or definition.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Exit::BadConfiguration, message)
    }
    /// Something unexpected.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, message)
    }
    /// A dependency that does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message)
    }
    /// For `main`.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let exit = match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition => Exit::BadConfiguration,
            Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
            Code::PermissionDenied | Code::Unauthenticated => Exit::NotPermitted,
            _ => Exit::Unexpected,
        };
        Failure::new(exit, status.message())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::unexpected(e.to_string())
    }
}

