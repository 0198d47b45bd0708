//! Settings of topics: described, altered and refused.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use pelton_conformance::client::block_on;
use pelton_conformance::wire::{refusal, text};
use pelton_conformance::{Target, conform};
use rdkafka::admin::{AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use crate::admin::create;

conform!(
    settings_are_described_with_their_source,
    what_a_setting_is_is_described_too,
    settings_of_an_unknown_topic_are_refused,
    settings_of_a_topic_are_altered_and_fall_back_to_defaults,
    one_setting_is_altered_and_the_others_stay,
    a_word_is_added_to_a_list_and_taken_from_it,
    an_unknown_or_unlawful_setting_is_refused,
);

/// A topic, as requests about settings call it.
const TOPIC: i8 = 2;

/// Value and source of each setting of a topic.
fn settings(target: &Target, topic: &str) -> BTreeMap<String, (String, ConfigSource)> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let described = block_on(target.admin().describe_configs(&asked, &target.admin_options())).unwrap();
    let resource = described.into_iter().next().unwrap().unwrap();
    resource
        .entries
        .into_iter()
        .map(|entry| (entry.name, (entry.value.unwrap_or_default(), entry.source)))
        .collect()
}

fn settings_are_described_with_their_source(target: &Target) {
    let topic = target.topic_with("described", 1, &[("retention.ms", "123456789")]);
    let settings = settings(target, &topic);
    assert_eq!(settings["retention.ms"], ("123456789".into(), ConfigSource::DynamicTopic));
    assert_eq!(settings["message.timestamp.type"], ("CreateTime".into(), ConfigSource::Default));
    for (name, value) in [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("retention.bytes", "-1"),
        ("min.compaction.lag.ms", "0"),
        ("delete.retention.ms", "86400000"),
        ("min.insync.replicas", "1"),
    ] {
        assert_eq!(settings[name].0, value, "{name}");
    }
    for name in ["max.message.bytes", "segment.bytes", "segment.ms", "min.cleanable.dirty.ratio"] {
        assert!(settings.contains_key(name), "{name}");
    }
}

fn what_a_setting_is_is_described_too(target: &Target) {
    let topic = target.topic("typed", 1);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(&topic))
        .with_configuration_keys(None);
    let response = target.wire().call(3, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    let types: BTreeMap<&str, i8> =
        response.results[0].configs.iter().map(|entry| (entry.name.as_str(), entry.config_type)).collect();
    for (name, number) in [
        ("preallocate", 1),
        ("compression.type", 2),
        ("max.message.bytes", 3),
        ("segment.bytes", 3),
        ("retention.ms", 5),
        ("min.cleanable.dirty.ratio", 6),
        ("cleanup.policy", 7),
        ("leader.replication.throttled.replicas", 7),
    ] {
        assert_eq!(types[name], number, "{name}");
    }
}

fn settings_of_an_unknown_topic_are_refused(target: &Target) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(&target.unique("nowhere")))
        .with_configuration_keys(None);
    let response = target.wire().call(1, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(refusal(response.results[0].error_code), Some(ResponseError::UnknownTopicOrPartition));
}

fn settings_of_a_topic_are_altered_and_fall_back_to_defaults(target: &Target) {
    let topic = target.topic_with("altered", 1, &[("retention.bytes", "1000000")]);
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "123456789");
    let altered = block_on(target.admin().alter_configs([&change], &target.admin_options())).unwrap();
    assert!(altered[0].is_ok(), "{altered:?}");
    target.until("the new setting", || {
        (settings(target, &topic)["retention.ms"] == ("123456789".into(), ConfigSource::DynamicTopic))
            .then_some(())
    });
    // What is not named falls back.
    assert_eq!(settings(target, &topic)["retention.bytes"].0, "-1");
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn alter_one(target: &Target, topic: &str, name: &str, value: Option<&str>) -> Option<ResponseError> {
    alter(target, topic, name, if value.is_some() { SET } else { DELETE }, value)
}

fn alter(
    target: &Target,
    topic: &str,
    name: &str,
    operation: i8,
    value: Option<&str>,
) -> Option<ResponseError> {
    let change = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(operation)
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    refusal(target.wire().call(1, &request).responses[0].error_code)
}

fn one_setting_is_altered_and_the_others_stay(target: &Target) {
    let topic = target.topic_with("one", 1, &[("retention.bytes", "1000000")]);
    assert_eq!(alter_one(target, &topic, "retention.ms", Some("123456789")), None);
    target.until("the new setting", || {
        (settings(target, &topic)["retention.ms"].0 == "123456789").then_some(())
    });
    assert_eq!(settings(target, &topic)["retention.bytes"].0, "1000000");
    assert_eq!(alter_one(target, &topic, "retention.ms", None), None);
    target.until("the default", || (settings(target, &topic)["retention.ms"].0 != "123456789").then_some(()));
}

fn a_word_is_added_to_a_list_and_taken_from_it(target: &Target) {
    let topic = target.topic("listed", 1);
    let until = |value: &str| {
        target.until(value, || (settings(target, &topic)["cleanup.policy"].0 == value).then_some(()));
    };
    assert_eq!(alter(target, &topic, "cleanup.policy", APPEND, Some("compact")), None);
    until("delete,compact");
    assert_eq!(alter(target, &topic, "cleanup.policy", SUBTRACT, Some("delete")), None);
    until("compact");
    let refused = alter(target, &topic, "retention.ms", APPEND, Some("5"));
    assert_eq!(refused, Some(ResponseError::InvalidConfig), "it is no list");
}

fn an_unknown_or_unlawful_setting_is_refused(target: &Target) {
    let topic = target.topic("unlawful", 1);
    let other = target.unique("other");
    for (name, value) in [
        ("no.such.setting", "1"),
        ("retention.ms", "soon"),
        ("cleanup.policy", "burn"),
        ("segment.ms", "-5"),
        ("segment.bytes", "1048575"),
    ] {
        let new = NewTopic::new(&other, 1, TopicReplication::Fixed(1)).set(name, value);
        assert_eq!(create(target, &new, false), Err(RDKafkaErrorCode::InvalidConfig), "{name}={value}");
        assert_eq!(
            alter_one(target, &topic, name, Some(value)),
            Some(ResponseError::InvalidConfig),
            "{name}={value}"
        );
    }
}
