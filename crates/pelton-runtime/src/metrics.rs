//! What a worker's tasks count. Labels are names of pipelines and tasks and fixed words, never keys or offsets.

use crate::status::{TaskSnapshot, TaskState};
use pelton_sdk::{CallCounter, CallMeter};
use pelton_telemetry::{Family, Label, MetricError, metrics::SECONDS};
use pelton_types::{PipelineName, TaskId};
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};
use std::{sync::Arc, time::Duration};

const PIPELINE: &[Label] = &[Label::Namespace, Label::Pipeline];
const TASK: &[Label] = &[Label::Namespace, Label::Pipeline, Label::Task];
const REASON: &[Label] = &[Label::Namespace, Label::Pipeline, Label::Reason];
const CAUSE: &[Label] = &[Label::Namespace, Label::Pipeline, Label::Cause];
const OPERATOR: &[Label] = &[Label::Namespace, Label::Pipeline, Label::Operator];
const OPERATOR_RESULT: &[Label] = &[Label::Namespace, Label::Pipeline, Label::Operator, Label::Result];
const RESULT: &[Label] = &[Label::Namespace, Label::Pipeline, Label::Result];

/// The metrics of all tasks of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    records_in: Family<IntCounter>,
    records_out: Family<IntCounter>,
    dropped: Family<IntCounter>,
    dead_lettered: Family<IntCounter>,
    expanded: Family<IntCounter>,
    merged: Family<IntCounter>,
    commits: Family<IntCounter>,
    commit_seconds: Family<Histogram>,
    fenced: Family<IntCounter>,
    discards: Family<IntCounter>,
    lag: Family<IntGauge>,
    epoch: Family<IntGauge>,
    busy: Family<Gauge>,
    backpressured: Family<Gauge>,
    stalled: Family<Gauge>,
    calls: Family<IntCounter>,
    call_seconds: Family<Histogram>,
    call_retries: Family<IntCounter>,
    cache_lookups: Family<IntCounter>,
}

impl Metrics {
    /// Register the metrics of a process.
    ///
    /// # Errors
    /// When one of these names was registered otherwise before.
    pub fn register(metrics: &pelton_telemetry::Metrics) -> Result<Metrics, MetricError> {
        Ok(Metrics {
            records_in: metrics.counters(
                "pelton_records_in_total",
                "Records delivered by sources.",
                PIPELINE,
            )?,
            records_out: metrics.counters("pelton_records_out_total", "Records taken by sinks.", PIPELINE)?,
            dropped: metrics.counters(
                "pelton_records_dropped_total",
                "Records dropped on purpose.",
                REASON,
            )?,
            dead_lettered: metrics.counters(
                "pelton_records_dlq_total",
                "Records set aside with their cause.",
                PIPELINE,
            )?,
            expanded: metrics.counters(
                "pelton_records_expanded_total",
                "Extra copies of records.",
                PIPELINE,
            )?,
            merged: metrics.counters(
                "pelton_records_merged_total",
                "Records that went into another's output.",
                PIPELINE,
            )?,
            commits: metrics.counters("pelton_commits_total", "Commits of work by result.", RESULT)?,
            commit_seconds: metrics.histograms(
                "pelton_commit_duration_seconds",
                "From the start of an offset commit to its answer.",
                PIPELINE,
                SECONDS,
            )?,
            fenced: metrics.counters("pelton_fenced_total", "Tasks that met a newer owner.", PIPELINE)?,
            discards: metrics.counters(
                "pelton_producer_discards_total",
                "Transactional producers that were dropped and made anew.",
                CAUSE,
            )?,
            lag: metrics.gauges(
                "pelton_source_lag_records",
                "Records between a task's position and the end of its partitions.",
                TASK,
            )?,
            epoch: metrics.gauges("pelton_task_epoch", "Epoch under which a task works here.", TASK)?,
            busy: metrics.float_gauges("pelton_task_busy_ratio", "Share of time a task worked.", TASK)?,
            backpressured: metrics.float_gauges(
                "pelton_task_backpressured_ratio",
                "1 while a sink or an operator has no room.",
                TASK,
            )?,
            stalled: metrics.float_gauges(
                "pelton_task_commit_stalled_seconds",
                "How long commits of a partition stand still because its next record is held; 0 when they move.",
                TASK,
            )?,
            calls: metrics.counters(
                "pelton_operator_calls_total",
                "Calls that operators made to others, attempt by attempt.",
                OPERATOR_RESULT,
            )?,
            call_seconds: metrics.histograms(
                "pelton_operator_call_duration_seconds",
                "From the start of a call to its answer, or to its failure.",
                OPERATOR,
                SECONDS,
            )?,
            call_retries: metrics.counters(
                "pelton_operator_call_retries_total",
                "Calls made again after a failure.",
                OPERATOR,
            )?,
            cache_lookups: metrics.counters(
                "pelton_operator_cache_lookups_total",
                "Records looked for in an operator's cache.",
                OPERATOR_RESULT,
            )?,
        })
    }

