//! How a Pelton process shows what it does: metrics, health over HTTP, logs and traces.
//!
//! Every role (coordinator, worker, broker, `run`, `dev`) makes one [`Metrics`] and one [`Health`] at start, hands
//! them down as arguments, and serves them with [`http::serve`]. There is no global registry. Logs and traces are
//! the exception that the crate `tracing` makes: [`start`] installs the one subscriber of the process.
//!
//! This crate names no metric of the data path: a metric belongs to the crate that counts. It knows nothing of
//! pipelines, Kafka or gRPC services.
//!
//! ```no_run
//! # async fn role() -> Result<(), Box<dyn std::error::Error>> {
//! use pelton_telemetry::{Health, Label, LogOptions, Metrics, Options, TraceOptions, http};
//! let telemetry = pelton_telemetry::start(&Options {
//!     log: LogOptions::default(),
//!     trace: TraceOptions { endpoint: Some("http://127.0.0.1:4317".into()), ..TraceOptions::default() },
//! })?;
//! let metrics = Metrics::new("worker");
//! let health = Health::new();
//! let coordinator = health.readiness.check("coordinator", "not attached yet");
//! let commits = metrics.counters("pelton_commits_total", "Commits by result.", &[Label::Pipeline, Label::Result])?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let stop = std::future::pending::<()>();
//! tokio::spawn(http::serve(listener, http::router(&metrics, &health), stop));
//! coordinator.ready();
//! commits.with(&["orders", "clean"]).inc();
//! telemetry.shutdown().await;
//! # Ok(()) }
//! ```

pub mod batch;
pub mod discovery;
pub mod health;
pub mod http;
mod json_lines;
pub mod logs;
pub mod metrics;
pub mod panics;
mod recent;
pub mod traces;

pub use discovery::Target;
pub use health::{Check, Health, Liveness, Pulse, Readiness};
pub use logs::{LogFormat, LogOptions};
pub use metrics::{Described, Family, Label, MetricError, Metrics};
pub use recent::RecentLines;
pub use traces::TraceOptions;

pub use axum::Router;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What [`start`] installs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which log lines are written, and how.
    pub log: LogOptions,
    /// Where spans go, if anywhere.
    pub trace: TraceOptions,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log filter does not parse.
    #[error("log filter `{filter}`: {cause}; write for example `info` or `info,pelton_worker=debug`")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What the parser says.
        cause: String,
    },
    /// The exporter of spans cannot be built.
    #[error(
        "trace endpoint `{endpoint}`: {cause}; write for example `http://127.0.0.1:4317` (OTLP over gRPC)"
    )]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What the exporter says.
        cause: String,
    },
    /// The sampling ratio is no ratio.
    #[error("trace sampling ratio {0}: must lie between 0 and 1")]
    Ratio(f64),
    /// A second call in one process.
    #[error("logs and traces have been started in this process already")]
    Twice,
}

/// Installs the process's subscriber for logs and traces, and the panic hook.
///
/// With a trace endpoint it must be called inside a tokio runtime that lives as long as the process: the exporter's
/// connection runs on it. Keep the returned value and call [`Started::shutdown`] last.
pub fn start(options: &Options) -> Result<Started, StartError> {
    let exporter = traces::provider(&options.trace)?;
    let spans = exporter.as_ref().map(traces::layer);
    let recent = RecentLines::default();
    let lines = logs::layer(&options.log, recent.clone())?;
    // The layer of spans comes first: a log line then finds the trace it belongs to.
    tracing_subscriber::registry().with(spans).with(lines).try_init().map_err(|_| StartError::Twice)?;
    panics::log_panics();
    Ok(Started { exporter, recent })
}

/// Logs and traces of this process; ends with [`shutdown`](Started::shutdown).
#[derive(Debug)]
#[must_use = "spans not yet exported are lost unless `shutdown` is called at the end"]
pub struct Started {
    exporter: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
    recent: RecentLines,
}

impl Started {
    /// The newest log lines of this process.
    pub fn recent(&self) -> &RecentLines {
        &self.recent
    }

    /// Exports the spans that still wait, for at most [`traces::FLUSH_TIMEOUT`]. Logs need no flush.
    pub async fn shutdown(self) {
        let Some(exporter) = self.exporter else { return };
        // The exporter waits for its own thread, which needs this runtime's network: never block it here.
        let flushed =
            tokio::task::spawn_blocking(move || exporter.shutdown_with_timeout(traces::FLUSH_TIMEOUT)).await;
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => tracing::warn!(%cause, "the last spans were not exported"),
            Err(cause) => tracing::warn!(%cause, "the exporter of spans failed at its end"),
        }
    }
}
