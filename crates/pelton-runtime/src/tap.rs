//! Live copies of passing records, for whoever watches. Costs one comparison per batch when nobody does.

use pelton_types::{Batch, Offset, Partition};

/// A copy of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedRecord {
    /// The source, operator or sink it was seen at.
    pub at: String,
    /// Where it was read.
    pub partition: Partition,
    /// Where in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970, -1 when the queue gave none.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// Somebody who watches a place of a chain.
pub struct Tap {
    /// Source, operator or sink; empty: every sink.
    pub at: String,
    /// Records still wanted.
    pub remaining: u32,
    /// Takes a record; false when the watcher is gone. Must not block: a watcher too slow misses records.
    pub send: Box<dyn FnMut(TappedRecord) -> bool + Send>,
}

/// The taps of a task.
#[derive(Default)]
pub struct Taps(Vec<Tap>);

impl Taps {
    /// Somebody begins to watch.
    pub fn add(&mut self, tap: Tap) {
        self.0.push(tap);
    }

    /// Offer a batch that passes `at`; watchers that have enough or are gone are dropped.
    #[inline]
    pub fn offer(&mut self, at: &str, is_sink: bool, batch: &Batch) {
        if !self.0.is_empty() {
            self.0.retain_mut(|tap| tap.at != at && !(tap.at.is_empty() && is_sink) || tap.take(at, batch));
        }
    }
}

impl Tap {
    /// False when it wants no more.
    fn take(&mut self, at: &str, batch: &Batch) -> bool {
        for record in batch.records.iter().take(self.remaining as usize) {
            self.remaining -= 1;
            let copy = TappedRecord {
                at: at.to_owned(),
                partition: batch.partition.clone(),
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: batch.key(record).map(<[u8]>::to_vec),
                value: batch.value(record).map(<[u8]>::to_vec),
            };
            if !(self.send)(copy) {
                return false;
            }
        }
        self.remaining > 0
    }
}
