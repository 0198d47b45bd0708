//! Sources and sinks that need no queue.
//!
//! | key | source | sink | position |
//! |---|---|---|---|
//! | `file` | lines of a file, to its end | appends lines | bytes from the start, kept in the data directory |
//! | `stdin`, `stdout` | lines until the end of input | lines | counted, not kept: what was read is gone |
//! | `generator` | made-up records, the same at every run | | records, kept in the data directory |
//! | `blackhole` | | counts as written | |
//!
//! All of them have one partition.

mod blackhole;
mod file;
mod generator;
mod lines;
mod positions;
mod stdin;
mod stdout;

pub use blackhole::BlackholeFactory;
pub use file::FileFactory;
pub use generator::GeneratorFactory;
pub use lines::MAX_LINE;
pub use stdin::StdinFactory;
pub use stdout::StdoutFactory;

use pelton_sdk::{EndError, SinkSpec, SourceSpec};
use pelton_types::Code;

/// A connector of this kind cannot be a source.
fn no_source<T>(kind: &str, spec: &SourceSpec) -> Result<T, EndError> {
    Err(EndError::stop(Code::BadPipeline, format!("source `{}`: {kind} cannot be a source", spec.name)))
}

/// A connector of this kind cannot be a sink.
fn no_sink<T>(kind: &str, spec: &SinkSpec) -> Result<T, EndError> {
    Err(EndError::stop(Code::BadPipeline, format!("sink `{}`: {kind} cannot be a sink", spec.name)))
}
