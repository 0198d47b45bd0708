//! One segment: a file of consecutive batches, and an index of them in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::compact::SegmentReader;
use super::{ByteRange, Located, SegmentInfo, Wanted};
use crate::batch::{self, Batch, BatchError, BatchHeader, HEADER_LEN};

/// Bytes read at once while scanning a segment.
const SCAN_BYTES: usize = 1024 * 1024;

/// A piece of a segment file.
#[derive(Debug, Clone)]
pub struct FileRange {
    file: Arc<File>,
    position: u64,
    len: usize,
    /// Set for bytes that this process neither wrote nor checked: where they lie, to name damage.
    unchecked: Option<Unchecked>,
}

/// Where bytes lie that are checked before they are given to anybody.
#[derive(Debug, Clone)]
struct Unchecked {
    path: Arc<Path>,
    /// Offset of the first batch.
    base: i64,
}

impl ByteRange for FileRange {
    fn len(&self) -> usize {
        self.len
    }

    fn read_into(&self, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, self.position)?;
        match &self.unchecked {
            Some(unchecked) => check_batches(out, self.position, unchecked),
            None => Ok(()),
        }
    }
}

/// A byte that changed on the disk is found before it is sent to anybody.
fn check_batches(bytes: &[u8], position: u64, unchecked: &Unchecked) -> io::Result<()> {
    let (mut at, mut expected) = (0, unchecked.base);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.len() < HEADER_LEN { None } else { batch::claimed_length(rest) };
        let batch = length.and_then(|length| rest.get(..length)).unwrap_or(rest);
        let is_first = at == 0;
        let checked = BatchHeader::check_stored(batch).and_then(|header| match header.base_offset {
            says if says < expected || (is_first && says > expected) => {
                Err(BatchError::Offset { says, expected })
            }
            _ => Ok(header.next_offset()),
        });
        match checked {
            Ok(next) => expected = next,
            Err(error) => {
                let damage = Damage { position: position + at as u64, offset: expected, error };
                let text = format!("{}: {damage}", unchecked.path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        at += batch.len();
    }
    Ok(())
}

/// Words for a damaged batch: where it is, which offset it has, and what is wrong.
struct Damage {
    position: u64,
    offset: i64,
    error: BatchError,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "damaged batch at byte {}, offset {}: {}", self.position, self.offset, self.error)
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
    path: Arc<Path>,
    base: i64,
    next: i64,
    size: u64,
    index: Vec<IndexEntry>,
    /// Times of the first batch and the newest record, markers included.
    first_ms: Option<i64>,
    newest_ms: Option<i64>,
    /// Bytes before this were neither written nor checked by this process.
    checked_from: u64,
    /// Bytes before this are in the checkpoint.
    checkpointed: u64,
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

    /// Opens a segment and gives every batch in it to `visit`. What its checkpoint covers is believed.
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
        segment.take_checkpoint(end, visit);
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

    fn take_checkpoint(&mut self, end: u64, visit: &mut dyn FnMut(BatchHeader)) {
        let checkpoint = Checkpoint::load(&self.path);
        if checkpoint.covered > end {
            tracing::error!(path = %self.path.display(), have_bytes = end, synced_bytes = checkpoint.covered,
                "a segment is shorter than it was when it was synced; what is there is kept");
            return;
        }
        for header in checkpoint.headers() {
            self.note(&header);
            visit(header);
        }
        (self.checked_from, self.checkpointed) = (checkpoint.covered, checkpoint.covered);
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
    fn batch_at_end(&mut self, window: &mut Window, end: u64, scan: Scan) -> io::Result<Option<BatchHeader>> {
        let left = usize::try_from(end - self.size).unwrap_or(usize::MAX);
        if left < HEADER_LEN {
            return Ok(None);
        }
        let head = window.get(&self.file, self.size, HEADER_LEN)?;
        let Some(length) = batch::claimed_length(head).filter(|length| *length <= left) else {
            return Ok(None);
        };
        // The checkpoint of a full segment may end before the segment does: the rest is checked as well.
        let found = BatchHeader::check_stored(window.get(&self.file, self.size, length)?);
        let behind = (self.size + length as u64, left - length);
        match found {
            Ok(header) if header.base_offset == self.next => Ok(Some(header)),
            Ok(header) => {
                // Compaction leaves gaps; an offset that changed does not fit to what follows.
                let following = self.batch_at(window, behind)?;
                let fits = following.is_none_or(|following| following.base_offset >= header.next_offset());
                if header.base_offset > self.next && header.last_offset_delta >= 0 && fits {
                    return Ok(Some(header));
                }
                let error = BatchError::Offset { says: header.base_offset, expected: self.next };
                self.damaged_batch(window, behind, scan, error)
            }
            Err(error) => self.damaged_batch(window, behind, scan, error),
        }
    }

    /// A batch that cannot be right. With a good one behind it, it was complete once and changed later: it stays,
    /// is named, and is refused to readers. Otherwise it is what a crash left.
    fn damaged_batch(
        &mut self,
        window: &mut Window,
        behind: (u64, usize),
        scan: Scan,
        error: BatchError,
    ) -> io::Result<Option<BatchHeader>> {
        let following = self.batch_at(window, behind)?.filter(|following| following.base_offset > self.next);
        let length = usize::try_from(behind.0 - self.size).unwrap_or(usize::MAX);
        let head = window.get(&self.file, self.size, HEADER_LEN)?;
        let Ok(header) = BatchHeader::parse(head) else { return Ok(None) };
        let last_delta = match following {
            Some(following) => following.base_offset - self.next - 1,
            // The last batch of a full segment.
            None if scan == Scan::Headers && behind.1 == 0 => i64::from(header.last_offset_delta),
            None => return Ok(None),
        };
        let Ok(last_offset_delta) = i32::try_from(last_delta) else { return Ok(None) };
        if last_offset_delta < 0 {
            return Ok(None);
        }
        let damage = Damage { position: self.size, offset: self.next, error };
        tracing::error!(path = %self.path.display(), %damage,
            "a batch changed after it was written; it is refused to readers");
        self.checked_from = behind.0;
        // Nothing in it can be believed but its place.
        Ok(Some(BatchHeader {
            base_offset: self.next,
            length,
            attributes: 0,
            last_offset_delta,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            marker: None,
            ..header
        }))
    }

    /// A batch without a fault at a position, with so many bytes left.
    fn batch_at(
        &self,
        window: &mut Window,
        (position, left): (u64, usize),
    ) -> io::Result<Option<BatchHeader>> {
        if left < HEADER_LEN {
            return Ok(None);
        }
        let head = window.get(&self.file, position, HEADER_LEN)?;
        match batch::claimed_length(head).filter(|length| *length <= left) {
            Some(length) => Ok(BatchHeader::check_stored(window.get(&self.file, position, length)?).ok()),
            None => Ok(None),
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

/// Part of a file in memory, moving forward.
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// Bytes to read at once.
    ahead: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { start: 0, bytes: Vec::new(), ahead: SCAN_BYTES }
    }

    /// Only headers are looked at, and the next one is this far away: reading ahead may not pay.
    pub(super) fn stride(&mut self, length: usize) {
        self.ahead = if length > 16 * 1024 { 0 } else { SCAN_BYTES };
    }

    /// `len` bytes at `position`, which must all be in the file.
    pub(super) fn get(&mut self, file: &File, position: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if position < held.start || position + len as u64 > held.end {
            let left = usize::try_from(file.metadata()?.len() - position).unwrap_or(usize::MAX);
            self.bytes.resize(left.min(len.max(self.ahead)), 0);
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
