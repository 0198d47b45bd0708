//! Checkpoints of segments: the headers of their batches in a small file, so that a start need not read them.
//!
//! ```text
//! <first offset>.idx   "PBX2", bytes covered (u64), batches (u32), 57 bytes for each, crc32c of all before
//! ```
//! A checkpoint is written after the bytes it covers were synced. A start believes it, and checks only what
//! lies behind; without one, or with a damaged one, it reads the segment itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::compact::SegmentReader;
use crate::batch::{BatchHeader, Marker};

const MAGIC: [u8; 4] = *b"PBX2";
const PREFIX_LEN: usize = 16;
const ENTRY_LEN: usize = 57;
/// Extension of checkpoints.
pub const INDEX: &str = "idx";
/// Extension of checkpoints that are not finished.
pub const UNFINISHED: &str = "idx-new";

/// What a checkpoint holds.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Bytes of the segment it covers.
    pub covered: u64,
    entries: Vec<u8>,
}

impl Checkpoint {
    /// The checkpoint of a segment; an empty one if there is none that is whole.
    pub fn load(segment: &Path) -> Self {
        let path = segment.with_extension(INDEX);
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "ignored a damaged checkpoint; its segment is read instead");
                Self::default()
            }),
            Err(_) => Self::default(),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (prefix, entries) = body.split_first_chunk::<PREFIX_LEN>()?;
        let count = usize::try_from(u32::from_be_bytes(*prefix[12..].first_chunk()?)).ok()?;
        let is_whole = prefix[..4] == MAGIC && entries.len() == count.checked_mul(ENTRY_LEN)?;
        let covered = u64::from_be_bytes(*prefix[4..].first_chunk()?);
        is_whole.then(|| Self { covered, entries: entries.to_vec() })
    }

    /// Headers of the batches it covers.
    pub fn headers(&self) -> impl Iterator<Item = BatchHeader> {
        self.entries.chunks_exact(ENTRY_LEN).map(decode)
    }

    /// Whether the batches can lie one behind the other in a segment that begins at `base`.
    pub fn is_chain_from(&self, base: i64) -> bool {
        let (mut next, mut bytes) = (base, 0);
        let in_order = self.headers().all(|header| {
            let fits = header.can_follow(base, next);
            if fits {
                next = header.next_offset();
                bytes += header.length as u64;
            }
            fits
        });
        in_order && bytes == self.covered
    }

    /// Brings the checkpoint of a segment up to its present size, which must be synced.
    ///
    /// # Errors
    /// The segment cannot be read or the checkpoint not written; the one before stays.
    pub fn extend(segment: &SegmentReader) -> io::Result<()> {
        let mut checkpoint = Self::load(segment.path());
        if checkpoint.covered > segment.size() {
            checkpoint = Self::default();
        }
        let entries = &mut checkpoint.entries;
        segment.headers_from(checkpoint.covered, &mut |header| entries.extend(encode(header)))?;
        checkpoint.covered = segment.size();
        checkpoint.store(segment.path())
    }

    fn store(&self, segment: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(PREFIX_LEN + self.entries.len() + 4);
        bytes.extend(MAGIC);
        bytes.extend(self.covered.to_be_bytes());
        let count = u32::try_from(self.entries.len() / ENTRY_LEN).map_err(io::Error::other)?;
        bytes.extend(count.to_be_bytes());
        bytes.extend(&self.entries);
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        let new = segment.with_extension(UNFINISHED);
        let written = File::create(&new).and_then(|mut file| file.write_all(&bytes));
        let stored = written.and_then(|()| fs::rename(&new, segment.with_extension(INDEX)));
        if stored.is_err() {
            let _ = fs::remove_file(&new);
        }
        stored
    }

    /// Removes the checkpoint of a segment, if there is one.
    ///
    /// # Errors
    /// There is one, and it stays.
    pub fn remove(segment: &Path) -> io::Result<()> {
        match fs::remove_file(segment.with_extension(INDEX)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn encode(header: &BatchHeader) -> [u8; ENTRY_LEN] {
    let mut out = [0; ENTRY_LEN];
    let marker = match header.marker {
        None => 0,
        Some(Marker::Abort) => 1,
        Some(Marker::Commit) => 2,
    };
    out[0..8].copy_from_slice(&header.base_offset.to_be_bytes());
    out[8..12].copy_from_slice(&u32::try_from(header.length).unwrap_or(u32::MAX).to_be_bytes());
    out[12..14].copy_from_slice(&header.attributes.to_be_bytes());
    out[14..18].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    out[18..26].copy_from_slice(&header.base_timestamp.to_be_bytes());
    out[26..34].copy_from_slice(&header.max_timestamp.to_be_bytes());
    out[34..42].copy_from_slice(&header.producer_id.to_be_bytes());
    out[42..44].copy_from_slice(&header.producer_epoch.to_be_bytes());
    out[44..48].copy_from_slice(&header.base_sequence.to_be_bytes());
    out[48..52].copy_from_slice(&header.count.to_be_bytes());
    out[52] = marker;
    out[53..57].copy_from_slice(&header.coordinator_epoch.to_be_bytes());
    out
}

fn decode(entry: &[u8]) -> BatchHeader {
    fn at<const N: usize>(entry: &[u8], from: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&entry[from..from + N]);
        out
    }
    BatchHeader {
        base_offset: i64::from_be_bytes(at(entry, 0)),
        length: usize::try_from(u32::from_be_bytes(at(entry, 8))).unwrap_or(usize::MAX),
        attributes: i16::from_be_bytes(at(entry, 12)),
        last_offset_delta: i32::from_be_bytes(at(entry, 14)),
        base_timestamp: i64::from_be_bytes(at(entry, 18)),
        max_timestamp: i64::from_be_bytes(at(entry, 26)),
        producer_id: i64::from_be_bytes(at(entry, 34)),
        producer_epoch: i16::from_be_bytes(at(entry, 42)),
        base_sequence: i32::from_be_bytes(at(entry, 44)),
        count: i32::from_be_bytes(at(entry, 48)),
        marker: match entry[52] {
            1 => Some(Marker::Abort),
            2 => Some(Marker::Commit),
            _ => None,
        },
        coordinator_epoch: i32::from_be_bytes(at(entry, 53)),
    }
}
