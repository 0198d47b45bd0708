//! The segments of one partition.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Checkpoint, INDEX, UNFINISHED};
use super::compact::{CLEAN, NewSegment, SegmentReader};
use super::device::Device;
use super::range::FileRange;
use super::recover::Scan;
use super::segment::Segment;
use super::{Located, SegmentInfo, Wanted};
use crate::batch::{Batch, BatchHeader};

/// An append-only series of segments in one directory.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    device: Arc<dyn Device>,
    /// Ordered by base offset; empty until the first append.
    segments: Vec<Segment>,
    /// Set when a failed write could not be taken back: what follows it would be unreadable.
    is_broken: bool,
    is_dirty: bool,
    /// Directories with new names since the last [`Log::take_dirty`].
    left: Vec<Arc<File>>,
}

impl Log {
    /// A log without records; its directory appears with the first append.
    pub fn new(dir: PathBuf, device: Arc<dyn Device>) -> Self {
        Self { dir, device, segments: Vec::new(), is_broken: false, is_dirty: false, left: Vec::new() }
    }

    /// Opens the segments in `dir` and gives every batch to `visit`, in order. Records before `start` count as
    /// deleted. Compaction leaves gaps.
    ///
    /// # Errors
    /// A file cannot be read, or a segment before the last is damaged or missing.
    pub fn open(
        dir: PathBuf,
        device: Arc<dyn Device>,
        start: i64,
        may_have_gaps: bool,
        visit: &mut dyn FnMut(BatchHeader),
    ) -> io::Result<Self> {
        let mut files = segment_files(&dir)?;
        // What ends before `start` was deleted; the process ended before its files were.
        let kept_from = files.iter().skip(1).take_while(|(next_base, _)| *next_base <= start).count();
        for (_, path) in files.drain(..kept_from) {
            Checkpoint::remove(&path)?;
            fs::remove_file(path)?;
        }
        let mut log = Self::new(dir, device);
        let mut expected = None;
        for (at, (base, path)) in files.iter().enumerate() {
            if expected.is_some_and(|next| if may_have_gaps { next > *base } else { next != *base }) {
                let text = format!("{}: the segment before this one is not complete", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let scan = if at + 1 == files.len() { Scan::CheckAndCut } else { Scan::Headers };
            let mut next = *base;
            let segment = Segment::open(path.clone(), *base, scan, &mut |header| {
                next = header.next_offset();
                visit(header);
            })?;
            expected = Some(next);
            log.segments.push(segment);
        }
        log.drop_before(start);
        Ok(log)
    }

    /// Appends a batch, in a new segment if the last one is full.
    ///
    /// # Errors
    /// The batch is not in the log.
    pub fn append(&mut self, batch: &Batch, segment_bytes: u64) -> io::Result<()> {
        if self.is_broken {
            // A full disk gives back what it could not take; until then nothing may follow.
            self.segments.last().map_or(Ok(()), Segment::put_back)?;
            self.is_broken = false;
        }
        let is_full = |segment: &Segment| segment.is_full(batch.header.length, segment_bytes);
        if self.segments.last().is_none_or(is_full) {
            self.begin_segment(batch.header.base_offset)?;
        }
        let Some(segment) = self.segments.last_mut() else {
            return Err(io::Error::other("log without a segment"));
        };
        self.is_dirty = true;
        segment.append(batch).map_err(|(error, put_back)| {
            self.is_broken = put_back.is_err();
            error
        })
    }

    fn begin_segment(&mut self, base: i64) -> io::Result<()> {
        if !self.dir.exists() {
            fs::create_dir_all(&self.dir)?;
            // A power cut must not take the directories of synced files either.
            for dir in self.dir.ancestors().skip(1).take(2) {
                self.left.push(Arc::new(File::open(dir)?));
            }
        }
        // Where there is a later segment, this one is whole after a power cut too: a start may refuse one that is not,
        // and never takes a hole for the end of the log.
        if let Some(last) = self.segments.last() {
            self.device.sync(&last.file())?;
        }
        let segment = Segment::create(&self.dir, base)?;
        self.left.push(Arc::new(File::open(&self.dir)?));
        self.segments.push(segment);
        Ok(())
    }

    /// Leaves the segment in use, if anything is in it.
    ///
    /// # Errors
    /// There is no room for a new file.
    pub fn roll(&mut self) -> io::Result<()> {
        match self.segments.last().map(|last| (last.base(), last.next())) {
            Some((base, next)) if next > base => self.begin_segment(next),
            _ => Ok(()),
        }
    }

    /// Removes segments that end before `offset`. What cannot be removed now goes at the next start.
    pub fn drop_before(&mut self, offset: i64) {
        let is_gone = |segment: &Segment| segment.next() <= offset && segment.next() > segment.base();
        if self.segments.last().is_some_and(is_gone)
            && let Err(error) = self.roll()
        {
            tracing::warn!(%error, dir = %self.dir.display(), "could not leave a segment that was deleted");
        }
        // The last one stays: its name says where the log goes on.
        while self.segments.len() > 1 && self.segments.first().is_some_and(|first| first.next() <= offset) {
            let segment = self.segments.remove(0);
            if let Err(error) = segment.remove() {
                tracing::warn!(%error, dir = %self.dir.display(), "could not remove a deleted segment");
            }
        }
    }

    /// The segments before the one in use, as far as they end at or before `limit`.
    pub fn full(&self, limit: i64) -> Vec<SegmentReader> {
        let full = self.segments.split_last().map_or(&[][..], |(_, full)| full);
        full.iter().take_while(|segment| segment.next() <= limit).map(Segment::reader).collect()
    }

    /// Puts a compacted segment in the place of the one it was made from, if that is still here.
    ///
    /// # Errors
    /// The old one is still in place.
    pub fn swap(&mut self, new: NewSegment) -> io::Result<()> {
        let is_original =
            |segment: &Segment| segment.base() == new.base() && segment.size() == new.original_size();
        match self.segments.iter().position(is_original) {
            Some(at) if at + 1 < self.segments.len() => {
                self.segments[at] = new.take_place()?;
                self.left.push(Arc::new(File::open(&self.dir)?));
                Ok(())
            }
            _ => new.discard(),
        }
    }

    /// Offset after the last record.
    pub fn next(&self) -> i64 {
        self.segments.last().map_or(0, Segment::next)
    }

    /// All segments, oldest first.
    pub fn infos(&self) -> Vec<SegmentInfo> {
        self.segments.iter().map(Segment::info).collect()
    }

    /// Finds batches to read.
    pub fn locate(&self, wanted: Wanted) -> Located<FileRange> {
        let mut found = Located::nothing(wanted.from);
        let first = self.segments.partition_point(|segment| segment.base() <= wanted.from).saturating_sub(1);
        for segment in &self.segments[first..] {
            if !segment.locate(wanted, &mut found) {
                break;
            }
        }
        found
    }

    /// The first batch with a record at or after `from` as late as `timestamp_ms`.
    pub fn locate_time(&self, from: i64, timestamp_ms: i64) -> Option<(FileRange, i64)> {
        let segments = self.segments.iter().filter(|segment| segment.next() > from);
        segments.into_iter().find_map(|segment| segment.locate_time(from, timestamp_ms))
    }

    /// The latest time of a record.
    pub fn newest_record_ms(&self) -> Option<i64> {
        self.segments.iter().filter_map(Segment::newest_record_ms).max()
    }

    /// Segments whose checkpoint is due: full ones, and the one in use after every `step` bytes.
    pub fn due_for_checkpoint(&mut self, step: u64) -> Vec<SegmentReader> {
        let last = self.segments.len().saturating_sub(1);
        let due = self.segments.iter_mut().enumerate();
        due.filter_map(|(at, segment)| segment.due_for_checkpoint(if at == last { step } else { 1 }))
            .collect()
    }

    /// The files written since the last call.
    pub fn take_dirty(&mut self) -> Vec<Arc<File>> {
        let mut files = std::mem::take(&mut self.left);
        let was_dirty = std::mem::take(&mut self.is_dirty);
        files.extend(self.segments.last().filter(|_| was_dirty).map(Segment::file));
        files
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|own| extensions.iter().any(|extension| own == *extension))
}

fn segment_files(dir: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let base = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        match base {
            Some(base) => files.push((base, path)),
            // A checkpoint written while its segment was deleted.
            None if has_extension(&path, &[INDEX]) && !path.with_extension("log").exists() => {
                fs::remove_file(&path)?
            }
            None if has_extension(&path, &[INDEX]) => {}
            None if has_extension(&path, &[CLEAN, UNFINISHED]) => fs::remove_file(&path)?,
            None => tracing::warn!(path = %path.display(), "ignored a file that is not a segment"),
        }
    }
    files.sort();
    Ok(files)
}
