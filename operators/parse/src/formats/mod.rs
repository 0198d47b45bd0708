//! Formats of lines. Each reads a line into a patch, or says where the line differs.

pub(crate) mod access;
pub(crate) mod grok;
pub(crate) mod pairs;
pub(crate) mod pattern;
pub(crate) mod syslog;

use pelton_expr::Patch;
use std::{borrow::Cow, fmt};

/// A line is otherwise than its format says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Byte of the line.
    pub at: usize,
    /// What was expected there.
    pub expected: Cow<'static, str>,
}

impl Mismatch {
    pub fn new(at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { at, expected: expected.into() }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line differs at byte {}: {}", self.at, self.expected)
    }
}

/// How lines are read.
#[derive(Debug)]
pub(crate) enum Format {
    Pattern(Box<pattern::Pattern>),
    Access(access::Access),
    Syslog(syslog::Syslog),
    Pairs(pairs::Pairs),
}

impl Format {
    /// Set the fields of a line in `patch`.
    pub fn read(&mut self, line: &str, patch: &mut Patch) -> Result<(), Mismatch> {
        match self {
            Self::Pattern(pattern) => pattern.read(line, patch),
            Self::Access(access) => access.read(line, patch),
            Self::Syslog(syslog) => syslog.read(line, patch),
            Self::Pairs(pairs) => pairs.read(line, patch),
        }
    }
}
