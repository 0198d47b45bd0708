//! Records, topics, transactions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pelton_broker::server::{Fsync, Options, serve};
use rdkafka::admin::{NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::kit::*;

#[test]
fn records_come_back_with_keys_headers_and_times_for_every_codec() {
    let broker = Broker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        broker.create_topic(codec, 1);
        let producer = broker.producer(&[("compression.codec", codec)]);
        let value = "x".repeat(10_000);
        let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("v") });
        let record = BaseRecord::to(codec).partition(0).key("k").payload(&value);
        let record = record.headers(headers).timestamp(1_700_000_000_123);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
        let consumer = broker.consumer("g", "read_uncommitted");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(codec, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        assert_eq!(message.payload(), Some(value.as_bytes()));
        assert_eq!(message.key(), Some(b"k".as_slice()));
        assert_eq!(message.timestamp().to_millis(), Some(1_700_000_000_123));
        assert_eq!(message.headers().unwrap().get(0), Header { key: "h", value: Some(b"v".as_slice()) });
    }
}

#[test]
fn a_restart_without_shutdown_keeps_records_offsets_metadata_and_topics() {
    let mut broker = Broker::start();
    broker.create_topic("kept", 2);
    let texts: Vec<String> = (0..500).map(|i| format!("{i:0>400}")).collect(); // several segments
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    send(&broker.producer(&[("batch.num.messages", "10")]), "kept", 1, &texts);
    commit(&broker.consumer("g", "read_committed"), "kept", 1, 123, "p1:state");
    broker.restart();
    assert_eq!(values(&broker.read("kept", 1, 0, "read_committed")), texts);
    assert_eq!(values(&broker.read("kept", 1, 321, "read_committed")), texts[321..]);
    assert_eq!(values(&broker.read("kept", 0, 0, "read_committed")), Vec::<&str>::new());
    let consumer = broker.consumer("g", "read_committed");
    assert_eq!(committed(&consumer, "kept", 1), (Offset::Offset(123), "p1:state".to_owned()));
    assert_eq!(committed(&consumer, "kept", 0).0, Offset::Invalid);
    send(&broker.producer(&[]), "kept", 1, &["after"]);
    assert_eq!(broker.read("kept", 1, 500, "read_committed"), [(500, "after".to_owned())]);
}

#[test]
fn an_idempotent_producer_goes_on_across_a_restart() {
    let mut broker = Broker::start();
    let port = broker.running.as_ref().unwrap().addr().port();
    broker.create_topic("t", 1);
    let producer = broker.producer(&[("enable.idempotence", "true")]);
    send(&producer, "t", 0, &["a", "b"]);
    broker.restart_on(port);
    send(&producer, "t", 0, &["c"]);
    assert_eq!(values(&broker.read("t", 0, 0, "read_committed")), ["a", "b", "c"]);
}

#[test]
fn only_committed_transactions_are_seen_by_readers_of_committed_records() {
    let mut broker = Broker::start();
    broker.create_topic("t", 1);
    let producer = broker.transactional("tx");
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, &["aborted"]);
    producer.abort_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, &["committed"]);
    producer.commit_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, &["open"]);
    for _ in 0..2 {
        assert_eq!(values(&broker.read("t", 0, 0, "read_committed")), ["committed"]);
        let all = ["aborted", "committed", "open"];
        assert_eq!(values(&broker.read("t", 0, 0, "read_uncommitted")), all);
        broker.restart();
    }
    // The next owner of the id ends the open transaction, and the stable end moves on.
    let _heir = broker.transactional("tx");
    send(&broker.producer(&[]), "t", 0, &["later"]);
    assert_eq!(values(&broker.read("t", 0, 0, "read_committed")), ["committed", "later"]);
}

#[test]
fn offsets_of_a_transaction_count_when_it_commits() {
    let broker = Broker::start();
    broker.create_topic("in", 1);
    broker.create_topic("out", 1);
    send(&broker.producer(&[]), "in", 0, &["a", "b", "c", "d", "e"]);
    let consumer = broker.consumer("g", "read_committed");
    let producer = broker.transactional("tx");
    let send_offset = |offset, metadata: &str| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("in", 0, Offset::Offset(offset)).unwrap();
        list.find_partition("in", 0).unwrap().set_metadata(metadata);
        let group = consumer.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&list, &group, PATIENCE).unwrap();
    };
    producer.begin_transaction().unwrap();
    send(&producer, "out", 0, &["A"]);
    send_offset(1, "first");
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&consumer, "in", 0), (Offset::Offset(1), "first".to_owned()));
    producer.begin_transaction().unwrap();
    send_offset(2, "second");
    producer.abort_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&consumer, "in", 0), (Offset::Offset(1), "first".to_owned()));
}

#[test]
fn a_second_producer_with_the_same_id_fences_the_first() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let first = broker.transactional("tx");
    first.begin_transaction().unwrap();
    send(&first, "t", 0, &["from the first"]);
    let second = broker.transactional("tx");
    let error = first.commit_transaction(PATIENCE).unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fenced), "{error}");
    second.begin_transaction().unwrap();
    send(&second, "t", 0, &["from the second"]);
    second.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&broker.read("t", 0, 0, "read_committed")), ["from the second"]);
}

