//! The bytes of single records, decompressed as far as somebody asks, and what is in them.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

use super::{NewRecord, RawRecord, RecordError, StoredRecord};
use crate::batch::BatchHeader;
use crate::codec::{Codec, MAX_UNPACKED_BYTES};

/// Bytes decompressed, and compressed, in one go.
pub(super) const PIECE: usize = 64 * 1024;
/// Most headers of a record that is read whole: two bytes of a batch become 56 in memory.
const MAX_HEADERS: i64 = 1 << 20;
/// Most bytes of a varint.
const VARINT_BYTES: usize = 10;

/// The bodies of the records of a batch, in order. They share memory a piece at a time: who drops them as they come holds
/// one piece, or one record if that is longer.
pub(super) enum Bodies {
    /// Not compressed.
    Plain(Bytes),
    Packed {
        reader: Box<dyn Read>,
        ready: BytesMut,
        codec: i16,
    },
}

impl Bodies {
    /// Of a batch with this header; `tail` is what follows it.
    pub fn of(header: &BatchHeader, tail: Bytes) -> Result<Self, RecordError> {
        let number = header.attributes & 7;
        match Codec::of(number) {
            _ if header.count == 0 => Ok(Self::Plain(Bytes::new())),
            Some(Codec::None) => Ok(Self::Plain(tail)),
            Some(codec) => {
                let reader = codec.unpack(tail).map_err(|error| failed(&error, number))?;
                Ok(Self::Packed { reader, ready: BytesMut::new(), codec: number })
            }
            None => Err(RecordError::Compressed(number)),
        }
    }

    /// The next one; `None` if the bytes left are none.
    pub fn next(&mut self) -> Result<Option<Bytes>, RecordError> {
        let mut start = 0;
        let length = varint(self.fill(VARINT_BYTES)?, &mut start);
        let end = length.and_then(|length| start.checked_add(usize::try_from(length).ok()?));
        let Some(end) = end.filter(|end| *end <= MAX_UNPACKED_BYTES) else { return Ok(None) };
        if self.fill(end)?.len() < end {
            return Ok(None);
        }
        let mut body = self.split(end);
        body.advance(start);
        Ok(Some(body))
    }

    /// Some of the bytes that are left; `None` at the end.
    pub fn piece(&mut self) -> Result<Option<Bytes>, RecordError> {
        let ready = self.fill(1)?.len();
        Ok((ready > 0).then(|| self.split(ready)))
    }

    fn split(&mut self, at: usize) -> Bytes {
        match self {
            Self::Plain(bytes) => bytes.split_to(at),
            Self::Packed { ready, .. } => ready.split_to(at).freeze(),
        }
    }

    /// The bytes that come next, as many as wanted or all there are.
    fn fill(&mut self, wanted: usize) -> Result<&[u8], RecordError> {
        match self {
            Self::Plain(bytes) => Ok(bytes),
            Self::Packed { reader, ready, codec } => {
                while ready.len() < wanted {
                    let have = ready.len();
                    ready.resize(have + PIECE, 0);
                    let read = reader.read(&mut ready[have..]).map_err(|error| failed(&error, *codec))?;
                    ready.truncate(have + read);
                    if read == 0 {
                        break;
                    }
                }
                Ok(ready)
            }
        }
    }
}

fn failed(error: &io::Error, codec: i16) -> RecordError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => RecordError::TooLong(MAX_UNPACKED_BYTES),
        _ => RecordError::Compressed(codec),
    }
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut zigzag = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
        }
    }
    None
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn varint(&mut self) -> Option<i64> {
        varint(self.bytes, &mut self.at)
    }

    /// `None` if malformed, `Some(None)` for null.
    fn blob(&mut self) -> Option<Option<Bytes>> {
        let len = self.varint()?;
        if len == -1 {
            return Some(None);
        }
        let end = self.at.checked_add(usize::try_from(len).ok()?)?;
        if end > self.bytes.len() {
            return None;
        }
        let blob = self.bytes.slice(self.at..end);
        self.at = end;
        Some(Some(blob))
    }
}

fn time_of(header: &BatchHeader, delta: i64) -> Option<i64> {
    let is_stamped = header.attributes & 0x08 != 0;
    if is_stamped { Some(header.max_timestamp) } else { header.base_timestamp.checked_add(delta) }
}

/// What compaction must know of a record.
pub(super) fn raw(body: &Bytes, header: &BatchHeader) -> Option<RawRecord> {
    let attributes = *body.first()?;
    let mut reader = Reader { bytes: body, at: 1 };
    let time_delta = reader.varint()?;
    let rest = body.slice(reader.at..);
    let offset = header.base_offset.checked_add(reader.varint()?)?;
    let key = reader.blob()?;
    let is_tombstone = reader.varint()? == -1;
    let timestamp_ms = time_of(header, time_delta)?;
    Some(RawRecord { offset, timestamp_ms, key, is_tombstone, attributes, rest })
}

/// All there is in a record.
pub(super) fn record(body: &Bytes, header: &BatchHeader) -> Option<StoredRecord> {
    let mut reader = Reader { bytes: body, at: 1 }; // attributes, unused
    let time_delta = reader.varint()?;
    let offset_delta = reader.varint()?;
    let key = reader.blob()?;
    let value = reader.blob()?;
    let count = reader.varint().filter(|count| *count <= MAX_HEADERS)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8_lossy(&reader.blob()??).into_owned();
        headers.push((name, reader.blob()?));
    }
    if reader.at != body.len() {
        // Compaction goes by the length; both must see the same record.
        return None;
    }
    let record = NewRecord { key, value, headers, timestamp_ms: time_of(header, time_delta)? };
    Some(StoredRecord { offset: header.base_offset.checked_add(offset_delta)?, record })
}
