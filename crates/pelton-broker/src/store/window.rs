//! Reading a file forward, in large pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at once while scanning a segment.
const SCAN_BYTES: usize = 1024 * 1024;

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
