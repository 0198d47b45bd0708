//! Transactions: what is seen of them, who may go on with them, and what becomes of those nobody ends.

use kafka_protocol::error::ResponseError::{self, *};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    BrokerId, DescribeProducersRequest, DescribeTransactionsRequest, ListOffsetsRequest,
    ListTransactionsRequest, OffsetFetchRequest, ProducerId,
};
use pelton_conformance::client::{COMMITTED, UNCOMMITTED, position};
use pelton_conformance::transaction::TxnClient;
use pelton_conformance::wire::{Coordinator, name, refusal, text};
use pelton_conformance::{Target, conform};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;

conform!(
    only_committed_records_are_seen_by_a_reader_of_committed_ones,
    aborted_ranges_of_several_producers_are_passed_over,
    an_open_transaction_holds_back_what_follows_it,
    control_batches_take_an_offset_and_are_never_shown,
    an_empty_transaction_commits_and_aborts,
    offsets_of_a_transaction_count_when_it_commits,
    offsets_of_a_member_count_when_its_transaction_commits,
    offsets_of_a_stale_generation_are_refused,
    offsets_in_an_open_transaction_are_unstable_for_who_asks,
    requests_that_do_not_fit_the_transaction_are_refused,
    offsets_of_the_group_without_a_name_are_accepted,
    records_outside_the_transaction_are_refused,
    ending_again_the_same_way_is_repeated_and_the_other_way_refused,
    an_unended_transaction_is_aborted_after_its_time,
    a_time_limit_beyond_the_brokers_is_refused,
    open_transactions_are_listed_and_described,
    producers_of_a_partition_are_described,
);

fn only_committed_records_are_seen_by_a_reader_of_committed_ones(target: &Target) {
    let topic = target.topic("t", 1);
    let producer = target.transactional("tx");
    producer.begin_transaction().unwrap();
    target.send(&producer, &topic, 0, &["aborted"]);
    producer.abort_transaction(target.patience).unwrap();
    producer.begin_transaction().unwrap();
    target.send(&producer, &topic, 0, &["committed"]);
    producer.commit_transaction(target.patience).unwrap();
    let both = ["aborted", "committed"];
    // The client's abort comes back before its marker is written: look again.
    target.until("the end of both", || (target.values(&topic, 0, COMMITTED) == both[1..]).then_some(()));
    assert_eq!(target.values(&topic, 0, UNCOMMITTED), both);
}

fn aborted_ranges_of_several_producers_are_passed_over(target: &Target) {
    let topic = target.topic("t", 1);
    let producers: Vec<_> = (0..3).map(|n| target.transactional(&format!("tx{n}"))).collect();
    let plain = target.producer(&[]);
    let mut expected = Vec::new();
    for round in 0..4 {
        for (n, producer) in producers.iter().enumerate() {
            producer.begin_transaction().unwrap();
            target.send(producer, &topic, 0, &[&format!("{round}/{n}/first")]);
        }
        target.send(&plain, &topic, 0, &[&format!("{round}/plain")]);
        for (n, producer) in producers.iter().enumerate() {
            target.send(producer, &topic, 0, &[&format!("{round}/{n}/second")]);
            if (round + n).is_multiple_of(2) {
                producer.commit_transaction(target.patience).unwrap();
            } else {
                producer.abort_transaction(target.patience).unwrap();
            }
        }
        let committed = |n: &usize| (round + n).is_multiple_of(2);
        expected.extend((0..3).filter(committed).map(|n| format!("{round}/{n}/first")));
        expected.push(format!("{round}/plain"));
        expected.extend((0..3).filter(committed).map(|n| format!("{round}/{n}/second")));
    }
    let read = target.until("the last transaction is over", || {
        let read = target.values(&topic, 0, COMMITTED);
        (read.len() >= expected.len()).then_some(read)
    });
    assert_eq!(read, expected);
    assert_eq!(target.values(&topic, 0, UNCOMMITTED).len(), 4 * 7);
    // From the middle of an aborted range, the rest of it is aborted too.
    let all = target.read(&topic, 0, 0, UNCOMMITTED);
    let (middle, _) = all.iter().find(|(_, value)| value == "0/1/second").unwrap();
    assert_eq!(target.read(&topic, 0, *middle, COMMITTED)[0].1, "0/2/second");
}

