//! Batches of a few kilobytes that hold millions of records: nothing holds all of those at once.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

use bytes::Bytes;
use pelton_broker::batch::{Batch, BatchHeader};
use pelton_broker::codec::Codec;
use pelton_broker::core::TopicConfig;
use pelton_broker::core::compaction::{Compaction, Kept, Known};
use pelton_broker::store::MemoryStore;
use pelton_broker::{Broker, Code, Settings, records};

#[path = "../../../fuzz/src/alloc.rs"]
mod alloc;

/// What reading any of the batches may hold, whatever is in them: two blocks of LZ4, which have 4 MiB at most, and pieces. All
/// records of a batch at once would be 50 MB and more.
const LIMIT: usize = 9 * 1024 * 1024;
/// The shortest record: no attributes, time and offset of the batch, no key, no value, no headers.
const RECORD: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];
/// The same with an empty key.
const KEYED: [u8; 7] = [12, 0, 0, 0, 0, 1, 0];
/// Records in a piece that is compressed by itself; each codec here takes pieces one after the other.
const OF_A_PIECE: usize = 1 << 16;

/// Pieces of a batch: half a million records. More of them make no difference but the time a debug build needs.
const PIECES: usize = 8;

/// A batch of so many pieces of so many times the same record.
fn bomb(codec: Codec, record: &[u8], of_a_piece: usize, pieces: usize) -> Batch {
    let piece = codec.compress(&record.repeat(of_a_piece)).unwrap();
    let count = i32::try_from(pieces * of_a_piece).unwrap();
    let packed = piece.repeat(pieces);
    // The header of a batch that is not compressed, then the number of the codec.
    Batch::of_records(&[], count, (0, 9)).with_codec(codec.number(), packed.into())
}

/// What a topic with this setting answers, if it takes batches of a megabyte at most.
fn produce(setting: (&str, &str), batch: &Batch) -> Code {
    let mut broker = Broker::open(MemoryStore::default(), Settings::default(), 0).unwrap();
    let settings = [("max.message.bytes", "1000000"), setting];
    let config: TopicConfig = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let plan = broker.state().plan_create_topic("t", 1, config).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let plan = alloc::within(LIMIT, setting.0, || {
        broker.state().plan_produce(("t", 0), None, batch.clone(), 0).map(|_| ())
    });
    plan.err().unwrap_or(Code::None)
}

#[test]
fn a_query_by_time_reads_all_records_of_any_codec_and_holds_a_piece_of_them() {
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let bomb = bomb(codec, &RECORD, OF_A_PIECE, PIECES);
        assert!(bomb.header.length < 100_000 && bomb.header.count > 500_000, "{:?}", bomb.header);
        let bytes = bomb.to_bytes();
        let found = alloc::within(LIMIT, "a query by time", || records::first_at_or_after(&bytes, 0, 1, 9));
        assert_eq!(found, None, "no record is as late as the batch of {codec:?} promised");
    }
}

#[test]
fn compaction_reads_and_writes_many_records_a_piece_at_a_time() {
    let mut bomb = bomb(Codec::Zstd, &KEYED, OF_A_PIECE, PIECES);
    bomb.place(0, None);
    let bytes = bomb.to_bytes();
    let known = Known { last_offset: bomb.header.next_offset() - 1, ..Known::default() };
    let mut compaction = Compaction::new(known, 1_000);
    let kept = alloc::within(LIMIT, "compaction", || {
        assert_eq!(compaction.note(&bytes), Ok(true));
        compaction.keep(&bytes).unwrap()
    });
    // All claim the same offset, so that all of them are the last; as tombstones they are given an end.
    let Kept::Changed(new) = kept else { panic!("{kept:?}") };
    let header = BatchHeader::check_stored(&new).unwrap();
    assert_eq!((header.count, header.delete_horizon()), (bomb.header.count, Some(0)));
}

#[test]
fn a_batch_is_refused_where_its_records_have_to_be_looked_at_and_are_too_long() {
    // 257 records of a MiB: a length of four bytes, then 1 MiB with an empty key and a value of zeros.
    let start = [0x80, 0x80, 0x80, 1, 0, 0, 0, 0, 0xf0, 0xff, 0x7f];
    let long = [&start[..], &vec![0; (1 << 20) - 7]].concat();
    let bomb = bomb(Codec::Zstd, &long, 1, 257);
    assert_eq!(produce(("cleanup.policy", "compact"), &bomb), Code::MessageTooLarge);
    assert_eq!(produce(("cleanup.policy", "delete"), &bomb), Code::None, "else it goes in as it is");
}

#[test]
fn a_batch_that_would_become_too_long_in_the_codec_of_a_topic_is_refused_before_it_is_that_long() {
    let bomb = bomb(Codec::Zstd, &RECORD, OF_A_PIECE, PIECES);
    assert_eq!(produce(("compression.type", "uncompressed"), &bomb), Code::MessageTooLarge);
    assert_eq!(produce(("compression.type", "gzip"), &bomb), Code::None);
}

#[test]
fn a_few_bytes_of_snappy_cannot_ask_for_much_memory() {
    // A block that claims 255 MiB in a few bytes.
    let packed = Bytes::from_static(b"\x80\x80\xc0\x7f\x00\x00");
    let batch = Batch::of_records(&[], 1, (0, 9)).with_codec(Codec::Snappy.number(), packed).to_bytes();
    let decoded = alloc::within(LIMIT, "a claim", || records::decode(&batch));
    assert_eq!(decoded, Err(records::RecordError::Compressed(2)));
}
