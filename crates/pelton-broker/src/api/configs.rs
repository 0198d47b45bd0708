//! Settings of topics and of the broker: describe, replace, change.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as Changed;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{NODE_ID, text};
use crate::broker::Broker;
use crate::code::Code;
use crate::core::{TopicConfig, config};
use crate::store::SegmentStore;

/// `config_source` of a value set on the topic, and of a default.
pub(super) const FROM_TOPIC: i8 = 1;
pub(super) const FROM_DEFAULT: i8 = 5;
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// Code and text of a refusal.
type Refused = (Code, String);

pub(super) fn describe<S: SegmentStore>(
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
            .with_config_type(config::type_number(&name))
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_config_source(source)
            .with_read_only(resource.resource_type == RESOURCE_BROKER)
    });
    result.with_configs(configs.collect())
}

/// Name, value and source of every setting of a topic.
pub(super) fn topic_config(set: &TopicConfig) -> Vec<(String, String, i8)> {
    let unset = config::defaults().filter(|(name, _)| !set.contains_key(*name));
    let mut values: Vec<_> =
        unset.map(|(name, value)| (name.to_owned(), value.to_owned(), FROM_DEFAULT)).collect();
    values.extend(set.iter().map(|(name, value)| (name.clone(), value.clone(), FROM_TOPIC)));
    values.sort();
    values
}

fn broker_config<S: SegmentStore>(broker: &Broker<S>) -> Vec<(String, String, i8)> {
    let settings = broker.settings();
    let values = [
        ("auto.create.topics.enable", settings.auto_create_topics.to_string()),
        ("broker.id", NODE_ID.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("group.initial.rebalance.delay.ms", settings.first_wait_ms.to_string()),
        ("num.partitions", settings.default_partitions.to_string()),
        ("offsets.retention.minutes", (settings.offsets_retention_ms / 60_000).to_string()),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value, FROM_DEFAULT)).collect()
}

/// Checks settings of a topic and puts them together.
pub(super) fn checked<'a>(
    entries: impl Iterator<Item = (&'a StrBytes, Option<&'a StrBytes>)>,
) -> Result<TopicConfig, Refused> {
    let mut set = TopicConfig::new();
    for (name, value) in entries {
        let Some(value) = value else {
            return Err((Code::InvalidConfig, format!("{} has no value", name.as_str())));
        };
        config::check(name, value).map_err(|text| (Code::InvalidConfig, text))?;
        set.insert(name.to_string(), value.to_string());
    }
    config::check_together(&set).map_err(|text| (Code::InvalidConfig, text))?;
    Ok(set)
}

fn set<S: SegmentStore>(
    broker: &mut Broker<S>,
    topic: &str,
    config: TopicConfig,
    only_check: bool,
) -> Result<(), Refused> {
    let unknown = |code| (code, format!("there is no topic {topic:?}"));
    let plan = broker.state().plan_configure_topic(topic, config).map_err(unknown)?;
    if !only_check {
        let stored = broker.run(plan, Code::KafkaStorageError);
        stored.map_err(|code| (code, "could not store the settings".to_owned()))?;
        tracing::info!(topic, "changed the settings of a topic");
    }
    Ok(())
}

fn only_topics(resource_type: i8) -> Result<(), Refused> {
    if resource_type == RESOURCE_TOPIC {
        return Ok(());
    }
    let text = "this broker's own settings are given when it starts; only topics can be changed";
    Err((Code::InvalidRequest, text.to_owned()))
}

/// Replaces all settings of topics.
pub(super) fn replace<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let only_check = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let entries = resource.configs.iter().map(|entry| (&entry.name, entry.value.as_ref()));
        let changed = only_topics(resource.resource_type)
            .and_then(|()| checked(entries))
            .and_then(|config| set(broker, &resource.resource_name, config, only_check));
        let (code, message) = outcome(changed);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

/// Changes single settings of topics.
pub(super) fn change<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let only_check = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let name = resource.resource_name.as_str();
        let changed = only_topics(resource.resource_type).and_then(|()| {
            let topic = broker.state().topics().get(name);
            let unknown = || (Code::UnknownTopicOrPartition, format!("there is no topic {name:?}"));
            let mut config = topic.ok_or_else(unknown)?.config.clone();
            resource.configs.iter().try_for_each(|entry| change_one(&mut config, entry))?;
            config::check_together(&config).map_err(|text| (Code::InvalidConfig, text))?;
            set(broker, name, config, only_check)
        });
        let (code, message) = outcome(changed);
        Changed::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

/// Set, unset, or add to and take from a list: operations 0 to 3.
fn change_one(config: &mut TopicConfig, entry: &AlterableConfig) -> Result<(), Refused> {
    let name = entry.name.as_str();
    let refuse = |text: String| Err((Code::InvalidConfig, text));
    let value = entry.value.as_deref();
    let new = match (entry.config_operation, value) {
        (1, _) => {
            if !config::defaults().any(|(known, _)| known == name) {
                return refuse(format!("unknown topic config {name:?}"));
            }
            config.remove(name);
            return Ok(());
        }
        (0, Some(value)) => value.to_owned(),
        (2 | 3, Some(value)) if config::is_list(name) => {
            let default = config::defaults().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            let mut words: Vec<&str> = config.get(name).map_or(default, String::as_str).split(',').collect();
            for word in value.split(',') {
                words.retain(|other| other.trim() != word.trim());
                if entry.config_operation == 2 {
                    words.push(word);
                }
            }
            words.join(",")
        }
        (2 | 3, Some(_)) => return refuse(format!("{name} is not a list that can be added to")),
        (operation, _) => return refuse(format!("operation {operation} without a value for {name}")),
    };
    if let Err(text) = config::check(name, &new) {
        return refuse(text);
    }
    config.insert(name.to_owned(), new);
    Ok(())
}

fn outcome(changed: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match changed {
        Ok(()) => (Code::None.into(), None),
        Err((code, message)) => (code.into(), Some(text(message))),
    }
}
