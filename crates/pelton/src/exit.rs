//! How a command ends: a code that scripts rely on, and what a person reads.

use pelton_types::causes;
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
    /// Things differ: nothing more to say than was printed.
    pub fn difference() -> Self {
        Self::new(Exit::Unexpected, "")
    }
    /// For `main`.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl Exit {
    /// The code that a process of this binary ended with.
    pub fn from_status(status: i32) -> Option<Exit> {
        let all = [
            Exit::Unexpected,
            Exit::Usage,
            Exit::Unavailable,
            Exit::Invariant,
            Exit::Fenced,
            Exit::NotPermitted,
            Exit::BadConfiguration,
        ];
        all.into_iter().find(|exit| *exit as i32 == status)
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
        let message = match status.code() {
            // Words of the transport, which say nothing to a person who did not write it.
            Code::DeadlineExceeded | Code::Cancelled => {
                format!("the coordinator did not answer in time ({})", status.message())
            }
            Code::Unknown | Code::Internal if std::error::Error::source(&status).is_some() => format!(
                "the connection to the coordinator broke ({}); is the address that of a coordinator's gRPC?",
                causes::innermost(&status)
            ),
            Code::Unknown | Code::Unimplemented | Code::Internal
                if status.message().starts_with("grpc-status header missing") =>
            {
                format!("what answers there is no coordinator ({}); name its gRPC address", status.message())
            }
            Code::Unavailable if std::error::Error::source(&status).is_some() => {
                format!("the connection to the coordinator broke ({})", causes::innermost(&status))
            }
            _ => status.message().to_owned(),
        };
        Failure::new(exit, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::unexpected(e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_with_one_of_our_codes_passes_it_on() {
        assert_eq!(Exit::from_status(78), Some(Exit::BadConfiguration));
        assert_eq!(Exit::from_status(0), None);
        assert_eq!(Exit::from_status(101), None);
    }

    #[test]
    fn what_a_coordinator_says_is_shown_as_it_is() {
        let failure = Failure::from(tonic::Status::not_found("there is no pipeline `a`"));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Unexpected, "there is no pipeline `a`"));
        let failure = Failure::from(tonic::Status::deadline_exceeded("Timeout expired"));
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.starts_with("the coordinator did not answer in time"), "{failure}");
    }
}
