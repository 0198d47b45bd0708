//! Transactions that an administrator ends in a partition, by single requests and by `kafka-transactions`.

use kafka_protocol::error::ResponseError::{self, *};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{DescribeProducersRequest, ProducerId, WriteTxnMarkersRequest};
use pelton_conformance::client::{COMMITTED, UNCOMMITTED};
use pelton_conformance::transaction::TxnClient;
use pelton_conformance::wire::{name, refusal};
use pelton_conformance::{Target, conform};
use rdkafka::consumer::Consumer;

use crate::tools::{TRANSACTIONS, tool};

conform!(
    a_marker_ends_a_transaction_in_one_partition_alone,
    a_marker_of_a_commit_lets_the_records_be_seen,
    a_marker_where_nothing_is_open_takes_an_offset,
    a_marker_of_an_older_epoch_or_coordinator_is_refused,
    a_producer_whose_records_were_aborted_goes_on_and_commits_the_rest,
    a_marker_of_a_newer_epoch_fences_the_producer_in_that_partition,
    kafka_transactions_aborts_by_offset_and_by_producer_and_finds_nothing_hanging,
);

/// Writes a marker to partition 0 of a topic.
fn write(
    target: &Target,
    topic: &str,
    producer: (i64, i16),
    commit: bool,
    coordinator: i32,
) -> Option<ResponseError> {
    let place = WritableTxnMarkerTopic::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_transaction_result(commit)
        .with_topics(vec![place])
        .with_coordinator_epoch(coordinator);
    let response = target.wire().call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]));
    assert_eq!(response.markers[0].producer_id.0, producer.0);
    refusal(response.markers[0].topics[0].partitions[0].error_code)
}

/// What partition 0 of a topic knows of its only producer.
fn producer(target: &Target, topic: &str) -> ProducerState {
    let asked = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let response = target.wire().call(0, &DescribeProducersRequest::default().with_topics(vec![asked]));
    response.topics[0].partitions[0].active_producers[0].clone()
}

fn end(target: &Target, topic: &str) -> i64 {
    target.consumer(&[]).fetch_watermarks(topic, 0, target.patience).unwrap().1
}

/// A client with one record in an open transaction on partition 0 of each topic.
fn open(target: &Target, topics: &[&str]) -> TxnClient {
    let mut client = TxnClient::new(target, "tx");
    for topic in topics {
        assert_eq!(client.add(3, topic, 0), None);
        assert_eq!(client.produce(topic, "open"), Ok(0));
    }
    client
}

fn a_marker_ends_a_transaction_in_one_partition_alone(target: &Target) {
    let (one, other) = (target.topic("one", 1), target.topic("other", 1));
    let client = open(target, &[&one, &other]);
    assert_eq!(producer(target, &one).coordinator_epoch, -1);
    assert_eq!(write(target, &one, (client.producer_id, client.epoch), false, 7), None);
    let after = producer(target, &one);
    assert_eq!((after.coordinator_epoch, after.current_txn_start_offset), (7, -1));
    assert_eq!((after.producer_epoch, after.last_sequence), (i32::from(client.epoch), 0));
    assert_eq!(producer(target, &other).current_txn_start_offset, 0);
    let plain = target.producer(&[]);
    target.send(&plain, &one, 0, &["after"]);
    target.send(&plain, &other, 0, &["after"]);
    assert_eq!(target.values(&one, 0, COMMITTED), ["after"]);
    assert_eq!(target.values(&other, 0, COMMITTED), Vec::<String>::new());
}

fn a_marker_of_a_commit_lets_the_records_be_seen(target: &Target) {
    let topic = target.topic("t", 1);
    let client = open(target, &[&topic]);
    assert_eq!(target.values(&topic, 0, COMMITTED), Vec::<String>::new());
    assert_eq!(write(target, &topic, (client.producer_id, client.epoch), true, 0), None);
    assert_eq!(target.values(&topic, 0, COMMITTED), ["open"]);
}

fn a_marker_where_nothing_is_open_takes_an_offset(target: &Target) {
    let topic = target.topic("t", 1);
    assert_eq!(write(target, &topic, (4_000_000, 3), false, 0), None);
    assert_eq!(end(target, &topic), 1);
    assert_eq!(target.values(&topic, 0, UNCOMMITTED), Vec::<String>::new());
    let nowhere = target.unique("nowhere");
    assert_eq!(write(target, &nowhere, (4_000_000, 3), false, 0), Some(UnknownTopicOrPartition));
}

fn a_marker_of_an_older_epoch_or_coordinator_is_refused(target: &Target) {
    let topic = target.topic("t", 1);
    let id = 4_000_001;
    assert_eq!(write(target, &topic, (id, 3), false, 5), None);
    assert_eq!(write(target, &topic, (id, 2), false, 5), Some(InvalidProducerEpoch));
    assert_eq!(write(target, &topic, (id, 3), false, 4), Some(TransactionCoordinatorFenced));
    assert_eq!(write(target, &topic, (id, 4), true, 4), Some(TransactionCoordinatorFenced));
    assert_eq!(write(target, &topic, (id, 3), true, 5), None, "the same again is written again");
    assert_eq!(end(target, &topic), 2, "what is refused takes no offset");
}

fn a_producer_whose_records_were_aborted_goes_on_and_commits_the_rest(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = open(target, &[&topic]);
    assert_eq!(write(target, &topic, (client.producer_id, client.epoch), false, 0), None);
    assert_eq!(client.produce(&topic, "rest"), Ok(2));
    assert_eq!(client.end(3, true), None);
    target.until("the rest", || (target.values(&topic, 0, COMMITTED) == ["rest"]).then_some(()));
}

fn a_marker_of_a_newer_epoch_fences_the_producer_in_that_partition(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = open(target, &[&topic]);
    assert_eq!(write(target, &topic, (client.producer_id, client.epoch + 1), false, 0), None);
    assert_eq!(client.produce(&topic, "fenced"), Err(InvalidProducerEpoch));
    assert_eq!(target.values(&topic, 0, UNCOMMITTED), ["open"]);
}

fn kafka_transactions_aborts_by_offset_and_by_producer_and_finds_nothing_hanging(target: &Target) {
    let (one, two) = (target.topic("one", 1), target.topic("two", 1));
    let client = open(target, &[&one, &two]);
    let kafka_transactions =
        |arguments: &[&str]| tool(target, TRANSACTIONS, arguments, "").map(|said| said.ok());
    let by_offset = ["abort", "--topic", &one, "--partition", "0", "--start-offset", "0"];
    if kafka_transactions(&by_offset).is_none() {
        return;
    }
    let (id, epoch) = (client.producer_id.to_string(), client.epoch.to_string());
    let by_producer = ["abort", "--topic", &two, "--partition", "0", "--producer-id", &id];
    let by_producer = [&by_producer[..], &["--producer-epoch", &epoch, "--coordinator-epoch", "0"]].concat();
    kafka_transactions(&by_producer);
    for topic in [&one, &two] {
        target.send(&target.producer(&[]), topic, 0, &["after"]);
        assert_eq!(target.values(topic, 0, COMMITTED), ["after"]);
    }
    let hanging = kafka_transactions(&["find-hanging", "--topic", &one, "--partition", "0"]).unwrap();
    assert!(hanging.starts_with("Topic") && hanging.lines().count() == 1, "{hanging}");
}
