//! Single records inside a batch. Off the hot path: for queries by time and for [`crate::inproc`].

use bytes::Bytes;

use crate::batch::{Batch, BatchHeader, HEADER_LEN};
use crate::codec::Codec;

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
    /// The batch says it is compressed with this codec (1 gzip, 2 snappy, 3 lz4, 4 zstd), and is not, or is
    /// too long when it is decompressed.
    #[error("batch cannot be decompressed with codec {0}")]
    Compressed(i16),
    /// The bytes are not records.
    #[error("record {0} of the batch is malformed")]
    Malformed(i32),
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

/// The records of one batch.
///
/// # Errors
/// [`RecordError`].
pub fn decode(batch: &Bytes) -> Result<Vec<StoredRecord>, RecordError> {
    let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed(0))?;
    let body = decompressed(&header, batch)?;
    let mut reader = Reader { bytes: &body, at: 0 };
    let mut records = Vec::new();
    for index in 0..header.count {
        records.push(reader.record(&header).ok_or(RecordError::Malformed(index))?);
    }
    Ok(records)
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

/// The records of one batch, without looking further into them than compaction must.
///
/// # Errors
/// [`RecordError`].
pub fn raw(batch: &Bytes) -> Result<Vec<RawRecord>, RecordError> {
    let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed(0))?;
    let body = decompressed(&header, batch)?;
    let mut reader = Reader { bytes: &body, at: 0 };
    let mut records = Vec::new();
    for index in 0..header.count {
        records.push(reader.raw(&header).ok_or(RecordError::Malformed(index))?);
    }
    Ok(records)
}

/// The batch with only these of its records. With `delete_horizon`, times count from there.
///
/// # Errors
/// [`RecordError::Compressed`].
pub fn rebuild(
    header: &BatchHeader,
    batch: &Bytes,
    kept: &[&RawRecord],
    delete_horizon: Option<i64>,
) -> Result<Bytes, RecordError> {
    let base_ms = delete_horizon.unwrap_or(header.base_timestamp);
    let is_stamped = header.attributes & 0x08 != 0;
    let (mut body, mut record_bytes) = (Vec::new(), Vec::new());
    for record in kept {
        record_bytes.clear();
        record_bytes.push(record.attributes);
        put_varint(&mut record_bytes, record.timestamp_ms.wrapping_sub(base_ms));
        record_bytes.extend_from_slice(&record.rest);
        put_varint(&mut body, record_bytes.len() as i64);
        body.extend_from_slice(&record_bytes);
    }
    let number = header.attributes & 7;
    let codec = Codec::of(number).filter(|_| !kept.is_empty()).unwrap_or(Codec::None);
    let body = codec.compress(&body).map_err(|_| RecordError::Compressed(number))?;
    let newest = kept.iter().map(|record| record.timestamp_ms).max();
    let max_ms = if is_stamped { header.max_timestamp } else { newest.unwrap_or(header.max_timestamp) };
    let count = i32::try_from(kept.len()).unwrap_or(0);
    Ok(Batch::with_records(batch, &body, count, max_ms, delete_horizon))
}

/// The batch compressed with another codec, at a level if that codec has some.
///
/// # Errors
/// [`RecordError::Compressed`]: it is not what it says.
pub fn recompress(batch: Batch, codec: Codec, level: Option<i32>) -> Result<Batch, RecordError> {
    let from = batch.header.attributes & 7;
    if from == codec.number() {
        return Ok(batch);
    }
    let failed = |_| RecordError::Compressed(from);
    let plain =
        Codec::of(from).ok_or(RecordError::Compressed(from))?.decompress(&batch.tail).map_err(failed)?;
    let packed = codec.compress_at(&plain, level).map_err(failed)?;
    Ok(batch.with_codec(codec.number(), packed.into()))
}