/// End of a partition as one isolation level sees it.
pub fn end(target: &Target, topic: &str, isolation: i8) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_isolation_level(isolation);
    target.wire().call(4, &request.with_topics(vec![asked])).topics[0].partitions[0].offset
}

fn an_open_transaction_holds_back_what_follows_it(target: &Target) {
    let topic = target.topic("t", 1);
    let plain = target.producer(&[]);
    target.send(&plain, &topic, 0, &["before"]);
    let producer = target.transactional("tx");
    producer.begin_transaction().unwrap();
    target.send(&producer, &topic, 0, &["open"]);
    target.send(&plain, &topic, 0, &["after"]);
    assert_eq!(target.values(&topic, 0, COMMITTED), ["before"]);
    assert_eq!(target.values(&topic, 0, UNCOMMITTED), ["before", "open", "after"]);
    assert_eq!((end(target, &topic, 0), end(target, &topic, 1)), (3, 1), "last stable offset");
    producer.commit_transaction(target.patience).unwrap();
    target.until("the stable end moves on", || (end(target, &topic, 1) == 4).then_some(()));
    assert_eq!(target.values(&topic, 0, COMMITTED), ["before", "open", "after"]);
}

fn control_batches_take_an_offset_and_are_never_shown(target: &Target) {
    let topic = target.topic("t", 2);
    let producer = target.transactional("tx");
    for value in ["a", "b"] {
        producer.begin_transaction().unwrap();
        target.send(&producer, &topic, 0, &[value]);
        producer.commit_transaction(target.patience).unwrap();
    }
    target.until("the last marker", || (end(target, &topic, 1) == 4).then_some(()));
    let expected = [(0, "a".to_owned()), (2, "b".to_owned())];
    assert_eq!(target.read(&topic, 0, 0, COMMITTED), expected);
    assert_eq!(target.read(&topic, 0, 0, UNCOMMITTED), expected);
    assert_eq!(end(target, &topic, 0), 4);
    let other = target.consumer(&[]).fetch_watermarks(&topic, 1, target.patience).unwrap();
    assert_eq!(other, (0, 0), "no marker where nothing was written");
}

fn an_empty_transaction_commits_and_aborts(target: &Target) {
    let producer = target.transactional("tx");
    producer.begin_transaction().unwrap();
    producer.commit_transaction(target.patience).unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction(target.patience).unwrap();
}

fn offsets_of_a_transaction_count_when_it_commits(target: &Target) {
    let (topic, out) = (target.topic("in", 1), target.topic("out", 1));
    let consumer = target.consumer(&[]);
    let producer = target.transactional("tx");
    let send = |offset, metadata: &str| {
        let group = consumer.group_metadata().unwrap();
        let list = position(&topic, 0, offset, metadata);
        producer.send_offsets_to_transaction(&list, &group, target.patience).unwrap();
    };
    producer.begin_transaction().unwrap();
    target.send(&producer, &out, 0, &["A"]);
    send(1, "first");
    producer.commit_transaction(target.patience).unwrap();
    let first = (Offset::Offset(1), "first".to_owned());
    assert_eq!(target.committed(&consumer, &topic, 0), first);
    producer.begin_transaction().unwrap();
    send(2, "second");
    producer.abort_transaction(target.patience).unwrap();
    assert_eq!(target.committed(&consumer, &topic, 0), first);
    producer.begin_transaction().unwrap();
    send(3, "third");
    send(4, "fourth");
    producer.commit_transaction(target.patience).unwrap();
    assert_eq!(target.committed(&consumer, &topic, 0), (Offset::Offset(4), "fourth".to_owned()));
}

