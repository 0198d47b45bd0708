//! What is forgotten of producers that nobody heard of for long, and what they are told when they come back.

use kafka_protocol::error::ResponseError::{self, *};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest, InitProducerIdResponse,
};
use pelton_conformance::client::COMMITTED;
use pelton_conformance::transaction::TxnClient;
use pelton_conformance::wire::{Coordinator, Writer, batch, name, now_ms, refusal, text};
use pelton_conformance::{Target, conform};

conform!(
    a_producer_whose_last_record_is_old_is_forgotten_and_goes_on_with_any_sequence,
    a_producer_with_an_open_transaction_is_never_forgotten,
    an_idle_transactional_id_is_forgotten_and_its_owner_told_so,
    an_owner_of_a_forgotten_id_gets_another_producer_id,
    asking_again_for_a_higher_epoch_gives_the_same_one,
);

const DAY_MS: i64 = 24 * 3_600_000;

/// Producer ids that partition 0 of a topic knows.
fn known(target: &Target, topic: &str) -> Vec<i64> {
    let asked = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let response = target.wire().call(0, &DescribeProducersRequest::default().with_topics(vec![asked]));
    response.topics[0].partitions[0].active_producers.iter().map(|producer| producer.producer_id.0).collect()
}

fn a_producer_whose_last_record_is_old_is_forgotten_and_goes_on_with_any_sequence(target: &Target) {
    let topic = target.topic_with("t", 1, &[("retention.ms", "-1")]);
    let request =
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let mut wire = target.wire();
    let given = wire.settled(1, &request, |r: &InitProducerIdResponse| r.error_code);
    let mut produce = |sequence, age_ms| {
        let writer =
            Writer { id: given.producer_id.0, epoch: given.producer_epoch, sequence, transactional: false };
        wire.produce(&topic, 0, None, batch(writer, &["x"], now_ms() - age_ms))
    };
    assert_eq!(produce(0, 0), Ok(0));
    assert_eq!(produce(7, 0), Err(OutOfOrderSequenceNumber));
    assert_eq!(produce(1, 2 * DAY_MS), Ok(1), "the time of its last record counts, not that of the request");
    target.until("the producer is forgotten", || known(target, &topic).is_empty().then_some(()));
    assert_eq!(produce(7, 0), Ok(2), "as the first batch of a producer");
    assert_eq!(produce(0, 0), Err(OutOfOrderSequenceNumber));
    assert_eq!(known(target, &topic), [given.producer_id.0]);
}

fn a_producer_with_an_open_transaction_is_never_forgotten(target: &Target) {
    let (topic, other) = (target.topic_with("t", 1, &[("retention.ms", "-1")]), target.topic("other", 1));
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce_at(&topic, "old", now_ms() - 2 * DAY_MS), Ok(0));
    // When one that came later is forgotten, this one was looked at.
    let plain = Writer { id: 4_100_000, epoch: 0, sequence: 0, transactional: false };
    target.wire().produce(&other, 0, None, batch(plain, &["x"], now_ms() - 2 * DAY_MS)).unwrap();
    target.until("the other is forgotten", || known(target, &other).is_empty().then_some(()));
    assert_eq!(known(target, &topic), [client.producer_id]);
    assert_eq!(client.end(3, true), None);
    target.until("the record", || (target.values(&topic, 0, COMMITTED) == ["old"]).then_some(()));
}

fn describe(target: &Target, id: &str) -> Option<ResponseError> {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(id).into()]);
    refusal(target.wire().call(0, &request).transaction_states[0].error_code)
}

fn wait_until_forgotten(target: &Target, id: &str) {
    target.until("the id is forgotten", || {
        (describe(target, id) == Some(TransactionalIdNotFound)).then_some(())
    });
}

fn an_idle_transactional_id_is_forgotten_and_its_owner_told_so(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("g"));
    target.wire().find_coordinator(Coordinator::Group, &group);
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "kept"), Ok(0));
    assert_eq!(client.end(3, true), None);
    wait_until_forgotten(target, &client.id);
    assert_eq!(client.add(0, &topic, 0), Some(InvalidProducerIdMapping));
    assert_eq!(client.add(3, &topic, 0), Some(InvalidProducerIdMapping));
    assert_eq!(client.add_offsets(3, &group), Some(InvalidProducerIdMapping));
    assert_eq!(client.end(1, true), Some(InvalidProducerIdMapping));
    assert_eq!(client.end(3, false), Some(InvalidProducerIdMapping));
    assert_eq!(client.produce(&topic, "late"), Err(InvalidProducerIdMapping));
    assert_eq!(target.values(&topic, 0, COMMITTED), ["kept"]);
}

fn an_owner_of_a_forgotten_id_gets_another_producer_id(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    // A coordinator that knows nothing of the id, as after it was forgotten.
    client.id = target.unique("other");
    client.wire.find_coordinator(Coordinator::Transaction, &client.id);
    let before = client.producer_id;
    assert_eq!(client.init(4, 60_000), None);
    assert_ne!(client.producer_id, before);
    assert_eq!(client.epoch, 0);
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "new"), Ok(0));
    assert_eq!(client.end(3, true), None);
    target.until("the record", || (target.values(&topic, 0, COMMITTED) == ["new"]).then_some(()));
}

fn asking_again_for_a_higher_epoch_gives_the_same_one(target: &Target) {
    let mut client = TxnClient::new(target, "tx");
    let first = (client.producer_id, client.epoch);
    assert_eq!(client.init(4, 60_000), None);
    let second = (client.producer_id, client.epoch);
    assert_eq!(second, (first.0, first.1 + 1));
    (client.producer_id, client.epoch) = first;
    assert_eq!(client.init(4, 60_000), None, "as a client that got no answer does");
    assert_eq!((client.producer_id, client.epoch), second);
    assert_eq!(client.init(4, 60_000), None);
    assert_eq!(client.epoch, second.1 + 1);
    (client.producer_id, client.epoch) = first;
    assert_eq!(client.init(3, 60_000), Some(InvalidProducerEpoch));
    assert_eq!(client.init(4, 60_000), Some(ProducerFenced));
}