fn decompressed(header: &BatchHeader, batch: &Bytes) -> Result<Bytes, RecordError> {
    let number = header.attributes & 7;
    let body = batch.slice(HEADER_LEN..);
    match Codec::of(number) {
        _ if header.count == 0 => Ok(Bytes::new()),
        Some(Codec::None) => Ok(body),
        Some(codec) => Ok(codec.decompress(&body).map_err(|_| RecordError::Compressed(number))?.into()),
        None => Err(RecordError::Compressed(number)),
    }
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
    match decode(batch) {
        Ok(records) => {
            let mut late = records.iter().filter(|stored| stored.record.timestamp_ms >= timestamp_ms);
            let found = late.find(|stored| stored.offset >= from);
            found.map(|stored| (stored.offset, stored.record.timestamp_ms))
        }
        Err(_) => Some((header.base_offset.max(from), max_timestamp_ms)),
    }
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

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn varint(&mut self) -> Option<i64> {
        let mut zigzag = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        None
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

    fn raw(&mut self, header: &BatchHeader) -> Option<RawRecord> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let attributes = *self.bytes.get(self.at)?;
        self.at += 1;
        let time_delta = self.varint()?;
        let rest_from = self.at;
        let offset_delta = self.varint()?;
        let key = self.blob()?;
        let is_tombstone = self.varint()? == -1;
        if self.at > end {
            return None;
        }
        let rest = self.bytes.slice(rest_from..end);
        self.at = end;
        let is_stamped = header.attributes & 0x08 != 0;
        let timestamp_ms =
            if is_stamped { header.max_timestamp } else { header.base_timestamp.checked_add(time_delta)? };
        let offset = header.base_offset.checked_add(offset_delta)?;
        Some(RawRecord { offset, timestamp_ms, key, is_tombstone, attributes, rest })
    }

    fn record(&mut self, header: &BatchHeader) -> Option<StoredRecord> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length)?;
        self.at += 1; // attributes
        let time_delta = self.varint()?;
        let offset_delta = self.varint()?;
        let key = self.blob()?;
        let value = self.blob()?;
        let mut headers = Vec::new();
        for _ in 0..self.varint()? {
            let name = String::from_utf8_lossy(&self.blob()??).into_owned();
            headers.push((name, self.blob()?));
        }
        if self.at != end {
            // Compaction goes by the length; both must see the same record.
            return None;
        }
        let is_stamped = header.attributes & 0x08 != 0;
        let timestamp_ms =
            if is_stamped { header.max_timestamp } else { header.base_timestamp.checked_add(time_delta)? };
        let record = NewRecord { key, value, headers, timestamp_ms };
        Some(StoredRecord { offset: header.base_offset.checked_add(offset_delta)?, record })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = NewRecord> {
        let blob = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from));
        let headers = prop::collection::vec((".{0,10}", blob()), 0..3);
        let time = -4_000_000_000_000..4_000_000_000_000_i64;
        (blob(), blob(), headers, time).prop_map(|(key, value, headers, timestamp_ms)| NewRecord {
            key,
            value,
            headers,
            timestamp_ms,
        })
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_went_in(records in prop::collection::vec(any_record(), 1..20)) {
            let mut batch = encode(&records).unwrap();
            batch.place(1 << 40, None);
            let bytes = batch.to_bytes();
            prop_assert_eq!(BatchHeader::check(&bytes).unwrap(), batch.header);
            let stored = decode(&bytes).unwrap();
            prop_assert!(stored.iter().zip(1_i64 << 40..).all(|(stored, offset)| stored.offset == offset));
            let back: Vec<_> = stored.into_iter().map(|stored| stored.record).collect();
            prop_assert_eq!(back, records);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            records in prop::collection::vec(any_record(), 1..5),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = encode(&records).unwrap().to_bytes().to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = BatchHeader::check(&bytes);
            let bytes = Bytes::from(bytes);
            let _ = first_at_or_after(&bytes, 0, 0, 0);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_time_is_found_in_the_middle_of_a_batch() {
        let at = |timestamp_ms| NewRecord { timestamp_ms, ..NewRecord::default() };
        let bytes = encode(&[at(10), at(20), at(30)]).unwrap().to_bytes();
        assert_eq!(first_at_or_after(&bytes, 0, 5, 30), Some((0, 10)));
        assert_eq!(first_at_or_after(&bytes, 0, 20, 30), Some((1, 20)));
        assert_eq!(first_at_or_after(&bytes, 0, 21, 30), Some((2, 30)));
        assert_eq!(first_at_or_after(&bytes, 2, 5, 30), Some((2, 30)));
        assert_eq!(first_at_or_after(&bytes, 0, 31, 30), None);
    }
}
