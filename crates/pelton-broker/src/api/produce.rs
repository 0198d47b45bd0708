//! Produce: batches in, base offsets out.

use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use crate::batch::{Batch, BatchError};
use crate::broker::Broker;
use crate::code::Code;
use crate::store::SegmentStore;

/// A produce request whose batches have been checked, without the broker.
#[derive(Debug)]
pub struct CheckedProduce {
    transactional_id: Option<String>,
    acks: i16,
    topics: Vec<(TopicName, Vec<CheckedPartition>)>,
}

/// Partition index, and its batch or why it is none.
type CheckedPartition = (i32, Result<Batch, Code>);

impl CheckedProduce {
    pub(super) fn new(request: ProduceRequest) -> Self {
        let topics = request.topic_data.into_iter().map(|topic| {
            let batches = topic.partition_data.into_iter().map(|partition| {
                let bytes = partition.records.unwrap_or_default();
                let batch = Batch::from_bytes(bytes).map_err(|error| {
                    tracing::debug!(topic = %topic.name.as_str(), partition = partition.index, %error, "refused a batch");
                    code_of(error)
                });
                (partition.index, batch)
            });
            let batches = batches.collect();
            (topic.name, batches)
        });
        Self {
            topics: topics.collect(),
            transactional_id: request.transactional_id.map(|id| id.to_string()),
            acks: request.acks,
        }
    }

    /// With acks=0 the client expects silence.
    #[must_use]
    pub fn wants_answer(&self) -> bool {
        self.acks != 0
    }

    /// Batches, records and bytes in it, for counting.
    #[must_use]
    pub fn totals(&self) -> (usize, usize, usize) {
        let batches =
            self.topics.iter().flat_map(|(_, batches)| batches).filter_map(|(_, b)| b.as_ref().ok());
        batches.fold((0, 0, 0), |(count, records, bytes), batch| {
            let in_batch = usize::try_from(batch.header.count).unwrap_or(0);
            (count + 1, records + in_batch, bytes + batch.header.length)
        })
    }
}

fn code_of(error: BatchError) -> Code {
    match error {
        BatchError::Length { .. } | BatchError::Checksum => Code::CorruptMessage,
        BatchError::Format(_) => Code::UnsupportedForMessageFormat,
        BatchError::Count { .. } | BatchError::Offset { .. } => Code::InvalidRecord,
    }
}

pub(super) fn handle<S: SegmentStore>(
    broker: &mut Broker<S>,
    produce: CheckedProduce,
    now_ms: i64,
) -> ProduceResponse {
    let (id, acks) = (produce.transactional_id, produce.acks);
    let topics = produce.topics.into_iter().map(|(name, batches)| {
        let mut response = TopicProduceResponse::default().with_name(name.clone());
        for (index, batch) in batches {
            // All replicas in sync, of which there is one, or that one, or nobody.
            let allowed = if (-1..=1).contains(&acks) { Ok(()) } else { Err(Code::InvalidRequiredAcks) };
            let appended = allowed.and(batch).and_then(|batch| {
                let plan = broker.state().plan_produce((&name, index), id.as_deref(), batch, now_ms)?;
                broker.run(plan, Code::KafkaStorageError)
            });
            let start = broker.state().find(&name, index).map_or(-1, |(_, core)| core.start_offset());
            response.partition_responses.push(answer(index, appended, start));
        }
        response
    });
    ProduceResponse::default().with_responses(topics.collect())
}

fn answer(index: i32, appended: Result<(i64, Option<i64>), Code>, start: i64) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index).with_log_append_time_ms(-1);
    match appended {
        Ok((base_offset, stamp)) => response
            .with_base_offset(base_offset)
            .with_log_append_time_ms(stamp.unwrap_or(-1))
            .with_log_start_offset(start),
        Err(code) => response.with_error_code(code.into()).with_base_offset(-1).with_log_start_offset(-1),
    }
}
