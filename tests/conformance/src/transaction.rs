//! A transactional producer of single requests, in versions that no library mixes.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use crate::Target;
use crate::wire::{Coordinator, Wire, Writer, batch, name, now_ms, refusal, text};

/// A transactional producer of single requests.
#[derive(Debug)]
pub struct TxnClient {
    /// To the coordinator, which is the broker.
    pub wire: Wire,
    /// Its transactional id.
    pub id: String,
    /// What the broker gave it.
    pub producer_id: i64,
    /// What the broker gave it.
    pub epoch: i16,
    /// Next sequence, by topic.
    sequences: BTreeMap<String, i32>,
}

impl TxnClient {
    /// Owns an id, made unique.
    pub fn new(target: &Target, id: &str) -> Self {
        let mut wire = target.wire();
        let id = target.unique(id);
        wire.find_coordinator(Coordinator::Transaction, &id);
        let mut client = Self { wire, id, producer_id: -1, epoch: -1, sequences: BTreeMap::new() };
        assert_eq!(client.init(1, 60_000), None);
        client
    }

    /// Asks for a producer id; keeps it if it gets one.
    pub fn init(&mut self, version: i16, timeout_ms: i32) -> Option<ResponseError> {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(Some(text(&self.id).into()))
            .with_transaction_timeout_ms(timeout_ms);
        if version >= 3 {
            request = request.with_producer_id(ProducerId(self.producer_id)).with_producer_epoch(self.epoch);
        }
        let response = self.wire.settled(version, &request, |r: &InitProducerIdResponse| r.error_code);
        let refused = refusal(response.error_code);
        if refused.is_none() {
            (self.producer_id, self.epoch) = (response.producer_id.0, response.producer_epoch);
            self.sequences.clear();
        }
        refused
    }

    /// Adds a partition to the transaction.
    pub fn add(&mut self, version: i16, topic: &str, partition: i32) -> Option<ResponseError> {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(text(&self.id).into())
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let code = |r: &AddPartitionsToTxnResponse| {
            r.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        refusal(code(&self.wire.settled(version, &request, code)))
    }

    /// One record to partition 0 of a topic.
    pub fn produce(&mut self, topic: &str, value: &str) -> Result<i64, ResponseError> {
        self.produce_at(topic, value, now_ms())
    }

    /// The same with a time of its own.
    pub fn produce_at(&mut self, topic: &str, value: &str, time_ms: i64) -> Result<i64, ResponseError> {
        let sequence = *self.sequences.entry(topic.to_owned()).or_default();
        let writer = Writer { id: self.producer_id, epoch: self.epoch, sequence, transactional: true };
        let produced = self.wire.produce(topic, 0, Some(&self.id), batch(writer, &[value], time_ms));
        if produced.is_ok() {
            self.sequences.insert(topic.to_owned(), sequence + 1);
        }
        produced
    }

    /// Adds a group to the transaction.
    pub fn add_offsets(&mut self, version: i16, group: &str) -> Option<ResponseError> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(text(&self.id).into())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_group_id(text(group).into());
        let code = |r: &AddOffsetsToTxnResponse| r.error_code;
        refusal(code(&self.wire.settled(version, &request, code)))
    }

    /// Commits an offset of partition 0 in the transaction, for a member and its generation.
    pub fn offsets(
        &mut self,
        version: i16,
        group: &str,
        member: (&str, i32),
        topic: &str,
        offset: i64,
    ) -> Option<ResponseError> {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let mut request = TxnOffsetCommitRequest::default()
            .with_transactional_id(text(&self.id).into())
            .with_group_id(text(group).into())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_topics(vec![topic]);
        if version >= 3 {
            request = request.with_member_id(text(member.0)).with_generation_id(member.1);
        }
        let code = |r: &TxnOffsetCommitResponse| r.topics[0].partitions[0].error_code;
        refusal(code(&self.wire.settled(version, &request, code)))
    }

    /// Commits or aborts.
    pub fn end(&mut self, version: i16, commit: bool) -> Option<ResponseError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(text(&self.id).into())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let code = |r: &EndTxnResponse| r.error_code;
        refusal(code(&self.wire.settled(version, &request, code)))
    }
}