#[test]
fn topics_are_created_grown_described_and_deleted() {
    let mut broker = Broker::start();
    broker.create_topic("t", 2);
    let admin = broker.admin();
    let again = NewTopic::new("t", 2, TopicReplication::Fixed(1));
    let created = block_on(admin.create_topics([&again], &admin_options())).unwrap();
    assert_eq!(created, [Err(("t".to_owned(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let bad = NewTopic::new("no blanks", 1, TopicReplication::Fixed(1));
    let created = block_on(admin.create_topics([&bad], &admin_options())).unwrap();
    assert_eq!(created, [Err(("no blanks".to_owned(), RDKafkaErrorCode::InvalidTopic))]);
    block_on(admin.create_partitions([&NewPartitions::new("t", 5)], &admin_options())).unwrap()[0]
        .as_ref()
        .unwrap();
    let config =
        block_on(admin.describe_configs([&rdkafka::admin::ResourceSpecifier::Topic("t")], &admin_options()));
    let config = config.unwrap().remove(0).unwrap();
    assert_eq!(config.get("message.timestamp.type").unwrap().value.as_deref(), Some("CreateTime"));
    send(&broker.producer(&[]), "t", 4, &["x"]);
    commit(&broker.consumer("g", "read_committed"), "t", 4, 1, "");
    broker.restart();
    let metadata = broker.consumer("g", "read_committed").fetch_metadata(Some("t"), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 5);
    block_on(broker.admin().delete_topics(&["t"], &admin_options())).unwrap()[0].as_ref().unwrap();
    broker.create_topic("t", 5);
    assert_eq!(broker.read("t", 4, 0, "read_committed"), []);
    assert_eq!(committed(&broker.consumer("g", "read_committed"), "t", 4).0, Offset::Invalid);
}

#[test]
fn an_unknown_topic_is_created_when_a_producer_asks() {
    let broker = Broker::start();
    send(&broker.producer(&[]), "automatic", 2, &["x"]);
    assert_eq!(values(&broker.read("automatic", 2, 0, "read_committed")), ["x"]);
}

#[test]
fn offsets_are_found_by_time() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let producer = broker.producer(&[("compression.codec", "none")]);
    for time in [1000, 2000, 3000, 4000] {
        let record = BaseRecord::to("t").partition(0).key("").payload("x").timestamp(time);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let consumer = broker.consumer("g", "read_committed");
    for (time, offset) in [
        (0, Offset::Offset(0)),
        (2000, Offset::Offset(1)),
        (2500, Offset::Offset(2)),
        (4000, Offset::Offset(3)),
        (4001, Offset::End),
    ] {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Offset(time)).unwrap();
        let found = consumer.offsets_for_times(list, PATIENCE).unwrap();
        assert_eq!(found.find_partition("t", 0).unwrap().offset(), offset, "for time {time}");
    }
    assert_eq!(consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(), (0, 4));
}

#[test]
fn a_topic_can_stamp_records_with_the_time_of_the_broker() {
    let broker = Broker::start();
    let topic = NewTopic::new("stamped", 1, TopicReplication::Fixed(1))
        .set("message.timestamp.type", "LogAppendTime");
    block_on(broker.admin().create_topics([&topic], &admin_options())).unwrap()[0].as_ref().unwrap();
    let producer = broker.producer(&[("compression.codec", "lz4")]);
    let record = BaseRecord::to("stamped").partition(0).key("k").payload("x").timestamp(5);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    let consumer = broker.consumer("g", "read_committed");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("stamped", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let message = consumer.poll(PATIENCE).unwrap().unwrap();
    let rdkafka::Timestamp::LogAppendTime(time) = message.timestamp() else {
        panic!("{:?}", message.timestamp())
    };
    assert!(time > 1_700_000_000_000, "{time}");
}

#[test]
fn groups_with_offsets_are_listed_as_empty() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    for group in ["one", "two"] {
        commit(&broker.consumer(group, "read_committed"), "t", 0, 0, "");
    }
    let consumer = broker.consumer("other", "read_committed");
    let groups = consumer.fetch_group_list(None, PATIENCE).unwrap();
    let names: BTreeSet<_> = groups.groups().iter().map(|group| (group.name(), group.state())).collect();
    assert_eq!(names, BTreeSet::from([("one", "Empty"), ("two", "Empty")]));
}

#[test]
fn a_waiting_fetch_is_answered_when_a_record_arrives() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let mut config = broker.config();
    // A fetch that is not woken would come back only after this.
    config.set("group.id", "g").set("fetch.wait.max.ms", "50000").set("socket.timeout.ms", "60000");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let producer = broker.producer(&[]);
    for value in ["one", "two", "three"] {
        assert!(consumer.poll(Duration::from_millis(50)).is_none());
        send(&producer, "t", 0, &[value]);
        let message = consumer.poll(PATIENCE).expect("woken").unwrap();
        assert_eq!(message.payload(), Some(value.as_bytes()));
    }
}

#[test]
fn acks_0_gets_no_answer_and_stores() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let producer = broker.producer(&[("acks", "0")]);
    send(&producer, "t", 0, &["a"]);
    send(&producer, "t", 0, &["b"]);
    let deadline = Instant::now() + PATIENCE;
    while values(&broker.read("t", 0, 0, "read_committed")) != ["a", "b"] {
        assert!(Instant::now() < deadline, "records sent without acknowledgement did not arrive");
    }
}

#[test]
fn records_and_transactions_come_through_when_everything_is_synced_before_it_is_acknowledged() {
    let mut broker = Broker::start();
    drop(broker.running.take());
    let fsync = "always".parse().unwrap();
    broker.running = Some(serve(Options { fsync, ..broker.options() }).unwrap());
    broker.create_topic("t", 1);
    send(&broker.producer(&[]), "t", 0, &["plain"]);
    let producer = broker.transactional("tx");
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, &["committed"]);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&broker.read("t", 0, 0, "read_committed")), ["plain", "committed"]);
    assert_eq!(
        "sometimes".parse::<Fsync>(),
        Err("fsync is \"sometimes\"; use always, interval or never".to_owned())
    );
}
