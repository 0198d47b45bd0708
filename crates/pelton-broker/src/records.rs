//! Single records inside a batch. Off the hot path: for queries by time and for [`crate::inproc`].

mod body;

use std::io::Write;

use bytes::Bytes;

use crate::batch::{Batch, BatchHeader, HEADER_LEN, MAX_BATCH_BYTES};
use crate::code::Code;
use crate::codec::Codec;
use body::{Bodies, PIECE};

/// A record to append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Key, if any.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// A record as it lies in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// What was appended.
    pub record: NewRecord,
}

/// Why the records of a batch cannot be read one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The batch says it is compressed with this codec (1 gzip, 2 snappy, 3 lz4, 4 zstd), and is not.
    #[error("batch cannot be decompressed with codec {0}")]
    Compressed(i16),
    /// Its records are longer than anybody wants to wait for, or than was asked for, in bytes.
    #[error("batch has more than {0} bytes when it is decompressed or compressed anew")]
    TooLong(usize),
    /// The bytes are not records.
    #[error("record {0} of the batch is malformed")]
    Malformed(i32),
}

impl RecordError {
    /// What a producer is told.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::TooLong(_) => Code::MessageTooLarge,
            Self::Compressed(_) | Self::Malformed(_) => Code::CorruptMessage,
        }
    }
}

/// One uncompressed batch of these records; `None` without records.
#[must_use]
pub fn encode(records: &[NewRecord]) -> Option<Batch> {
    let first_ms = records.first()?.timestamp_ms;
    let max_ms = records.iter().map(|record| record.timestamp_ms).max()?;
    let count = i32::try_from(records.len()).ok()?;
    let (mut body, mut record_bytes) = (Vec::new(), Vec::new());
    for (delta, record) in records.iter().enumerate() {
        record_bytes.clear();
        record_bytes.push(0); // attributes, unused
        put_varint(&mut record_bytes, record.timestamp_ms - first_ms);
        put_varint(&mut record_bytes, delta as i64);
        put_blob(&mut record_bytes, record.key.as_deref());
        put_blob(&mut record_bytes, record.value.as_deref());
        put_varint(&mut record_bytes, record.headers.len() as i64);
        for (name, value) in &record.headers {
            put_blob(&mut record_bytes, Some(name.as_bytes()));
            put_blob(&mut record_bytes, value.as_deref());
        }
        put_varint(&mut body, record_bytes.len() as i64);
        body.extend_from_slice(&record_bytes);
    }
    Some(Batch::of_records(&body, count, (first_ms, max_ms)))
}

/// The records of one batch, read one after the other: a batch of a few kilobytes can hold millions.
///
/// # Errors
/// [`RecordError`], at once or later; nothing comes behind one.
pub fn stored(batch: &Bytes) -> Result<impl Iterator<Item = Result<StoredRecord, RecordError>>, RecordError> {
    let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed(0))?;
    each(header, batch.slice(HEADER_LEN..), body::record)
}

/// All records of one batch, where it is known to be short.
///
/// # Errors
/// [`RecordError`].
pub fn decode(batch: &Bytes) -> Result<Vec<StoredRecord>, RecordError> {
    stored(batch)?.collect()
}

/// A record as the bytes it was sent in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Its offset.
    pub offset: i64,
    /// Its time, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key, if any.
    pub key: Option<Bytes>,
    /// Its value is null.
    pub is_tombstone: bool,
    attributes: u8,
    /// From the offset delta on.
    rest: Bytes,
}

/// The records of one batch, read one after the other, without looking further into them than compaction must.
///
/// # Errors
/// [`RecordError`], at once or later; nothing comes behind one.
pub fn raw(batch: &Bytes) -> Result<impl Iterator<Item = Result<RawRecord, RecordError>>, RecordError> {
    let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed(0))?;
    each(header, batch.slice(HEADER_LEN..), body::raw)
}

/// The same for a batch in two pieces.
///
/// # Errors
/// [`RecordError`].
pub fn raw_of(batch: &Batch) -> Result<impl Iterator<Item = Result<RawRecord, RecordError>>, RecordError> {
    each(batch.header, batch.tail.clone(), body::raw)
}

