//! The codecs of record batches. Off the hot path: for queries by time and for compaction.

use std::io::{self, Read, Write};

/// A batch that would become longer than this is not decompressed: a few kilobytes can claim terabytes.
pub const MAX_DECOMPRESSED_BYTES: usize = 256 * 1024 * 1024;

/// Snappy as Kafka's own clients write it: this header, then blocks with a length of four bytes each.
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const XERIAL_BLOCK: usize = 32 * 1024;

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

    /// The original bytes.
    ///
    /// # Errors
    /// `bytes` are not what the codec writes, or would become longer than [`MAX_DECOMPRESSED_BYTES`].
    pub fn decompress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Gzip => read_all(flate2::read::MultiGzDecoder::new(bytes)),
            Self::Snappy => unsnap(bytes),
            Self::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(bytes)),
            Self::Zstd => read_all(zstd::stream::read::Decoder::with_buffer(bytes)?),
        }
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

    /// The compressed bytes.
    ///
    /// # Errors
    /// The codec's own; none are known for bytes in memory.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.compress_at(bytes, None)
    }

    /// The same at a level of gzip (0 to 9) or zstd; the other codecs have one only.
    ///
    /// # Errors
    /// As [`Codec::compress`].
    pub fn compress_at(self, bytes: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Snappy => snap_framed(bytes),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(bytes)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Zstd => zstd::stream::encode_all(bytes, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
        }
    }
}

fn too_long() -> io::Error {
    let text = format!("batch becomes longer than {MAX_DECOMPRESSED_BYTES} bytes when decompressed");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn read_all(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MAX_DECOMPRESSED_BYTES as u64 + 1).read_to_end(&mut out)?;
    if out.len() > MAX_DECOMPRESSED_BYTES { Err(too_long()) } else { Ok(out) }
}

fn unsnap(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(XERIAL_HEADER) else {
        unsnap_block(bytes, &mut out)?;
        return Ok(out);
    };
    while !rest.is_empty() {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(eof)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(eof)?;
        unsnap_block(block, &mut out)?;
        rest = behind;
    }
    Ok(out)
}

fn unsnap_block(block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let length = snap::raw::decompress_len(block)?;
    if out.len() + length > MAX_DECOMPRESSED_BYTES {
        return Err(too_long());
    }
    out.extend(snap::raw::Decoder::new().decompress_vec(block)?);
    Ok(())
}

fn snap_framed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL_HEADER.to_vec();
    for block in bytes.chunks(XERIAL_BLOCK) {
        let compressed = snap::raw::Encoder::new().compress_vec(block)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        out.extend(length.to_be_bytes());
        out.extend(compressed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn bytes_come_back_from_every_codec() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_be_bytes()).collect();
        for codec in ALL {
            for len in [0, 1, 100, bytes.len()] {
                let packed = codec.compress(&bytes[..len]).unwrap();
                assert_eq!(codec.decompress(&packed).unwrap(), bytes[..len], "{codec:?} {len}");
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
                let _ = codec.decompress(&damaged);
                let _ = codec.decompress(&packed[..at]);
            }
        }
        let claims_4_gb = [&b"\xff\xff\xff\xff\x0f"[..], &[0; 20]].concat();
        assert!(Codec::Snappy.decompress(&claims_4_gb).is_err());
    }
}
