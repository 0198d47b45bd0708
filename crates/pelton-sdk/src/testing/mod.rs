//! Helpers for tests of operators: batches, a bench with a clock of its own, golden cases. Behind the feature `test-util`.
//!
//! Everything here panics when something is wrong: that is how a test fails.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod bench;
mod golden;

pub use bench::{Bench, Given};
pub use golden::golden_cases;

use crate::{BuildContext, Collector, OperatorFactory};
use pelton_types::{Batch, Partition, Record, Span};
use serde_json::Value;
use std::time::Instant;

/// A context without an executor.
pub fn context() -> BuildContext {
    BuildContext::detached("models")
}

/// Records of partition `in[0]` with the key `k`, the timestamp 7 and offsets from 0.
pub fn batch(values: &[Option<&str>]) -> Batch {
    batch_of(&Partition::new("in", 0), 0, values)
}

/// Records of a partition with the key `k`, the timestamp 7 and offsets from `first`.
pub fn batch_of(partition: &Partition, first: i64, values: &[Option<&str>]) -> Batch {
    let mut batch = Batch::new(partition.clone());
    for (offset, value) in (first..).zip(values) {
        let value = batch.put(value.map(str::as_bytes));
        let key = batch.put(Some(b"k"));
        batch.records.push(Record { key, value, headers: Span::NULL, timestamp_ms: 7, offset });
    }
    batch.mark_origin();
    batch
}

/// Offset and value of each record, `(null)` for a record without one.
pub fn values(batch: &Batch) -> Vec<(i64, &str)> {
    let text = |r| batch.value(r).map_or("(null)", |v| std::str::from_utf8(v).unwrap());
    batch.records.iter().map(|r| (r.offset, text(r))).collect()
}

/// Offset and cause of each record that failed.
pub fn failures(out: &Collector) -> Vec<(i64, &str)> {
    out.failed.iter().map(|f| (f.record.records[0].offset, f.cause.as_str())).collect()
}

/// What an operator that is new makes of a batch.
pub fn processed(factory: &dyn OperatorFactory, options: &Value, batch: Batch) -> Collector {
    let mut operator = factory.build(options, &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    operator.process(batch, &mut out);
    out
}

/// The mistakes that `check` finds, as `pointer: message`. Panics when it finds none.
pub fn mistakes(factory: &dyn OperatorFactory, options: &Value) -> Vec<String> {
    let errors = factory.check(options, &context()).unwrap_err();
    errors.into_iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect()
}
