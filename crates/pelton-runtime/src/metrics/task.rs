//! What tasks count, for their pipeline and for themselves.

use super::PIPELINE;
use crate::status::{Progress, TaskSnapshot, TaskState};
use pelton_sdk::Lag;
use pelton_telemetry::{Family, Label, MetricError, Metrics, metrics::SECONDS};
use pelton_types::TaskId;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, local::LocalHistogram};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

const TASK: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Stage, Label::Task];
const REASON: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Reason];
const CAUSE: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Cause];
const RESULT: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Result];

/// Metrics by pipeline.
#[derive(Clone)]
pub(super) struct OfPipelines {
    records_in: Family<IntCounter>,
    records_out: Family<IntCounter>,
    dropped: Family<IntCounter>,
    dead_lettered: Family<IntCounter>,
    expanded: Family<IntCounter>,
    merged: Family<IntCounter>,
    e2e_seconds: Family<Histogram>,
    commits: Family<IntCounter>,
    commit_seconds: Family<Histogram>,
    fenced: Family<IntCounter>,
    discards: Family<IntCounter>,
}

impl OfPipelines {
    pub(super) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        let counters = |name, help| metrics.counters(name, help, PIPELINE);
        let seconds = |name, help| metrics.histograms(name, help, PIPELINE, SECONDS);
        Ok(Self {
            records_in: counters("pelton_records_in_total", "Records delivered by sources.")?,
            records_out: counters("pelton_records_out_total", "Records taken by sinks.")?,
            dropped: metrics.counters(
                "pelton_records_dropped_total",
                "Records dropped on purpose.",
                REASON,
            )?,
            dead_lettered: counters("pelton_records_dlq_total", "Records set aside with their cause.")?,
            expanded: counters("pelton_records_expanded_total", "Extra copies of records.")?,
            merged: counters("pelton_records_merged_total", "Records that went into another's output.")?,
            e2e_seconds: seconds(
                "pelton_e2e_latency_seconds",
                "From a record's timestamp until its output is with the sink, or committed under exactly-once; up \
                 to 16 records of a batch stand for all of it.",
            )?,
            commits: metrics.counters("pelton_commits_total", "Commits of work by result.", RESULT)?,
            commit_seconds: seconds(
                "pelton_commit_duration_seconds",
                "From the start of an offset commit to its answer.",
            )?,
            fenced: counters("pelton_fenced_total", "Tasks that met a newer owner.")?,
            discards: metrics.counters(
                "pelton_producer_discards_total",
                "Transactional producers that were dropped and made anew.",
                CAUSE,
            )?,
        })
    }
}

/// Metrics by task. They are on the page while the task is here.
#[derive(Clone)]
pub(super) struct OfTasks {
    lag: Family<IntGauge>,
    lag_seconds: Family<Gauge>,
    epoch: Family<IntGauge>,
    busy: Family<Gauge>,
    busy_seconds: Family<Counter>,
    backpressured: Family<Gauge>,
    backpressured_seconds: Family<Counter>,
    stalled: Family<Gauge>,
    /// How many meters there are of these names: of a task granted anew, two for a moment.
    here: Arc<Mutex<HashMap<Names, usize>>>,
}

/// Label values of a task.
type Names = [String; 4];

fn values(names: &Names) -> [&str; 4] {
    [&names[0], &names[1], &names[2], &names[3]]
}

