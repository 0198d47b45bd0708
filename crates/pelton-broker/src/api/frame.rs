//! Frames: bytes to requests, answers to bytes.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::fetch::{FetchPlan, FetchedPartition};
use super::produce::CheckedProduce;
use super::{SUPPORTED, shape};
use crate::code::Code;
use crate::store::{ByteRange, good_bytes};

/// Bytes that are no request this broker understands. The connection they came from cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than a request header.
    #[error("request of {0} bytes, shorter than its header")]
    Short(usize),
    /// An API key or version this broker did not advertise.
    #[error("api key {key} version {version}, which this broker does not offer")]
    Unsupported {
        /// API key on the wire.
        key: i16,
        /// Its version.
        version: i16,
    },
    /// The content does not have the shape its key and version say.
    #[error("request with api key {key} version {version} is malformed: {reason}")]
    Content {
        /// API key on the wire.
        key: i16,
        /// Its version.
        version: i16,
        /// What is wrong.
        reason: String,
    },
}

/// Who sent a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The name it gave itself.
    pub id: String,
    /// Where it connected from; empty if there is no connection.
    pub host: String,
}

/// A decoded request.
#[derive(Debug)]
pub enum Request {
    /// Batches to append, checked already.
    Produce {
        /// What a response must repeat.
        correlation_id: i32,
        /// Version of the request.
        version: i16,
        /// The batches.
        produce: CheckedProduce,
    },
    /// Anything else.
    Other {
        /// What a response must repeat.
        correlation_id: i32,
        /// Version of the request.
        version: i16,
        /// The content.
        kind: Box<RequestKind>,
        /// Who sent it.
        client: Client,
    },
    /// A version of `ApiVersions` from the future: the protocol wants a version 0 answer that lists what there is.
    UnsupportedApiVersions {
        /// What a response must repeat.
        correlation_id: i32,
    },
}

