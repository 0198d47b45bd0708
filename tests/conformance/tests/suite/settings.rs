//! What the settings of a topic do, one by one.

use kafka_protocol::error::ResponseError::{self, *};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use pelton_conformance::client::{COMMITTED, block_on};
use pelton_conformance::wire::{Writer, batch, name, now_ms, refusal};
use pelton_conformance::{Target, conform};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::admin::{keyed, send_keyed};

conform!(
    batches_are_stored_in_the_codec_of_their_topic,
    a_record_too_far_from_the_present_is_refused,
    a_topic_that_stamps_records_takes_any_time,
    a_topic_that_wants_two_replicas_in_sync_and_has_one_takes_records,
    a_number_of_acknowledgements_that_there_is_not_is_refused,
    a_batch_longer_than_its_topic_allows_is_refused,
    a_record_older_than_the_longest_lag_is_compacted_however_little_is_new,
    a_record_younger_than_the_shortest_lag_is_not_compacted,
    a_tombstone_stays_for_its_time,
    lags_that_exclude_each_other_are_refused,
);

/// The first batch of partition 0.
fn stored(target: &Target, topic: &str) -> Vec<u8> {
    let partition = FetchPartition::default().with_partition_max_bytes(1_000_000);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_wait_ms(1000).with_min_bytes(1).with_max_bytes(1_000_000);
    let response = target.wire().call(4, &request.with_topics(vec![asked]));
    response.responses[0].partitions[0].records.as_ref().unwrap().to_vec()
}

fn batches_are_stored_in_the_codec_of_their_topic(target: &Target) {
    let value = "x".repeat(1000);
    let settings = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];
    for (number, setting) in (0_u8..).zip(settings) {
        let topic = target.topic_with(setting, 1, &[("compression.type", setting)]);
        target.send(&target.producer(&[("compression.codec", "lz4")]), &topic, 0, &[&value, "b"]);
        assert_eq!(stored(target, &topic)[22] & 7, number, "{setting}");
        assert_eq!(target.values(&topic, 0, COMMITTED), [value.as_str(), "b"], "{setting}");
    }
    let kept = target.topic("kept", 1);
    target.send(&target.producer(&[("compression.codec", "lz4")]), &kept, 0, &[&value]);
    assert_eq!(stored(target, &kept)[22] & 7, 3);
}

const HOUR_MS: i64 = 3_600_000;

fn send_at(target: &Target, topic: &str, time_ms: i64) -> Result<i64, ResponseError> {
    target.wire().produce(topic, 0, None, batch(Writer::PLAIN, &["x"], time_ms))
}

fn a_record_too_far_from_the_present_is_refused(target: &Target) {
    let topic = target.topic_with("t", 1, &[("message.timestamp.before.max.ms", "3600000")]);
    let now = now_ms();
    assert_eq!(send_at(target, &topic, now), Ok(0));
    assert_eq!(send_at(target, &topic, now - 2 * HOUR_MS), Err(InvalidTimestamp));
    assert_eq!(send_at(target, &topic, now - HOUR_MS / 2), Ok(1));
    assert_eq!(send_at(target, &topic, now + HOUR_MS / 2), Ok(2));
    assert_eq!(
        send_at(target, &topic, now + 2 * HOUR_MS),
        Err(InvalidTimestamp),
        "an hour, if nothing is set"
    );
    let wide = target.topic_with("wide", 1, &[("message.timestamp.after.max.ms", "10800000")]);
    assert_eq!(send_at(target, &wide, now + 2 * HOUR_MS), Ok(0));
    assert_eq!(send_at(target, &wide, now - 1000 * HOUR_MS), Ok(1));
}

