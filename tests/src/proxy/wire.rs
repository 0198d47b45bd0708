//! Kafka's framing: sizes, headers of requests, and the address of a broker in an answer. Source: the protocol guide of
//! Apache Kafka 4.3, <https://kafka.apache.org/protocol>.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

/// No frame of a test is longer; a longer one is no frame.
const LONGEST: usize = 256 << 20;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(pub i16);

impl ApiKey {
    /// Records for partitions.
    pub const PRODUCE: ApiKey = ApiKey(0);
    /// Records of partitions.
    pub const FETCH: ApiKey = ApiKey(1);
    /// Where partitions are.
    pub const METADATA: ApiKey = ApiKey(3);
    /// Committed offsets of a group.
    pub const OFFSET_FETCH: ApiKey = ApiKey(9);
    /// Where a group or transactional id is looked after.
    pub const FIND_COORDINATOR: ApiKey = ApiKey(10);
    /// What the broker understands.
    pub const API_VERSIONS: ApiKey = ApiKey(18);
    /// A producer's id and epoch.
    pub const INIT_PRODUCER_ID: ApiKey = ApiKey(22);
    /// Partitions that a transaction writes to.
    pub const ADD_PARTITIONS_TO_TXN: ApiKey = ApiKey(24);
    /// The group whose offsets a transaction commits.
    pub const ADD_OFFSETS_TO_TXN: ApiKey = ApiKey(25);
    /// Commit or abort.
    pub const END_TXN: ApiKey = ApiKey(26);
    /// Offsets for a transaction.
    pub const TXN_OFFSET_COMMIT: ApiKey = ApiKey(28);
    /// Where the brokers are.
    const DESCRIBE_CLUSTER: ApiKey = ApiKey(60);

    /// Those that have names here.
    const NAMED: [(ApiKey, &str); 11] = [
        (ApiKey::PRODUCE, "Produce"),
        (ApiKey::FETCH, "Fetch"),
        (ApiKey::METADATA, "Metadata"),
        (ApiKey::OFFSET_FETCH, "OffsetFetch"),
        (ApiKey::FIND_COORDINATOR, "FindCoordinator"),
        (ApiKey::API_VERSIONS, "ApiVersions"),
        (ApiKey::INIT_PRODUCER_ID, "InitProducerId"),
        (ApiKey::ADD_PARTITIONS_TO_TXN, "AddPartitionsToTxn"),
        (ApiKey::ADD_OFFSETS_TO_TXN, "AddOffsetsToTxn"),
        (ApiKey::END_TXN, "EndTxn"),
        (ApiKey::TXN_OFFSET_COMMIT, "TxnOffsetCommit"),
    ];

    /// Whether answers name a broker's address.
    pub(crate) fn names_brokers(self) -> bool {
        matches!(self, ApiKey::METADATA | ApiKey::FIND_COORDINATOR | ApiKey::DESCRIBE_CLUSTER)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ApiKey::NAMED.iter().find(|(key, _)| key == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ApiKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named =
            ApiKey::NAMED.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(key, _)| *key);
        named
            .or_else(|| text.parse().ok().map(ApiKey))
            .ok_or_else(|| format!("`{text}` is no kind of request"))
    }
}

/// Where a broker or proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or number.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Address {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Address> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{text}` is not HOST:PORT"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        Ok(Address { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// As answers have it: the host with its length before it, the port in four bytes.
    fn encoded(&self, length: Vec<u8>) -> Vec<u8> {
        [&length, self.host.as_bytes(), &i32::from(self.port).to_be_bytes()].concat()
    }

    /// With a length of two bytes, as older versions have it.
    fn plain(&self) -> Vec<u8> {
        self.encoded(u16::try_from(self.host.len()).unwrap_or(0).to_be_bytes().to_vec())
    }

    /// With one more than its length as a varint, as flexible versions have it. Host names are shorter than 127 here.
    fn compact(&self) -> Vec<u8> {
        self.encoded(vec![u8::try_from(self.host.len() + 1).unwrap_or(0)])
    }
}

/// One frame with its four bytes of length; `None` at the end of the connection.
pub(crate) fn frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes(frame[..4].try_into().ok()?) as usize;
    if length > LONGEST {
        return None;
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

/// What the header of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub key: ApiKey,
    pub correlation: i32,
    pub client: String,
}

pub(crate) fn header(frame: &[u8]) -> Option<Header> {
    let key = ApiKey(i16::from_be_bytes(frame.get(4..6)?.try_into().ok()?));
    let correlation = i32::from_be_bytes(frame.get(8..12)?.try_into().ok()?);
    let length = i16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let client = frame.get(14..14 + usize::try_from(length).unwrap_or(0))?;
    Some(Header { key, correlation, client: String::from_utf8_lossy(client).into_owned() })
}

/// Which request a frame answers.
pub(crate) fn answers(frame: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?))
}

/// The answer with one address in place of another, wherever it stands.
pub(crate) fn readdressed(frame: &[u8], from: &Address, to: &Address) -> Vec<u8> {
    let body = frame.get(4..).unwrap_or_default();
    let body = replaced(body, &from.plain(), &to.plain());
    let body = replaced(&body, &from.compact(), &to.compact());
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &body].concat()
}

