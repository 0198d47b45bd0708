//! Record batches as they travel and lie on disk (format version 2).
//!
//! The broker never looks at single records on its way: it reads the 61 bytes of the header, checks the
//! CRC, and overwrites the two fields that lie outside the CRC (base offset and leader epoch).

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the first record of a batch.
pub const HEADER_LEN: usize = 61;
/// Bytes before the part that [`BatchHeader::length`] counts on the wire.
const LENGTH_PREFIX: usize = 12;
/// The CRC covers everything from the attributes on.
const CRC_FROM: usize = 21;
/// A fetch by time can only be answered inside what a client sent, so this is also the largest batch.
pub const MAX_BATCH_BYTES: usize = 100 * 1024 * 1024;

const TIMESTAMP_TYPE_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
/// The base time is the end of the tombstones in the batch; times of records count from there.
const DELETE_HORIZON_BIT: i16 = 0x40;

/// Why bytes are not a record batch this broker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header or than the header promises, or more.
    #[error("batch of {have} bytes says it has {says}")]
    Length {
        /// Bytes there are.
        have: usize,
        /// Bytes the batch claims.
        says: usize,
    },
    /// Message format 0 or 1, which no client of this decade sends.
    #[error("message format {0}, only 2 is supported")]
    Format(i8),
    /// The bytes changed on their way.
    #[error("checksum of the batch does not match its content")]
    Checksum,
    /// The offset does not fit to the batches around.
    #[error("batch says it begins at offset {says}, and {expected} is next")]
    Offset {
        /// Offset in the batch.
        says: i64,
        /// Offset after the batch before.
        expected: i64,
    },
    /// Record count and offset range disagree.
    #[error("batch of {count} records ends at offset delta {last_delta}")]
    Count {
        /// Records the header claims.
        count: i32,
        /// Offset of the last record relative to the first.
        last_delta: i32,
    },
}

/// How a transaction ended, as a control batch in the log says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// The records of the producer before the marker count.
    Commit,
    /// Readers of committed records skip them.
    Abort,
}

/// The fields of a batch header the broker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch, header included.
    pub length: usize,
    /// Compression, time stamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record relative to `base_offset`.
    pub last_offset_delta: i32,
    /// Time of the first record, milliseconds since 1970.
    pub base_timestamp: i64,
    /// Largest time of a record, milliseconds since 1970.
    pub max_timestamp: i64,
    /// -1 without idempotence.
    pub producer_id: i64,
    /// -1 without idempotence.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 without idempotence.
    pub base_sequence: i32,
    /// Records in the batch.
    pub count: i32,
    /// Set in control batches that end a transaction.
    pub marker: Option<Marker>,
    /// Epoch of the coordinator that wrote the marker; -1 in other batches.
    pub coordinator_epoch: i32,
}

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Whole length in bytes a batch claims in its first 12 bytes; `None` if that is impossible, or there are fewer.
pub fn claimed_length(prefix: &[u8]) -> Option<usize> {
    let claimed = prefix.get(8..)?.first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*claimed)).ok()?.checked_add(LENGTH_PREFIX)?;
    (HEADER_LEN..=MAX_BATCH_BYTES + HEADER_LEN).contains(&length).then_some(length)
}

