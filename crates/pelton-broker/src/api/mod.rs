//! The Kafka protocol on top of a [`Broker`], without sockets.
//!
//! A frame becomes a [`Request`] without the broker (decoding, CRC checks), then [`handle`] decides and
//! stores under the broker's lock, then the [`Answer`] becomes bytes without the broker again.

mod configs;
mod fetch;
mod frame;
mod groups;
mod introspect;
mod markers;
mod metadata;
mod offsets;
mod produce;
mod shape;
mod topics;
mod transactions;
mod users;

use std::num::NonZeroU16;

use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

pub use fetch::{FetchPlan, FetchPlanner};
pub use frame::{Client, Malformed, Request, encode_fetch, encode_response};
pub use produce::CheckedProduce;

use crate::broker::Broker;
use crate::code::Code;
use crate::core::members::{GroupAnswer, Ticket, Turn};
use crate::store::SegmentStore;

/// The only node there is.
pub(crate) const NODE_ID: i32 = 1;

/// Keys and versions the broker speaks. They stay below topic ids where those replace names (Fetch 13) and group lists
/// (OffsetFetch 8, FindCoordinator 4); clients fall back by themselves.
pub const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 8),
    (ApiKey::OffsetFetch, 1, 7),
    (ApiKey::FindCoordinator, 0, 3),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 5),
    (ApiKey::ListGroups, 0, 4),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 3),
    (ApiKey::EndTxn, 0, 3),
    (ApiKey::WriteTxnMarkers, 1, 1),
    (ApiKey::TxnOffsetCommit, 0, 3),
    (ApiKey::SaslAuthenticate, 0, 2),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::DescribeUserScramCredentials, 0, 0),
    (ApiKey::AlterUserScramCredentials, 0, 0),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 1),
];

/// Where clients reach this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or address, as clients shall use it.
    pub host: String,
    /// Port.
    pub port: NonZeroU16,
}

/// What [`handle`] decided.
#[derive(Debug)]
pub enum Answer<R> {
    /// Send this.
    Response(Box<ResponseKind>),
    /// Send nothing (a produce request with acks=0).
    Nothing,
    /// Records to read and send, or to wait for.
    Fetch(Box<FetchPlanner>, FetchPlan<R>),
    /// Wait for [`Broker::take_answer`], then send [`group_response`].
    Later(Ticket),
}

/// Decides about a request and stores what it asks for.
pub fn handle<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: Request,
    address: &Address,
    now_ms: i64,
) -> Answer<S::Range> {
    let version = request.version();
    let kind = match request {
        Request::Produce { produce, .. } => {
            let wants_answer = produce.wants_answer();
            let response = produce::handle(broker, produce, now_ms);
            return if wants_answer { response_of(ResponseKind::Produce(response)) } else { Answer::Nothing };
        }
        Request::Other { kind, client, .. } => match *kind {
            RequestKind::JoinGroup(r) => {
                return group_answer(true, groups::join(broker, r, version, &client, now_ms), version);
            }
            RequestKind::SyncGroup(r) => {
                return group_answer(false, groups::sync(broker, r, now_ms), version);
            }
            kind => kind,
        },
        Request::UnsupportedApiVersions { .. } => {
            return response_of(ResponseKind::ApiVersions(metadata::unsupported_version()));
        }
    };
    response_of(match kind {
        RequestKind::Fetch(fetch) => {
            let planner = FetchPlanner::new(fetch);
            let plan = planner.plan(broker);
            return Answer::Fetch(Box::new(planner), plan);
        }
        RequestKind::ApiVersions(r) => ResponseKind::ApiVersions(metadata::api_versions_for(&r, version)),
        RequestKind::Metadata(r) => ResponseKind::Metadata(metadata::metadata(broker, r, version, address)),
        RequestKind::FindCoordinator(_) => ResponseKind::FindCoordinator(metadata::coordinator(address)),
        RequestKind::ListOffsets(r) => ResponseKind::ListOffsets(offsets::list(broker, r, version)),
        RequestKind::OffsetCommit(r) => ResponseKind::OffsetCommit(offsets::commit(broker, r, now_ms)),
        RequestKind::OffsetFetch(r) => ResponseKind::OffsetFetch(offsets::fetch(broker, r)),
        RequestKind::Heartbeat(r) => ResponseKind::Heartbeat(groups::heartbeat(broker, &r, now_ms)),
        RequestKind::InitProducerId(r) => {
            ResponseKind::InitProducerId(transactions::init(broker, r, version, now_ms))
        }
        RequestKind::AddPartitionsToTxn(r) => {
            ResponseKind::AddPartitionsToTxn(transactions::add_partitions(broker, r, version, now_ms))
        }
        RequestKind::AddOffsetsToTxn(r) => {
            ResponseKind::AddOffsetsToTxn(transactions::add_offsets(broker, r, version, now_ms))
        }
        RequestKind::TxnOffsetCommit(r) => {
            ResponseKind::TxnOffsetCommit(transactions::commit_offsets(broker, r, now_ms))
        }
        RequestKind::EndTxn(r) => ResponseKind::EndTxn(transactions::end(broker, r, version, now_ms)),
        other => administer(broker, other, version, now_ms),
    })
}

