//! What operators count of the calls they make to others, such as HTTP servers.

use pelton_types::PipelineName;
use std::{fmt, sync::Arc, time::Duration};

/// Counts the calls of one operator of one pipeline. Called from any thread; nothing here blocks.
pub trait CallCounter: Send + Sync {
    /// An attempt ended, with an answer or without, so long after it began.
    fn ended(&self, ok: bool, took: Duration);
    /// Another attempt follows one without an answer.
    fn retried(&self);
    /// A record was looked for in a cache of answers.
    fn looked_up(&self, hit: bool);
}

/// Makes counters, for whoever shows them.
pub trait CallMeter: Send + Sync {
    /// The counter of an operator: the same one for all tasks.
    fn counter(&self, pipeline: &PipelineName, operator: &str) -> Arc<dyn CallCounter>;
}

/// The counter of an operator, as far as there is one: nobody counts in checks.
#[derive(Clone, Default)]
pub struct Calls {
    meter: Option<Arc<dyn CallMeter>>,
    pipeline: Option<PipelineName>,
    counter: Option<Arc<dyn CallCounter>>,
}

impl Calls {
    /// Counters by this meter.
    pub fn new(meter: Arc<dyn CallMeter>) -> Self {
        Self { meter: Some(meter), ..Self::default() }
    }

    /// The same for the operators of a pipeline.
    #[must_use]
    pub fn of_pipeline(&self, pipeline: &PipelineName) -> Self {
        Self { pipeline: Some(pipeline.clone()), ..self.clone() }
    }

    /// The same for one operator.
    #[must_use]
    pub fn of_operator(&self, operator: &str) -> Self {
        let counter = self.meter.as_ref().zip(self.pipeline.as_ref());
        let counter = counter.map(|(meter, pipeline)| meter.counter(pipeline, operator));
        Self { counter, ..self.clone() }
    }

    /// An attempt ended, with an answer or without.
    pub fn ended(&self, ok: bool, took: Duration) {
        if let Some(counter) = &self.counter {
            counter.ended(ok, took);
        }
    }

    /// Another attempt follows.
    pub fn retried(&self) {
        if let Some(counter) = &self.counter {
            counter.retried();
        }
    }

    /// A record was looked for in a cache.
    pub fn looked_up(&self, hit: bool) {
        if let Some(counter) = &self.counter {
            counter.looked_up(hit);
        }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("counted", &self.counter.is_some()).finish()
    }
}
