//! Topics, what is deleted from them, and when.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteRecordsRequest, MetadataRequest};
use pelton_conformance::client::{COMMITTED, block_on};
use pelton_conformance::wire::{name, now_ms, refusal};
use pelton_conformance::{Target, conform};
use rdkafka::admin::{NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

conform!(
    a_topic_is_made_once_with_a_lawful_name_and_size,
    a_request_that_only_validates_makes_nothing,
    partitions_are_added_and_never_taken_away,
    a_deleted_topic_is_gone_and_a_new_one_of_its_name_is_empty,
    a_new_topic_of_an_old_name_has_another_id,
    offsets_of_a_deleted_topic_are_forgotten,
    records_before_an_offset_are_deleted,
    records_after_the_end_cannot_be_deleted,
    all_records_are_deleted_up_to_the_end,
    records_are_deleted_after_their_time,
    the_oldest_records_are_deleted_beyond_the_size_of_a_topic,
    a_compacted_topic_keeps_the_last_record_of_each_key,
);

type Created = Result<String, (String, RDKafkaErrorCode)>;

pub fn create(target: &Target, topic: &NewTopic<'_>, validate_only: bool) -> Result<(), RDKafkaErrorCode> {
    let options = target.admin_options().validate_only(validate_only);
    let created: Vec<Created> = block_on(target.admin().create_topics([topic], &options)).unwrap();
    created.into_iter().next().unwrap().map(drop).map_err(|(_, code)| code)
}

fn delete(target: &Target, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let deleted = block_on(target.admin().delete_topics(&[topic], &target.admin_options())).unwrap();
    deleted.into_iter().next().unwrap().map(drop).map_err(|(_, code)| code)
}

/// Partitions of a topic; 0 if it is not there.
fn partitions(target: &Target, topic: &str) -> usize {
    let metadata = target.consumer(&[]).fetch_metadata(Some(topic), target.patience).unwrap();
    metadata.topics()[0].partitions().len()
}

fn a_topic_is_made_once_with_a_lawful_name_and_size(target: &Target) {
    let topic = target.topic("once", 2);
    let make = |name: &str, count, replicas| {
        create(target, &NewTopic::new(name, count, TopicReplication::Fixed(replicas)), false)
    };
    assert_eq!(make(&topic, 2, 1), Err(RDKafkaErrorCode::TopicAlreadyExists));
    for bad in ["no blanks", "..", ".", "slash/", &"x".repeat(250)] {
        assert_eq!(make(bad, 1, 1), Err(RDKafkaErrorCode::InvalidTopic), "{bad}");
    }
    let other = target.unique("other");
    assert_eq!(make(&other, 0, 1), Err(RDKafkaErrorCode::InvalidPartitions));
    assert_eq!(make(&other, 1, 3), Err(RDKafkaErrorCode::InvalidReplicationFactor));
    // Metrics have one name for both.
    let (dotted, alike) = (target.unique("a.b"), target.unique("a_b"));
    assert_eq!(make(&dotted, 1, 1), Ok(()));
    target.remember(&dotted);
    assert_eq!(make(&alike, 1, 1), Err(RDKafkaErrorCode::InvalidTopic));
    assert_eq!(partitions(target, &topic), 2);
}

fn a_request_that_only_validates_makes_nothing(target: &Target) {
    let name = target.unique("validated");
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    assert_eq!(create(target, &topic, true), Ok(()));
    assert_eq!(partitions(target, &name), 0);
    assert_eq!(
        create(target, &topic.set("retention.ms", "soon"), true),
        Err(RDKafkaErrorCode::InvalidConfig)
    );
}

fn partitions_are_added_and_never_taken_away(target: &Target) {
    let topic = target.topic("grown", 2);
    target.send(&target.producer(&[]), &topic, 1, &["kept"]);
    let grow = |name: &str, count| {
        let options = target.admin_options();
        let grown = block_on(target.admin().create_partitions([&NewPartitions::new(name, count)], &options));
        grown.unwrap().into_iter().next().unwrap().map(drop).map_err(|(_, code)| code)
    };
    assert_eq!(grow(&topic, 5), Ok(()));
    target.wait_for_topic(&topic, 5);
    assert_eq!(grow(&topic, 3), Err(RDKafkaErrorCode::InvalidPartitions));
    assert_eq!(grow(&topic, 5), Err(RDKafkaErrorCode::InvalidPartitions));
    assert_eq!(grow(&target.unique("nowhere"), 5), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    assert_eq!(partitions(target, &topic), 5);
    target.send(&target.producer(&[]), &topic, 4, &["new"]);
    assert_eq!(target.values(&topic, 1, COMMITTED), ["kept"]);
    assert_eq!(target.values(&topic, 4, COMMITTED), ["new"]);
}

fn a_deleted_topic_is_gone_and_a_new_one_of_its_name_is_empty(target: &Target) {
    let topic = target.topic("again", 1);
    target.send(&target.producer(&[]), &topic, 0, &["old"]);
    assert_eq!(delete(target, &topic), Ok(()));
    target.until("the topic is gone", || (partitions(target, &topic) == 0).then_some(()));
    assert_eq!(delete(target, &topic), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    assert_eq!(create(target, &NewTopic::new(&topic, 2, TopicReplication::Fixed(1)), false), Ok(()));
    target.wait_for_topic(&topic, 2);
    assert_eq!(target.values(&topic, 0, COMMITTED), Vec::<String>::new());
    target.send(&target.producer(&[]), &topic, 0, &["new"]);
    assert_eq!(target.read(&topic, 0, 0, COMMITTED), [(0, "new".to_owned())]);
}

fn a_new_topic_of_an_old_name_has_another_id(target: &Target) {
    let topic = target.topic("identified", 1);
    let id = || {
        let asked = MetadataRequestTopic::default().with_name(Some(name(&topic)));
        let response = target.wire().call(12, &MetadataRequest::default().with_topics(Some(vec![asked])));
        response.topics[0].topic_id
    };
    let first = id();
    assert!(!first.is_nil());
    assert_eq!(id(), first);
    assert_eq!(delete(target, &topic), Ok(()));
    target.until("the topic is gone", || (partitions(target, &topic) == 0).then_some(()));
    assert_eq!(create(target, &NewTopic::new(&topic, 1, TopicReplication::Fixed(1)), false), Ok(()));
    target.wait_for_topic(&topic, 1);
    assert_ne!(id(), first);
}

fn offsets_of_a_deleted_topic_are_forgotten(target: &Target) {
    let topic = target.topic("forgotten", 1);
    let consumer = target.consumer(&[]);
    target.commit(&consumer, &topic, 0, 5, "");
    assert_eq!(target.committed(&consumer, &topic, 0).0, Offset::Offset(5));
    assert_eq!(delete(target, &topic), Ok(()));
    target.until("the offset is gone", || {
        (target.committed(&consumer, &topic, 0).0 == Offset::Invalid).then_some(())
    });
}

fn delete_records(target: &Target, topic: &str, before: Offset) -> i64 {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, before).unwrap();
    let deleted = block_on(target.admin().delete_records(&list, &target.admin_options())).unwrap();
    let element = deleted.find_partition(topic, 0).unwrap();
    element.error().unwrap();
    element.offset().to_raw().unwrap()
}

fn records_before_an_offset_are_deleted(target: &Target) {
    let topic = target.topic("cut", 1);
    target.send(&target.producer(&[]), &topic, 0, &["a", "b", "c", "d"]);
    assert_eq!(delete_records(target, &topic, Offset::Offset(2)), 2);
    let consumer = target.consumer(&[]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, target.patience).unwrap(), (2, 4));
    assert_eq!(target.read(&topic, 0, 2, COMMITTED), [(2, "c".to_owned()), (3, "d".to_owned())]);
    // What is gone cannot be read, and does not come back.
    let reader = target.reader(&topic, 0, Offset::Offset(0), COMMITTED);
    let code =
        target.poll(&reader, "an error", |event| Some(event.map(drop).unwrap_err().rdkafka_error_code()));
    assert_eq!(code, Some(RDKafkaErrorCode::AutoOffsetReset));
    assert_eq!(delete_records(target, &topic, Offset::Offset(1)), 2);
}

fn records_after_the_end_cannot_be_deleted(target: &Target) {
    let topic = target.topic("uncut", 1);
    target.send(&target.producer(&[]), &topic, 0, &["a", "b"]);
    let ask = |index, offset| {
        let partition = DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![asked]);
        refusal(target.wire().call(1, &request).topics[0].partitions[0].error_code)
    };
    assert_eq!(ask(0, 3), Some(ResponseError::OffsetOutOfRange));
    assert_eq!(ask(7, 0), Some(ResponseError::UnknownTopicOrPartition));
    assert_eq!(target.values(&topic, 0, COMMITTED), ["a", "b"]);
}

