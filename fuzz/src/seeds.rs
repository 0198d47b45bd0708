//! Where fuzzing begins: valid requests of every key and version the broker offers, and how inputs are cut into pieces.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind};
use kafka_protocol::protocol::{Encodable, StrBytes};
use pelton_broker::api::SUPPORTED;
use pelton_broker::batch::Batch;
use pelton_broker::records::{self as batches, NewRecord};
use pelton_broker::store::MemoryStore;

use super::records::seal;
use super::request;

/// The pieces of an input: each behind its length in two bytes, cut where the input ends.
pub fn frames(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (frame, behind) = behind.split_at(length);
        rest = behind;
        Some(frame)
    })
}

/// A piece behind its length.
pub fn framed(piece: &[u8]) -> Vec<u8> {
    let length = u16::try_from(piece.len()).expect("a short seed");
    [&length.to_be_bytes()[..], piece].concat()
}

/// A folder for one run, in memory where there is one.
pub fn scratch() -> tempfile::TempDir {
    let folders = [PathBuf::from("/dev/shm"), env::temp_dir()];
    let found = folders.iter().find_map(|folder| tempfile::tempdir_in(folder).ok());
    found.expect("a folder for temporary files")
}

/// A journal with the topic `t`.
pub fn journal() -> Vec<u8> {
    static JOURNAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        use pelton_broker::core::TopicConfig;
        use pelton_broker::store::{FileOptions, FileStore};
        use pelton_broker::{Broker, Code, Settings};
        let dir = scratch();
        let store = FileStore::open(dir.path(), &FileOptions::default()).expect("a free directory");
        let mut broker = Broker::open(store, Settings::default(), 0).expect("an empty directory opens");
        let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new()).expect("a new name");
        broker.run(plan, Code::KafkaStorageError).expect("room for a line");
        fs::read(dir.path().join("journal")).expect("a journal")
    });
    JOURNAL.clone()
}

/// What a broker has stored that has seen a topic, records, a producer with a transaction, and a group.
pub fn store() -> MemoryStore {
    static STORE: LazyLock<MemoryStore> = LazyLock::new(|| {
        let mut broker = request::open(MemoryStore::default());
        let mut now_ms = 1_700_000_000_000;
        let keys = [ApiKey::CreateTopics, ApiKey::InitProducerId, ApiKey::Produce, ApiKey::OffsetCommit];
        for frame in keys.into_iter().flat_map(|key| sample(key, newest(key)).first().cloned()) {
            assert!(request::answer(&mut broker, &frame, &mut now_ms), "a valid request is answered");
        }
        broker.store().clone()
    });
    STORE.clone()
}

/// Every offered request alone, one after the other, and a few conversations.
pub fn conversations() -> Vec<Vec<u8>> {
    let offered = SUPPORTED.iter().flat_map(|(key, min, max)| (*min..=*max).map(|version| (*key, version)));
    let mut all: Vec<Vec<u8>> =
        offered.flat_map(|(key, version)| sample(key, version)).map(|frame| framed(&frame)).collect();
    let together = |keys: &[ApiKey]| -> Vec<u8> {
        keys.iter().flat_map(|key| sample(*key, newest(*key))).flat_map(|frame| framed(&frame)).collect()
    };
    use ApiKey::*;
    all.push(together(&[
        AddPartitionsToTxn,
        AddOffsetsToTxn,
        TxnOffsetCommit,
        Produce,
        WriteTxnMarkers,
        EndTxn,
        Fetch,
        ListOffsets,
    ]));
    all.push(together(&[
        FindCoordinator,
        JoinGroup,
        SyncGroup,
        Heartbeat,
        OffsetDelete,
        OffsetFetch,
        DescribeGroups,
        LeaveGroup,
    ]));
    all.push(together(&[
        Produce,
        IncrementalAlterConfigs,
        DescribeConfigs,
        DeleteRecords,
        CreatePartitions,
        Metadata,
    ]));
    all.push(together(&[
        OffsetDelete,
        DeleteGroups,
        DescribeProducers,
        ListTransactions,
        DescribeTransactions,
    ]));
    all.push(together(&[AlterUserScramCredentials, DescribeUserScramCredentials, AlterUserScramCredentials]));
    all.push(together(&[DeleteTopics, CreateTopics, Produce, AlterConfigs, Fetch, ListGroups, ApiVersions]));
    all
}

/// Writes seeds into the folder that `PELTON_FUZZ_SEEDS` names, if it does.
pub fn write(seeds: Vec<Vec<u8>>) {
    let Some(folder) = env::var_os("PELTON_FUZZ_SEEDS").map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).expect("a folder for seeds");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:04}")), seed).expect("room for seeds");
    }
}

fn newest(key: ApiKey) -> i16 {
    SUPPORTED.iter().find(|(offered, ..)| *offered == key).map_or(0, |(.., newest)| *newest)
}

/// Frames of a key and version, with something in every list.
pub fn sample(key: ApiKey, version: i16) -> Vec<Vec<u8>> {
    bodies(key, version).into_iter().map(|body| frame(key, version, &body)).collect()
}

pub fn frame(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("c")));
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, key.request_header_version(version)).expect("a header");
    [&bytes[..], body].concat()
}

fn bodies(key: ApiKey, version: i16) -> Vec<Vec<u8>> {
    let kinds = super::samples::samples(key, version);
    let encode = |kind: RequestKind| {
        let mut bytes = BytesMut::new();
        kind.encode(&mut bytes, version).unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
        bytes.to_vec()
    };
    assert!(!kinds.is_empty(), "no sample of {key:?}: the broker offers it, so it has to be fuzzed");
    kinds.into_iter().map(encode).collect()
}

/// A batch of two records by the producer 0 in epoch 0.
pub fn batch(is_transactional: bool, compressed: Option<u8>) -> Bytes {
    let record = |value: &'static str| NewRecord {
        key: Some("k".into()),
        value: Some(value.into()),
        ..NewRecord::default()
    };
    let plain = batches::encode(&[record("one"), record("two")]).expect("there are records");
    let mut bytes = match compressed {
        None => plain.to_bytes().to_vec(),
        Some(number) => {
            let codec = pelton_broker::codec::Codec::of(number.into()).expect("a codec");
            let packed = codec.compress(&plain.tail).expect("bytes in memory");
            let mut bytes = Batch::of_records(&packed, 2, (0, 0)).to_bytes().to_vec();
            bytes[22] = number;
            bytes
        }
    };
    if is_transactional {
        bytes[22] |= 0x10;
        bytes[43..53].fill(0);
        bytes[53..57].fill(0);
    }
    seal(&mut bytes);
    bytes.into()
}