fn each<T>(
    header: BatchHeader,
    tail: Bytes,
    read: fn(&Bytes, &BatchHeader) -> Option<T>,
) -> Result<impl Iterator<Item = Result<T, RecordError>>, RecordError> {
    let mut bodies = Bodies::of(&header, tail)?;
    let mut numbers = 0..header.count;
    Ok(std::iter::from_fn(move || {
        let number = numbers.next()?;
        let record = bodies.next().and_then(|body| {
            body.and_then(|body| read(&body, &header)).ok_or(RecordError::Malformed(number))
        });
        if record.is_err() {
            numbers = 0..0;
        }
        Some(record)
    }))
}

/// The batch with only the records that `is_kept` wants. With `delete_horizon`, times count from there. `None` if the codec
/// made more of less, so that it would be longer than a batch can be.
///
/// # Errors
/// [`RecordError`].
pub fn rebuild(
    header: &BatchHeader,
    batch: &Bytes,
    is_kept: impl Fn(&RawRecord) -> bool,
    delete_horizon: Option<i64>,
) -> Result<Option<Bytes>, RecordError> {
    let base_ms = delete_horizon.unwrap_or(header.base_timestamp);
    let failed = |_| RecordError::Compressed(header.attributes & 7);
    let mut packer = Codec::of(header.attributes).unwrap_or(Codec::None).pack(None).map_err(failed)?;
    let (mut piece, mut start) = (Vec::new(), Vec::new());
    let (mut count, mut newest) = (0, None);
    for record in raw(batch)? {
        let record = record?;
        if !is_kept(&record) {
            continue;
        }
        (count, newest) = (count + 1, newest.max(Some(record.timestamp_ms)));
        start.clear();
        start.push(record.attributes);
        put_varint(&mut start, record.timestamp_ms.wrapping_sub(base_ms));
        put_varint(&mut piece, (start.len() + record.rest.len()) as i64);
        piece.extend_from_slice(&start);
        piece.extend_from_slice(&record.rest);
        if piece.len() >= PIECE {
            packer.write_all(&piece).map_err(failed)?;
            piece.clear();
        }
        if packer.packed() > MAX_BATCH_BYTES {
            return Ok(None);
        }
    }
    packer.write_all(&piece).map_err(failed)?;
    let packed = packer.finish().map_err(failed)?;
    let is_stamped = header.attributes & 0x08 != 0;
    let max_ms = newest.filter(|_| !is_stamped).unwrap_or(header.max_timestamp);
    let fits = packed.len() <= MAX_BATCH_BYTES;
    Ok(fits.then(|| Batch::with_records(batch, &packed, count, max_ms, delete_horizon)))
}

/// The batch compressed with another codec, at a level if that codec has some, in `max_bytes` at most.
///
/// # Errors
/// [`RecordError`]: it is not what it says, or becomes too long.
pub fn recompress(
    batch: Batch,
    codec: Codec,
    level: Option<i32>,
    max_bytes: usize,
) -> Result<Batch, RecordError> {
    let from = batch.header.attributes & 7;
    if from == codec.number() {
        return Ok(batch);
    }
    let mut bodies = Bodies::of(&batch.header, batch.tail.clone())?;
    let mut packer = codec.pack(level).map_err(|_| RecordError::Compressed(from))?;
    while let Some(piece) = bodies.piece()? {
        packer.write_all(&piece).map_err(|_| RecordError::Compressed(from))?;
        if packer.packed() > max_bytes {
            return Err(RecordError::TooLong(max_bytes));
        }
    }
    let packed = packer.finish().map_err(|_| RecordError::Compressed(from))?;
    Ok(batch.with_codec(codec.number(), packed.into()))
}

/// Offset and time of the first record of the batch at or after `from` that is as late as `timestamp_ms`. Where
/// single records cannot be read, the first record of the batch stands for them all: too early is safe, too
/// late would skip.
#[must_use]
pub fn first_at_or_after(
    batch: &Bytes,
    from: i64,
    timestamp_ms: i64,
    max_timestamp_ms: i64,
) -> Option<(i64, i64)> {
    let header = BatchHeader::parse(batch).ok()?;
    let is_stamped = header.attributes & 0x08 != 0;
    if is_stamped {
        return Some((header.base_offset.max(from), max_timestamp_ms));
    }
    let unknown = (header.base_offset.max(from), max_timestamp_ms);
    let Ok(records) = raw(batch) else { return Some(unknown) };
    for record in records {
        match record {
            Ok(record) if record.timestamp_ms < timestamp_ms || record.offset < from => {}
            Ok(record) => return Some((record.offset, record.timestamp_ms)),
            Err(_) => return Some(unknown),
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
