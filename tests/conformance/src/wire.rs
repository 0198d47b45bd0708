//! Single requests in a chosen version, for what no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use crate::Target;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    correlation: i32,
    patience: Duration,
}

/// What `FindCoordinator` looks for.
#[derive(Debug, Clone, Copy)]
pub enum Coordinator {
    /// The coordinator of a group.
    Group = 0,
    /// The coordinator of a transactional id.
    Transaction = 1,
}

impl Target {
    /// A new connection.
    pub fn wire(&self) -> Wire {
        let stream = TcpStream::connect(self.bootstrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(self.patience)).unwrap();
        Wire { stream, correlation: 0, patience: self.patience }
    }
}

impl Wire {
    /// Sends a request in a version and gives the response. Panics where the broker closes the connection instead.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// Sends only.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation += 1;
        self.stream.write_all(&frame(version, self.correlation, request)).unwrap();
    }

    /// The next response, to the request sent longest ago.
    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut body = Bytes::from(self.receive_frame());
        ResponseHeader::decode(&mut body, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut body, version).unwrap()
    }

    /// The next response as bytes without their length.
    pub fn receive_frame(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer, not the end of the connection");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// The socket itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Repeats a request until its error is none that passes by itself, as while a coordinator is being made.
    pub fn settled<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        error: impl Fn(&R::Response) -> i16,
    ) -> R::Response {
        let deadline = std::time::Instant::now() + self.patience;
        loop {
            let response = self.call(version, request);
            if !passes(error(&response)) {
                return response;
            }
            assert!(std::time::Instant::now() < deadline, "still {:?}", refusal(error(&response)));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until there is a coordinator; a new Kafka makes its internal topics first.
    pub fn find_coordinator(&mut self, of: Coordinator, key: &str) {
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(of as i8);
        let found = self.settled(2, &request, |r: &FindCoordinatorResponse| r.error_code);
        assert_eq!(refusal(found.error_code), None);
    }

    /// Produces one batch and gives its base offset, or what the broker refused it for.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        transactional_id: Option<&str>,
        batch: Bytes,
    ) -> Result<i64, ResponseError> {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(transactional_id.map(|id| text(id).into()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let response = self.call(7, &request);
        let answer = &response.responses[0].partition_responses[0];
        refusal(answer.error_code).map_or(Ok(answer.base_offset), Err)
    }
}

/// A request as a frame with its length.
pub fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text("conformance")))
        .encode(&mut out, R::header_version(version))
        .unwrap();
    request.encode(&mut out, version).unwrap();
    let length = u32::try_from(out.len() - 4).unwrap();
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// The error of a code, if it is one.
pub fn refusal(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

/// Errors that a client answers by asking again.
fn passes(code: i16) -> bool {
    use ResponseError::{
        ConcurrentTransactions, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
    };
    let passing =
        [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, ConcurrentTransactions];
    refusal(code).is_some_and(|error| passing.contains(&error))
}

/// A string of the protocol.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic's name of the protocol.
pub fn name(value: &str) -> TopicName {
    text(value).into()
}

/// Who wrote a batch: producer id, epoch, sequence of the first record.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    /// -1 for none.
    pub id: i64,
    /// -1 for none.
    pub epoch: i16,
    /// -1 for none.
    pub sequence: i32,
    /// Part of a transaction.
    pub transactional: bool,
}

impl Writer {
    /// A producer without idempotence.
    pub const PLAIN: Self = Self { id: -1, epoch: -1, sequence: -1, transactional: false };
}

/// A batch of records with these values, each its own key, with the time given.
pub fn batch(writer: Writer, values: &[&str], timestamp: i64) -> Bytes {
    let records: Vec<Record> =
        (0_i32..).zip(values).map(|(at, value)| record(writer, at, value, timestamp)).collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

fn record(writer: Writer, at: i32, value: &str, timestamp: i64) -> Record {
    Record {
        transactional: writer.transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: writer.id,
        producer_epoch: writer.epoch,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(at),
        sequence: if writer.sequence < 0 { -1 } else { writer.sequence + at },
        timestamp,
        key: Some(Bytes::copy_from_slice(value.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: IndexMap::new(),
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
