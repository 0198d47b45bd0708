//! Compaction: of all records with the same key, the last one stays.
//!
//! Two passes over the full segments of a log. The first notes where each key was written last; the second
//! keeps a record only if it is that one. Offsets and order stay as they are. A tombstone (a null value) stays
//! for `delete.retention.ms` after it was first seen here, so that readers learn of it; the time of its end is
//! written into its batch, as Kafka does it (a bit of the attributes says that the base time is that end).
//! Records of aborted transactions go; markers stay as long as there is a record they speak for.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::partition::AbortedRange;
use crate::batch::{Batch, BatchHeader, HEADER_LEN};
use crate::records::{self, RawRecord, RecordError};

/// Keys noted in one go, at about 50 bytes each; the rest waits for the next time.
pub const MAX_KEYS: usize = 1_000_000;

/// What is known about a log when its compaction begins.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Aborted transactions.
    pub aborted: Vec<AbortedRange>,
    /// Base offsets of batches a producer's sequence numbers are known by: they stay, if need be empty.
    pub last_of_producers: HashSet<i64>,
    /// Offset of the last record of the full segments: its batch stays too, so that the log does not end in a gap.
    pub last_offset: i64,
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
    /// How long tombstones stay, milliseconds.
    pub delete_retention_ms: i64,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It stays as it is.
    Same,
    /// It goes.
    Nothing,
    /// This takes its place.
    Changed(Bytes),
}

/// A compaction under way.
#[derive(Debug)]
pub struct Compaction {
    known: Known,
    /// Last offset of each key, by two hashes of it.
    latest: HashMap<(u64, u64), i64>,
    hashers: (RandomState, RandomState),
    max_keys: usize,
    /// Keys of all records before this offset are in `latest`.
    noted_to: i64,
    /// Producers with records since their last marker.
    with_records: HashSet<i64>,
}

impl Compaction {
    /// Begins with what is known; notes at most `max_keys` keys.
    #[must_use]
    pub fn new(known: Known, max_keys: usize) -> Self {
        Self {
            known,
            latest: HashMap::new(),
            hashers: (RandomState::new(), RandomState::new()),
            max_keys,
            noted_to: 0,
            with_records: HashSet::new(),
        }
    }

    /// First pass: notes the keys of a batch. `false` if there is no room for more.
    ///
    /// # Errors
    /// The batch cannot be read.
    pub fn note(&mut self, batch: &Bytes) -> Result<bool, RecordError> {
        let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed(0))?;
        if !header.is_control() && !self.is_aborted(&header) {
            for record in records::raw(batch)? {
                let record = record?;
                let Some(key) = &record.key else { continue };
                let hash = self.hash(key);
                if self.latest.len() >= self.max_keys && !self.latest.contains_key(&hash) {
                    return Ok(false);
                }
                self.latest.insert(hash, record.offset);
                self.noted_to = record.offset + 1;
            }
        }
        self.noted_to = header.next_offset();
        Ok(true)
    }

    /// Up to where keys were noted: the log is compacted up to here when all is done.
    #[must_use]
    pub fn noted_to(&self) -> i64 {
        self.noted_to
    }

    /// Second pass: decides about a batch. Batches must come in order, from the start of the log.
    ///
    /// # Errors
    /// The batch cannot be read.
    pub fn keep(&mut self, batch: &Bytes) -> Result<Kept, RecordError> {
        let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed(0))?;
        if header.is_control() {
            return Ok(self.keep_marker(batch, &header));
        }
        let must_stay = self.known.last_of_producers.contains(&header.base_offset)
            || header.next_offset() > self.known.last_offset;
        let end_ms = header.delete_horizon();
        let is_over = end_ms.is_some_and(|end_ms| self.known.now_ms >= end_ms);
        // Twice over the records, instead of holding them: there may be millions.
        let (mut kept, mut has_tombstone) = (0, false);
        if !self.is_aborted(&header) {
            for record in records::raw(batch)? {
                let record = record?;
                if self.stays(&record, is_over) {
                    kept += 1;
                    has_tombstone |= record.is_tombstone;
                }
            }
        }
        if kept == 0 && !must_stay {
            return Ok(Kept::Nothing);
        }
        if header.is_transactional() {
            self.with_records.insert(header.producer_id);
        }
        let begins_to_end = has_tombstone && end_ms.is_none();
        if kept == header.count && !begins_to_end {
            return Ok(Kept::Same);
        }
        if kept == 0 {
            return Ok(Kept::Changed(Batch::with_records(batch, &[], 0, header.max_timestamp, None)));
        }
        let end_ms = end_ms.filter(|_| has_tombstone).or_else(|| begins_to_end.then(|| self.end_ms()));
        let new = records::rebuild(&header, batch, |record| self.stays(record, is_over), end_ms)?;
        Ok(new.map_or(Kept::Same, Kept::Changed))
    }

    fn keep_marker(&mut self, batch: &Bytes, header: &BatchHeader) -> Kept {
        let speaks_for_something = self.with_records.remove(&header.producer_id);
        let must_stay = header.next_offset() > self.known.last_offset;
        if speaks_for_something || must_stay {
            return Kept::Same;
        }
        match header.delete_horizon() {
            Some(end_ms) if self.known.now_ms >= end_ms => Kept::Nothing,
            Some(_) => Kept::Same,
            None => {
                // The record of a marker has no time of its own.
                let (record, time_ms) = (&batch[HEADER_LEN..], header.max_timestamp);
                Kept::Changed(Batch::with_records(batch, record, header.count, time_ms, Some(self.end_ms())))
            }
        }
    }

    fn end_ms(&self) -> i64 {
        self.known.now_ms.saturating_add(self.known.delete_retention_ms)
    }

    fn stays(&self, record: &RawRecord, tombstones_are_over: bool) -> bool {
        self.is_latest(record) && !(record.is_tombstone && tombstones_are_over)
    }

    /// Records without a key have no place in a compacted log.
    fn is_latest(&self, record: &RawRecord) -> bool {
        let key = record.key.as_ref();
        key.is_some_and(|key| self.latest.get(&self.hash(key)).is_none_or(|latest| record.offset >= *latest))
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }

    fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && self.known.aborted.iter().any(|range| {
                range.producer_id == header.producer_id
                    && (range.first_offset..=range.last_offset).contains(&header.base_offset)
            })
    }
}
