//! The codecs of record batches. Off the hot path: for queries by time and for compaction.

mod snappy;

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use snappy::{Snap, Unsnap};

/// A batch that becomes longer than this is not decompressed any further: a few kilobytes can become terabytes, which would
/// take hours.
pub const MAX_UNPACKED_BYTES: usize = 256 * 1024 * 1024;

/// How the records of a batch are compressed, by number in its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, plain or in xerial's framing.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// From the attributes of a batch; `None` for a number nobody has given out.
    #[must_use]
    pub fn of(attributes: i16) -> Option<Self> {
        Some(match attributes & 7 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// The original bytes, a piece at a time: nobody has to hold all of them.
    ///
    /// # Errors
    /// Reading fails where `bytes` are not what the codec writes, and with [`io::ErrorKind::FileTooLarge`] behind
    /// [`MAX_UNPACKED_BYTES`].
    pub(crate) fn unpack(self, bytes: Bytes) -> io::Result<Box<dyn Read>> {
        let reader: Box<dyn Read> = match self {
            Self::None => Box::new(bytes.reader()),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes.reader())),
            Self::Snappy => Box::new(Unsnap::new(bytes)),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes.reader())),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes.reader())?),
        };
        Ok(Box::new(Limited { reader, left: MAX_UNPACKED_BYTES }))
    }

    /// From the value of `compression.type`; `None` for `producer`.
    #[must_use]
    pub fn of_setting(name: &str) -> Option<Self> {
        Some(match name {
            "uncompressed" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// Its number in the attributes of a batch.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Compresses what is written to it, at a level of gzip (0 to 9) or zstd; the other codecs have one only.
    ///
    /// # Errors
    /// The codec's own; none are known.
    pub(crate) fn pack(self, level: Option<i32>) -> io::Result<Packer> {
        let out = Vec::new();
        Ok(match self {
            Self::None => Packer::None(out),
            Self::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                Packer::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            Self::Snappy => Packer::Snappy(Snap::new()),
            Self::Lz4 => Packer::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(out))),
            Self::Zstd => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                Packer::Zstd(zstd::stream::write::Encoder::new(out, level)?)
            }
        })
    }

    /// The compressed bytes.
    ///
    /// # Errors
    /// As [`Codec::pack`].
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut packer = self.pack(None)?;
        packer.write_all(bytes)?;
        packer.finish()
    }
}

/// Ends with an error where a plain `take` would end without.
struct Limited<R> {
    reader: R,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// A codec at work.
pub(crate) enum Packer {
    /// Nothing to do.
    None(Vec<u8>),
    /// gzip.
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    /// Snappy in xerial's framing.
    Snappy(Snap),
    /// An LZ4 frame.
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Packer {
    /// Compressed bytes so far, without what waits for its block to be full.
    #[must_use]
    pub fn packed(&self) -> usize {
        match self {
            Self::None(out) => out.len(),
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Snappy(snap) => snap.out.len(),
            Self::Lz4(encoder) => encoder.get_ref().len(),
            Self::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// All that was written, compressed.
    ///
    /// # Errors
    /// The codec's own; none are known.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Snappy(mut snap) => {
                snap.end_block()?;
                Ok(snap.out)
            }
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Snappy(snap) => snap.write(bytes),
            Self::Lz4(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: what is not full waits for [`Packer::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn decompress(codec: Codec, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        codec.unpack(Bytes::copy_from_slice(bytes))?.read_to_end(&mut out)?;
        Ok(out)
    }

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn bytes_come_back_from_every_codec() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_be_bytes()).collect();
        for codec in ALL {
            for len in [0, 1, 100, bytes.len()] {
                let packed = codec.compress(&bytes[..len]).unwrap();
                assert_eq!(decompress(codec, &packed).unwrap(), bytes[..len], "{codec:?} {len}");
            }
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let bytes: Vec<u8> = (0..2000_u32).flat_map(u32::to_be_bytes).collect();
        for codec in ALL {
            let packed = codec.compress(&bytes).unwrap();
            for at in (0..packed.len()).step_by(7) {
                let mut damaged = packed.clone();
                damaged[at] ^= 0x55;
                let _ = decompress(codec, &damaged);
                let _ = decompress(codec, &packed[..at]);
            }
        }
        let claims_4_gb = [&b"\xff\xff\xff\xff\x0f"[..], &[0; 20]].concat();
        assert!(decompress(Codec::Snappy, &claims_4_gb).is_err());
    }
}