fn offsets_of_a_member_count_when_its_transaction_commits(target: &Target) {
    let topic = target.topic("in", 1);
    target.send(&target.producer(&[]), &topic, 0, &["a"]);
    let consumer = target.consumer(&[("auto.offset.reset", "earliest")]);
    consumer.subscribe(&[&topic]).unwrap();
    target.poll(&consumer, "a record", |event| event.ok().map(drop));
    let producer = target.transactional("tx");
    producer.begin_transaction().unwrap();
    let group = consumer.group_metadata().unwrap();
    producer.send_offsets_to_transaction(&position(&topic, 0, 1, "m"), &group, target.patience).unwrap();
    producer.commit_transaction(target.patience).unwrap();
    assert_eq!(target.committed(&consumer, &topic, 0), (Offset::Offset(1), "m".to_owned()));
}

/// Outside any membership.
pub const NOBODY: (&str, i32) = ("", -1);

fn offsets_of_a_stale_generation_are_refused(target: &Target) {
    let topic = target.topic("in", 1);
    let group = target.unique("members");
    let consumer = target.consumer(&[("auto.offset.reset", "earliest"), ("group.id", &group)]);
    target.send(&target.producer(&[]), &topic, 0, &["a"]);
    consumer.subscribe(&[&topic]).unwrap();
    target.poll(&consumer, "a record", |event| event.ok().map(drop));
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.add_offsets(3, &group), None);
    assert_eq!(client.offsets(3, &group, ("nobody", 1), &topic, 1), Some(UnknownMemberId));
    let listed = consumer.fetch_group_list(Some(&group), target.patience).unwrap();
    let member = listed.groups()[0].members()[0].id().to_owned();
    assert_eq!(client.offsets(3, &group, (&member, 1_000_000), &topic, 1), Some(IllegalGeneration));
    assert_eq!(client.end(3, false), None);
}

pub fn fetch_offset(
    target: &Target,
    group: &str,
    topic: &str,
    require_stable: bool,
) -> Result<i64, ResponseError> {
    let topic = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(text(group).into())
        .with_topics(Some(vec![topic]))
        .with_require_stable(require_stable);
    let response = target.wire().call(7, &request);
    assert_eq!(refusal(response.error_code), None);
    let answer = &response.topics[0].partitions[0];
    refusal(answer.error_code).map_or(Ok(answer.committed_offset), Err)
}

fn offsets_in_an_open_transaction_are_unstable_for_who_asks(target: &Target) {
    let (topic, group) = (target.topic("in", 1), target.unique("g"));
    let mut client = TxnClient::new(target, "tx");
    target.wire().find_coordinator(Coordinator::Group, &group);
    assert_eq!(client.add_offsets(3, &group), None);
    assert_eq!(client.offsets(2, &group, NOBODY, &topic, 5), None);
    assert_eq!(fetch_offset(target, &group, &topic, true), Err(UnstableOffsetCommit));
    assert_eq!(fetch_offset(target, &group, &topic, false), Ok(-1));
    assert_eq!(client.end(3, true), None);
    target.until("the offset counts", || (fetch_offset(target, &group, &topic, true) == Ok(5)).then_some(()));
}

fn requests_that_do_not_fit_the_transaction_are_refused(target: &Target) {
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.end(3, true), Some(InvalidTxnState), "nothing was begun");
    assert_eq!(client.end(3, false), Some(InvalidTxnState), "nothing was begun");
    assert_eq!(client.add(3, &target.unique("nowhere"), 0), Some(UnknownTopicOrPartition));
}

fn offsets_of_the_group_without_a_name_are_accepted(target: &Target) {
    let mut client = TxnClient::new(target, "tx");
    target.wire().find_coordinator(Coordinator::Group, "");
    assert_eq!(client.add_offsets(3, ""), None);
    assert_eq!(client.end(3, true), None);
}

fn records_outside_the_transaction_are_refused(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.produce(&topic, "never added"), Err(InvalidTxnState));
    assert_eq!(target.values(&topic, 0, UNCOMMITTED), Vec::<String>::new());
}

