//! Gauges of the coordinator, read from its newest snapshot when Prometheus asks.

use crate::{Handle, core::Snapshot};
use pelton_proto::v1::{Pipeline, Task, TaskState};
use pelton_telemetry::metrics::{Family, Label, MetricError, Metrics};
use pelton_types::Code;
use prometheus::IntGauge;
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

const PIPELINE: &[Label] = &[Label::Namespace, Label::Pipeline];
const TASK_STATE: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::State];
const TASK: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Stage, Label::Task];

/// Register the gauges; they read `handle` at each scrape.
///
/// # Errors
/// When a name is taken by another kind of metric.
pub fn register(handle: Handle, metrics: &Metrics) -> Result<(), MetricError> {
    let gauges = Gauges::new(metrics)?;
    metrics.before_scrape(move || gauges.update(handle.leads(), &handle.snapshot()));
    Ok(())
}

/// What a coordinator shows.
pub struct Gauges {
    leader: IntGauge,
    term: IntGauge,
    unassigned: IntGauge,
    workers: Family<IntGauge>,
    incidents: Family<IntGauge>,
    pipelines: PerPipeline,
}

impl std::fmt::Debug for Gauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauges")
    }
}

impl Gauges {
    /// Register them.
    ///
    /// # Errors
    /// When a name is taken by another kind of metric.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            leader: metrics.gauge("pelton_leader", "1 while this coordinator leads.")?,
            term: metrics.gauge("pelton_coordinator_term", "Term of this coordinator's leadership.")?,
            unassigned: metrics
                .gauge("pelton_tasks_unassigned", "Tasks that should run and that no worker holds.")?,
            workers: metrics.gauges("pelton_workers", "Workers, by state.", &[Label::State])?,
            incidents: metrics.gauges("pelton_incidents_open", "Open incidents, by code.", &[Label::Code])?,
            pipelines: PerPipeline::new(metrics)?,
        })
    }

    fn update(&self, leads: bool, now: &Snapshot) {
        self.leader.set(i64::from(leads));
        self.term.set(as_gauge(now.term));
        self.unassigned.set(as_gauge(now.unassigned as u64));
        for state in ["attached", "draining", "lost"] {
            let count = now.workers.iter().filter(|w| w.state == state).count();
            self.workers.with(&[state]).set(as_gauge(count as u64));
        }
        // All of them from the start: an alert on a series that is not there yet never fires.
        for code in Code::ALL {
            let count = now.incidents.iter().filter(|r| r.incident.code == *code).count();
            self.incidents.with(&[&code.to_string()]).set(as_gauge(count as u64));
        }
        self.pipelines.update(now);
    }
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// States of tasks as the page names them.
const STATES: [&str; 7] = ["running", "starting", "releasing", "failed", "completed", "unassigned", "paused"];

/// The state of a task of a pipeline in this phase.
fn state_of(task: &Task, phase: &str) -> &'static str {
    match task.status.as_ref().map_or(TaskState::Unspecified, |status| status.state()) {
        TaskState::Running => "running",
        TaskState::Warm | TaskState::Starting => "starting",
        TaskState::Releasing => "releasing",
        TaskState::Failed => "failed",
        TaskState::Completed => "completed",
        _ if phase == "paused" => "paused",
        TaskState::Unspecified | TaskState::Released | TaskState::SteppedDown => "unassigned",
    }
}

struct PerPipeline {
    lag: Family<IntGauge>,
    wanted: Family<IntGauge>,
    tasks: Family<IntGauge>,
    epoch: Family<IntGauge>,
    /// Pipelines and tasks on the page, so that those that are gone leave it.
    shown: Mutex<BTreeSet<[String; 4]>>,
}

impl PerPipeline {
    fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            lag: metrics.gauges(
                "pelton_pipeline_lag_records",
                "Records between positions and ends as workers reported last, -1 when not known.",
                PIPELINE,
            )?,
            wanted: metrics.gauges("pelton_tasks_wanted", "Tasks of a pipeline.", PIPELINE)?,
            tasks: metrics.gauges("pelton_tasks", "Tasks of a pipeline, by state.", TASK_STATE)?,
            epoch: metrics.gauges("pelton_task_granted_epoch", "Epoch of a task's newest grant.", TASK)?,
            shown: Mutex::default(),
        })
    }

    fn update(&self, now: &Snapshot) {
        let mut current = BTreeSet::new();
        for pipeline in &now.pipelines {
            let names = [pipeline.namespace.as_str(), pipeline.name.as_str()];
            self.lag.with(&names).set(pipeline.lag);
            self.wanted.with(&names).set(i64::from(pipeline.tasks_wanted));
            for state in STATES {
                let count = pipeline.tasks.iter().filter(|t| state_of(t, &pipeline.phase) == state).count();
                self.tasks.with(&[names[0], names[1], state]).set(as_gauge(count as u64));
            }
            self.epochs(pipeline, &mut current);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&current) {
            let [namespace, name, stage, task] = gone;
            self.epoch.remove(&[namespace, name, stage, task]);
            if !now.pipelines.iter().any(|p| p.namespace == *namespace && p.name == *name) {
                self.lag.remove(&[namespace, name]);
                self.wanted.remove(&[namespace, name]);
                self.tasks.remove_prefix(&[namespace, name]);
            }
        }
        *shown = current;
    }

    fn epochs(&self, pipeline: &Pipeline, current: &mut BTreeSet<[String; 4]>) {
        for status in pipeline.tasks.iter().filter_map(|t| t.status.as_ref()) {
            let Some(task) = &status.task else { continue };
            let (stage, index) = (task.stage.to_string(), task.index.to_string());
            let labels = [pipeline.namespace.clone(), pipeline.name.clone(), stage, index];
            let [namespace, name, stage, index] = &labels;
            self.epoch.with(&[namespace, name, stage, index]).set(as_gauge(status.epoch));
            current.insert(labels);
        }
    }
}
