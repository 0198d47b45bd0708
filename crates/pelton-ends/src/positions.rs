//! Where positions of sources are kept that have no queue to keep them: one small file for each partition.
//!
//! A file is written beside its place and renamed over it, so a crash of the process leaves the old one or the new one.
//! It is not synced to the disk: after a power cut an older position may come back, and records are read again.

use pelton_sdk::{Committed, EndError, Offsets, SourceSpec};
use pelton_types::{Code, Offset, Partition};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    task::Poll,
};

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    topic: String,
    partition: i32,
    offset: Offset,
    metadata: String,
}

/// Positions of one source in a directory. Reads and writes of a few hundred bytes are done at once.
#[derive(Debug)]
pub(crate) struct FileOffsets {
    directory: PathBuf,
    source: String,
    read: Option<Result<Vec<Committed>, EndError>>,
    commit: Option<Result<(), EndError>>,
}

impl FileOffsets {
    /// Of a source, under the data directory: `positions/<group>/<source>.<partition>.json`.
    pub fn new(data_dir: &Path, spec: &SourceSpec) -> Self {
        let directory = data_dir.join("positions").join(file_name(&spec.task.pipeline.group_id()));
        Self { directory, source: file_name(&spec.name), read: None, commit: None }
    }

    fn path(&self, partition: &Partition) -> PathBuf {
        self.directory.join(format!("{}.{}.json", self.source, partition.index))
    }

    fn read_one(&self, partition: &Partition) -> Result<Committed, EndError> {
        let path = self.path(partition);
        let failed = |kind: fn(Code, String) -> EndError, why: String| {
            kind(Code::CommitFailed, format!("position file {}: {why}", path.display()))
        };
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map(Some).map_err(|e| {
                failed(EndError::stop, format!("it is damaged ({e}); delete it to read from the start"))
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed(EndError::retry, e.to_string())),
        };
        // A position in another file says nothing about this one.
        let kept = kept.filter(|k| *k.topic == *partition.topic && k.partition == partition.index);
        let offset = kept.as_ref().map(|k| k.offset);
        let metadata = kept.map(|k| k.metadata);
        Ok(Committed { partition: partition.clone(), offset, start: offset.unwrap_or(0), metadata })
    }

    fn write_one(&self, partition: &Partition, offset: Offset, metadata: &str) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let (topic, metadata) = (partition.topic.to_string(), metadata.to_owned());
        let text = serde_json::to_vec(&Kept { topic, partition: partition.index, offset, metadata })?;
        let path = self.path(partition);
        let beside = path.with_extension("json.tmp");
        fs::write(&beside, text)?;
        fs::rename(&beside, &path)
    }
}

impl Offsets for FileOffsets {
    fn start_read(&mut self, partitions: &[Partition]) {
        self.read = Some(partitions.iter().map(|p| self.read_one(p)).collect());
    }

    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>> {
        self.read.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str) {
        let written = positions.iter().try_for_each(|(p, offset)| self.write_one(p, *offset, metadata));
        self.commit = Some(written.map_err(|e| {
            EndError::retry(Code::CommitFailed, format!("positions in {}: {e}", self.directory.display()))
        }));
    }

    fn poll_commit(&mut self) -> Poll<Result<(), EndError>> {
        self.commit.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Positions of a source that cannot go back: nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct NoOffsets {
    read: Option<Vec<Committed>>,
    commit: bool,
}

impl Offsets for NoOffsets {
    fn start_read(&mut self, partitions: &[Partition]) {
        let fresh =
            |p: &Partition| Committed { partition: p.clone(), offset: None, start: 0, metadata: None };
        self.read = Some(partitions.iter().map(fresh).collect());
    }

    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>> {
        self.read.take().map_or(Poll::Pending, |read| Poll::Ready(Ok(read)))
    }

    fn start_commit(&mut self, _positions: &[(Partition, Offset)], _metadata: &str) {
        self.commit = true;
    }

    fn poll_commit(&mut self) -> Poll<Result<(), EndError>> {
        if std::mem::take(&mut self.commit) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// A name as one part of a path: what is no letter, digit, `-`, `_` or inner `.` becomes `%` and its hexadecimal value.
fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if i > 0 => out.push('.'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_') => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_part_of_a_path_and_distinct() {
        assert_eq!(file_name("pelton.default.digits"), "pelton.default.digits");
        assert_eq!(file_name("../a b"), "%2e.%2fa%20b");
        assert_eq!(file_name("%2f"), "%252f");
    }
}
