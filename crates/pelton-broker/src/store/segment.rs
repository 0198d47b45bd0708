//! One segment: a file of consecutive batches, and an index of them in memory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::compact::SegmentReader;
use super::range::{FileRange, Unchecked};
use super::{Located, SegmentInfo, Wanted};
use crate::batch::{Batch, BatchHeader};

/// 24 bytes a batch: an index of a million batches costs 24 MB.
#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    /// Relative to the segment's first offset.
    offset: u32,
    position: u32,
    /// Offset of its last record relative to the first.
    last_delta: u32,
    max_timestamp: i64,
}

/// A segment file and its index.
#[derive(Debug)]
pub struct Segment {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<Path>,
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) size: u64,
    index: Vec<IndexEntry>,
    /// Times of the first batch and the newest record, markers included.
    first_ms: Option<i64>,
    newest_ms: Option<i64>,
    /// Bytes before this were neither written nor checked by this process.
    pub(super) checked_from: u64,
    /// Bytes before this are in the checkpoint.
    pub(super) checkpointed: u64,
}

impl Segment {
    /// Name of the segment that begins at `base`.
    pub fn file_name(base: i64) -> String {
        format!("{base:020}.log")
    }

    /// Starts a new segment.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(dir: &Path, base: i64) -> io::Result<Self> {
        let path = dir.join(Self::file_name(base));
        let file = File::options().create(true).read(true).append(true).open(&path)?;
        // A leftover of a failed creation holds nothing that was acknowledged.
        file.set_len(0)?;
        Ok(Self::empty(file, path, base))
    }

    pub(super) fn empty(file: File, path: PathBuf, base: i64) -> Self {
        let (index, first_ms, newest_ms) = (Vec::new(), None, None);
        Self {
            file: Arc::new(file),
            path: path.into(),
            base,
            next: base,
            size: 0,
            index,
            first_ms,
            newest_ms,
            checked_from: 0,
            checkpointed: 0,
        }
    }

    pub(super) fn note(&mut self, header: &BatchHeader) {
        self.index.push(IndexEntry {
            offset: u32::try_from(header.base_offset - self.base).unwrap_or(u32::MAX),
            position: u32::try_from(self.size).unwrap_or(u32::MAX),
            last_delta: header.last_offset_delta.unsigned_abs(),
            // Markers never answer a query by time.
            max_timestamp: if header.is_control() { i64::MIN } else { header.max_timestamp },
        });
        // Records without a time say -1.
        let time = Some(header.max_timestamp).filter(|ms| *ms >= 0);
        self.first_ms = self.first_ms.or(time);
        self.newest_ms = self.newest_ms.max(time);
        self.size += header.length as u64;
        self.next = header.next_offset();
    }

    /// First offset.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// Its bytes for compaction, without the log.
    pub fn reader(&self) -> SegmentReader {
        SegmentReader::new(self.file(), self.path.to_path_buf(), (self.base, self.next), self.size)
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file got another name.
    pub(super) fn renamed(mut self, path: PathBuf) -> Self {
        self.path = path.into();
        self
    }

    /// Offset after the last record.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// What retention and compaction want to know.
    pub fn info(&self) -> SegmentInfo {
        let (first_ms, newest_ms) = (self.first_ms, self.newest_ms);
        SegmentInfo { base: self.base, next: self.next, bytes: self.size, first_ms, newest_ms }
    }

    /// The latest time of a record, markers left out.
    pub fn newest_record_ms(&self) -> Option<i64> {
        self.index.iter().map(|entry| entry.max_timestamp).max().filter(|ms| *ms > i64::MIN)
    }

    /// Removes the file; what is being read stays readable.
    pub fn remove(&self) -> io::Result<()> {
        Checkpoint::remove(&self.path)?;
        std::fs::remove_file(&self.path)
    }

    /// Whether one more batch of `length` bytes would exceed `max_bytes` or the index.
    pub fn is_full(&self, length: usize, max_bytes: u64) -> bool {
        let is_over = self.size > 0 && self.size + length as u64 > max_bytes;
        is_over || self.next - self.base >= i64::from(u32::MAX)
    }

    /// Writes a batch with one system call.
    ///
    /// # Errors
    /// The write failed; the inner result says whether the file was put back as it was.
    pub fn append(&mut self, batch: &Batch) -> Result<(), (io::Error, io::Result<()>)> {
        match write_all_vectored(&self.file, &batch.head, &batch.tail) {
            Ok(()) => {
                self.note(&batch.header);
                Ok(())
            }
            Err(error) => Err((error, self.file.set_len(self.size))),
        }
    }

    /// Tries again to put the file back as it was before a failed write.
    ///
    /// # Errors
    /// It still cannot be.
    pub fn put_back(&self) -> io::Result<()> {
        self.file.set_len(self.size)
    }

    /// Its bytes for a checkpoint, if at least `step` of them are new since the last one.
    pub fn due_for_checkpoint(&mut self, step: u64) -> Option<SegmentReader> {
        if self.size < self.checkpointed.saturating_add(step.max(1)) {
            return None;
        }
        self.checkpointed = self.size;
        Some(self.reader())
    }

    fn range(&self, at: usize, len: usize) -> FileRange {
        let (base, position) = (self.offset(&self.index[at]), u64::from(self.index[at].position));
        let unchecked =
            (position < self.checked_from).then(|| Unchecked { path: Arc::clone(&self.path), base });
        FileRange { file: self.file(), position, len, unchecked }
    }

    /// The file, to be synced outside the broker's lock.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Adds batches of this segment to `found`; `false` when `wanted` is satisfied.
    pub fn locate(&self, wanted: Wanted, found: &mut Located<FileRange>) -> bool {
        let first = self.first_at(wanted.from);
        let mut bytes = 0;
        let mut goes_on = true;
        let mut next_offset = found.next_offset;
        for at in first..self.index.len() {
            let (base, length) = (self.offset(&self.index[at]), self.length(at));
            let fits = found.bytes + bytes + length <= wanted.max_bytes;
            let is_forced = found.bytes + bytes == 0 && wanted.at_least_one;
            if base >= wanted.limit || !(fits || is_forced) {
                goes_on = false;
                break;
            }
            bytes += length;
            next_offset = base + i64::from(self.index[at].last_delta) + 1;
        }
        if bytes > 0 {
            found.ranges.push(self.range(first, bytes));
            found.bytes += bytes;
            found.next_offset = next_offset;
        }
        goes_on
    }

    /// The first batch with a record at or after `from` as late as `timestamp_ms`.
    pub fn locate_time(&self, from: i64, timestamp_ms: i64) -> Option<(FileRange, i64)> {
        let first = self.first_at(from);
        let late = self.index[first..].iter().position(|entry| entry.max_timestamp >= timestamp_ms)?;
        let at = first + late;
        let entry = self.index[at];
        let range = self.range(at, self.length(at));
        Some((range, entry.max_timestamp))
    }

    /// The first batch with a record at or after `from`.
    fn first_at(&self, from: i64) -> usize {
        self.index.partition_point(|entry| self.offset(entry) + i64::from(entry.last_delta) < from)
    }

    fn offset(&self, entry: &IndexEntry) -> i64 {
        self.base + i64::from(entry.offset)
    }

    fn length(&self, at: usize) -> usize {
        let end = self.index.get(at + 1).map_or(self.size, |next| u64::from(next.position));
        usize::try_from(end - u64::from(self.index[at].position)).unwrap_or(0)
    }
}

fn write_all_vectored(mut file: &File, head: &[u8], tail: &[u8]) -> io::Result<()> {
    use io::{IoSlice, Write};
    let mut done = 0;
    while done < head.len() + tail.len() {
        let rest_of_head = &head[done.min(head.len())..];
        let rest_of_tail = &tail[done.saturating_sub(head.len())..];
        match file.write_vectored(&[IoSlice::new(rest_of_head), IoSlice::new(rest_of_tail)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