/// An answer to `Metadata` with its list of brokers emptied; `None` for what is no such answer of a flexible version (9 or
/// later, as clients ask for since Kafka 2.4).
pub(crate) fn without_brokers(frame: &[u8]) -> Option<Vec<u8>> {
    // Behind the length: the number of the request, an empty list of tags, the time that the client is throttled.
    const BROKERS: usize = 4 + 4 + 1 + 4;
    let mut rest = frame.get(BROKERS..)?;
    for _ in 1..varint(&mut rest)? {
        // Node id, host, port, rack (null is a length of 0), tags.
        skip(&mut rest, 4)?;
        skip_string(&mut rest)?;
        skip(&mut rest, 4)?;
        skip_string(&mut rest)?;
        if varint(&mut rest)? != 0 {
            return None;
        }
    }
    // An array's length is written one higher.
    framed(&[&frame[4..BROKERS], &[1], rest].concat())
}

/// An answer to `ApiVersions` without the requests that make transactions; `None` for what is no such answer of a flexible
/// version (3 or later, as clients ask for since Kafka 2.4).
pub(crate) fn without_transactions(frame: &[u8]) -> Option<Vec<u8>> {
    // Behind the length: the number of the request, an error's code.
    const KEYS: usize = 4 + 4 + 2;
    // A kind of request, its lowest and highest version, no tags.
    const KEY: usize = 2 + 2 + 2 + 1;
    let mut rest = frame.get(KEYS..)?;
    let count = usize::try_from(varint(&mut rest)?).ok()?.checked_sub(1)?;
    let (keys, rest) = rest.split_at_checked(count.checked_mul(KEY)?)?;
    let makes_transactions = |key: &&[u8]| {
        let key = ApiKey(i16::from_be_bytes([key[0], key[1]]));
        key == ApiKey::INIT_PRODUCER_ID
            || (ApiKey::ADD_PARTITIONS_TO_TXN..=ApiKey::TXN_OFFSET_COMMIT).contains(&key)
    };
    let kept: Vec<_> = keys.chunks(KEY).filter(|key| !makes_transactions(key)).collect();
    // Two bytes of a varint hold any number of kinds.
    let count = kept.len() + 1;
    let count = [(count & 0x7f) as u8 | 0x80, (count >> 7) as u8];
    framed(&[&frame[4..KEYS], &count, &kept.concat(), rest].concat())
}

fn framed(body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok()?.to_be_bytes();
    Some([&length[..], body].concat())
}

fn skip(rest: &mut &[u8], bytes: usize) -> Option<()> {
    *rest = rest.get(bytes..)?;
    Some(())
}

fn skip_string(rest: &mut &[u8]) -> Option<()> {
    let length = varint(rest)?.saturating_sub(1);
    skip(rest, usize::try_from(length).ok()?)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let byte = *rest.first()?;
        skip(rest, 1)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_exchanged_in_old_and_new_answers_and_the_frame_keeps_its_length() {
        let (from, to) = ("127.0.0.1:9092".parse().unwrap(), "localhost.example:19092".parse().unwrap());
        for encode in [Address::plain, Address::compact] {
            let body = |a: &Address| [b"node".to_vec(), encode(a), b"rest".to_vec()].concat();
            let framed = |b: Vec<u8>| [(b.len() as u32).to_be_bytes().to_vec(), b].concat();
            assert_eq!(readdressed(&framed(body(&from)), &from, &to), framed(body(&to)));
            let other = framed(body(&"127.0.0.1:9093".parse().unwrap()));
            assert_eq!(readdressed(&other, &from, &to), other);
        }
    }

    #[test]
    fn an_answer_loses_its_brokers_and_nothing_else_and_garbage_is_no_answer() {
        let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
        let broker = |id: u8| [&[0, 0, 0, id, 5][..], b"host", &[0, 0, 0x23, 0x84, 0, 0]].concat();
        let begin = b"\0\0\0\x07\0\0\0\0\0";
        let full = framed(&[&begin[..], &[3], &broker(1), &broker(2), b"and the rest"].concat());
        assert_eq!(without_brokers(&full), Some(framed(&[&begin[..], &[1], b"and the rest"].concat())));
        assert_eq!(without_brokers(&full[..20]), None);
        assert_eq!(without_brokers(b"\0\0"), None);
    }

    #[test]
    fn a_broker_loses_its_transactions_and_nothing_else() {
        let key = |key: u8| [0, key, 0, 1, 0, 9, 0];
        let begin = b"\0\0\0\x07\0\0";
        let full = [&begin[..], &[7], &[0, 22, 24, 26, 28, 60].map(key).concat(), b"and the rest"].concat();
        let left = [&begin[..], &[0x83, 0], &[0, 60].map(key).concat(), b"and the rest"].concat();
        assert_eq!(framed(&full).and_then(|full| without_transactions(&full)), framed(&left));
        assert_eq!(without_transactions(&framed(&full[..20]).unwrap()), None);
    }

    #[test]
    fn a_request_says_its_kind_and_whose_it_is_and_garbage_says_nothing() {
        let request = b"\0\0\0\x0c\0\x1a\0\x01\0\0\0\x07\0\x02me";
        let header = header(request).unwrap();
        assert_eq!((header.key, header.correlation, header.client.as_str()), (ApiKey::END_TXN, 7, "me"));
        assert_eq!(super::header(&request[..15]), None);
        assert_eq!(frame(&mut &b"\xff\xff\xff\xff"[..]), None);
        assert_eq!(frame(&mut &b"\0\0\0\x04ab"[..]), None);
        assert_eq!("endtxn".parse(), Ok(ApiKey::END_TXN));
        assert_eq!("33".parse(), Ok(ApiKey(33)));
        assert!("nonsense".parse::<ApiKey>().is_err());
    }
}