impl BatchHeader {
    /// Reads the header; `bytes` must hold at least [`HEADER_LEN`] bytes, more to recognise a marker.
    ///
    /// # Errors
    /// Too few bytes, an impossible length, or another message format.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_LEN {
            return Err(BatchError::Length { have: bytes.len(), says: HEADER_LEN });
        }
        let length = claimed_length(bytes).ok_or(BatchError::Length { have: bytes.len(), says: 0 })?;
        let format = bytes[16].cast_signed();
        if format != 2 {
            return Err(BatchError::Format(format));
        }
        let mut header = Self {
            base_offset: i64::from_be_bytes(be(bytes, 0)),
            length,
            attributes: i16::from_be_bytes(be(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(be(bytes, 23)),
            base_timestamp: i64::from_be_bytes(be(bytes, 27)),
            max_timestamp: i64::from_be_bytes(be(bytes, 35)),
            producer_id: i64::from_be_bytes(be(bytes, 43)),
            producer_epoch: i16::from_be_bytes(be(bytes, 51)),
            base_sequence: i32::from_be_bytes(be(bytes, 53)),
            count: i32::from_be_bytes(be(bytes, 57)),
            marker: None,
            coordinator_epoch: -1,
        };
        if header.is_control() {
            header.note_marker(&bytes[HEADER_LEN..]);
        }
        Ok(header)
    }

    /// Reads the header of a batch that must fill `bytes` exactly, and checks its CRC.
    ///
    /// # Errors
    /// Any [`BatchError`].
    pub fn check(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::check_stored(bytes)?;
        if header.count < 1 || header.last_offset_delta != header.count - 1 {
            return Err(BatchError::Count { count: header.count, last_delta: header.last_offset_delta });
        }
        Ok(header)
    }

    /// The same for a batch out of a log: compaction may have taken records out of it.
    ///
    /// # Errors
    /// Any [`BatchError`] but [`BatchError::Count`].
    pub fn check_stored(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::parse(bytes)?;
        if header.length != bytes.len() {
            return Err(BatchError::Length { have: bytes.len(), says: header.length });
        }
        if crc32c::crc32c(&bytes[CRC_FROM..]) != u32::from_be_bytes(be(bytes, 17)) {
            return Err(BatchError::Checksum);
        }
        Ok(header)
    }

    fn note_marker(&mut self, record: &[u8]) {
        if let Some((kind, epoch)) = read_marker(record) {
            (self.marker, self.coordinator_epoch) = (Some(kind), epoch);
        }
    }

    /// Whether the batch can come at `next` or after it in a segment that begins at `base`: an index counts offsets of a
    /// segment in 32 bits.
    #[must_use]
    pub fn can_follow(&self, base: i64, next: i64) -> bool {
        let in_segment = (0..i64::from(u32::MAX)).contains(&self.base_offset.saturating_sub(base));
        in_segment
            && self.base_offset >= next
            && self.last_offset_delta >= 0
            && self.base_offset < i64::MAX >> 1
    }

    /// Offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Sequence number of the last record; sequence numbers wrap from `i32::MAX` to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (i64::from(i32::MAX) + 1)).unwrap_or(0)
    }

    /// When the tombstones or the marker in the batch may go, milliseconds since 1970; set by compaction.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds a marker instead of records of a user.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }
}

/// Reads the first (uncompressed) record of a control batch. Key: version, then 0 abort or 1 commit; value: version,
/// then the coordinator's epoch.
fn read_marker(record: &[u8]) -> Option<(Marker, i32)> {
    let mut rest = record;
    skip_varint(&mut rest)?; // length
    rest = rest.get(1..)?; // attributes
    skip_varint(&mut rest)?; // time delta
    skip_varint(&mut rest)?; // offset delta
    skip_varint(&mut rest)?; // key length
    let kind = match rest.get(2..4)? {
        [0, 0] => Marker::Abort,
        [0, 1] => Marker::Commit,
        _ => return None,
    };
    rest = rest.get(4..)?;
    skip_varint(&mut rest)?; // value length
    let epoch = rest.get(2..6).map_or(0, |epoch| i32::from_be_bytes(be(epoch, 0)));
    Some((kind, epoch))
}

fn skip_varint(rest: &mut &[u8]) -> Option<()> {
    let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
    *rest = &rest[end + 1..];
    Some(())
}

/// A checked batch: its header bytes, which get patched, and the records as they came.
///
/// Kept in two pieces so that placing it in a log copies 61 bytes and not a megabyte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The parsed header; `base_offset` is that of `head`.
    pub header: BatchHeader,
    /// The first [`HEADER_LEN`] bytes.
    pub head: [u8; HEADER_LEN],
    /// The records, possibly compressed.
    pub tail: Bytes,
}

