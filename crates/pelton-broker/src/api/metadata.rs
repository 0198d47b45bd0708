//! Who we are: versions, topics, coordinator.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};

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
    let names: Vec<String> = match asked {
        None => broker.state().topics().keys().cloned().collect(),
        Some(topics) => topics.into_iter().filter_map(|topic| Some(topic.name?.to_string())).collect(),
    };
    let topics = names.into_iter().map(|name| {
        let code = find_or_create(broker, &name, request.allow_auto_topic_creation).err();
        describe(broker, name, code)
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
    let count = broker.state().topics().get(&name).map_or(0, |topic| topic.partitions);
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
        .with_error_code(code.unwrap_or(Code::None).into())
        .with_name(Some(TopicName(text(name))))
}