impl OfTasks {
    pub(super) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        let gauges = |name, help| metrics.float_gauges(name, help, TASK);
        let seconds = |name, help| metrics.float_counters(name, help, TASK);
        Ok(Self {
            lag: metrics.gauges(
                "pelton_source_lag_records",
                "Records between a task's position and the end of its partitions; missing while an end is not known.",
                TASK,
            )?,
            lag_seconds: gauges(
                "pelton_source_lag_seconds",
                "How long the oldest record that waits has waited at most; missing while nothing is known of it.",
            )?,
            epoch: metrics.gauges("pelton_task_epoch", "Epoch under which a task works here.", TASK)?,
            busy: gauges("pelton_task_busy_ratio", "Share of the last 200 ms that a task worked.")?,
            busy_seconds: seconds("pelton_task_busy_seconds_total", "Time that a task worked.")?,
            backpressured: gauges(
                "pelton_task_backpressured_ratio",
                "Share of the last 200 ms that a task did not read, because a sink or an operator had no room.",
            )?,
            backpressured_seconds: seconds(
                "pelton_task_backpressured_seconds_total",
                "Time that a task did not read, because a sink or an operator had no room.",
            )?,
            stalled: gauges(
                "pelton_task_commit_stalled_seconds",
                "How long commits of a partition stand still because its next record is held; 0 when they move.",
            )?,
            here: Arc::default(),
        })
    }

    fn enter(&self, names: &Names) {
        *self.lock().entry(names.clone()).or_default() += 1;
    }

    /// A task that left must not show its last lag for ever.
    fn leave(&self, names: &Names) {
        let mut here = self.lock();
        let count = here.get_mut(names).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if count > 0 {
            return;
        }
        here.remove(names);
        let own = values(names);
        for gauges in [&self.lag_seconds, &self.busy, &self.backpressured, &self.stalled] {
            gauges.remove(&own);
        }
        for gauges in [&self.lag, &self.epoch] {
            gauges.remove(&own);
        }
        for counters in [&self.busy_seconds, &self.backpressured_seconds] {
            counters.remove(&own);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Names, usize>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
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
    e2e_seconds: LocalHistogram,
    commits: IntCounter,
    commits_failed: IntCounter,
    commit_seconds: Histogram,
    fenced: IntCounter,
    discards: Family<IntCounter>,
    epoch: IntGauge,
    busy: Gauge,
    busy_seconds: Counter,
    backpressured: Gauge,
    backpressured_seconds: Counter,
    stalled: Gauge,
    tasks: OfTasks,
    names: Names,
}

impl TaskMeter {
    pub(super) fn new(pipelines: &OfPipelines, tasks: &OfTasks, task: &TaskId) -> TaskMeter {
        let (namespace, name) = (task.pipeline.namespace.clone(), task.pipeline.name.clone());
        let names = [namespace, name, task.stage.to_string(), task.index.to_string()];
        tasks.enter(&names);
        let labels = values(&names);
        let own = [labels[0], labels[1]];
        let with = |word| [own[0], own[1], word];
        TaskMeter {
            records_in: pipelines.records_in.with(&own),
            records_out: pipelines.records_out.with(&own),
            filtered: pipelines.dropped.with(&with("filtered")),
            dead_lettered: pipelines.dead_lettered.with(&own),
            expanded: pipelines.expanded.with(&own),
            merged: pipelines.merged.with(&own),
            e2e_seconds: pipelines.e2e_seconds.with(&own).local(),
            commits: pipelines.commits.with(&with("ok")),
            commits_failed: pipelines.commits.with(&with("failed")),
            commit_seconds: pipelines.commit_seconds.with(&own),
            fenced: pipelines.fenced.with(&own),
            discards: pipelines.discards.clone(),
            epoch: tasks.epoch.with(&labels),
            busy: tasks.busy.with(&labels),
            busy_seconds: tasks.busy_seconds.with(&labels),
            backpressured: tasks.backpressured.with(&labels),
            backpressured_seconds: tasks.backpressured_seconds.with(&labels),
            stalled: tasks.stalled.with(&labels),
            tasks: tasks.clone(),
            names,
        }
    }

    /// Add what happened since the last snapshot.
    pub(crate) fn record(&self, snapshot: &TaskSnapshot) {
        self.count(&snapshot.progress);
        if snapshot.state == TaskState::SteppedDown {
            self.fenced.inc();
        }
        self.epoch.set(snapshot.epoch.try_into().unwrap_or(i64::MAX));
        self.busy.set(snapshot.busy_ratio);
        self.backpressured.set(snapshot.backpressured_ratio);
        self.stalled.set(snapshot.progress.stalled.as_secs_f64());
        self.show_lag(snapshot);
    }

    fn count(&self, progress: &Progress) {
        self.records_in.inc_by(progress.records_in);
        self.records_out.inc_by(progress.records_out);
        self.filtered.inc_by(progress.filtered);
        self.dead_lettered.inc_by(progress.dead_lettered);
        self.expanded.inc_by(progress.expanded);
        self.merged.inc_by(progress.merged);
        self.commits.inc_by(progress.commits);
        self.commits_failed.inc_by(progress.commits_failed);
        for (cause, count) in &progress.discards {
            self.discards.with(&[&self.names[0], &self.names[1], cause]).inc_by(*count);
        }
        for seconds in &progress.commit_seconds {
            self.commit_seconds.observe(*seconds);
        }
        for (seconds, records) in &progress.ages {
            (0..*records).for_each(|_| self.e2e_seconds.observe(*seconds));
        }
        self.e2e_seconds.flush();
        self.busy_seconds.inc_by(progress.busy.as_secs_f64());
        self.backpressured_seconds.inc_by(progress.backpressured.as_secs_f64());
    }

    /// What is not known is not on the page.
    fn show_lag(&self, snapshot: &TaskSnapshot) {
        let own = values(&self.names);
        let records = snapshot.lag.iter().map(Lag::records).sum::<Option<u64>>();
        match records.filter(|_| !snapshot.lag.is_empty()) {
            Some(records) => self.tasks.lag.with(&own).set(records.try_into().unwrap_or(i64::MAX)),
            None => self.tasks.lag.remove(&own),
        }
        match snapshot.lag_seconds {
            Some(seconds) => self.tasks.lag_seconds.with(&own).set(seconds),
            None => self.tasks.lag_seconds.remove(&own),
        }
    }
}

impl Drop for TaskMeter {
    fn drop(&mut self) {
        self.tasks.leave(&self.names);
    }
}

#[cfg(test)]
mod tests {
    use crate::Metrics;
    use pelton_types::{PipelineName, TaskId};

    #[test]
    fn a_task_that_is_here_twice_for_a_moment_stays_on_the_page() {
        let page = pelton_telemetry::Metrics::new("worker");
        let metrics = Metrics::register(&page).unwrap();
        let task = |generation| TaskId {
            pipeline: PipelineName::new("default", "p"),
            uuid: "u".into(),
            stage: 0,
            generation,
            index: 0,
        };
        let shown = || page.page().unwrap().contains("pelton_task_epoch{");
        let (old, new) = (metrics.task(&task(1)), metrics.task(&task(2)));
        drop(old);
        assert!(shown());
        drop(new);
        assert!(!shown());
    }
}
