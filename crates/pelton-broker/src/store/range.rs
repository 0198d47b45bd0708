//! Pieces of segment files to be sent: read late, and checked where this process did not write them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::ByteRange;
use crate::batch::{self, BatchError, BatchHeader, HEADER_LEN};

/// A piece of a segment file.
#[derive(Debug, Clone)]
pub struct FileRange {
    pub(super) file: Arc<File>,
    pub(super) position: u64,
    pub(super) len: usize,
    /// Set for bytes that this process neither wrote nor checked: where they lie, to name damage.
    pub(super) unchecked: Option<Unchecked>,
}

/// Where bytes lie that are checked before they are given to anybody.
#[derive(Debug, Clone)]
pub(super) struct Unchecked {
    pub(super) path: Arc<Path>,
    /// Offset of the first batch.
    pub(super) base: i64,
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
                return Err(io::Error::new(io::ErrorKind::InvalidData, DamagedFrom { good: at, text }));
            }
        }
        at += batch.len();
    }
    Ok(())
}

/// Bytes that are damaged from some place on.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct DamagedFrom {
    good: usize,
    text: String,
}

/// How many bytes before the damage are whole batches, if [`ByteRange::read_into`] failed for that.
pub fn good_bytes(error: &io::Error) -> Option<usize> {
    error.get_ref()?.downcast_ref::<DamagedFrom>().map(|damaged| damaged.good)
}

/// Words for a damaged batch: where it is, which offset it has, and what is wrong.
pub(super) struct Damage {
    pub position: u64,
    pub offset: i64,
    pub error: BatchError,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "damaged batch at byte {}, offset {}: {}", self.position, self.offset, self.error)
    }
}
