//! Requests: frames on one connection, through decoding and the pure core to an answer.

use std::num::NonZeroU16;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::Decodable;
use pelton_broker::api::{Address, Answer, Request, encode_fetch, encode_response, group_response, handle};
use pelton_broker::store::MemoryStore;
use pelton_broker::{Broker, Settings};

use super::{alloc, seeds};

/// What decoding may hold: a small multiple of the frame.
const DECODE_FIXED: usize = 64 * 1024;
const DECODE_FACTOR: usize = 64;
/// What a request may hold until it is answered. Most of it is for a batch that a query by time decompresses.
const ANSWER: usize = 1024 * 1024 * 1024;
/// When the broker starts, milliseconds since 1970, and the time between two frames.
const NOW_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 400;
/// Longer than any timeout of a group may be, milliseconds.
const LONG_MS: i64 = 1 << 33;

/// Frames, each behind its length in two bytes (what is left is a frame too), on one connection: every frame is answered
/// well, or the connection ends. Then the broker is started again from what it stored.
///
/// # Panics
/// The broker did, or an answer is not well-formed.
pub fn run(input: &[u8]) {
    let mut broker = open(seeds::store());
    let mut now_ms = NOW_MS;
    for frame in seeds::frames(input) {
        if !answer(&mut broker, frame, &mut now_ms) {
            break;
        }
        now_ms += STEP_MS;
        broker.expire_transactions(now_ms);
        broker.expire_groups(now_ms);
        broker.enforce_retention(now_ms);
        broker.take_touched();
    }
    open(broker.store().clone());
}

/// A broker from what another one stored.
pub fn open(store: MemoryStore) -> Broker<MemoryStore> {
    Broker::open(store, Settings::default(), NOW_MS).expect("what the broker stored can be read")
}

/// Answers a frame; `false` if the connection ends.
pub fn answer(broker: &mut Broker<MemoryStore>, frame: &[u8], now_ms: &mut i64) -> bool {
    let owned = Bytes::copy_from_slice(frame);
    let limit = DECODE_FIXED + DECODE_FACTOR * frame.len();
    let Ok(request) = alloc::within(limit, "decoding", || Request::decode(owned)) else { return false };
    let (key, version, id) =
        (i16::from_be_bytes([frame[0], frame[1]]), request.version(), request.correlation_id());
    let bytes =
        alloc::within(ANSWER, "answering", || respond(broker, request.from_host("/127.0.0.1"), now_ms));
    if let Some(bytes) = bytes {
        check(&bytes, ApiKey::try_from(key).expect("an offered key"), version, id);
    }
    true
}

fn respond(broker: &mut Broker<MemoryStore>, request: Request, now_ms: &mut i64) -> Option<Bytes> {
    let address = Address { host: "localhost".into(), port: NonZeroU16::MIN };
    let (version, id) = (request.version(), request.correlation_id());
    let response = match handle(broker, request, &address, *now_ms) {
        Answer::Nothing => return None,
        Answer::Fetch(planner, _) => {
            let plan = planner.plan(broker);
            let mut out = Vec::new();
            let length = encode_fetch(&plan, id, version, &mut out).expect("an answer to a fetch");
            out.truncate(length);
            return Some(out.into());
        }
        Answer::Later(ticket) => {
            let mut answer = broker.take_answer(ticket);
            for _ in 0..4 {
                if answer.is_none() {
                    *now_ms += LONG_MS;
                    broker.expire_groups(*now_ms);
                    answer = broker.take_answer(ticket);
                }
            }
            group_response(answer.expect("an answer when all timeouts are over"), version)
        }
        Answer::Response(response) => *response,
    };
    Some(encode_response(&response, id, version).expect("an answer that can be encoded").freeze())
}

/// The answer is what a client expects: length, correlation id, and a body that ends where the frame does.
fn check(bytes: &Bytes, key: ApiKey, version: i16, id: i32) {
    let (length, _) = bytes.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_be_bytes(*length) as usize, bytes.len() - 4);
    let mut rest = bytes.slice(4..);
    let header = ResponseHeader::decode(&mut rest, key.response_header_version(version)).expect("a header");
    assert_eq!(header.correlation_id, id);
    let body = ResponseKind::decode(key, &mut rest, version);
    assert!(body.is_ok(), "the answer to {key:?} {version} cannot be read: {:?}", body.err());
    assert!(rest.is_empty(), "{} bytes behind the answer to {key:?} {version}", rest.len());
}

/// Every offered request, alone and in conversations.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds::conversations()
}
