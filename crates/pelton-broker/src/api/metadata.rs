//! Who we are: versions, topics, coordinator.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, FindCoordinatorResponse, MetadataRequest,
    MetadataResponse, TopicName,
};

use uuid::Uuid;

use super::{Address, NODE_ID, SUPPORTED, text};
use crate::broker::Broker;
use crate::code::Code;
use crate::core::TopicConfig;
use crate::store::SegmentStore;

pub(super) fn api_versions() -> ApiVersionsResponse {
    let keys = SUPPORTED.iter().map(|(key, min, max)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*min).with_max_version(*max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// A client that names itself must do so in letters, digits, `-` and `.`, beginning and ending with a letter or
/// digit; from version 3 on it must.
pub(super) fn api_versions_for(request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let is_name = |name: &str| {
        let is_plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        let fits = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        fits && is_plain(bytes.first()) && is_plain(bytes.last())
    };
    let has_names = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if version >= 3 && !has_names {
        return ApiVersionsResponse::default().with_error_code(Code::InvalidRequest.into());
    }
    api_versions()
}

pub(super) fn unsupported_version() -> ApiVersionsResponse {
    api_versions().with_error_code(Code::UnsupportedVersion.into())
}

pub(super) fn coordinator(address: &Address) -> FindCoordinatorResponse {
    FindCoordinatorResponse::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(text(address.host.as_str()))
        .with_port(i32::from(address.port.get()))
}

pub(super) fn metadata<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: MetadataRequest,
    version: i16,
    address: &Address,
) -> MetadataResponse {
    let node = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(text(address.host.as_str()))
        .with_port(i32::from(address.port.get()));
    // All topics: a null list, or an empty one in version 0, which knew no null.
    let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let names: Vec<Result<String, Uuid>> = match asked {
        None => broker.state().topics().keys().cloned().map(Ok).collect(),
        Some(topics) => {
            let known = |id| broker.state().topic_by_id(id).map(str::to_owned).ok_or(id);
            topics
                .into_iter()
                .map(|t| t.name.map_or_else(|| known(t.topic_id), |n| Ok(n.to_string())))
                .collect()
        }
    };
    let topics = names.into_iter().map(|name| match name {
        Ok(name) => {
            let code = find_or_create(broker, &name, request.allow_auto_topic_creation).err();
            describe(broker, name, code)
        }
        Err(id) => MetadataResponseTopic::default()
            .with_topic_id(id)
            .with_name((version < 12).then(TopicName::default))
            .with_error_code(Code::UnknownTopicId.into()),
    });
    MetadataResponse::default()
        .with_topics(topics.collect())
        .with_brokers(vec![node])
        .with_cluster_id(Some(text(broker.state().cluster_id())))
        .with_controller_id(BrokerId(NODE_ID))
}

fn find_or_create<S: SegmentStore>(broker: &mut Broker<S>, name: &str, may_create: bool) -> Result<(), Code> {
    if broker.state().topics().contains_key(name) {
        return Ok(());
    }
    if !(may_create && broker.settings().auto_create_topics) {
        return Err(Code::UnknownTopicOrPartition);
    }
    let partitions = broker.settings().default_partitions;
    let plan = broker.state().plan_create_topic(name, partitions, TopicConfig::new())?;
    broker.run(plan, Code::KafkaStorageError)?;
    tracing::info!(topic = name, partitions, "created a topic because a client asked for it");
    Ok(())
}

fn describe<S: SegmentStore>(broker: &Broker<S>, name: String, code: Option<Code>) -> MetadataResponseTopic {
    let topic = broker.state().topics().get(&name);
    let count = topic.map_or(0, |topic| topic.partitions);
    let partitions = (0..count).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index.cast_signed())
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(0)
            .with_replica_nodes(vec![BrokerId(NODE_ID)])
            .with_isr_nodes(vec![BrokerId(NODE_ID)])
    });
    MetadataResponseTopic::default()
        .with_partitions(partitions.collect())
        .with_topic_id(topic.map_or(Uuid::nil(), |topic| broker.state().topic_id(topic)))
        .with_error_code(code.unwrap_or(Code::None).into())
        .with_name(Some(TopicName(text(name))))
}
