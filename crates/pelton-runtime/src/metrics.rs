//! What a worker's tasks count, by pipeline. Labels are names of pipelines and fixed words, never keys or offsets.

use crate::status::TaskSnapshot;
use pelton_types::PipelineName;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{AtomicU64, GenericCounter},
};

type Counter = GenericCounter<AtomicU64>;

const PIPELINE: &[&str] = &["namespace", "pipeline"];

/// The metrics of all tasks of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    records_in: IntCounterVec,
    records_out: IntCounterVec,
    dropped: IntCounterVec,
    dead_lettered: IntCounterVec,
    expanded: IntCounterVec,
    commits: IntCounterVec,
    commit_seconds: HistogramVec,
    fenced: IntCounterVec,
    tasks: IntGaugeVec,
}

impl Metrics {
    /// Register the metrics.
    ///
    /// # Errors
    /// When the registry has one of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Metrics> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let with = |label: &'static str| ["namespace", "pipeline", label];
        let commit_seconds = HistogramVec::new(
            HistogramOpts::new(
                "pelton_commit_duration_seconds",
                "From the start of an offset commit to its answer",
            )
            .buckets(prometheus::exponential_buckets(0.001, 2.0, 14)?),
            PIPELINE,
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        let tasks =
            IntGaugeVec::new(Opts::new("pelton_tasks_running", "Tasks at work in this process"), PIPELINE)?;
        registry.register(Box::new(tasks.clone()))?;
        Ok(Metrics {
            records_in: counter("pelton_records_in_total", "Records delivered by sources", PIPELINE)?,
            records_out: counter("pelton_records_out_total", "Records taken by sinks", PIPELINE)?,
            dropped: counter("pelton_records_dropped_total", "Records dropped on purpose", &with("reason"))?,
            dead_lettered: counter(
                "pelton_records_dlq_total",
                "Records set aside with their cause",
                PIPELINE,
            )?,
            expanded: counter("pelton_records_expanded_total", "Extra copies of records", PIPELINE)?,
            commits: counter("pelton_commits_total", "Offset commits by result", &with("result"))?,
            commit_seconds,
            fenced: counter("pelton_fenced_total", "Tasks that met a newer owner", PIPELINE)?,
            tasks,
        })
    }

    /// Metrics nobody reads, for tests and tools.
    pub fn detached() -> Metrics {
        Metrics::register(&Registry::new())
            .unwrap_or_else(|e| unreachable!("a fresh registry has no names: {e}"))
    }

    /// The meter of one task: handles are looked up once.
    pub(crate) fn task(&self, pipeline: &PipelineName) -> TaskMeter {
        let own = [pipeline.namespace.as_str(), pipeline.name.as_str()];
        let with = |word| [own[0], own[1], word];
        let tasks = self.tasks.with_label_values(&own);
        tasks.inc();
        TaskMeter {
            records_in: self.records_in.with_label_values(&own),
            records_out: self.records_out.with_label_values(&own),
            filtered: self.dropped.with_label_values(&with("filtered")),
            dead_lettered: self.dead_lettered.with_label_values(&own),
            expanded: self.expanded.with_label_values(&own),
            commits: self.commits.with_label_values(&with("ok")),
            commits_failed: self.commits.with_label_values(&with("failed")),
            commit_seconds: self.commit_seconds.with_label_values(&own),
            fenced: self.fenced.with_label_values(&own),
            tasks,
        }
    }
}

/// Counts for one task.
pub(crate) struct TaskMeter {
    records_in: Counter,
    records_out: Counter,
    filtered: Counter,
    dead_lettered: Counter,
    expanded: Counter,
    commits: Counter,
    commits_failed: Counter,
    commit_seconds: prometheus::Histogram,
    fenced: Counter,
    tasks: prometheus::IntGauge,
}

impl TaskMeter {
    /// Add what happened since the last snapshot.
    pub(crate) fn record(&self, snapshot: &TaskSnapshot) {
        let progress = &snapshot.progress;
        self.records_in.inc_by(progress.records_in);
        self.records_out.inc_by(progress.records_out);
        self.filtered.inc_by(progress.filtered);
        self.dead_lettered.inc_by(progress.dead_lettered);
        self.expanded.inc_by(progress.expanded);
        self.commits.inc_by(progress.commits);
        self.commits_failed.inc_by(progress.commits_failed);
        for seconds in &progress.commit_seconds {
            self.commit_seconds.observe(*seconds);
        }
        if snapshot.state == crate::status::TaskState::SteppedDown {
            self.fenced.inc();
        }
    }
}

impl Drop for TaskMeter {
    fn drop(&mut self) {
        self.tasks.dec();
    }
}
