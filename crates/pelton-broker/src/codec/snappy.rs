//! Snappy in streams: plain, or as Kafka's own clients write it (xerial's framing), a block at a time.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};

use super::MAX_UNPACKED_BYTES;

/// What xerial's framing begins with; then come blocks with a length of four bytes each.
pub(super) const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const XERIAL_BLOCK: usize = 32 * 1024;
/// Three bytes of a block become 64 at most; one that claims more than this many times its length lies.
const MOST_TIMES: usize = 22;

/// Decompresses.
pub(super) struct Unsnap {
    rest: Bytes,
    is_framed: bool,
    block: io::Cursor<Vec<u8>>,
}

impl Unsnap {
    pub fn new(mut rest: Bytes) -> Self {
        let is_framed = rest.starts_with(XERIAL_HEADER);
        if is_framed {
            rest.advance(XERIAL_HEADER.len());
        }
        Self { rest, is_framed, block: io::Cursor::default() }
    }

    /// Cuts off the next block.
    fn next_block(&mut self) -> Option<Bytes> {
        if !self.is_framed {
            return Some(std::mem::take(&mut self.rest));
        }
        let length = usize::try_from(self.rest.try_get_u32().ok()?).ok()?;
        (length <= self.rest.len()).then(|| self.rest.split_to(length))
    }

    fn unpack_block(&mut self) -> io::Result<()> {
        let block = self.next_block().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = snap::raw::decompress_len(&block)?;
        if length > MAX_UNPACKED_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if length > block.len() * MOST_TIMES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = std::mem::take(&mut self.block).into_inner();
        bytes.resize(length, 0);
        snap::raw::Decoder::new().decompress(&block, &mut bytes)?;
        self.block = io::Cursor::new(bytes);
        Ok(())
    }
}

impl Read for Unsnap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.rest.is_empty() {
                return Ok(read);
            }
            self.unpack_block()?;
        }
    }
}

/// Compresses, in xerial's framing.
pub(crate) struct Snap {
    pub(super) out: Vec<u8>,
    block: Vec<u8>,
}

impl Snap {
    pub fn new() -> Self {
        Self { out: XERIAL_HEADER.to_vec(), block: Vec::new() }
    }

    pub(super) fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let compressed = snap::raw::Encoder::new().compress_vec(&self.block)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        self.out.extend(length.to_be_bytes());
        self.out.extend(compressed);
        self.block.clear();
        Ok(())
    }
}

impl Write for Snap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(XERIAL_BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == XERIAL_BLOCK {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