fn ending_again_the_same_way_is_repeated_and_the_other_way_refused(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    for commit in [true, false] {
        assert_eq!(client.add(3, &topic, 0), None);
        assert_eq!(client.end(3, commit), None);
        assert_eq!(client.end(3, commit), None, "as a client that got no answer does");
        assert_eq!(client.end(3, !commit), Some(InvalidTxnState));
    }
}

fn an_unended_transaction_is_aborted_after_its_time(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.init(1, 1000), None);
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "never ended"), Ok(0));
    target.until("the abort", || (end(target, &topic, 1) == 2).then_some(()));
    assert_eq!(target.values(&topic, 0, COMMITTED), Vec::<String>::new());
    // Its owner is fenced, and gets a new epoch when it asks.
    assert_eq!(client.end(3, true), Some(ProducerFenced));
    assert_eq!(client.produce(&topic, "late"), Err(InvalidProducerEpoch));
    assert_eq!(client.init(1, 60_000), None);
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "in time"), Ok(2));
    assert_eq!(client.end(3, true), None);
    target.until("the record", || (target.values(&topic, 0, COMMITTED) == ["in time"]).then_some(()));
}

fn a_time_limit_beyond_the_brokers_is_refused(target: &Target) {
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.init(1, i32::MAX), Some(InvalidTransactionTimeout));
    assert_eq!(client.init(1, 0), Some(InvalidTransactionTimeout));
}

fn open_transactions_are_listed_and_described(target: &Target) {
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.add(3, &topic, 0), None);
    let filters = ListTransactionsRequest::default().with_state_filters(vec![text("Ongoing")]);
    let listed = target.wire().call(0, &filters);
    let found =
        listed.transaction_states.iter().find(|txn| txn.transactional_id.as_str() == client.id).unwrap();
    assert_eq!((found.producer_id.0, found.transaction_state.as_str()), (client.producer_id, "Ongoing"));
    let unknown = target.unique("unknown");
    let asked = vec![text(&client.id).into(), text(&unknown).into()];
    let described =
        target.wire().call(0, &DescribeTransactionsRequest::default().with_transactional_ids(asked));
    let by_id = |id: &str| {
        described.transaction_states.iter().find(|txn| txn.transactional_id.as_str() == id).unwrap()
    };
    let open = by_id(&client.id);
    assert_eq!((refusal(open.error_code), open.transaction_state.as_str()), (None, "Ongoing"));
    assert_eq!((open.producer_id.0, open.producer_epoch), (client.producer_id, client.epoch));
    assert_eq!(open.transaction_timeout_ms, 60_000);
    assert_eq!((open.topics[0].topic.as_str(), &open.topics[0].partitions[..]), (topic.as_str(), &[0][..]));
    assert_eq!(refusal(by_id(&unknown).error_code), Some(TransactionalIdNotFound));
    assert_eq!(client.end(3, true), None);
    target.until("the end", || {
        let asked = vec![text(&client.id).into()];
        let described =
            target.wire().call(0, &DescribeTransactionsRequest::default().with_transactional_ids(asked));
        (described.transaction_states[0].transaction_state.as_str() == "CompleteCommit").then_some(())
    });
}

fn producers_of_a_partition_are_described(target: &Target) {
    use kafka_protocol::messages::describe_producers_request::TopicRequest;
    let topic = target.topic("t", 1);
    let mut client = TxnClient::new(target, "tx");
    assert_eq!(client.add(3, &topic, 0), None);
    assert_eq!(client.produce(&topic, "a"), Ok(0));
    assert_eq!(client.produce(&topic, "b"), Ok(1));
    let asked = TopicRequest::default().with_name(name(&topic)).with_partition_indexes(vec![0]);
    let response = target.wire().call(0, &DescribeProducersRequest::default().with_topics(vec![asked]));
    let partition = &response.topics[0].partitions[0];
    assert_eq!(refusal(partition.error_code), None);
    let producer = &partition.active_producers[0];
    assert_eq!(producer.producer_id, ProducerId(client.producer_id));
    assert_eq!(producer.producer_epoch, i32::from(client.epoch));
    assert_eq!((producer.last_sequence, producer.current_txn_start_offset), (1, 0));
    assert_eq!(client.end(3, false), None);
}