impl Batch {
    /// Takes one batch as a client sent it.
    ///
    /// # Errors
    /// Any [`BatchError`]: not exactly one batch of format 2 with a matching CRC.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::check(&bytes)?;
        Ok(Self { header, head: be(&bytes, 0), tail: bytes.slice(HEADER_LEN..) })
    }

    /// Gives the batch its place in a log, and the broker's time if the topic asks for it.
    pub fn place(&mut self, base_offset: i64, log_append_time: Option<i64>) {
        self.header.base_offset = base_offset;
        self.head[0..8].copy_from_slice(&base_offset.to_be_bytes());
        self.head[12..16].copy_from_slice(&0_i32.to_be_bytes());
        if let Some(time) = log_append_time {
            self.header.attributes |= TIMESTAMP_TYPE_BIT;
            self.header.max_timestamp = time;
            self.head[21..23].copy_from_slice(&self.header.attributes.to_be_bytes());
            self.head[35..43].copy_from_slice(&time.to_be_bytes());
            self.seal();
        }
    }

    /// The same records in another codec (its number), compressed already.
    #[must_use]
    pub fn with_codec(mut self, codec: i16, records: Bytes) -> Self {
        self.header.attributes = (self.header.attributes & !7) | (codec & 7);
        self.header.length = HEADER_LEN + records.len();
        let length = u32::try_from(self.header.length - LENGTH_PREFIX).unwrap_or(u32::MAX);
        self.head[8..12].copy_from_slice(&length.to_be_bytes());
        self.head[21..23].copy_from_slice(&self.header.attributes.to_be_bytes());
        self.tail = records;
        self.seal();
        self
    }

    fn seal(&mut self) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.head[CRC_FROM..]), &self.tail);
        self.head[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    /// The batch in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.header.length);
        out.put_slice(&self.head);
        out.put_slice(&self.tail);
        out.freeze()
    }

    /// The control batch that ends a transaction of `producer_id`, written by this broker as the coordinator.
    #[must_use]
    pub fn marker(producer_id: i64, producer_epoch: i16, marker: Marker, now_ms: i64) -> Self {
        Self::marker_of(producer_id, producer_epoch, marker, 0, now_ms)
    }

    /// The same in the name of a coordinator with this epoch.
    #[must_use]
    pub fn marker_of(
        producer_id: i64,
        producer_epoch: i16,
        marker: Marker,
        coordinator_epoch: i32,
        now_ms: i64,
    ) -> Self {
        // Key: version 0 and the kind; value: version 0 and the coordinator's epoch. Lengths are zigzag varints.
        let kind = u8::from(marker == Marker::Commit);
        let [a, b, c, d] = coordinator_epoch.to_be_bytes();
        let record = [32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, a, b, c, d, 0];
        Self::build(
            &record,
            1,
            (now_ms, now_ms),
            TRANSACTIONAL_BIT | CONTROL_BIT,
            (producer_id, producer_epoch),
        )
    }

    /// The batch with other records, compressed already, and with an end for its tombstones. Everything else
    /// stays, so that offsets and sequence numbers do.
    #[must_use]
    pub fn with_records(
        original: &[u8],
        records: &[u8],
        count: i32,
        max_timestamp: i64,
        delete_horizon: Option<i64>,
    ) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + records.len());
        bytes.put_slice(&original[..HEADER_LEN]);
        bytes.put_slice(records);
        let length = u32::try_from(bytes.len() - LENGTH_PREFIX).unwrap_or(u32::MAX);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        if let Some(end_ms) = delete_horizon {
            let attributes = i16::from_be_bytes(be(original, 21)) | DELETE_HORIZON_BIT;
            bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
            bytes[27..35].copy_from_slice(&end_ms.to_be_bytes());
        }
        if count == 0 {
            // Nothing is not compressed.
            bytes[22] &= !7;
        }
        bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    /// A batch of `count` encoded records without a producer.
    #[must_use]
    pub fn of_records(encoded: &[u8], count: i32, first_and_max_ms: (i64, i64)) -> Self {
        Self::build(encoded, count, first_and_max_ms, 0, (-1, -1))
    }

    fn build(
        records: &[u8],
        count: i32,
        (first_ms, max_ms): (i64, i64),
        attributes: i16,
        (producer_id, producer_epoch): (i64, i16),
    ) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + records.len());
        bytes.put_i64(0);
        bytes.put_i32(i32::try_from(HEADER_LEN - LENGTH_PREFIX + records.len()).unwrap_or(i32::MAX));
        bytes.put_i32(0);
        bytes.put_i8(2);
        bytes.put_u32(0);
        bytes.put_i16(attributes);
        bytes.put_i32(count - 1);
        bytes.put_i64(first_ms);
        bytes.put_i64(max_ms);
        bytes.put_i64(producer_id);
        bytes.put_i16(producer_epoch);
        bytes.put_i32(-1);
        bytes.put_i32(count);
        bytes.put_slice(records);
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let mut header = BatchHeader {
            base_offset: 0,
            length: bytes.len(),
            attributes,
            last_offset_delta: count - 1,
            base_timestamp: first_ms,
            max_timestamp: max_ms,
            producer_id,
            producer_epoch,
            base_sequence: -1,
            count,
            marker: None,
            coordinator_epoch: -1,
        };
        if header.is_control() {
            header.note_marker(records);
        }
        let bytes = bytes.freeze();
        Self { header, head: be(&bytes, 0), tail: bytes.slice(HEADER_LEN..) }
    }
}
