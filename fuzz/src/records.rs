//! Batches of records: what a client sent, read record by record, compacted, and searched by time.

use bytes::Bytes;
use pelton_broker::batch::{Batch, BatchHeader, HEADER_LEN};
use pelton_broker::codec::Codec;
use pelton_broker::core::compaction::{Compaction, Kept, Known};
use pelton_broker::records::{self, NewRecord, RecordError};

use super::alloc;

/// A record has 256 MiB at most, in a buffer that grows by doubling; compaction may hold it once more as it writes it. How
/// many records there are makes no difference.
const LIMIT: usize = 1024 * 1024 * 1024;
/// Bytes before the records: codec and flags, count, offset and times, as the harness puts them into a header.
const PREFIX: usize = 8;

/// With an odd first byte the rest is a batch as it stands; else it is the records of a batch with a fitting header.
///
/// # Panics
/// The broker did, or made a batch that is none.
pub fn run(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let batch = if first & 1 == 1 { Bytes::copy_from_slice(rest) } else { framed(rest) };
    if BatchHeader::parse(&batch).is_err() || Batch::from_bytes(batch.clone()).is_err() {
        return;
    }
    alloc::within(LIMIT, "reading records", || read(&batch));
}

fn framed(rest: &[u8]) -> Bytes {
    let Some((prefix, records)) = rest.split_first_chunk::<PREFIX>() else { return Bytes::new() };
    let [attributes, flags, count @ .., offset, time, max_time] = *prefix;
    let count = i32::from(u16::from_be_bytes([count[0], count[1]])) << (flags & 7);
    let times = (i64::from(time), i64::from(max_time));
    let mut bytes = Batch::of_records(records, count, times).to_bytes().to_vec();
    bytes[7] = offset;
    // Everything but the bit that makes it a marker.
    bytes[22] = attributes & !0x20;
    seal(&mut bytes);
    bytes.into()
}

/// Puts the right checksum into a batch.
pub fn seal(batch: &mut [u8]) {
    if batch.len() >= HEADER_LEN {
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn read(batch: &Bytes) {
    let decoded = count(batch);
    let _ = records::first_at_or_after(batch, 0, 3, 9);
    let header = BatchHeader::check(batch).expect("checked before");
    let known = Known { last_offset: header.next_offset() - 1, ..Known::default() };
    let mut compaction = Compaction::new(known, 1_000);
    if compaction.note(batch).is_err() {
        return;
    }
    if let Ok(Kept::Changed(new)) = compaction.keep(batch) {
        let kept = BatchHeader::check_stored(&new).expect("a compacted batch is one");
        assert_eq!(kept.next_offset(), header.next_offset(), "compaction moves no offset");
        if let Ok(before) = decoded {
            let left = count(&new).expect("the records of a compacted batch");
            assert!(left <= before, "{left} records of {before}");
        }
    }
}

fn count(batch: &Bytes) -> Result<usize, RecordError> {
    records::stored(batch)?.try_fold(0, |count, record| record.map(|_| count + 1))
}

/// Batches of every codec, as records and as a whole.
pub fn seeds() -> Vec<Vec<u8>> {
    let record = |n: i64| NewRecord {
        key: (n % 3 != 0).then(|| Bytes::from(format!("k{}", n % 2))),
        value: (n != 2).then(|| Bytes::from(format!("value {n}"))),
        headers: vec![("h".into(), None), ("h".into(), Some("v".into()))],
        timestamp_ms: n,
    };
    let records: Vec<NewRecord> = (0..5).map(record).collect();
    let plain = records::encode(&records).expect("there are records");
    let mut seeds = Vec::new();
    for codec in 0..5_u8 {
        let packed = pack(codec, &plain.tail);
        seeds.push([&[0, codec, 0, 0, 5, 0, 0, 4, 0][..], &packed].concat());
        let mut whole = Batch::of_records(&packed, 5, (0, 4)).to_bytes().to_vec();
        whole[22] = codec;
        seal(&mut whole);
        seeds.push([&[1][..], &whole].concat());
    }
    // Zeros that become much more of themselves.
    seeds.extend(
        (1..5).map(|codec| [&[0, codec, 7, 255, 255, 0, 0, 4, 0][..], &pack(codec, &[0; 1 << 16])].concat()),
    );
    let smallest = [12, 0, 0, 0, 1, 1, 0].repeat(1 << 13);
    seeds.extend(
        (1..5).map(|codec| [&[0, codec, 0, 32, 0, 0, 0, 4, 0][..], &pack(codec, &smallest)].concat()),
    );
    seeds
}

fn pack(codec: u8, bytes: &[u8]) -> Vec<u8> {
    let codec = Codec::of(codec.into()).expect("a number of a codec");
    codec.compress(bytes).expect("bytes in memory are compressed")
}
