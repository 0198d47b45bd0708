//! What makes files survive a power cut.

use std::fmt::Debug;
use std::fs::File;
use std::io;

/// A device that files lie on. Tests give one that remembers what it was asked to keep.
pub trait Device: Debug + Send + Sync {
    /// Has what was written to a file (or the names in a directory) survive a power cut.
    ///
    /// # Errors
    /// The device refuses; what was written since the last time may be lost.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The disk, through the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Device for Disk {
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
