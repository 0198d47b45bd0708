//! Offsets of logs and of groups.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use bytes::Bytes;

use super::text;
use crate::batch::BatchHeader;
use crate::broker::Broker;
use crate::code::Code;
use crate::core::members::MemberRef;
use crate::core::{CommittedOffset, GroupOffset, Groups, Isolation};
use crate::records;
use crate::store::{ByteRange, SegmentStore};

/// Special timestamps in `ListOffsets`.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST_RECORD: i64 = -3;
/// What a failing store means to a committing client: try again.
const STORE_FAILED: Code = Code::CoordinatorNotAvailable;

pub(super) fn list<S: SegmentStore>(
    broker: &Broker<S>,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(request.isolation_level);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            // Versions before 4 have no field for it and could not be answered.
            let leader_epoch = if version >= 4 { 0 } else { -1 };
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_leader_epoch(leader_epoch);
            match list_one(broker, &topic.name, asked, isolation) {
                Ok((offset, timestamp)) => response.with_offset(offset).with_timestamp(timestamp),
                Err(code) => response.with_error_code(code.into()).with_offset(-1).with_timestamp(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Offset and its time; -1 and -1 if nothing is that late.
fn list_one<S: SegmentStore>(
    broker: &Broker<S>,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<(i64, i64), Code> {
    let (log, core) = broker.state().find(topic, asked.partition_index)?;
    match asked.timestamp {
        LATEST => Ok((core.visible_end(isolation), -1)),
        EARLIEST => Ok((core.start_offset(), -1)),
        NEWEST_RECORD => match broker.store().newest_record_ms(log) {
            Some(time) => find_by_time(broker, (topic, asked.partition_index), time, isolation),
            None => Ok((-1, -1)),
        },
        time if time < 0 => Err(Code::InvalidRequest),
        time => find_by_time(broker, (topic, asked.partition_index), time, isolation),
    }
}

/// The first record that is not earlier; -1 and -1 if there is none.
fn find_by_time<S: SegmentStore>(
    broker: &Broker<S>,
    (topic, partition): (&str, i32),
    time: i64,
    isolation: Isolation,
) -> Result<(i64, i64), Code> {
    let (log, core) = broker.state().find(topic, partition)?;
    let mut from = core.start_offset();
    let limit = core.visible_end(isolation);
    // A batch may promise a late record and have it before the start of the log only.
    while from < limit {
        let Some((range, max_timestamp)) = broker.store().locate_time(log, from, time) else { break };
        let mut bytes = vec![0; range.len()];
        range.read_into(&mut bytes).map_err(|error| {
            tracing::error!(%error, topic, partition, "could not read a batch");
            Code::of_reading(&error)
        })?;
        let bytes = Bytes::from(bytes);
        let next = BatchHeader::parse(&bytes).map_err(|_| Code::CorruptMessage)?.next_offset();
        if let Some(found) = records::first_at_or_after(&bytes, from, time, max_timestamp) {
            return Ok(if found.0 < limit { found } else { (-1, -1) });
        }
        from = next.max(from + 1);
    }
    Ok((-1, -1))
}

fn committed_offset(offset: i64, leader_epoch: i32, metadata: Option<StrBytes>) -> CommittedOffset {
    let metadata = metadata.map(|text| text.to_string()).unwrap_or_default();
    CommittedOffset { offset, leader_epoch, metadata }
}

/// Answers for each partition of a commit, and the offsets to store.
pub(super) struct CheckedOffsets {
    pub offsets: Vec<GroupOffset>,
    pub answers: Vec<(TopicName, Vec<(i32, Code)>)>,
}

impl CheckedOffsets {
    pub(super) fn new() -> Self {
        Self { offsets: Vec::new(), answers: Vec::new() }
    }

    pub(super) fn topic(&mut self, name: &TopicName) {
        self.answers.push((name.clone(), Vec::new()));
    }

    /// Checks one partition of the topic last begun.
    pub(super) fn partition<S: SegmentStore>(
        &mut self,
        broker: &Broker<S>,
        partition: i32,
        (offset, leader_epoch): (i64, i32),
        metadata: Option<StrBytes>,
    ) {
        let Some((topic, answers)) = self.answers.last_mut() else { return };
        let committed = committed_offset(offset, leader_epoch, metadata);
        let checked = broker.state().find(topic, partition).and_then(|_| Groups::check(&committed));
        if checked.is_ok() {
            self.offsets.push(GroupOffset { topic: topic.to_string(), partition, committed });
        }
        answers.push((partition, checked.err().unwrap_or(Code::None)));
    }

    /// Tells every partition that was fine so far about the failure of the whole.
    pub(super) fn fail(&mut self, code: Code) {
        let answers = self.answers.iter_mut().flat_map(|(_, answers)| answers);
        answers.filter(|(_, so_far)| *so_far == Code::None).for_each(|(_, so_far)| *so_far = code);
    }
}

pub(super) fn commit<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: OffsetCommitRequest,
    now_ms: i64,
) -> OffsetCommitResponse {
    // -1, as every version after 4 has it: as long as the broker keeps offsets.
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms >= 0);
    let mut checked = CheckedOffsets::new();
    for topic in request.topics {
        checked.topic(&topic.name);
        for p in topic.partitions {
            let offset = (p.committed_offset, p.committed_leader_epoch);
            checked.partition(broker, p.partition_index, offset, p.committed_metadata);
        }
    }
    let member = MemberRef {
        id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let allowed = broker.state().plan_commit_as(&request.group_id, &member, false, now_ms);
    let stored = allowed.and_then(|heard| {
        broker.run(heard, STORE_FAILED)?;
        let offsets = std::mem::take(&mut checked.offsets);
        let plan = broker.state().plan_commit_offsets_for(&request.group_id, offsets, retention_ms, now_ms);
        broker.run(plan, STORE_FAILED)
    });
    if let Err(code) = stored {
        checked.fail(code);
    }
    let topics = checked.answers.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code.into())
        });
        OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub(super) fn fetch<S: SegmentStore>(broker: &Broker<S>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let group = request.group_id.as_str();
    let asked = request.topics.unwrap_or_else(|| all_topics(broker.state().groups(), group));
    let topics = asked.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let response = OffsetFetchResponsePartition::default().with_partition_index(*index);
            let is_open = broker.state().transactions().has_pending(group, &topic.name, *index);
            if request.require_stable && is_open {
                let code = Code::UnstableOffsetCommit;
                return none_committed(response).with_error_code(code.into());
            }
            match broker.state().groups().committed(group, &topic.name, *index) {
                None => none_committed(response),
                Some(committed) => response
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(text(committed.metadata.as_str()))),
            }
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn none_committed(response: OffsetFetchResponsePartition) -> OffsetFetchResponsePartition {
    response.with_committed_offset(-1).with_committed_leader_epoch(-1).with_metadata(Some(StrBytes::new()))
}

fn all_topics(groups: &Groups, group: &str) -> Vec<OffsetFetchRequestTopic> {
    let mut topics: Vec<OffsetFetchRequestTopic> = Vec::new();
    for (topic, partition, _) in groups.all(group) {
        match topics.last_mut() {
            Some(last) if last.name.as_str() == topic => last.partition_indexes.push(partition),
            _ => topics.push(
                OffsetFetchRequestTopic::default()
                    .with_name(TopicName(text(topic)))
                    .with_partition_indexes(vec![partition]),
            ),
        }
    }
    topics
}
