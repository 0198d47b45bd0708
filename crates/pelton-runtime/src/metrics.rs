//! What a worker's tasks and their operators count. Labels are names of pipelines, operators and tasks and fixed words,
//! never keys or offsets.

mod operator;
mod task;

use pelton_sdk::{CallCounter, CallMeter};
use pelton_telemetry::{Label, MetricError};
use pelton_types::{PipelineName, TaskId};
use std::{sync::Arc, time::Instant};

pub(crate) use operator::OperatorMeter;
pub(crate) use task::TaskMeter;

const PIPELINE: &[Label] = &[Label::Namespace, Label::Pipeline];

/// The metrics of all tasks of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    pipelines: task::OfPipelines,
    tasks: task::OfTasks,
    operators: operator::OfOperators,
    calls: operator::OfCalls,
}

impl Metrics {
    /// Register the metrics of a process.
    ///
    /// # Errors
    /// When one of these names was registered otherwise before.
    pub fn register(metrics: &pelton_telemetry::Metrics) -> Result<Metrics, MetricError> {
        Ok(Metrics {
            pipelines: task::OfPipelines::register(metrics)?,
            tasks: task::OfTasks::register(metrics)?,
            operators: operator::OfOperators::register(metrics)?,
            calls: operator::OfCalls::register(metrics)?,
        })
    }

    /// Metrics nobody reads, for tests and tools.
    pub fn detached() -> Metrics {
        Metrics::register(&pelton_telemetry::Metrics::new("detached"))
            .unwrap_or_else(|e| unreachable!("a fresh registry has no names: {e}"))
    }

    /// The meter of one task: handles are looked up once.
    pub(crate) fn task(&self, task: &TaskId) -> TaskMeter {
        TaskMeter::new(&self.pipelines, &self.tasks, task)
    }

    /// The meter of one operator of a task's chain.
    pub(crate) fn operator(
        &self,
        pipeline: &PipelineName,
        operator: &str,
        clock: fn() -> Instant,
    ) -> OperatorMeter {
        OperatorMeter::new(&self.operators, pipeline, operator, clock)
    }
}

impl CallMeter for Metrics {
    fn counter(&self, pipeline: &PipelineName, operator: &str) -> Arc<dyn CallCounter> {
        self.calls.counter(pipeline, operator)
    }
}
