//! Where records and the journal lie: files ([`FileStore`]) or memory ([`MemoryStore`]).

mod checkpoint;
mod compact;
mod device;
mod file;
mod journal;
mod log;
mod memory;
mod range;
mod recover;
mod segment;
mod window;

use std::io;

pub use checkpoint::Checkpoint;
pub use compact::{Done, Job, NewSegment, SegmentReader};
pub use device::{Device, Disk};
pub use file::{FileOptions, FileStore};
pub use memory::MemoryStore;
pub(crate) use range::good_bytes;

use crate::batch::{Batch, BatchHeader};
use crate::core::retention::SegmentInfo;
use crate::core::{Entry, LogId};

/// Bytes of a log that can be read later, without the store.
pub trait ByteRange: Send {
    /// How many bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies them into `out`, which is exactly as long.
    ///
    /// # Errors
    /// The storage does not give them.
    fn read_into(&self, out: &mut [u8]) -> io::Result<()>;
}

/// Consecutive batches found in a log.
#[derive(Debug)]
pub struct Located<R> {
    /// Where they lie, in order.
    pub ranges: Vec<R>,
    /// Bytes of all ranges.
    pub bytes: usize,
    /// Offset after the last of them; the asked offset if there are none.
    pub next_offset: i64,
}

impl<R> Located<R> {
    /// Nothing at `offset`.
    #[must_use]
    pub fn nothing(offset: i64) -> Self {
        Self { ranges: Vec::new(), bytes: 0, next_offset: offset }
    }
}

/// What to find in a log.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// First offset; the batch that holds it is included.
    pub from: i64,
    /// No batch that begins at or after this offset.
    pub limit: i64,
    /// No more bytes than this, except for the first batch if `at_least_one`.
    pub max_bytes: usize,
    /// Give one batch even if it alone is larger than `max_bytes`.
    pub at_least_one: bool,
}

/// One thing a store held when it was opened.
#[derive(Debug)]
pub enum Replayed {
    /// A line of the journal. All of them come before the first batch.
    Entry(Entry),
    /// A batch of a log, in order within its log.
    Batch(LogId, BatchHeader),
    /// The log ends here: the next record gets this offset.
    End(LogId, i64),
}

/// Append-only logs by [`LogId`], and the journal. When a call returns, what it stored survives the process.
pub trait SegmentStore {
    /// A piece of a log.
    type Range: ByteRange;

    /// Gives back everything stored, the journal first. Called once, before anything else.
    ///
    /// # Errors
    /// The storage cannot be read, or is damaged where no crash can damage it.
    fn replay(&mut self, visit: &mut dyn FnMut(Replayed)) -> io::Result<()>;

    /// Appends a placed batch. After an error the log is as before, or refuses every further append.
    ///
    /// # Errors
    /// The batch is not stored.
    fn append(&mut self, log: LogId, batch: &Batch) -> io::Result<()>;

    /// Appends a line to the journal; the logs of a deleted topic and deleted records may go.
    ///
    /// # Errors
    /// The line is not stored.
    fn journal(&mut self, entry: &Entry) -> io::Result<()>;

    /// Whether the journal has grown enough to be worth [`SegmentStore::rewrite_journal`].
    fn journal_is_long(&self) -> bool;

    /// Replaces the journal, all or nothing.
    ///
    /// # Errors
    /// The old journal is still in place.
    fn rewrite_journal(&mut self, entries: &[Entry]) -> io::Result<()>;

    /// Finds batches to read.
    fn locate(&self, log: LogId, wanted: Wanted) -> Located<Self::Range>;

    /// The first batch with a record at or after `from` as late as `timestamp_ms`, and that batch's largest
    /// time.
    fn locate_time(&self, log: LogId, from: i64, timestamp_ms: i64) -> Option<(Self::Range, i64)>;

    /// The latest time of a record; `None` without records.
    fn newest_record_ms(&self, log: LogId) -> Option<i64>;

    /// The segments of a log, oldest first; the last one is in use.
    fn segments(&self, log: LogId) -> Vec<SegmentInfo>;

    /// Leaves the segment in use, so that it can be deleted or compacted.
    ///
    /// # Errors
    /// No new one can be begun.
    fn roll(&mut self, log: LogId) -> io::Result<()>;
}