impl Request {
    /// Decodes one frame (without its length prefix).
    ///
    /// # Errors
    /// [`Malformed`]. Never allocates more than a small multiple of the frame, never panics.
    pub fn decode(frame: Bytes) -> Result<Self, Malformed> {
        let Some(&[k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk() else {
            return Err(Malformed::Short(frame.len()));
        };
        let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
        let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
        let unsupported = Malformed::Unsupported { key, version };
        let Some((api, min, max)) = SUPPORTED.iter().find(|(api, ..)| *api as i16 == key) else {
            return Err(unsupported);
        };
        if !(*min..=*max).contains(&version) {
            return match api {
                ApiKey::ApiVersions => Ok(Self::UnsupportedApiVersions { correlation_id }),
                _ => Err(unsupported),
            };
        }
        Self::decode_body(frame, *api, version, correlation_id)
    }

    fn decode_body(
        mut frame: Bytes,
        api: ApiKey,
        version: i16,
        correlation_id: i32,
    ) -> Result<Self, Malformed> {
        let malformed = |reason: String| Malformed::Content { key: api as i16, version, reason };
        let header = RequestHeader::decode(&mut frame, api.request_header_version(version))
            .map_err(|error| malformed(error.to_string()))?;
        shape::check(api, version, &frame).map_err(|error| malformed(error.to_string()))?;
        let kind =
            RequestKind::decode(api, &mut frame, version).map_err(|error| malformed(error.to_string()))?;
        Ok(match kind {
            RequestKind::Produce(request) => {
                Self::Produce { correlation_id, version, produce: CheckedProduce::new(request) }
            }
            kind => {
                let id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
                let client = Client { id, host: String::new() };
                Self::Other { correlation_id, version, kind: Box::new(kind), client }
            }
        })
    }

    /// The request, coming from `host`.
    #[must_use]
    pub fn from_host(mut self, host: &str) -> Self {
        if let Self::Other { client, .. } = &mut self {
            host.clone_into(&mut client.host);
        }
        self
    }

    /// Version of the request; answers have the same.
    #[must_use]
    pub fn version(&self) -> i16 {
        match self {
            Self::Produce { version, .. } | Self::Other { version, .. } => *version,
            Self::UnsupportedApiVersions { .. } => 0,
        }
    }

    /// What the answer must repeat.
    #[must_use]
    pub fn correlation_id(&self) -> i32 {
        match self {
            Self::Produce { correlation_id, .. }
            | Self::Other { correlation_id, .. }
            | Self::UnsupportedApiVersions { correlation_id } => *correlation_id,
        }
    }
}

fn api_of(response: &ResponseKind) -> ApiKey {
    match response {
        ResponseKind::Produce(_) => ApiKey::Produce,
        ResponseKind::Metadata(_) => ApiKey::Metadata,
        ResponseKind::FindCoordinator(_) => ApiKey::FindCoordinator,
        ResponseKind::ListOffsets(_) => ApiKey::ListOffsets,
        ResponseKind::OffsetCommit(_) => ApiKey::OffsetCommit,
        ResponseKind::OffsetFetch(_) => ApiKey::OffsetFetch,
        ResponseKind::JoinGroup(_) => ApiKey::JoinGroup,
        ResponseKind::SyncGroup(_) => ApiKey::SyncGroup,
        ResponseKind::Heartbeat(_) => ApiKey::Heartbeat,
        ResponseKind::LeaveGroup(_) => ApiKey::LeaveGroup,
        ResponseKind::OffsetDelete(_) => ApiKey::OffsetDelete,
        ResponseKind::DeleteRecords(_) => ApiKey::DeleteRecords,
        ResponseKind::AlterConfigs(_) => ApiKey::AlterConfigs,
        ResponseKind::IncrementalAlterConfigs(_) => ApiKey::IncrementalAlterConfigs,
        ResponseKind::DescribeProducers(_) => ApiKey::DescribeProducers,
        ResponseKind::DescribeTransactions(_) => ApiKey::DescribeTransactions,
        ResponseKind::ListTransactions(_) => ApiKey::ListTransactions,
        ResponseKind::ListGroups(_) => ApiKey::ListGroups,
        ResponseKind::DescribeGroups(_) => ApiKey::DescribeGroups,
        ResponseKind::DeleteGroups(_) => ApiKey::DeleteGroups,
        ResponseKind::CreateTopics(_) => ApiKey::CreateTopics,
        ResponseKind::DeleteTopics(_) => ApiKey::DeleteTopics,
        ResponseKind::CreatePartitions(_) => ApiKey::CreatePartitions,
        ResponseKind::DescribeConfigs(_) => ApiKey::DescribeConfigs,
        ResponseKind::InitProducerId(_) => ApiKey::InitProducerId,
        ResponseKind::AddPartitionsToTxn(_) => ApiKey::AddPartitionsToTxn,
        ResponseKind::AddOffsetsToTxn(_) => ApiKey::AddOffsetsToTxn,
        ResponseKind::TxnOffsetCommit(_) => ApiKey::TxnOffsetCommit,
        ResponseKind::EndTxn(_) => ApiKey::EndTxn,
        ResponseKind::WriteTxnMarkers(_) => ApiKey::WriteTxnMarkers,
        ResponseKind::SaslHandshake(_) => ApiKey::SaslHandshake,
        ResponseKind::SaslAuthenticate(_) => ApiKey::SaslAuthenticate,
        ResponseKind::DescribeClientQuotas(_) => ApiKey::DescribeClientQuotas,
        ResponseKind::DescribeUserScramCredentials(_) => ApiKey::DescribeUserScramCredentials,
        ResponseKind::AlterUserScramCredentials(_) => ApiKey::AlterUserScramCredentials,
        _ => ApiKey::ApiVersions,
    }
}

/// A response as a frame with its length prefix.
///
/// # Errors
/// The response has no place for something in it at this version.
pub fn encode_response(
    response: &ResponseKind,
    correlation_id: i32,
    version: i16,
) -> Result<BytesMut, std::io::Error> {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut out, api_of(response).response_header_version(version))
        .and_then(|()| response.encode(&mut out, version))
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let length = u32::try_from(out.len() - 4).map_err(std::io::Error::other)?;
    out[0..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

/// A fetch answer as a frame with its length prefix, records read straight into it. `out` is reused and
/// only grows; gives the length of the frame in it. A partition that cannot be read is answered with an error.
///
/// # Errors
/// The answer is too long.
pub fn encode_fetch<R: ByteRange>(
    plan: &FetchPlan<R>,
    correlation_id: i32,
    version: i16,
    out: &mut Vec<u8>,
) -> std::io::Result<usize> {
    let mut writer = Writer { out, at: 4 };
    writer.put(&correlation_id.to_be_bytes());
    writer.put(&0_i32.to_be_bytes()); // throttle time
    if version >= 7 {
        writer.put(&0_i16.to_be_bytes());
        writer.put(&0_i32.to_be_bytes()); // session 0: full requests only
    }
    writer.put_count(plan.topics.len());
    for topic in &plan.topics {
        writer.put(&u16::try_from(topic.name.len()).unwrap_or(0).to_be_bytes());
        writer.put(topic.name.as_bytes());
        writer.put_count(topic.partitions.len());
        for partition in &topic.partitions {
            let begin = writer.at;
            if let Err(error) = put_partition(&mut writer, partition, version) {
                tracing::error!(%error, topic = topic.name.as_str(), partition = partition.index, "could not read a log");
                writer.at = begin;
                let failed = FetchedPartition::<R>::failed(partition.index, Code::of_reading(&error));
                put_partition(&mut writer, &failed, version)?;
            }
        }
    }
    let end = writer.at;
    let length = u32::try_from(end - 4).map_err(std::io::Error::other)?;
    out[0..4].copy_from_slice(&length.to_be_bytes());
    Ok(end)
}

fn put_partition<R: ByteRange>(
    writer: &mut Writer<'_>,
    partition: &FetchedPartition<R>,
    version: i16,
) -> std::io::Result<()> {
    writer.put(&partition.index.to_be_bytes());
    writer.put(&i16::from(partition.code).to_be_bytes());
    writer.put(&partition.next_offset.to_be_bytes());
    writer.put(&partition.stable_offset.to_be_bytes());
    if version >= 5 {
        writer.put(&partition.start_offset.to_be_bytes());
    }
    writer.put_count(partition.aborted.len());
    for range in &partition.aborted {
        writer.put(&range.producer_id.to_be_bytes());
        writer.put(&range.first_offset.to_be_bytes());
    }
    if version >= 11 {
        writer.put(&(-1_i32).to_be_bytes()); // no other replica to prefer
    }
    let counted = writer.at;
    writer.put_count(0);
    let begin = writer.at;
    for range in &partition.ranges {
        let at = writer.at;
        let Err(error) = range.read_into(writer.space(range.len())) else { continue };
        writer.at = at + good_bytes(&error).unwrap_or(0);
        if writer.at == begin {
            return Err(error);
        }
        // What is fine comes first; who goes on from there is told.
        break;
    }
    let end = std::mem::replace(&mut writer.at, counted);
    writer.put_count(end - begin);
    writer.at = end;
    Ok(())
}

/// Writes into a buffer that keeps its length between uses, so that nothing is zeroed twice.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    at: usize,
}

impl Writer<'_> {
    fn space(&mut self, len: usize) -> &mut [u8] {
        let from = self.at;
        self.at += len;
        if self.out.len() < self.at {
            self.out.resize(self.at, 0);
        }
        &mut self.out[from..self.at]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
    }

    fn put_count(&mut self, count: usize) {
        self.put(&u32::try_from(count).unwrap_or(0).to_be_bytes());
    }
}
