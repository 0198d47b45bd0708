//! What administrators change, and what becomes of it.

use std::time::{Duration, Instant};

use rdkafka::admin::{AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::kit::*;

fn at(topic: &str, offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, offset).unwrap();
    list
}

#[test]
fn deleted_records_are_not_read_any_more() {
    let mut broker = Broker::start();
    broker.create_topic("t", 1);
    send(&broker.producer(&[]), "t", 0, &["a", "b", "c", "d"]);
    let deleted = block_on(broker.admin().delete_records(&at("t", Offset::Offset(2)), &admin_options()));
    let deleted = deleted.unwrap();
    assert_eq!(deleted.find_partition("t", 0).unwrap().offset(), Offset::Offset(2));
    for _ in 0..2 {
        let watermarks = broker.consumer("g", "read_committed").fetch_watermarks("t", 0, PATIENCE).unwrap();
        assert_eq!(watermarks, (2, 4));
        assert_eq!(values(&broker.read("t", 0, 2, "read_committed")), ["c", "d"]);
        broker.restart();
    }
    let consumer = broker.consumer("g", "read_committed");
    consumer.assign(&at("t", Offset::Beginning)).unwrap();
    assert_eq!(consumer.poll(PATIENCE).unwrap().unwrap().payload(), Some(&b"c"[..]));
}

#[test]
fn settings_are_changed_described_and_refused_by_name() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let alter = |name: &str, value: &str| {
        let change = AlterConfig::new(ResourceSpecifier::Topic("t")).set(name, value);
        block_on(broker.admin().alter_configs([&change], &admin_options())).unwrap().remove(0)
    };
    alter("retention.ms", "1").unwrap();
    let described = || {
        let topic = ResourceSpecifier::Topic("t");
        block_on(broker.admin().describe_configs([&topic], &admin_options())).unwrap().remove(0).unwrap()
    };
    let retention = |config: &rdkafka::admin::ConfigResource| {
        let entry = config.get("retention.ms").unwrap();
        (entry.value.clone(), entry.is_default)
    };
    assert_eq!(retention(&described()), (Some("1".to_owned()), false));
    // The client does not tell about refusals of single topics; they leave everything as it was.
    let _ = alter("retention.ms", "long");
    let _ = alter("no.such.setting", "1");
    assert_eq!(retention(&described()), (Some("1".to_owned()), false));
    // The old record goes by itself now.
    let producer = broker.producer(&[]);
    producer.send(BaseRecord::to("t").partition(0).key("k").payload("old").timestamp(1000)).unwrap();
    producer.flush(PATIENCE).unwrap();
    let consumer = broker.consumer("g", "read_committed");
    let deadline = Instant::now() + PATIENCE;
    while consumer.fetch_watermarks("t", 0, PATIENCE).unwrap() != (1, 1) {
        assert!(Instant::now() < deadline, "retention did nothing");
        std::thread::sleep(Duration::from_millis(50)); // between two questions
    }
}

#[test]
fn a_topic_created_with_a_bad_setting_is_refused() {
    let broker = Broker::start();
    let topic = NewTopic::new("t", 1, TopicReplication::Fixed(1)).set("cleanup.policy", "shred");
    let created = block_on(broker.admin().create_topics([&topic], &admin_options())).unwrap();
    assert_eq!(created, [Err(("t".to_owned(), RDKafkaErrorCode::InvalidConfig))]);
}

#[test]
fn records_of_8_mb_come_back() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    for (at, codec) in ["none", "zstd"].into_iter().enumerate() {
        let producer = broker.producer(&[("message.max.bytes", "9000000"), ("compression.codec", codec)]);
        let value: Vec<u8> =
            (0..8_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        producer.send(BaseRecord::to("t").partition(0).key("k").payload(&value)).map_err(|(e, _)| e).unwrap();
        producer.flush(PATIENCE).unwrap();
        let consumer = broker.consumer("g", "read_committed");
        consumer.assign(&self::at("t", Offset::Offset(at as i64))).unwrap();
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        assert!(message.payload() == Some(&value[..]), "{codec}: another value");
    }
}

#[test]
fn null_keys_null_values_and_repeated_headers_come_back() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let producer = broker.producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "h", value: Some("one") })
        .insert(Header { key: "h", value: Some("two") })
        .insert(Header { key: "none", value: None::<&str> });
    producer.send(BaseRecord::<(), str>::to("t").partition(0).payload("no key")).unwrap();
    producer.send(BaseRecord::<str, ()>::to("t").partition(0).key("tombstone").headers(headers)).unwrap();
    producer.send(BaseRecord::to("t").partition(0).key("").payload("")).unwrap();
    producer.flush(PATIENCE).unwrap();
    let consumer = broker.consumer("g", "read_committed");
    consumer.assign(&at("t", Offset::Beginning)).unwrap();
    let next = |consumer: &BaseConsumer| consumer.poll(PATIENCE).unwrap().unwrap().detach();
    let (no_key, tombstone, empty) = (next(&consumer), next(&consumer), next(&consumer));
    assert_eq!((no_key.key(), no_key.payload()), (None, Some(&b"no key"[..])));
    assert_eq!((tombstone.key(), tombstone.payload()), (Some(&b"tombstone"[..]), None));
    let headers: Vec<_> = tombstone.headers().unwrap().iter().map(|h| (h.key, h.value)).collect();
    assert_eq!(headers, [("h", Some(&b"one"[..])), ("h", Some(&b"two"[..])), ("none", None)]);
    assert_eq!((empty.key(), empty.payload()), (Some(&b""[..]), Some(&b""[..])));
}

#[test]
fn offsets_are_found_by_time_inside_batches_of_every_codec() {
    let broker = Broker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        broker.create_topic(codec, 1);
        // All in one batch.
        let producer = broker.producer(&[("compression.codec", codec), ("linger.ms", "500")]);
        for time in [1000, 2000, 3000, 4000] {
            let record =
                BaseRecord::to(codec).partition(0).key("").payload("xxxxxxxxxxxxxxxxxxxx").timestamp(time);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let consumer = broker.consumer("g", "read_committed");
        for (time, offset) in [(0, 0), (1001, 1), (2000, 1), (3999, 3), (4000, 3)] {
            let found = consumer.offsets_for_times(at(codec, Offset::Offset(time)), PATIENCE).unwrap();
            let found = found.find_partition(codec, 0).unwrap().offset();
            assert_eq!(found, Offset::Offset(offset), "{codec}: time {time}");
        }
    }
}

#[test]
fn a_topic_deleted_and_created_again_starts_afresh_for_clients_that_stay() {
    let mut broker = Broker::start();
    // Or the producer's own questions would create it.
    broker.auto_create = false;
    broker.restart();
    broker.create_topic("t", 1);
    let producer = broker.producer(&[("topic.metadata.refresh.interval.ms", "200")]);
    send(&producer, "t", 0, &["old"]);
    block_on(broker.admin().delete_topics(&["t"], &admin_options())).unwrap()[0].as_ref().unwrap();
    broker.create_topic("t", 1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let _ = producer.send(BaseRecord::to("t").partition(0).key("k").payload("new"));
        let _ = producer.flush(Duration::from_millis(500));
        if values(&broker.read("t", 0, 0, "read_committed")).contains(&"new") {
            break;
        }
        assert!(Instant::now() < deadline, "the producer did not find the new topic");
    }
    assert!(!values(&broker.read("t", 0, 0, "read_committed")).contains(&"old"));
}
