//! One segment: a file of consecutive batches, and an index of them in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compact::SegmentReader;
use super::{ByteRange, Located, SegmentInfo, Wanted};
use crate::batch::{self, Batch, BatchHeader, HEADER_LEN};

/// Bytes read at once while scanning a segment.
const SCAN_BYTES: usize = 1024 * 1024;

/// A piece of a segment file.
#[derive(Debug, Clone)]
pub struct FileRange {
    file: Arc<File>,
    position: u64,
    len: usize,
}

impl ByteRange for FileRange {
    fn len(&self) -> usize {
        self.len
    }

    fn read_into(&self, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, self.position)
    }
}

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

/// How carefully to look at a segment when opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A full segment: the headers must chain up to the end of the file.
    Headers,
    /// The segment that was written last: check every CRC, cut what a crash left half written.
    CheckAndCut,
}

/// A segment file and its index.
#[derive(Debug)]
pub struct Segment {
    file: Arc<File>,
    path: PathBuf,
    base: i64,
    next: i64,
    size: u64,
    index: Vec<IndexEntry>,
    /// Times of the first batch and the newest record, markers included.
    first_ms: Option<i64>,
    newest_ms: Option<i64>,
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
        Self { file: Arc::new(file), path, base, next: base, size: 0, index, first_ms, newest_ms }
    }

    /// Opens a segment and gives every batch in it to `visit`.
    ///
    /// # Errors
    /// The file cannot be read, or a full segment is damaged.
    pub fn open(
        path: PathBuf,
        base: i64,
        scan: Scan,
        visit: &mut dyn FnMut(BatchHeader),
    ) -> io::Result<Self> {
        let file = File::options().read(true).append(true).open(&path)?;
        let end = file.metadata()?.len();
        let mut segment = Self::empty(file, path, base);
        let mut window = Window::new();
        while let Some(header) = segment.batch_at_end(&mut window, end, scan)? {
            segment.note(&header);
            visit(header);
        }
        if segment.size < end {
            segment.cut(end, scan)?;
        }
        Ok(segment)
    }

    fn cut(&self, end: u64, scan: Scan) -> io::Result<()> {
        let path = self.path.display();
        if scan == Scan::Headers {
            let text = format!(
                "{path}: damaged at byte {} of {end}; restore the file, or remove it and the later segments \
                 of this partition to lose their records",
                self.size
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        tracing::warn!(%path, from_bytes = end, to_bytes = self.size, next_offset = self.next,
            "cut a batch that was not written completely");
        self.file.set_len(self.size)
    }

    /// The batch after the last known one, if a whole and valid one is there.
    fn batch_at_end(&self, window: &mut Window, end: u64, scan: Scan) -> io::Result<Option<BatchHeader>> {
        let left = usize::try_from(end - self.size).unwrap_or(usize::MAX);
        if left < HEADER_LEN {
            return Ok(None);
        }
        // Markers are recognised by their record, a few bytes behind the header.
        let head = window.get(&self.file, self.size, left.min(HEADER_LEN + 32))?;
        let Some(length) = batch::claimed_length(head).filter(|length| *length <= left) else {
            return Ok(None);
        };
        let parsed = match scan {
            Scan::Headers => BatchHeader::parse(head),
            Scan::CheckAndCut => BatchHeader::check_stored(window.get(&self.file, self.size, length)?),
        };
        // Compaction leaves gaps.
        Ok(parsed.ok().filter(|header| header.base_offset >= self.next && header.last_offset_delta >= 0))
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
        SegmentReader::new(self.file(), self.path.clone(), (self.base, self.next), self.size)
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file got another name.
    pub(super) fn renamed(mut self, path: PathBuf) -> Self {
        self.path = path;
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
            let position = u64::from(self.index[first].position);
            found.ranges.push(FileRange { file: self.file(), position, len: bytes });
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
        let range =
            FileRange { file: self.file(), position: u64::from(entry.position), len: self.length(at) };
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

/// Part of a file in memory, moving forward.
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { start: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `position`, which must all be in the file.
    pub(super) fn get(&mut self, file: &File, position: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if position < held.start || position + len as u64 > held.end {
            let left = usize::try_from(file.metadata()?.len() - position).unwrap_or(usize::MAX);
            self.bytes.resize(left.min(len.max(SCAN_BYTES)), 0);
            file.read_exact_at(&mut self.bytes, position)?;
            self.start = position;
        }
        let from = usize::try_from(position - self.start).unwrap_or(0);
        self.bytes.get(from..from + len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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
