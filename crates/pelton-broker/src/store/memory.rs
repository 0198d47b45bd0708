//! A store in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::{ByteRange, Located, Replayed, SegmentStore, Wanted};
use crate::batch::{Batch, BatchHeader};
use crate::core::retention::SegmentInfo;
use crate::core::{Entry, LogId};

/// Keeps everything in maps. A clone is what a crash at this moment would leave on a disk.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore {
    journal: Vec<Entry>,
    logs: BTreeMap<LogId, Vec<Stored>>,
}

#[derive(Debug, Clone)]
struct Stored {
    header: BatchHeader,
    bytes: Bytes,
}

impl ByteRange for Bytes {
    fn len(&self) -> usize {
        Bytes::len(self)
    }

    fn read_into(&self, out: &mut [u8]) -> io::Result<()> {
        if out.len() != Bytes::len(self) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "buffer and range differ in length"));
        }
        out.copy_from_slice(self);
        Ok(())
    }
}

impl SegmentStore for MemoryStore {
    type Range = Bytes;

    fn replay(&mut self, visit: &mut dyn FnMut(Replayed)) -> io::Result<()> {
        for entry in &self.journal {
            visit(Replayed::Entry(entry.clone()));
        }
        for (log, batches) in &self.logs {
            for stored in batches {
                visit(Replayed::Batch(*log, stored.header));
            }
            if let Some(last) = batches.last() {
                visit(Replayed::End(*log, last.header.next_offset()));
            }
        }
        Ok(())
    }

    fn append(&mut self, log: LogId, batch: &Batch) -> io::Result<()> {
        let stored = Stored { header: batch.header, bytes: batch.to_bytes() };
        self.logs.entry(log).or_default().push(stored);
        Ok(())
    }

    fn journal(&mut self, entry: &Entry) -> io::Result<()> {
        if let Entry::TopicDeleted { number, .. } = entry {
            self.logs.retain(|log, _| log.topic != *number);
        }
        if let Entry::LogStart { topic, partition, offset } = entry
            && let Some(batches) = self.logs.get_mut(&LogId { topic: *topic, partition: *partition })
        {
            batches.retain(|stored| stored.header.next_offset() > *offset);
        }
        self.journal.push(entry.clone());
        Ok(())
    }

    fn journal_is_long(&self) -> bool {
        false
    }

    fn rewrite_journal(&mut self, entries: &[Entry]) -> io::Result<()> {
        self.journal = entries.to_vec();
        Ok(())
    }

    fn locate(&self, log: LogId, wanted: Wanted) -> Located<Bytes> {
        let mut found = Located::nothing(wanted.from);
        let Some(batches) = self.logs.get(&log) else { return found };
        let first = batches.partition_point(|stored| stored.header.next_offset() <= wanted.from);
        for stored in &batches[first..] {
            let fits = found.bytes + stored.header.length <= wanted.max_bytes;
            let is_forced = found.ranges.is_empty() && wanted.at_least_one;
            if stored.header.base_offset >= wanted.limit || !(fits || is_forced) {
                break;
            }
            found.ranges.push(stored.bytes.clone());
            found.bytes += stored.header.length;
            found.next_offset = stored.header.next_offset();
        }
        found
    }

    fn locate_time(&self, log: LogId, from: i64, timestamp_ms: i64) -> Option<(Bytes, i64)> {
        let late = |stored: &&Stored| {
            let header = &stored.header;
            header.next_offset() > from && !header.is_control() && header.max_timestamp >= timestamp_ms
        };
        let stored = self.logs.get(&log)?.iter().find(late)?;
        Some((stored.bytes.clone(), stored.header.max_timestamp))
    }

    fn newest_record_ms(&self, log: LogId) -> Option<i64> {
        let records = self.logs.get(&log)?.iter().filter(|stored| !stored.header.is_control());
        records.map(|stored| stored.header.max_timestamp).max()
    }

    /// Each batch counts as a segment.
    fn segments(&self, log: LogId) -> Vec<SegmentInfo> {
        let info = |stored: &Stored| SegmentInfo {
            base: stored.header.base_offset,
            next: stored.header.next_offset(),
            bytes: stored.header.length as u64,
            first_ms: Some(stored.header.max_timestamp),
            newest_ms: Some(stored.header.max_timestamp),
        };
        self.logs.get(&log).into_iter().flatten().map(info).collect()
    }

    fn roll(&mut self, _log: LogId) -> io::Result<()> {
        Ok(())
    }
}
