//! The journal file: one line per entry, `crc32c in hex`, a blank, the entry as JSON.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::device::Device;
use crate::core::Entry;

/// A journal shorter than this is never rewritten.
const SHORT_BYTES: u64 = 4 * 1024 * 1024;

/// So many zeros in a row are no text: a block that a power cut kept from the device reads like this.
const HOLE: [u8; 64] = [0; 64];

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    device: Arc<dyn Device>,
    file: Arc<File>,
    size: u64,
    /// Size right after the last rewrite.
    snapshot_size: u64,
    is_broken: bool,
    is_dirty: bool,
}

impl Journal {
    /// Opens or creates the journal and gives every entry to `visit`. A half-written last line is cut.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged before its last line.
    pub fn open(path: PathBuf, device: Arc<dyn Device>, visit: &mut dyn FnMut(Entry)) -> io::Result<Self> {
        let file = File::options().create(true).read(true).append(true).open(&path)?;
        sync_dir(&*device, &path)?;
        let text = fs::read(&path)?;
        let mut size = 0;
        while let Some(len) = text[size..].iter().position(|byte| *byte == b'\n') {
            let Some(entry) = decode(&text[size..size + len]) else { break };
            visit(entry);
            size += len + 1;
        }
        let rest = &text[size..];
        if !rest.is_empty() {
            let is_hole = rest.windows(HOLE.len()).any(|bytes| bytes == HOLE);
            if !is_hole
                && rest
                    .split_inclusive(|byte| *byte == b'\n')
                    .skip(1)
                    .any(|line| decode(line.trim_ascii_end()).is_some())
            {
                let text = format!("{}: damaged at byte {size}; restore it from a copy", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            tracing::warn!(path = %path.display(), from_bytes = text.len(), to_bytes = size,
                "cut a line that was not written completely");
            file.set_len(size as u64)?;
        }
        let size = size as u64;
        Ok(Self {
            path,
            device,
            file: Arc::new(file),
            size,
            snapshot_size: 0,
            is_broken: false,
            is_dirty: false,
        })
    }

    /// Appends one line with one write.
    ///
    /// # Errors
    /// The entry is not in the journal.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.is_broken {
            // A full disk gives back what it could not take; until then nothing may follow.
            self.file.set_len(self.size)?;
            self.is_broken = false;
        }
        let line = encode(entry)?;
        self.is_dirty = true;
        if let Err(error) = (&*self.file).write_all(&line) {
            self.is_broken = self.file.set_len(self.size).is_err();
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// Makes what was appended survive a power cut.
    ///
    /// # Errors
    /// The device refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.device.sync(&self.file)
    }

    /// Whether most of it is likely history.
    pub fn is_long(&self) -> bool {
        self.size > SHORT_BYTES.max(4 * self.snapshot_size)
    }

    /// Replaces the content: a new file, synced, takes the name of the old one.
    ///
    /// # Errors
    /// The old journal is still in place.
    pub fn rewrite(&mut self, entries: &[Entry]) -> io::Result<()> {
        // Should it fail, the next attempt is a while off.
        self.snapshot_size = self.size;
        let new = self.path.with_extension("new");
        let mut text = Vec::new();
        for entry in entries {
            text.extend(encode(entry)?);
        }
        fs::write(&new, &text)?;
        let file = File::options().read(true).append(true).open(&new)?;
        self.device.sync(&file)?;
        fs::rename(&new, &self.path)?;
        sync_dir(&*self.device, &self.path)?;
        self.file = Arc::new(file);
        self.size = text.len() as u64;
        self.snapshot_size = self.size;
        self.is_broken = false;
        self.is_dirty = false;
        Ok(())
    }

    /// The file, if written since the last call.
    pub fn take_dirty(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.is_dirty).then(|| Arc::clone(&self.file))
    }
}

fn sync_dir(device: &dyn Device, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| device.sync(&File::open(dir)?))
}

fn encode(entry: &Entry) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Option<Entry> {
    let (crc, json) = line.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.trim_end(), 16).ok()?;
    if crc32c::crc32c(json) != crc { None } else { serde_json::from_slice(json).ok() }
}
