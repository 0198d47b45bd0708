//! What operators count: records and batches, and the calls they make to others.

use super::PIPELINE;
use pelton_sdk::CallCounter;
use pelton_telemetry::{
    Family, Label, MetricError, Metrics,
    metrics::{SECONDS, SHORT_SECONDS},
};
use pelton_types::PipelineName;
use prometheus::{
    Histogram, IntCounter,
    local::{LocalHistogram, LocalIntCounter},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const OPERATOR: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Operator];
const OPERATOR_RESULT: &[Label] = &[PIPELINE[0], PIPELINE[1], Label::Operator, Label::Result];

/// Metrics by operator.
#[derive(Clone)]
pub(super) struct OfOperators {
    records_in: Family<IntCounter>,
    records_out: Family<IntCounter>,
    dropped: Family<IntCounter>,
    dead_lettered: Family<IntCounter>,
    batch_seconds: Family<Histogram>,
}

impl OfOperators {
    pub(super) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        let counters = |name, help| metrics.counters(name, help, OPERATOR);
        Ok(Self {
            records_in: counters("pelton_operator_records_in_total", "Records given to an operator.")?,
            records_out: counters("pelton_operator_records_out_total", "Records an operator gave on.")?,
            dropped: counters(
                "pelton_operator_records_dropped_total",
                "Records an operator dropped on purpose.",
            )?,
            dead_lettered: counters(
                "pelton_operator_records_dlq_total",
                "Records an operator could not process.",
            )?,
            batch_seconds: metrics.histograms(
                "pelton_operator_batch_duration_seconds",
                "Time of an operator on its executor for one batch.",
                OPERATOR,
                SHORT_SECONDS,
            )?,
        })
    }
}

/// Counts for one operator of one task: on the executor's thread alone, until [`OperatorMeter::publish`].
pub(crate) struct OperatorMeter {
    /// Given to it.
    pub(crate) records_in: LocalIntCounter,
    /// Given on by it.
    pub(crate) records_out: LocalIntCounter,
    /// Dropped by it.
    pub(crate) dropped: LocalIntCounter,
    /// Refused by it.
    pub(crate) dead_lettered: LocalIntCounter,
    batch_seconds: LocalHistogram,
    clock: fn() -> Instant,
}

impl OperatorMeter {
    pub(super) fn new(
        all: &OfOperators,
        pipeline: &PipelineName,
        operator: &str,
        clock: fn() -> Instant,
    ) -> Self {
        let own = [pipeline.namespace.as_str(), pipeline.name.as_str(), operator];
        Self {
            records_in: all.records_in.with(&own).local(),
            records_out: all.records_out.with(&own).local(),
            dropped: all.dropped.with(&own).local(),
            dead_lettered: all.dead_lettered.with(&own).local(),
            batch_seconds: all.batch_seconds.with(&own).local(),
            clock,
        }
    }

    /// When a batch begins.
    pub(crate) fn begin(&self) -> Instant {
        (self.clock)()
    }

    /// The batch that began then is done.
    pub(crate) fn end(&self, begun: Instant) {
        self.batch_seconds.observe((self.clock)().saturating_duration_since(begun).as_secs_f64());
    }

    /// Add what was counted to the page.
    pub(crate) fn publish(&self) {
        for counter in [&self.records_in, &self.records_out, &self.dropped, &self.dead_lettered] {
            counter.flush();
        }
        self.batch_seconds.flush();
    }
}

/// Metrics of calls.
#[derive(Clone)]
pub(super) struct OfCalls {
    calls: Family<IntCounter>,
    seconds: Family<Histogram>,
    retries: Family<IntCounter>,
    cache_lookups: Family<IntCounter>,
}

impl OfCalls {
    pub(super) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            calls: metrics.counters(
                "pelton_operator_calls_total",
                "Calls that operators made to others, attempt by attempt.",
                OPERATOR_RESULT,
            )?,
            seconds: metrics.histograms(
                "pelton_operator_call_duration_seconds",
                "From the start of a call to its answer, or to its failure.",
                OPERATOR,
                SECONDS,
            )?,
            retries: metrics.counters(
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

    pub(super) fn counter(&self, pipeline: &PipelineName, operator: &str) -> Arc<dyn CallCounter> {
        let own = [pipeline.namespace.as_str(), pipeline.name.as_str(), operator];
        let with = |word| [own[0], own[1], own[2], word];
        Arc::new(OperatorCalls {
            answered: self.calls.with(&with("ok")),
            failed: self.calls.with(&with("failed")),
            seconds: self.seconds.with(&own),
            retries: self.retries.with(&own),
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
