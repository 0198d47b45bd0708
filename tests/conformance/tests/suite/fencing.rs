//! Who owns a transactional id, and what becomes of who owned it before.

use kafka_protocol::error::ResponseError::*;
use kafka_protocol::messages::{DescribeTransactionsRequest, InitProducerIdRequest};
use pelton_conformance::client::COMMITTED;
use pelton_conformance::transaction::TxnClient;
use pelton_conformance::wire::{Coordinator, refusal, text};
use pelton_conformance::{Target, conform};
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;

use crate::transactions::{NOBODY, end, fetch_offset};

conform!(
    a_second_producer_of_an_id_fences_the_first,
    a_fenced_producer_is_told_so_in_the_words_of_each_version,
    a_second_producer_aborts_what_the_first_left_open,
    an_unknown_producer_is_refused,
    a_producer_may_bump_its_own_epoch,
    a_new_owner_is_told_of_the_old_transaction_and_asks_again_until_that_is_aborted,
    an_owner_whose_transaction_was_aborted_for_its_time_goes_on_with_the_next_epoch,
    an_owner_that_was_about_to_be_fenced_may_raise_its_epoch_and_is_fenced_then,
);

fn a_second_producer_of_an_id_fences_the_first(target: &Target) {
    let topic = target.topic("t", 1);
    let first = target.transactional("tx");
    first.begin_transaction().unwrap();
    target.send(&first, &topic, 0, &["from the first"]);
    let second = target.transactional("tx");
    let error = first.commit_transaction(target.patience).unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fenced), "{error}");
    second.begin_transaction().unwrap();
    target.send(&second, &topic, 0, &["from the second"]);
    second.commit_transaction(target.patience).unwrap();
    target.until("the second's record", || {
        (target.values(&topic, 0, COMMITTED) == ["from the second"]).then_some(())
    });
}

fn a_fenced_producer_is_told_so_in_the_words_of_each_version(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("g"));
    target.wire().find_coordinator(Coordinator::Group, &group);
    let mut old = TxnClient::new(target, "tx");
    assert_eq!(old.add(2, &topic, 0), None);
    assert_eq!(old.add_offsets(2, &group), None);
    assert_eq!(old.produce(&topic, "x"), Ok(0));
    assert_eq!(old.offsets(2, &group, NOBODY, &topic, 1), None);
    let new = TxnClient::new(target, "tx");
    assert_eq!(new.producer_id, old.producer_id);
    assert!(new.epoch > old.epoch);
    // The abort of the old transaction, in the name of a newer epoch, is written to all places.
    target.until("the old transaction is aborted", || (end(target, &topic, 1) == 2).then_some(()));
    assert_eq!(old.add(1, &topic, 0), Some(InvalidProducerEpoch));
    assert_eq!(old.add(2, &topic, 0), Some(ProducerFenced));
    assert_eq!(old.add_offsets(1, &group), Some(InvalidProducerEpoch));
    assert_eq!(old.add_offsets(2, &group), Some(ProducerFenced));
    assert_eq!(old.end(1, true), Some(InvalidProducerEpoch));
    assert_eq!(old.end(2, true), Some(ProducerFenced));
    assert_eq!(old.init(3, 60_000), Some(InvalidProducerEpoch));
    assert_eq!(old.init(4, 60_000), Some(ProducerFenced));
    assert_eq!(old.produce(&topic, "x"), Err(InvalidProducerEpoch));
    assert_eq!(old.offsets(2, &group, NOBODY, &topic, 1), Some(InvalidProducerEpoch));
}

fn a_second_producer_aborts_what_the_first_left_open(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("g"));
    target.wire().find_coordinator(Coordinator::Group, &group);
    let mut first = TxnClient::new(target, "tx");
    assert_eq!(first.add(3, &topic, 0), None);
    assert_eq!(first.produce(&topic, "left"), Ok(0));
    assert_eq!(first.add_offsets(3, &group), None);
    assert_eq!(first.offsets(2, &group, NOBODY, &topic, 9), None);
    let _second = TxnClient::new(target, "tx");
    // Its marker is written before the second got its answer, or soon after.
    target.until("the marker", || (end(target, &topic, 1) == 2).then_some(()));
    assert_eq!(target.values(&topic, 0, COMMITTED), Vec::<String>::new());
    target.until("the offset is dropped", || {
        (fetch_offset(target, &group, &topic, true) == Ok(-1)).then_some(())
    });
}

