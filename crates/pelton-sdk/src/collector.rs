//! Where an operator puts what it made of a batch.

use pelton_types::Batch;
use std::time::Instant;

/// A record that could not be processed.
#[derive(Debug)]
pub struct Failed {
    /// A batch of exactly this record.
    pub record: Batch,
    /// Why: lowercase, real values.
    pub cause: String,
}

/// Takes an operator's results, and the account of what it did not pass on.
///
/// Every record given in must be emitted, counted as filtered, failed, or stay held by the operator; a record emitted
/// more than once counts its extra copies as expanded, and one that went into another's output counts as merged. The
/// runtime adds this up, and a difference is an incident.
#[derive(Debug)]
pub struct Collector {
    now: Instant,
    /// Batches by output port; port 0 is the operator itself, others as [`crate::OperatorShape::ports`] lists them.
    pub emitted: Vec<(usize, Batch)>,
    /// Records that could not be processed.
    pub failed: Vec<Failed>,
    /// Records dropped on purpose.
    pub filtered: u64,
    /// Extra copies emitted.
    pub expanded: u64,
    /// Records that went into another's output.
    pub merged: u64,
}

impl Collector {
    /// An empty collector for a step at `now`.
    pub fn new(now: Instant) -> Self {
        Self { now, emitted: Vec::new(), failed: Vec::new(), filtered: 0, expanded: 0, merged: 0 }
    }

    /// When this step began.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Hand a batch on. Empty batches are dropped here.
    pub fn emit(&mut self, batch: Batch) {
        self.emit_to(0, batch);
    }

    /// Hand a batch to a named output of the operator.
    pub fn emit_to(&mut self, port: usize, batch: Batch) {
        if !batch.is_empty() {
            self.emitted.push((port, batch));
        }
    }

    /// Count records dropped on purpose.
    pub fn filtered(&mut self, records: usize) {
        self.filtered += records as u64;
    }

    /// Count extra copies: one in and three out counts two.
    pub fn expanded(&mut self, records: usize) {
        self.expanded += records as u64;
    }

    /// Count records that went into another's output: three in and one out counts two.
    pub fn merged(&mut self, records: usize) {
        self.merged += records as u64;
    }

    /// Give up on one record of a batch (the caller removes it from what it emits).
    pub fn fail(&mut self, batch: &mut Batch, index: usize, cause: impl Into<String>) {
        let record = batch.subset([index]);
        self.failed.push(Failed { record, cause: cause.into() });
    }

    /// Records that left the operator in this collector: emitted, filtered, merged or failed, without the expanded.
    pub fn settled(&self) -> u64 {
        let out: usize = self.emitted.iter().map(|(_, b)| b.len()).sum();
        (out as u64 + self.filtered + self.merged + self.failed.len() as u64).saturating_sub(self.expanded)
    }
}
