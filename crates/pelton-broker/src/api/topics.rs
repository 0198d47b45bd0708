//! Topics: create, delete, grow, describe.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
};

use super::{NODE_ID, text};
use crate::broker::Broker;
use crate::code::Code;
use crate::core::TopicConfig;
use crate::store::SegmentStore;

/// `config_source` of a value set on the topic, and of a default.
const FROM_TOPIC: i8 = 1;
const FROM_DEFAULT: i8 = 5;
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

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
            Ok(partitions) => result
                .with_num_partitions(partitions.cast_signed())
                .with_replication_factor(1)
                .with_configs(Some(Vec::new())),
            Err((code, message)) => result
                .with_error_code(code.into())
                .with_error_message(Some(text(message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn create_one<S: SegmentStore>(
    broker: &mut Broker<S>,
    topic: &CreatableTopic,
    only_check: bool,
) -> Result<u32, (Code, String)> {
    if topic.replication_factor > 1 {
        let text = format!("replication factor {} on a broker of one node", topic.replication_factor);
        return Err((Code::InvalidReplicationFactor, text));
    }
    let partitions = match (topic.num_partitions, topic.assignments.len()) {
        (-1, 0) => broker.settings().default_partitions,
        (-1, assigned) => u32::try_from(assigned).unwrap_or(0),
        (asked, _) => u32::try_from(asked).unwrap_or(0),
    };
    let mut config = TopicConfig::new();
    for entry in &topic.configs {
        let value = entry.value.as_ref().map(ToString::to_string).unwrap_or_default();
        check_config(&entry.name, &value)?;
        config.insert(entry.name.to_string(), value);
    }
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

fn check_config(name: &str, value: &str) -> Result<(), (Code, String)> {
    match (name, value) {
        ("message.timestamp.type", "CreateTime" | "LogAppendTime") => Ok(()),
        ("message.timestamp.type", other) => Err((
            Code::InvalidConfig,
            format!("message.timestamp.type is {other:?}; use CreateTime or LogAppendTime"),
        )),
        _ => Ok(()),
    }
}

pub(super) fn delete<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let results = request.topic_names.into_iter().map(|name| {
        let planned = broker.state().plan_delete_topic(&name);
        let deleted = planned.and_then(|plan| broker.run(plan, Code::KafkaStorageError));
        if deleted.is_ok() {
            tracing::info!(topic = name.as_str(), "deleted a topic");
        }
        DeletableTopicResult::default().with_name(Some(name)).with_error_code(code_of(deleted))
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
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

pub(super) fn describe_configs<S: SegmentStore>(
    broker: &Broker<S>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| describe_resource(broker, resource));
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_resource<S: SegmentStore>(
    broker: &Broker<S>,
    resource: DescribeConfigsResource,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone());
    let values = match resource.resource_type {
        RESOURCE_TOPIC => match broker.state().topics().get(resource.resource_name.as_str()) {
            Some(topic) => topic_config(&topic.config),
            None => return result.with_error_code(Code::UnknownTopicOrPartition.into()),
        },
        RESOURCE_BROKER => broker_config(broker),
        _ => return result.with_error_code(Code::InvalidRequest.into()),
    };
    let keys = resource.configuration_keys;
    let is_asked = |name: &str| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
    let configs = values.into_iter().filter(|(name, ..)| is_asked(name)).map(|(name, value, source)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_config_source(source)
            .with_read_only(resource.resource_type == RESOURCE_BROKER)
    });
    result.with_configs(configs.collect())
}

fn topic_config(set: &TopicConfig) -> Vec<(String, String, i8)> {
    let defaults = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("max.message.bytes", "104857600"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-1"),
    ];
    let unset = defaults.into_iter().filter(|(name, _)| !set.contains_key(*name));
    let mut values: Vec<_> =
        unset.map(|(name, value)| (name.to_owned(), value.to_owned(), FROM_DEFAULT)).collect();
    values.extend(set.iter().map(|(name, value)| (name.clone(), value.clone(), FROM_TOPIC)));
    values
}

fn broker_config<S: SegmentStore>(broker: &Broker<S>) -> Vec<(String, String, i8)> {
    let settings = broker.settings();
    let values = [
        ("auto.create.topics.enable", settings.auto_create_topics.to_string()),
        ("broker.id", NODE_ID.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("num.partitions", settings.default_partitions.to_string()),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value, FROM_DEFAULT)).collect()
}