fn a_topic_that_stamps_records_takes_any_time(target: &Target) {
    let stamps = [("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "1000")];
    let topic = target.topic_with("t", 1, &stamps);
    assert_eq!(send_at(target, &topic, now_ms() - 2 * HOUR_MS), Ok(0));
    assert_eq!(send_at(target, &topic, now_ms() + 2 * HOUR_MS), Ok(1));
}

fn send_with(target: &Target, topic: &str, acks: i16) -> Option<ResponseError> {
    let records = batch(Writer::PLAIN, &["x"], now_ms());
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let asked = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000);
    let response = target.wire().call(7, &request.with_topic_data(vec![asked]));
    refusal(response.responses[0].partition_responses[0].error_code)
}

fn a_topic_that_wants_two_replicas_in_sync_and_has_one_takes_records(target: &Target) {
    let topic = target.topic_with("t", 1, &[("min.insync.replicas", "2")]);
    assert_eq!(send_with(target, &topic, -1), None, "no more are wanted than there are");
    assert_eq!(send_with(target, &topic, 1), None);
}

fn a_number_of_acknowledgements_that_there_is_not_is_refused(target: &Target) {
    let topic = target.topic("t", 1);
    assert_eq!(send_with(target, &topic, 2), Some(InvalidRequiredAcks));
    assert_eq!(send_with(target, &topic, -2), Some(InvalidRequiredAcks));
    assert_eq!(send_with(target, &topic, -1), None);
}

fn a_batch_longer_than_its_topic_allows_is_refused(target: &Target) {
    // As it comes, and as it would be stored.
    for setting in ["producer", "uncompressed"] {
        let settings = [("max.message.bytes", "2000"), ("compression.type", setting)];
        let topic = target.topic_with(setting, 1, &settings);
        let producer = target.reporting_producer(&[("compression.codec", "gzip")]);
        let long = rdkafka::producer::BaseRecord::<(), str>::to(&topic);
        let value = "x".repeat(5000);
        producer.send(long.payload(&value)).map_err(|(error, _)| error).unwrap();
        target.flush(&producer);
        let reports = producer.context().0.lock().unwrap().clone();
        let fits = setting == "producer";
        let expected = if fits { Ok(0) } else { Err(RDKafkaErrorCode::MessageSizeTooLarge) };
        assert_eq!(reports, [expected], "{setting}");
    }
}

const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact"), ("file.delete.delay.ms", "0")];

fn compacted(target: &Target, label: &str, settings: &[(&str, &str)]) -> String {
    target.topic_with(label, 1, &[COMPACTED, settings].concat())
}

/// Keys and values of a topic, without the records that only move its newest segment on.
fn left(target: &Target, topic: &str) -> Vec<(String, Option<String>)> {
    let all = keyed(target, topic).into_iter().filter(|(_, key, _)| key != "tick");
    all.map(|(_, key, value)| (key, value)).collect()
}

fn tick(target: &Target, producer: &BaseProducer, topics: &[&str]) {
    for topic in topics {
        send_keyed(target, producer, topic, "tick", Some("tick"), now_ms());
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
}

fn record(key: &str, value: &str) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_owned()))
}

fn a_record_older_than_the_longest_lag_is_compacted_however_little_is_new(target: &Target) {
    let settings = [("min.cleanable.dirty.ratio", "1"), ("max.compaction.lag.ms", "500")];
    let topic = compacted(target, "t", &settings);
    let producer = target.producer(&[]);
    for value in ["1", "2"] {
        send_keyed(target, &producer, &topic, "a", Some(value), now_ms());
    }
    target.until("the older record is compacted away", || {
        tick(target, &producer, &[&topic]);
        (left(target, &topic) == [record("a", "2")]).then_some(())
    });
    send_keyed(target, &producer, &topic, "a", Some("3"), now_ms());
    target.until("the older record is compacted away again", || {
        tick(target, &producer, &[&topic]);
        (left(target, &topic) == [record("a", "3")]).then_some(())
    });
}

const SOON: &[(&str, &str)] = &[("min.cleanable.dirty.ratio", "0.01"), ("segment.ms", "100")];

fn a_record_younger_than_the_shortest_lag_is_not_compacted(target: &Target) {
    let lagging = compacted(target, "lagging", &[SOON, &[("min.compaction.lag.ms", "3600000")]].concat());
    let other = compacted(target, "other", SOON);
    let producer = target.producer(&[]);
    for topic in [&lagging, &other] {
        for value in ["1", "2"] {
            send_keyed(target, &producer, topic, "a", Some(value), now_ms());
        }
    }
    target.until("the other topic is compacted", || {
        tick(target, &producer, &[&lagging, &other]);
        (left(target, &other) == [record("a", "2")]).then_some(())
    });
    assert_eq!(left(target, &lagging), [record("a", "1"), record("a", "2")]);
}

fn a_tombstone_stays_for_its_time(target: &Target) {
    let keeping = compacted(target, "keeping", &[SOON, &[("delete.retention.ms", "3600000")]].concat());
    let other = compacted(target, "other", &[SOON, &[("delete.retention.ms", "0")]].concat());
    let producer = target.producer(&[]);
    for topic in [&keeping, &other] {
        send_keyed(target, &producer, topic, "a", Some("1"), now_ms());
        send_keyed(target, &producer, topic, "a", None, now_ms());
    }
    target.until("the tombstone of the other topic is gone", || {
        tick(target, &producer, &[&keeping, &other]);
        left(target, &other).is_empty().then_some(())
    });
    target.until("only the tombstone is left", || {
        tick(target, &producer, &[&keeping]);
        (left(target, &keeping) == [("a".to_owned(), None)]).then_some(())
    });
}

fn lags_that_exclude_each_other_are_refused(target: &Target) {
    let topic = target.unique("t");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let new = new.set("min.compaction.lag.ms", "2000").set("max.compaction.lag.ms", "1000");
    let created = block_on(target.admin().create_topics([&new], &target.admin_options())).unwrap();
    assert_eq!(created, [Err((topic, RDKafkaErrorCode::InvalidConfig))]);
}