/// The requests of administrators.
fn administer<S: SegmentStore>(
    broker: &mut Broker<S>,
    kind: RequestKind,
    version: i16,
    now_ms: i64,
) -> ResponseKind {
    match kind {
        RequestKind::CreateTopics(r) => ResponseKind::CreateTopics(topics::create(broker, r)),
        RequestKind::DeleteTopics(r) => ResponseKind::DeleteTopics(topics::delete(broker, r)),
        RequestKind::CreatePartitions(r) => ResponseKind::CreatePartitions(topics::add_partitions(broker, r)),
        RequestKind::DeleteRecords(r) => ResponseKind::DeleteRecords(topics::delete_records(broker, r)),
        RequestKind::DescribeConfigs(r) => ResponseKind::DescribeConfigs(configs::describe(broker, r)),
        RequestKind::AlterConfigs(r) => ResponseKind::AlterConfigs(configs::replace(broker, r)),
        RequestKind::IncrementalAlterConfigs(r) => {
            ResponseKind::IncrementalAlterConfigs(configs::change(broker, r))
        }
        RequestKind::ListGroups(r) => ResponseKind::ListGroups(groups::list(broker, &r)),
        RequestKind::DescribeGroups(r) => ResponseKind::DescribeGroups(groups::describe(broker, r)),
        RequestKind::DeleteGroups(r) => ResponseKind::DeleteGroups(groups::delete(broker, r)),
        RequestKind::OffsetDelete(r) => ResponseKind::OffsetDelete(groups::delete_offsets(broker, &r)),
        RequestKind::LeaveGroup(r) => ResponseKind::LeaveGroup(groups::leave(broker, &r, version, now_ms)),
        RequestKind::WriteTxnMarkers(r) => ResponseKind::WriteTxnMarkers(markers::write(broker, r, now_ms)),
        RequestKind::DescribeClientQuotas(_) => ResponseKind::DescribeClientQuotas(users::quotas()),
        RequestKind::DescribeUserScramCredentials(r) => {
            ResponseKind::DescribeUserScramCredentials(users::describe(broker, r))
        }
        RequestKind::AlterUserScramCredentials(r) => {
            ResponseKind::AlterUserScramCredentials(users::alter(broker, r))
        }
        RequestKind::SaslHandshake(_) => ResponseKind::SaslHandshake(crate::sasl::no_handshake_here()),
        RequestKind::SaslAuthenticate(_) => ResponseKind::SaslAuthenticate(crate::sasl::no_login_here()),
        RequestKind::DescribeProducers(r) => {
            ResponseKind::DescribeProducers(introspect::describe_producers(broker, r))
        }
        RequestKind::DescribeTransactions(r) => {
            ResponseKind::DescribeTransactions(introspect::describe_transactions(broker, r))
        }
        RequestKind::ListTransactions(r) => {
            ResponseKind::ListTransactions(introspect::list_transactions(broker, &r, now_ms))
        }
        // The table of supported keys lets nothing else through.
        other => unsupported(&other),
    }
}

fn group_answer<R>(is_join: bool, turn: Result<Turn<GroupAnswer>, Code>, version: i16) -> Answer<R> {
    match turn {
        Ok(Turn::Now(answer)) => response_of(groups::response(answer, version)),
        Ok(Turn::Later(ticket)) => Answer::Later(ticket),
        Err(code) => response_of(groups::failed(is_join, code, version)),
    }
}

/// The response to a request that had to wait for other members of its group.
#[must_use]
pub fn group_response(answer: GroupAnswer, version: i16) -> ResponseKind {
    groups::response(answer, version)
}

/// What this broker speaks, to a client that named itself or did not.
pub(crate) fn api_versions(request: &Request) -> Option<ResponseKind> {
    match request {
        Request::UnsupportedApiVersions { .. } => Some(metadata::unsupported_version()),
        Request::Other { kind, version, .. } => match &**kind {
            RequestKind::ApiVersions(r) => Some(metadata::api_versions_for(r, *version)),
            _ => None,
        },
        Request::Produce { .. } => None,
    }
    .map(ResponseKind::ApiVersions)
}

fn response_of<R>(response: ResponseKind) -> Answer<R> {
    Answer::Response(Box::new(response))
}

fn unsupported(kind: &RequestKind) -> ResponseKind {
    tracing::error!(?kind, "no handler for a request this broker advertises");
    ResponseKind::ApiVersions(metadata::unsupported_version())
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}
