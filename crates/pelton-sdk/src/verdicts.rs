//! What becomes of the records of a batch that an operator judges one by one.

use crate::Collector;
use pelton_types::Batch;

/// A verdict on each record of the batch in hand; kept from batch to batch for its capacity.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Whether each record goes on.
    keep: Vec<bool>,
    /// Records that failed: index and cause.
    failed: Vec<(usize, String)>,
    /// Records dropped on purpose.
    dropped: usize,
}

impl Verdicts {
    /// Start on a batch.
    pub fn begin(&mut self) {
        self.keep.clear();
        self.failed.clear();
        self.dropped = 0;
    }

    /// The verdict on the next record: it goes on, is dropped on purpose, or failed.
    #[inline]
    pub fn note(&mut self, verdict: Result<bool, String>) {
        self.keep.push(verdict == Ok(true));
        match verdict {
            Ok(true) => {}
            Ok(false) => self.dropped += 1,
            Err(cause) => self.failed.push((self.keep.len() - 1, cause)),
        }
    }

    /// Carry the verdicts out, one for each record: the batch goes on without those that were dropped or failed.
    pub fn settle(&mut self, mut batch: Batch, out: &mut Collector) {
        // Only now: taking a record out closes the buffer that new values are written to.
        for (index, cause) in self.failed.drain(..) {
            out.fail(&mut batch, index, cause);
        }
        let mut verdicts = self.keep.iter();
        batch.records.retain(|_| verdicts.next() == Some(&true));
        out.filtered(self.dropped);
        out.emit(batch);
    }
}