fn an_unknown_producer_is_refused(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    let right = (client.id.clone(), client.producer_id);
    client.producer_id += 1_000_000;
    assert_eq!(client.add(3, &topic, 0), Some(InvalidProducerIdMapping));
    assert_eq!(client.end(3, true), Some(InvalidProducerIdMapping));
    (client.id, client.producer_id) = (target.unique("other"), right.1);
    client.wire.find_coordinator(Coordinator::Transaction, &client.id);
    assert_eq!(client.add(3, &topic, 0), Some(InvalidProducerIdMapping));
    client.id.clear();
    assert_eq!(client.init(1, 60_000), Some(InvalidRequest), "an empty id");
}

fn a_producer_may_bump_its_own_epoch(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    let first = client.epoch;
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "aborted by the bump"), Ok(0));
    assert_eq!(client.init(4, 60_000), None);
    assert!(client.epoch > first);
    target.until("the marker", || (end(target, &topic, 1) == 2).then_some(()));
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "kept"), Ok(2));
    assert_eq!(client.end(3, true), None);
    target.until("the end", || (end(target, &topic, 1) == 4).then_some(()));
    assert_eq!(target.values(&topic, 0, COMMITTED), ["kept"]);
}

fn a_new_owner_is_told_of_the_old_transaction_and_asks_again_until_that_is_aborted(target: &Target) {
    let topic = target.topic("t", 1);
    let mut old = TxnClient::new(target, "tx");
    assert_eq!(old.add(3, &topic, 0), None);
    assert_eq!(old.produce(&topic, "left"), Ok(0));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(text(&old.id).into()))
        .with_transaction_timeout_ms(60_000);
    let mut wire = target.wire();
    let answers = std::iter::repeat_with(|| refusal(wire.call(1, &request).error_code));
    let refused = answers.take_while(Option::is_some).map(|refused| {
        assert_eq!(refused, Some(ConcurrentTransactions));
        std::thread::sleep(std::time::Duration::from_millis(20));
    });
    assert!(refused.count() > 0, "the old one has to be aborted first");
    let asked = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(&old.id).into()]);
    let state = target.wire().call(0, &asked).transaction_states[0].transaction_state.to_string();
    assert_eq!(state, "Empty");
    assert_eq!(end(target, &topic, 0), 2);
    assert_eq!(target.values(&topic, 0, COMMITTED), Vec::<String>::new());
}

fn an_owner_whose_transaction_was_aborted_for_its_time_goes_on_with_the_next_epoch(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.init(1, 1000), None);
    let before = (client.producer_id, client.epoch);
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "never ended"), Ok(0));
    target.until("the abort", || (end(target, &topic, 1) == 2).then_some(()));
    assert_eq!(client.end(3, true), Some(ProducerFenced));
    for _ in 0..2 {
        (client.producer_id, client.epoch) = before;
        assert_eq!(client.init(4, 60_000), None);
        assert_eq!((client.producer_id, client.epoch), (before.0, before.1 + 1), "the abort raised it");
    }
    assert_eq!(client.end(3, false), Some(InvalidTxnState), "nothing is open");
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "in time"), Ok(2));
    assert_eq!(client.end(3, true), None);
    target.until("the record", || (target.values(&topic, 0, COMMITTED) == ["in time"]).then_some(()));
}

fn an_owner_that_was_about_to_be_fenced_may_raise_its_epoch_and_is_fenced_then(target: &Target) {
    let topic = target.topic("t", 1);
    let mut old = TxnClient::new(target, "tx");
    assert_eq!(old.add(3, &topic, 0), None);
    assert_eq!(old.produce(&topic, "left"), Ok(0));
    let (id, first) = (old.producer_id, old.epoch);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(text(&old.id).into()))
        .with_transaction_timeout_ms(60_000);
    let asked = target.wire().call(1, &request);
    assert_eq!(refusal(asked.error_code), Some(ConcurrentTransactions));
    target.until("the abort", || (end(target, &topic, 1) == 2).then_some(()));
    assert_eq!(old.init(4, 60_000), None);
    assert_eq!((old.producer_id, old.epoch), (id, first + 1));
    let new = target.wire().call(1, &request);
    assert_eq!((refusal(new.error_code), new.producer_id.0, new.producer_epoch), (None, id, first + 2));
    assert_eq!(old.init(4, 60_000), Some(ProducerFenced));
}
