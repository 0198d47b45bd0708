//! Log lines on standard error: JSON, or for people where standard error is a terminal.
//!
//! Standard output is for data (`-o json`, the `stdout` sink), so logs never go there. Spans carry the fields that
//! every line inside them repeats: `pipeline`, `task`, `epoch`, `worker`; an incident's line has `code`.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::StartError;
use crate::json_lines::JsonLines;
use crate::recent::RecentLines;

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// Which log lines are written, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Shape of a line.
    pub format: LogFormat,
    /// Level, and exceptions by target: `info`, `warn,pelton_worker=debug`.
    pub filter: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { format: LogFormat::Auto, filter: "info".into() }
    }
}

/// A boxed layer, so that both shapes have one type.
pub(crate) type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// The layer that writes log lines to standard error, and to `recent`.
pub(crate) fn layer<S>(options: &LogOptions, recent: RecentLines) -> Result<BoxedLayer<S>, StartError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let filter = EnvFilter::builder()
        .parse(&options.filter)
        .map_err(|cause| StartError::Filter { filter: options.filter.clone(), cause: cause.to_string() })?;
    let terminal = std::io::stderr().is_terminal();
    let human = match options.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Human => true,
    };
    if human {
        let lines = tracing_subscriber::fmt::layer().with_ansi(terminal).with_writer(std::io::stderr);
        return Ok(lines.and_then(JsonLines::new(recent)).with_filter(filter).boxed());
    }
    Ok(JsonLines::new(std::io::stderr.and(recent)).with_filter(filter).boxed())
}
