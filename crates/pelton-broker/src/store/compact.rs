//! Compaction of segment files: reads the old ones, writes new ones beside them, and renames.
//!
//! The log is not held up meanwhile. Each new file is complete and synced before it takes the place of its
//! original, so that a crash at any moment leaves one of the two.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::segment::Segment;
use super::window::Window;
use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::core::LogId;
use crate::core::compaction::{Compaction, Kept};

/// Extension of files that are not finished.
pub const CLEAN: &str = "clean";

/// Bytes behind a header that tell what a marker says.
const MARKER_LEN: usize = 32;

/// A full segment to be read.
#[derive(Debug)]
pub struct SegmentReader {
    file: Arc<File>,
    path: PathBuf,
    base: i64,
    next: i64,
    size: u64,
}

impl SegmentReader {
    pub(super) fn new(file: Arc<File>, path: PathBuf, (base, next): (i64, i64), size: u64) -> Self {
        Self { file, path, base, next, size }
    }

    /// Offset after its last record.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it when this was made.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes it survive a power cut.
    ///
    /// # Errors
    /// The device refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the headers of all batches from byte `from` on to `visit`.
    ///
    /// # Errors
    /// The file cannot be read, or there is no batch where one should be.
    pub fn headers_from(&self, from: u64, visit: &mut dyn FnMut(&BatchHeader)) -> io::Result<()> {
        // Where batches are long, reading their headers alone is less than reading everything.
        let mut window = Window::new();
        let mut at = from;
        while at < self.size {
            let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
            let head = window.get(&self.file, at, left.min(HEADER_LEN + MARKER_LEN))?;
            let header = BatchHeader::parse(head).map_err(io::Error::other)?;
            visit(&header);
            window.stride(header.length);
            at += header.length as u64;
        }
        Ok(())
    }

    /// Gives every batch to `visit`, in order, until that says `false`.
    fn each(&self, visit: &mut dyn FnMut(&Bytes, &BatchHeader) -> io::Result<bool>) -> io::Result<()> {
        let mut window = Window::new();
        let mut at = 0;
        while at < self.size {
            let damaged = |what: &dyn std::fmt::Display| {
                let text = format!("{}: damaged at byte {at}: {what}", self.path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
            let head = window.get(&self.file, at, left.min(HEADER_LEN))?;
            let length = Some(head).filter(|head| head.len() == HEADER_LEN).and_then(batch::claimed_length);
            let length = length.filter(|length| *length <= left).ok_or_else(|| damaged(&"no batch"))?;
            let bytes = Bytes::copy_from_slice(window.get(&self.file, at, length)?);
            let header = BatchHeader::check_stored(&bytes).map_err(|error| damaged(&error))?;
            if !visit(&bytes, &header)? {
                return Ok(());
            }
            at += length as u64;
        }
        Ok(())
    }
}

/// A compacted segment that has not taken its place yet.
#[derive(Debug)]
pub struct NewSegment {
    segment: Segment,
    path: PathBuf,
    original: PathBuf,
    original_size: u64,
}

impl NewSegment {
    pub(super) fn base(&self) -> i64 {
        self.segment.base()
    }

    pub(super) fn original_size(&self) -> u64 {
        self.original_size
    }

    pub(super) fn take_place(self) -> io::Result<Segment> {
        // A checkpoint of the original would not fit the new one.
        Checkpoint::remove(&self.original)?;
        fs::rename(&self.path, &self.original)?;
        Ok(self.segment.renamed(self.original))
    }

    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// A compaction to be carried out.
#[derive(Debug)]
pub struct Job {
    /// Of which log.
    pub log: LogId,
    /// Its full segments, oldest first.
    pub segments: Vec<SegmentReader>,
    /// Records before this offset were compacted before.
    pub from: i64,
    /// What decides.
    pub compaction: Compaction,
}

/// What is to be swapped in.
#[derive(Debug)]
pub struct Done {
    /// Of which log.
    pub log: LogId,
    /// Records before this offset are compacted then.
    pub to: i64,
    /// Segments that changed, oldest first.
    pub segments: Vec<NewSegment>,
}

impl Job {
    /// Reads and writes; nothing has changed for readers of the log afterwards.
    ///
    /// # Errors
    /// A file cannot be read or written, or is damaged; its path and position are in the text.
    pub fn run(mut self) -> io::Result<Done> {
        let mut has_room = true;
        for segment in self.segments.iter().filter(|segment| segment.next > self.from) {
            segment.each(&mut |bytes, _| {
                has_room = self.compaction.note(bytes).map_err(io::Error::other)?;
                Ok(has_room)
            })?;
            if !has_room {
                break;
            }
        }
        let mut done = Done { log: self.log, to: self.compaction.noted_to(), segments: Vec::new() };
        for segment in &self.segments {
            done.segments.extend(rewrite(segment, &mut self.compaction)?);
        }
        Ok(done)
    }
}

/// Writes the kept batches of a segment beside it; `None` if all of them stay as they are.
fn rewrite(old: &SegmentReader, compaction: &mut Compaction) -> io::Result<Option<NewSegment>> {
    let path = old.path.with_extension(CLEAN);
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
    let mut writer = BufWriter::with_capacity(1024 * 1024, file.try_clone()?);
    let mut segment = Segment::empty(file, path.clone(), old.base);
    let mut has_changed = false;
    old.each(&mut |bytes, header| {
        match compaction.keep(bytes).map_err(io::Error::other)? {
            Kept::Nothing => has_changed = true,
            Kept::Same => {
                writer.write_all(bytes)?;
                segment.note(header);
            }
            Kept::Changed(new) => {
                has_changed = true;
                let header = BatchHeader::check_stored(&new).map_err(io::Error::other)?;
                writer.write_all(&new)?;
                segment.note(&header);
            }
        }
        Ok(true)
    })?;
    writer.flush()?;
    if !has_changed {
        fs::remove_file(&path)?;
        return Ok(None);
    }
    segment.file().sync_data()?;
    Ok(Some(NewSegment { segment, path, original: old.path.clone(), original_size: old.size }))
}
