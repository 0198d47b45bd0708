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
