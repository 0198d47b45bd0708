//! What administrators see of producers and transactions.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::broker::Broker;
use crate::code::Code;
use crate::core::{Transaction, TxnStatus};
use crate::store::SegmentStore;

/// All states Kafka has, those included that do not happen here.
const STATES: &[&str] = &[
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

fn state_name(status: TxnStatus) -> &'static str {
    match status {
        TxnStatus::Empty => "Empty",
        TxnStatus::Ongoing { .. } => "Ongoing",
        TxnStatus::Ending { commit: true } => "PrepareCommit",
        TxnStatus::Ending { commit: false } => "PrepareAbort",
        TxnStatus::Ended { commit: true } => "CompleteCommit",
        TxnStatus::Ended { commit: false } => "CompleteAbort",
    }
}

pub(super) fn describe_producers<S: SegmentStore>(
    broker: &Broker<S>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(*index);
            match broker.state().find(&topic.name, *index) {
                Err(code) => response.with_error_code(code.into()),
                Ok((_, core)) => response.with_active_producers(
                    core.producers()
                        .into_iter()
                        .map(|producer| {
                            ProducerState::default()
                                .with_producer_id(ProducerId(producer.id))
                                .with_producer_epoch(i32::from(producer.epoch))
                                .with_last_sequence(producer.last_sequence)
                                .with_last_timestamp(producer.last_ms)
                                .with_coordinator_epoch(producer.coordinator_epoch)
                                .with_current_txn_start_offset(producer.open_from)
                        })
                        .collect(),
                ),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

pub(super) fn describe_transactions<S: SegmentStore>(
    broker: &Broker<S>,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let described = match broker.state().transactions().get(&id) {
            Some(txn) => describe_transaction(txn),
            None => TransactionState::default().with_error_code(Code::TransactionalIdNotFound.into()),
        };
        described.with_transactional_id(id)
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn describe_transaction(txn: &Transaction) -> TransactionState {
    let start_ms = match txn.status {
        TxnStatus::Ongoing { since_ms } => since_ms,
        _ => -1,
    };
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &txn.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TopicData::default().with_topic(TopicName(text(topic))).with_partitions(partitions)
    });
    TransactionState::default()
        .with_transaction_state(StrBytes::from_static_str(state_name(txn.status)))
        .with_transaction_timeout_ms(txn.timeout_ms)
        .with_transaction_start_time_ms(start_ms)
        .with_producer_id(ProducerId(txn.producer_id))
        .with_producer_epoch(txn.epoch)
        .with_topics(topics.collect())
}

pub(super) fn list_transactions<S: SegmentStore>(
    broker: &Broker<S>,
    request: &ListTransactionsRequest,
    now_ms: i64,
) -> ListTransactionsResponse {
    let (states, producers) = (&request.state_filters, &request.producer_id_filters);
    let is_long = |txn: &Transaction| match txn.status {
        _ if request.duration_filter < 0 => true,
        TxnStatus::Ongoing { since_ms } => now_ms - since_ms > request.duration_filter,
        _ => false,
    };
    let is_asked = |txn: &Transaction| {
        (states.is_empty() || states.iter().any(|state| state.as_str() == state_name(txn.status)))
            && (producers.is_empty() || producers.contains(&ProducerId(txn.producer_id)))
            && is_long(txn)
    };
    let found = broker.state().transactions().all().filter(|(_, txn)| is_asked(txn));
    let listed = found.map(|(id, txn)| {
        ListedTransaction::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(ProducerId(txn.producer_id))
            .with_transaction_state(StrBytes::from_static_str(state_name(txn.status)))
    });
    let unknown = states.iter().filter(|state| !STATES.contains(&state.as_str()));
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.cloned().collect())
        .with_transaction_states(listed.collect())
}