fn all_records_are_deleted_up_to_the_end(target: &Target) {
    let topic = target.topic("emptied", 1);
    let producer = target.producer(&[]);
    target.send(&producer, &topic, 0, &["a", "b"]);
    assert_eq!(delete_records(target, &topic, Offset::End), 2);
    target.send(&producer, &topic, 0, &["c"]);
    assert_eq!(target.read(&topic, 0, 2, COMMITTED), [(2, "c".to_owned())]);
}

pub fn send_keyed(
    target: &Target,
    producer: &BaseProducer,
    topic: &str,
    key: &str,
    value: Option<&str>,
    time: i64,
) {
    let record = BaseRecord::to(topic).partition(0).key(key).timestamp(time);
    let record = match value {
        Some(value) => record.payload(value),
        None => record,
    };
    producer.send(record).map_err(|(error, _)| error).unwrap();
    target.flush(producer);
}

fn records_are_deleted_after_their_time(target: &Target) {
    let topic = target.topic_with("aged", 1, &[("retention.ms", "7200000"), ("file.delete.delay.ms", "0")]);
    let producer = target.producer(&[]);
    let hour = 3_600_000;
    for (key, age) in [("old", 5), ("older", 6), ("old", 3)] {
        send_keyed(target, &producer, &topic, key, Some(key), now_ms() - age * hour);
    }
    let consumer = target.consumer(&[]);
    target.until("the old records are deleted", || {
        let (first, end) = consumer.fetch_watermarks(&topic, 0, target.patience).unwrap();
        assert_eq!(end, 3);
        (first == 3).then_some(())
    });
    send_keyed(target, &producer, &topic, "young", Some("young"), now_ms() - hour);
    assert_eq!(target.read(&topic, 0, 3, COMMITTED), [(3, "young".to_owned())]);
}

