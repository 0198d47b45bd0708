//! What a segment file holds when it is opened: what is whole, what a crash left half written, what changed later.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::checkpoint::Checkpoint;
use super::range::Damage;
use super::segment::Segment;
use super::window::Window;
use crate::batch::{self, BatchError, BatchHeader, HEADER_LEN};

/// What a power cut leaves of a write: blocks that never reached the device read as zeros.
const BLOCK: usize = 4096;

/// How carefully to look at a segment when opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A full segment: the headers must chain up to the end of the file.
    Headers,
    /// The segment that was written last: check every CRC, cut what a crash left half written.
    CheckAndCut,
}

impl Segment {
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
        if !checkpoint.is_chain_from(self.base) {
            tracing::warn!(path = %self.path.display(), "ignored a checkpoint that does not fit its segment");
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
            Ok(header) if header.base_offset == self.next && header.can_follow(self.base, self.next) => {
                Ok(Some(header))
            }
            Ok(header) => {
                // Compaction leaves gaps; an offset that changed does not fit to what follows.
                let following = self.batch_at(window, behind)?;
                let fits = following.is_none_or(|following| following.base_offset >= header.next_offset());
                if header.can_follow(self.base, self.next) && fits {
                    return Ok(Some(header));
                }
                let error = BatchError::Offset { says: header.base_offset, expected: self.next };
                self.damaged_batch(window, behind, scan, error)
            }
            Err(error) => self.damaged_batch(window, behind, scan, error),
        }
    }

    /// A batch that cannot be right. With a good one behind it, it was complete once and changed later: it stays,
    /// is named, and is refused to readers. Otherwise, or with a block of zeros in it, it is what a crash left.
    fn damaged_batch(
        &mut self,
        window: &mut Window,
        behind: (u64, usize),
        scan: Scan,
        error: BatchError,
    ) -> io::Result<Option<BatchHeader>> {
        let following = self.batch_at(window, behind)?.filter(|following| following.base_offset > self.next);
        let length = usize::try_from(behind.0 - self.size).unwrap_or(usize::MAX);
        let bytes = window.get(&self.file, self.size, length)?;
        let Ok(header) = BatchHeader::parse(bytes) else { return Ok(None) };
        // Blocks that begin before the batch, or end behind it, are looked at as a whole.
        let from = self.size / BLOCK as u64 * BLOCK as u64;
        let to = behind.0.next_multiple_of(BLOCK as u64).min(behind.0 + behind.1 as u64);
        if has_hole(window.get(&self.file, from, usize::try_from(to - from).unwrap_or(0))?) {
            return Ok(None);
        }
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
        // A checkpoint is made of the headers in the file, and this one lies: the next start looks for itself again.
        self.checkpointed = u64::MAX;
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
            coordinator_epoch: -1,
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
}

/// Whether one of the blocks of the file that `bytes` are is zero; the last one may be cut short by the end of the file.
fn has_hole(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK).any(|block| block.iter().all(|byte| *byte == 0))
}
