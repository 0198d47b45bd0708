//! Topics: create, delete, grow, describe.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};

use uuid::Uuid;

use super::configs::{self, topic_config};
use super::text;
use crate::broker::Broker;
use crate::code::Code;
use crate::store::SegmentStore;

pub(super) fn create<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let only_check = request.validate_only;
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.name.clone();
        let created = create_one(broker, &topic, only_check);
        let result = CreatableTopicResult::default().with_name(name).with_topic_config_error_code(0);
        match created {
            Ok(partitions) => with_settings(broker, &topic.name, result)
                .with_num_partitions(partitions.cast_signed())
                .with_replication_factor(1),
            Err((code, message)) => result
                .with_error_code(code.into())
                .with_error_message(Some(text(message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn with_settings<S: SegmentStore>(
    broker: &Broker<S>,
    name: &str,
    result: CreatableTopicResult,
) -> CreatableTopicResult {
    // There is none if the request only asked whether there could be.
    let Some(topic) = broker.state().topics().get(name) else { return result.with_configs(Some(Vec::new())) };
    let configs = topic_config(&topic.config).into_iter().map(|(name, value, source)| {
        CreatableTopicConfigs::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_config_source(source)
    });
    result.with_topic_id(broker.state().topic_id(topic)).with_configs(Some(configs.collect()))
}

fn create_one<S: SegmentStore>(
    broker: &mut Broker<S>,
    topic: &CreatableTopic,
    only_check: bool,
) -> Result<u32, (Code, String)> {
    // -1: as many replicas as there are by default, which is one.
    if !matches!(topic.replication_factor, -1 | 1) && topic.assignments.is_empty() {
        let text = format!("replication factor {} on a broker of one node", topic.replication_factor);
        return Err((Code::InvalidReplicationFactor, text));
    }
    let partitions = match (topic.num_partitions, topic.assignments.len()) {
        (-1, 0) => broker.settings().default_partitions,
        (-1, assigned) => u32::try_from(assigned).unwrap_or(0),
        (asked, _) => u32::try_from(asked).unwrap_or(0),
    };
    let entries = topic.configs.iter().map(|entry| (&entry.name, entry.value.as_ref()));
    let config = configs::checked(entries)?;
    let plan = broker.state().plan_create_topic(&topic.name, partitions, config).map_err(|code| {
        let name = topic.name.as_str();
        (code, format!("cannot create topic {name:?} with {} partitions", topic.num_partitions))
    })?;
    if !only_check {
        let stored = broker.run(plan, Code::KafkaStorageError);
        stored.map_err(|code| (code, "could not store the topic".to_owned()))?;
        tracing::info!(topic = topic.name.as_str(), partitions, "created a topic");
    }
    Ok(partitions)
}

pub(super) fn delete<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let by_either = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let results = by_name.chain(by_either).map(|(name, id)| {
        let found = match &name {
            Some(name) => Ok(name.to_string()),
            None => broker.state().topic_by_id(id).map(str::to_owned).ok_or(Code::UnknownTopicId),
        };
        let id = match &found {
            Ok(name) => broker.state().topics().get(name).map_or(id, |topic| broker.state().topic_id(topic)),
            Err(_) => id,
        };
        let planned = found.clone().and_then(|name| broker.state().plan_delete_topic(&name));
        let deleted = planned.and_then(|plan| broker.run(plan, Code::KafkaStorageError));
        if let (Ok(name), Ok(())) = (&found, &deleted) {
            tracing::info!(topic = name, "deleted a topic");
        }
        DeletableTopicResult::default()
            .with_name(found.ok().map(|name| TopicName(text(name))))
            .with_topic_id(id)
            .with_error_code(code_of(deleted))
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

pub(super) fn delete_records<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let planned =
                broker.state().plan_delete_records(&topic.name, asked.partition_index, asked.offset);
            let deleted = planned.and_then(|plan| broker.run(plan, Code::KafkaStorageError));
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match deleted {
                Ok(start) => result.with_low_watermark(start),
                Err(code) => result.with_low_watermark(-1).with_error_code(code.into()),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

pub(super) fn add_partitions<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let only_check = request.validate_only;
    let results = request.topics.into_iter().map(|topic| {
        let planned = broker.state().plan_add_partitions(&topic.name, topic.count);
        let added = planned
            .and_then(|plan| if only_check { Ok(()) } else { broker.run(plan, Code::KafkaStorageError) });
        CreatePartitionsTopicResult::default().with_name(topic.name).with_error_code(code_of(added))
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn code_of(result: Result<(), Code>) -> i16 {
    result.err().unwrap_or(Code::None).into()
}