fn the_oldest_records_are_deleted_beyond_the_size_of_a_topic(target: &Target) {
    let kept = [("retention.bytes", "2000000"), ("segment.bytes", "1048576"), ("file.delete.delay.ms", "0")];
    let topic = target.topic_with("sized", 1, &kept);
    let producer = target.producer(&[("compression.codec", "none")]);
    let value = "x".repeat(100_000);
    for _ in 0..60 {
        target.send(&producer, &topic, 0, &[&value]);
    }
    let consumer = target.consumer(&[]);
    let first = target.until("the oldest records are deleted", || {
        let (first, end) = consumer.fetch_watermarks(&topic, 0, target.patience).unwrap();
        assert_eq!(end, 60);
        // A record takes 200 kB (key and value), a segment five of them: two or three segments stay.
        (first >= 45).then_some(first)
    });
    assert!(first <= 50, "2 MB are kept at least, but the log begins at {first}");
    assert_eq!(target.read(&topic, 0, first, COMMITTED).len(), usize::try_from(60 - first).unwrap());
}

fn a_compacted_topic_keeps_the_last_record_of_each_key(target: &Target) {
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
        ("file.delete.delay.ms", "0"),
    ];
    let topic = target.topic_with("compacted", 1, &compacted);
    let producer = target.producer(&[]);
    for round in 0..5 {
        for key in ["a", "b", "c"] {
            send_keyed(target, &producer, &topic, key, Some(&format!("{key}{round}")), now_ms());
        }
    }
    send_keyed(target, &producer, &topic, "b", None, now_ms());
    let values = target.until("only the last records are left", || {
        // The newest segment is never compacted: move on.
        send_keyed(target, &producer, &topic, "tick", Some("tick"), now_ms());
        std::thread::sleep(std::time::Duration::from_millis(200));
        let mut read = keyed(target, &topic);
        read.retain(|(_, key, _)| key != "tick");
        (read.len() == 2).then_some(read)
    });
    let value = |at: usize| (values[at].1.as_str(), values[at].2.as_deref());
    assert_eq!([value(0), value(1)], [("a", Some("a4")), ("c", Some("c4"))]);
    assert_eq!([values[0].0, values[1].0], [12, 14], "offsets stay");
}

/// Offset, key and value of every record.
pub fn keyed(target: &Target, topic: &str) -> Vec<(i64, String, Option<String>)> {
    let reader = target.reader(topic, 0, Offset::Beginning, COMMITTED);
    let mut read = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    target.poll(&reader, "the end", |event| match event {
        Ok(message) => {
            read.push((message.offset(), message.key().map(text).unwrap(), message.payload().map(text)));
            None
        }
        Err(_) => Some(()),
    });
    read
}