    /// Metrics nobody reads, for tests and tools.
    pub fn detached() -> Metrics {
        Metrics::register(&pelton_telemetry::Metrics::new("detached"))
            .unwrap_or_else(|e| unreachable!("a fresh registry has no names: {e}"))
    }

    /// The meter of one task: handles are looked up once.
    pub(crate) fn task(&self, task: &TaskId) -> TaskMeter {
        let index = task.index.to_string();
        let names = [task.pipeline.namespace.clone(), task.pipeline.name.clone(), index];
        let own = [names[0].as_str(), names[1].as_str()];
        let labels = [own[0], own[1], names[2].as_str()];
        let with = |word| [own[0], own[1], word];
        TaskMeter {
            records_in: self.records_in.with(&own),
            records_out: self.records_out.with(&own),
            filtered: self.dropped.with(&with("filtered")),
            dead_lettered: self.dead_lettered.with(&own),
            expanded: self.expanded.with(&own),
            merged: self.merged.with(&own),
            commits: self.commits.with(&with("ok")),
            commits_failed: self.commits.with(&with("failed")),
            commit_seconds: self.commit_seconds.with(&own),
            fenced: self.fenced.with(&own),
            lag: self.lag.with(&labels),
            epoch: self.epoch.with(&labels),
            busy: self.busy.with(&labels),
            backpressured: self.backpressured.with(&labels),
            stalled: self.stalled.with(&labels),
            all: self.clone(),
            names,
        }
    }
}

impl CallMeter for Metrics {
    fn counter(&self, pipeline: &PipelineName, operator: &str) -> Arc<dyn CallCounter> {
        let own = [pipeline.namespace.as_str(), pipeline.name.as_str(), operator];
        let with = |word| [own[0], own[1], own[2], word];
        Arc::new(OperatorCalls {
            answered: self.calls.with(&with("ok")),
            failed: self.calls.with(&with("failed")),
            seconds: self.call_seconds.with(&own),
            retries: self.call_retries.with(&own),
            hits: self.cache_lookups.with(&with("hit")),
            misses: self.cache_lookups.with(&with("miss")),
        })
    }
}

/// Counts the calls of one operator, whichever task makes them.
struct OperatorCalls {
    answered: IntCounter,
    failed: IntCounter,
    seconds: Histogram,
    retries: IntCounter,
    hits: IntCounter,
    misses: IntCounter,
}

impl CallCounter for OperatorCalls {
    fn ended(&self, ok: bool, took: Duration) {
        if ok { &self.answered } else { &self.failed }.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    fn retried(&self) {
        self.retries.inc();
    }

    fn looked_up(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.inc();
    }
}

/// Counts for one task.
pub(crate) struct TaskMeter {
    records_in: IntCounter,
    records_out: IntCounter,
    filtered: IntCounter,
    dead_lettered: IntCounter,
    expanded: IntCounter,
    merged: IntCounter,
    commits: IntCounter,
    commits_failed: IntCounter,
    commit_seconds: Histogram,
    fenced: IntCounter,
    lag: IntGauge,
    epoch: IntGauge,
    busy: Gauge,
    backpressured: Gauge,
    stalled: Gauge,
    all: Metrics,
    names: [String; 3],
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
        self.merged.inc_by(progress.merged);
        self.commits.inc_by(progress.commits);
        self.commits_failed.inc_by(progress.commits_failed);
        for (cause, count) in &progress.discards {
            let own = [self.names[0].as_str(), self.names[1].as_str(), cause];
            self.all.discards.with(&own).inc_by(*count);
        }
        for seconds in &progress.commit_seconds {
            self.commit_seconds.observe(*seconds);
        }
        if snapshot.state == TaskState::SteppedDown {
            self.fenced.inc();
        }
        let lag: u64 = snapshot.lag.iter().filter_map(pelton_sdk::Lag::records).sum();
        self.lag.set(lag.try_into().unwrap_or(i64::MAX));
        self.epoch.set(snapshot.epoch.try_into().unwrap_or(i64::MAX));
        self.busy.set(snapshot.busy_ratio);
        self.stalled.set(progress.stalled.as_secs_f64());
        self.backpressured.set(if progress.blocked { 1.0 } else { 0.0 });
    }
}

impl Drop for TaskMeter {
    /// A task that left must not show its last lag for ever.
    fn drop(&mut self) {
        let names = [self.names[0].as_str(), self.names[1].as_str(), self.names[2].as_str()];
        self.all.lag.remove(&names);
        self.all.epoch.remove(&names);
        self.all.busy.remove(&names);
        self.all.backpressured.remove(&names);
        self.all.stalled.remove(&names);
    }
}
