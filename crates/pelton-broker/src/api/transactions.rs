//! Idempotent and transactional producers.
//!
//! A fenced epoch is `PRODUCER_FENCED` only in the versions that know it (`EndTxn`, `AddPartitionsToTxn` and
//! `AddOffsetsToTxn` from 2, `InitProducerId` from 4); everywhere else it is `INVALID_PRODUCER_EPOCH`.

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::offsets::CheckedOffsets;
use crate::broker::Broker;
use crate::code::Code;
use crate::core::members::MemberRef;
use crate::store::SegmentStore;

/// What a failing store means to a client here: try again.
const STORE_FAILED: Code = Code::CoordinatorNotAvailable;

fn fenced(version: i16, knows_fenced_from: i16) -> Code {
    if version >= knows_fenced_from { Code::ProducerFenced } else { Code::InvalidProducerEpoch }
}

pub(super) fn init<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: InitProducerIdRequest,
    version: i16,
    now_ms: i64,
) -> InitProducerIdResponse {
    let producer = match &request.transactional_id {
        None => broker.new_producer_id().map(|id| (id, 0)),
        Some(id) if id.is_empty() => Err(Code::InvalidRequest),
        Some(id) => {
            let current = (request.producer_id.0, request.producer_epoch);
            let current = (current != (-1, -1)).then_some(current);
            let timeout_ms = request.transaction_timeout_ms;
            let fenced = fenced(version, 4);
            let planned = broker.state().plan_init_transactional(id, timeout_ms, current, fenced, now_ms);
            // What could not be finished now is still being finished.
            planned.and_then(|plan| broker.run(plan, Code::ConcurrentTransactions)).flatten()
        }
    };
    match producer {
        Ok((id, epoch)) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
        }
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(code.into())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

pub(super) fn add_partitions<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: AddPartitionsToTxnRequest,
    version: i16,
    now_ms: i64,
) -> AddPartitionsToTxnResponse {
    let owner = (
        request.v3_and_below_transactional_id.as_str(),
        request.v3_and_below_producer_id.0,
        request.v3_and_below_producer_epoch,
    );
    let asked: Vec<(String, i32)> = request
        .v3_and_below_topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)))
        .collect();
    // One unknown partition and none is added: the others are told that nothing was attempted.
    let is_known = |topic: &str, index: i32| broker.state().find(topic, index).is_ok();
    let all_known = asked.iter().all(|(topic, index)| is_known(topic, *index));
    let added = if all_known {
        let fenced = fenced(version, 2);
        let planned = broker.state().plan_txn_partitions(owner, asked, fenced, now_ms);
        planned.and_then(|plan| broker.run(plan, STORE_FAILED)).err().unwrap_or(Code::None)
    } else {
        Code::OperationNotAttempted
    };
    let code_for = |topic: &str, index: i32| {
        if !all_known && broker.state().find(topic, index).is_err() {
            Code::UnknownTopicOrPartition
        } else {
            added
        }
    };
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code_for(&topic.name, *index).into())
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(results.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

pub(super) fn add_offsets<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: AddOffsetsToTxnRequest,
    version: i16,
    now_ms: i64,
) -> AddOffsetsToTxnResponse {
    let owner = (request.transactional_id.as_str(), request.producer_id.0, request.producer_epoch);
    let group = request.group_id.as_str();
    // Kafka takes the empty name here too.
    let planned = broker.state().plan_txn_offsets(owner, group, Vec::new(), fenced(version, 2), now_ms);
    let added = planned.and_then(|plan| broker.run(plan, STORE_FAILED));
    AddOffsetsToTxnResponse::default().with_error_code(added.err().unwrap_or(Code::None).into())
}

pub(super) fn commit_offsets<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: TxnOffsetCommitRequest,
    now_ms: i64,
) -> TxnOffsetCommitResponse {
    let mut checked = CheckedOffsets::new();
    for topic in &request.topics {
        checked.topic(&topic.name);
        for p in &topic.partitions {
            let offset = (p.committed_offset, p.committed_leader_epoch);
            checked.partition(broker, p.partition_index, offset, p.committed_metadata.clone());
        }
    }
    let member = MemberRef {
        id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let allowed = broker.state().plan_commit_as(&request.group_id, &member, true, now_ms);
    let stored = allowed.and_then(|heard| {
        broker.run(heard, STORE_FAILED)?;
        let owner = (request.transactional_id.as_str(), request.producer_id.0, request.producer_epoch);
        let offsets = std::mem::take(&mut checked.offsets);
        let fenced = Code::InvalidProducerEpoch;
        let planned = broker.state().plan_txn_offsets(owner, &request.group_id, offsets, fenced, now_ms);
        planned.and_then(|plan| broker.run(plan, STORE_FAILED))
    });
    if let Err(code) = stored {
        checked.fail(code);
    }
    let topics = checked.answers.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.into())
        });
        TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub(super) fn end<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: EndTxnRequest,
    version: i16,
    now_ms: i64,
) -> EndTxnResponse {
    let owner = (request.transactional_id.as_str(), request.producer_id.0, request.producer_epoch);
    let planned = broker.state().plan_end_txn(owner, request.committed, fenced(version, 2), now_ms);
    let ended = planned.and_then(|plan| broker.run(plan, STORE_FAILED));
    EndTxnResponse::default().with_error_code(ended.err().unwrap_or(Code::None).into())
}
