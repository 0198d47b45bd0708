//! The store on a file system.
//!
//! ```text
//! DIR/lock                                     held while a broker runs
//! DIR/journal                                  topics, offsets, transactions
//! DIR/logs/<topic number>/<partition>/<first offset>.log
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::device::{Device, Disk};
use super::journal::Journal;
use super::log::Log;
use super::range::FileRange;
use super::{Located, NewSegment, Replayed, SegmentReader, SegmentStore, Wanted};
use crate::batch::{Batch, MAX_BATCH_BYTES};
use crate::core::config::TopicSettings;
use crate::core::retention::SegmentInfo;
use crate::core::{Entry, LogId};

/// Settings of a [`FileStore`].
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// A segment is left when it would grow beyond this. At most 1 GiB is used.
    pub segment_bytes: u64,
}

impl Default for FileOptions {
    /// Segments of 256 MiB: recovery checks at most one of them byte by byte.
    fn default() -> Self {
        Self { segment_bytes: 256 * 1024 * 1024 }
    }
}

/// Logs and journal in one directory.
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    segment_bytes: u64,
    /// `segment.bytes` of topics that set it, by number.
    segment_limits: HashMap<u64, u64>,
    logs: HashMap<LogId, Log>,
    device: Arc<dyn Device>,
    /// The decision about a transaction is synced before its markers are written.
    syncs_decisions: bool,
    /// `None` until the replay.
    journal: Option<Journal>,
    _lock: File,
}

impl FileStore {
    /// Takes the directory, creating it if needed. Content is read by [`SegmentStore::replay`].
    ///
    /// # Errors
    /// No permission, or another broker uses the directory.
    pub fn open(dir: &Path, options: &FileOptions) -> io::Result<Self> {
        Self::open_on(Arc::new(Disk), dir, options)
    }

    /// The same on a device of one's own.
    ///
    /// # Errors
    /// As [`FileStore::open`].
    pub fn open_on(device: Arc<dyn Device>, dir: &Path, options: &FileOptions) -> io::Result<Self> {
        fs::create_dir_all(dir.join("logs"))?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{}: another broker uses this directory", dir.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Positions in a segment are 32 bits wide; one batch may come on top.
        let largest = u64::from(u32::MAX) - MAX_BATCH_BYTES as u64 - 1;
        let segment_bytes = options.segment_bytes.clamp(1, largest.min(1 << 30));
        Ok(Self {
            dir: dir.to_owned(),
            segment_bytes,
            segment_limits: HashMap::new(),
            logs: HashMap::new(),
            device,
            syncs_decisions: false,
            journal: None,
            _lock: lock,
        })
    }

    /// From here on the decision about a transaction is on the device before any of its markers is written: a power
    /// cut leaves a transaction committed everywhere or nowhere.
    pub fn sync_decisions(&mut self) {
        self.syncs_decisions = true;
    }

    /// Files written since the last call. Sync them without holding up anybody.
    pub fn take_dirty(&mut self) -> Vec<Arc<File>> {
        let journal = self.journal.as_mut().and_then(Journal::take_dirty);
        self.logs.values_mut().flat_map(Log::take_dirty).chain(journal).collect()
    }

    /// Segments whose checkpoint is due, to be synced and checkpointed without holding up anybody.
    pub fn take_checkpoints(&mut self, step: u64) -> Vec<SegmentReader> {
        self.logs.values_mut().flat_map(|log| log.due_for_checkpoint(step)).collect()
    }

    /// The full segments of a log that end at or before `limit`, for compaction.
    pub fn full_segments(&self, log: LogId, limit: i64) -> Vec<SegmentReader> {
        self.logs.get(&log).map(|log| log.full(limit)).unwrap_or_default()
    }

    /// Puts a compacted segment in its place; one whose original has gone meanwhile goes too.
    ///
    /// # Errors
    /// The old one is still in place.
    pub fn swap_segment(&mut self, log: LogId, new: NewSegment) -> io::Result<()> {
        match self.logs.get_mut(&log) {
            Some(log) => log.swap(new),
            None => new.discard(),
        }
    }

    fn topic_dir(&self, number: u64) -> PathBuf {
        self.dir.join("logs").join(number.to_string())
    }

    fn replay_logs(&mut self, deleted: &Deleted, visit: &mut dyn FnMut(Replayed)) -> io::Result<()> {
        for (number, topic_dir) in numbered_dirs::<u64>(&self.dir.join("logs"))? {
            if deleted.topics.contains(&number) {
                fs::remove_dir_all(&topic_dir)?;
                continue;
            }
            for (partition, dir) in numbered_dirs::<u32>(&topic_dir)? {
                let id = LogId { topic: number, partition };
                let start = deleted.before.get(&id).copied().unwrap_or(0);
                let may_have_gaps = deleted.compacted.contains(&number);
                let log = Log::open(dir, Arc::clone(&self.device), start, may_have_gaps, &mut |header| {
                    visit(Replayed::Batch(id, header))
                })?;
                visit(Replayed::End(id, log.next()));
                self.logs.insert(id, log);
            }
        }
        Ok(())
    }

