//! Gauges of the coordinator, read from its newest snapshot when Prometheus asks.

use crate::{Handle, core::Snapshot};
use pelton_proto::v1::Pipeline;
use pelton_telemetry::metrics::{Family, Label, MetricError, Metrics};
use pelton_types::Code;
use prometheus::IntGauge;
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Register the gauges; they read `handle` at each scrape.
///
/// # Errors
/// When a name is taken by another kind of metric.
pub fn register(handle: Handle, metrics: &Metrics) -> Result<(), MetricError> {
    let leader = metrics.gauge("pelton_leader", "1 while this coordinator leads.")?;
    let term = metrics.gauge("pelton_coordinator_term", "Term of this coordinator's leadership.")?;
    let unassigned =
        metrics.gauge("pelton_tasks_unassigned", "Tasks that should run and that no worker holds.")?;
    let by_pipeline = PerPipeline::new(metrics)?;
    let workers = metrics.gauges("pelton_workers", "Workers, by state.", &[Label::State])?;
    let incidents = metrics.gauges("pelton_incidents_open", "Open incidents, by code.", &[Label::Code])?;
    metrics.before_scrape(move || {
        let now = handle.snapshot();
        leader.set(i64::from(handle.leads()));
        term.set(as_gauge(now.term));
        unassigned.set(as_gauge(now.unassigned as u64));
        for state in ["attached", "draining", "lost"] {
            let count = now.workers.iter().filter(|w| w.state == state).count();
            workers.with(&[state]).set(as_gauge(count as u64));
        }
        // All of them from the start: an alert on a series that is not there yet never fires.
        for code in Code::ALL {
            let count = now.incidents.iter().filter(|r| r.incident.code == *code).count();
            incidents.with(&[&code.to_string()]).set(as_gauge(count as u64));
        }
        by_pipeline.update(&now);
    });
    Ok(())
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

struct PerPipeline {
    lag: Family<IntGauge>,
    tasks: Family<IntGauge>,
    epoch: Family<IntGauge>,
    /// Pipelines and tasks on the page, so that those that are gone leave it.
    shown: Mutex<BTreeSet<[String; 4]>>,
}

impl PerPipeline {
    fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let pipeline = [Label::Namespace, Label::Pipeline];
        let task = [Label::Namespace, Label::Pipeline, Label::Stage, Label::Task];
        Ok(Self {
            lag: metrics.gauges(
                "pelton_source_lag_records",
                "Records between positions and ends, -1 when not known.",
                &pipeline,
            )?,
            tasks: metrics.gauges("pelton_tasks_wanted", "Tasks of a pipeline.", &pipeline)?,
            epoch: metrics.gauges("pelton_task_epoch", "Epoch of a task's newest grant.", &task)?,
            shown: Mutex::default(),
        })
    }

    fn update(&self, now: &Snapshot) {
        let mut current = BTreeSet::new();
        for pipeline in &now.pipelines {
            let names = [pipeline.namespace.as_str(), pipeline.name.as_str()];
            self.lag.with(&names).set(pipeline.lag);
            self.tasks.with(&names).set(i64::from(pipeline.tasks_wanted));
            self.epochs(pipeline, &mut current);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&current) {
            let [namespace, name, stage, task] = gone;
            self.epoch.remove(&[namespace, name, stage, task]);
            if !now.pipelines.iter().any(|p| p.namespace == *namespace && p.name == *name) {
                self.lag.remove(&[namespace, name]);
                self.tasks.remove(&[namespace, name]);
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