    fn open_journal(&mut self) -> io::Result<&mut Journal> {
        self.journal.as_mut().ok_or_else(|| io::Error::other("the store was not replayed"))
    }
}

impl SegmentStore for FileStore {
    type Range = FileRange;

    fn replay(&mut self, visit: &mut dyn FnMut(Replayed)) -> io::Result<()> {
        let mut deleted = Deleted::default();
        let journal = Journal::open(self.dir.join("journal"), Arc::clone(&self.device), &mut |entry| {
            deleted.note(&entry);
            note_limit(&mut self.segment_limits, &entry);
            visit(Replayed::Entry(entry));
        })?;
        self.journal = Some(journal);
        self.replay_logs(&deleted, visit)
    }

    fn append(&mut self, log: LogId, batch: &Batch) -> io::Result<()> {
        let dir = || self.dir.join("logs").join(log.topic.to_string()).join(log.partition.to_string());
        let limit = self
            .segment_limits
            .get(&log.topic)
            .map_or(self.segment_bytes, |own| self.segment_bytes.min(*own));
        self.logs.entry(log).or_insert_with(|| Log::new(dir(), Arc::clone(&self.device))).append(batch, limit)
    }

    fn journal(&mut self, entry: &Entry) -> io::Result<()> {
        let syncs = self.syncs_decisions && matches!(entry, Entry::TxnEnding { .. });
        let journal = self.open_journal()?;
        journal.append(entry)?;
        if syncs {
            journal.sync()?;
        }
        note_limit(&mut self.segment_limits, entry);
        if let Entry::LogStart { topic, partition, offset } = entry
            && let Some(log) = self.logs.get_mut(&LogId { topic: *topic, partition: *partition })
        {
            log.drop_before(*offset);
        }
        if let Entry::TopicDeleted { number, .. } = entry {
            self.logs.retain(|log, _| log.topic != *number);
            // The journal says it is gone; if files stay behind now, the next start removes them.
            match fs::remove_dir_all(self.topic_dir(*number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, number, "could not remove the files of a deleted topic");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn journal_is_long(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_long)
    }

    fn rewrite_journal(&mut self, entries: &[Entry]) -> io::Result<()> {
        self.open_journal()?.rewrite(entries)
    }

    fn locate(&self, log: LogId, wanted: Wanted) -> Located<FileRange> {
        self.logs.get(&log).map_or_else(|| Located::nothing(wanted.from), |log| log.locate(wanted))
    }

    fn locate_time(&self, log: LogId, from: i64, timestamp_ms: i64) -> Option<(FileRange, i64)> {
        self.logs.get(&log)?.locate_time(from, timestamp_ms)
    }

    fn newest_record_ms(&self, log: LogId) -> Option<i64> {
        self.logs.get(&log)?.newest_record_ms()
    }

    fn segments(&self, log: LogId) -> Vec<SegmentInfo> {
        self.logs.get(&log).map(Log::infos).unwrap_or_default()
    }

    fn roll(&mut self, log: LogId) -> io::Result<()> {
        self.logs.get_mut(&log).map_or(Ok(()), Log::roll)
    }
}

/// What the journal says about logs before they are opened: what is gone although its files may still be there.
#[derive(Debug, Default)]
struct Deleted {
    topics: HashSet<u64>,
    before: HashMap<LogId, i64>,
    /// Topics that compaction may have left gaps in.
    compacted: HashSet<u64>,
}

impl Deleted {
    fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::TopicDeleted { number, .. } => {
                self.topics.insert(*number);
            }
            Entry::LogStart { topic, partition, offset } => {
                self.before.insert(LogId { topic: *topic, partition: *partition }, *offset);
            }
            Entry::TopicCreated { number, config, .. } | Entry::TopicConfigured { number, config, .. }
                if TopicSettings::of(config).compacts =>
            {
                self.compacted.insert(*number);
            }
            Entry::Compacted { topic, .. } => {
                self.compacted.insert(*topic);
            }
            _ => {}
        }
    }
}

fn note_limit(limits: &mut HashMap<u64, u64>, entry: &Entry) {
    match entry {
        Entry::TopicCreated { number, config, .. } | Entry::TopicConfigured { number, config, .. } => {
            match config.get("segment.bytes").and_then(|bytes| bytes.trim().parse().ok()) {
                Some(bytes) => limits.insert(*number, bytes),
                None => limits.remove(number),
            };
        }
        Entry::TopicDeleted { number, .. } => {
            limits.remove(number);
        }
        _ => {}
    }
}

/// Directories in `dir` whose name is a number, in order.
fn numbered_dirs<N: std::str::FromStr + Ord>(dir: &Path) -> io::Result<Vec<(N, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        match number {
            Some(number) if path.is_dir() => found.push((number, path)),
            _ => tracing::warn!(path = %path.display(), "ignored what is not a directory of the broker"),
        }
    }
    found.sort();
    Ok(found)
}
