//! Offsets: of records by time, and of groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeGroupsRequest, ListOffsetsRequest, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteRequest,
};
use pelton_conformance::client::position;
use pelton_conformance::wire::{Coordinator, Wire, Writer, batch, name, now_ms, refusal, text};
use pelton_conformance::{Target, conform};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

conform!(
    watermarks_are_the_first_offset_and_the_one_after_the_last,
    the_first_record_at_or_after_a_time_is_found_exactly_inside_a_batch,
    the_same_inside_a_compressed_batch,
    the_record_with_the_latest_time_is_found,
    a_committed_offset_comes_back_with_its_metadata,
    a_partition_without_commit_has_no_offset,
    offsets_of_groups_are_apart,
    metadata_longer_than_allowed_is_refused,
    an_offset_of_an_unknown_partition_is_refused,
    an_offset_is_deleted_alone,
    a_list_of_all_offsets_of_a_group_has_every_topic,
    an_offset_of_a_group_without_members_is_forgotten_after_its_time_and_the_group_too,
    an_offset_of_a_topic_that_members_read_is_kept_and_others_forgotten,
);

fn watermarks_are_the_first_offset_and_the_one_after_the_last(target: &Target) {
    let topic = target.topic("marks", 2);
    let consumer = target.consumer(&[]);
    target.send(&target.producer(&[]), &topic, 1, &["a", "b", "c"]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, target.patience).unwrap(), (0, 0));
    assert_eq!(consumer.fetch_watermarks(&topic, 1, target.patience).unwrap(), (0, 3));
}

fn the_first_record_at_or_after_a_time_is_found_exactly_inside_a_batch(target: &Target) {
    find_by_time(target, &["none"]);
}

fn the_same_inside_a_compressed_batch(target: &Target) {
    find_by_time(target, &["gzip", "snappy", "lz4", "zstd"]);
}

fn find_by_time(target: &Target, codecs: &[&str]) {
    for codec in codecs {
        let topic = target.topic(codec, 1);
        let producer = target.producer(&[("compression.codec", *codec), ("linger.ms", "200")]);
        let base = now_ms() - 100_000;
        for at in [1000, 2000, 3000, 4000] {
            let record =
                BaseRecord::to(&topic).partition(0).key("").payload("xxxxxxxxxxxxxxxx").timestamp(base + at);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        target.flush(&producer);
        let consumer = target.consumer(&[]);
        let find = |time| {
            let list = consumer.offsets_for_times(position(&topic, 0, time, ""), target.patience).unwrap();
            list.find_partition(&topic, 0).unwrap().offset()
        };
        assert_eq!(find(0), Offset::Offset(0), "{codec}");
        assert_eq!(find(base + 2000), Offset::Offset(1), "{codec}");
        assert_eq!(find(base + 2001), Offset::Offset(2), "{codec}");
        assert_eq!(find(base + 4000), Offset::Offset(3), "{codec}");
        assert_eq!(find(base + 4001), Offset::End, "{codec}");
    }
}

fn list_offset(wire: &mut Wire, version: i16, topic: &str, timestamp: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let response = wire.call(version, &request);
    let answer = &response.topics[0].partitions[0];
    assert_eq!(refusal(answer.error_code), None);
    (answer.offset, answer.timestamp)
}

fn the_record_with_the_latest_time_is_found(target: &Target) {
    const LATEST_TIME: i64 = -3;
    let topic = target.topic("latest", 1);
    let mut wire = target.wire();
    let now = now_ms();
    for time in [now - 2000, now - 1000, now - 3000] {
        wire.produce(&topic, 0, None, batch(Writer::PLAIN, &["x"], time)).unwrap();
    }
    assert_eq!(list_offset(&mut wire, 7, &topic, LATEST_TIME), (1, now - 1000));
}

fn a_committed_offset_comes_back_with_its_metadata(target: &Target) {
    let topic = target.topic("committed", 2);
    let consumer = target.consumer(&[]);
    target.commit(&consumer, &topic, 1, 123, "p1:state");
    target.commit(&consumer, &topic, 0, 7, "");
    assert_eq!(target.committed(&consumer, &topic, 1), (Offset::Offset(123), "p1:state".to_owned()));
    // Backwards is allowed.
    target.commit(&consumer, &topic, 1, 5, "again");
    assert_eq!(target.committed(&consumer, &topic, 1), (Offset::Offset(5), "again".to_owned()));
    assert_eq!(target.committed(&consumer, &topic, 0), (Offset::Offset(7), String::new()));
}

fn a_partition_without_commit_has_no_offset(target: &Target) {
    let topic = target.topic("fresh", 2);
    let consumer = target.consumer(&[]);
    target.commit(&consumer, &topic, 1, 1, "");
    assert_eq!(target.committed(&consumer, &topic, 0).0, Offset::Invalid);
}

fn offsets_of_groups_are_apart(target: &Target) {
    let topic = target.topic("apart", 1);
    let (one, two) = (target.unique("one"), target.unique("two"));
    let one = target.consumer(&[("group.id", &one)]);
    let two = target.consumer(&[("group.id", &two)]);
    target.commit(&one, &topic, 0, 1, "");
    assert_eq!(target.committed(&two, &topic, 0).0, Offset::Invalid);
    target.commit(&two, &topic, 0, 2, "");
    assert_eq!(target.committed(&one, &topic, 0).0, Offset::Offset(1));
}

fn commit(
    wire: &mut Wire,
    group: &str,
    topic: &str,
    partition: i32,
    metadata: &str,
) -> Option<ResponseError> {
    commit_for(wire, group, (topic, partition), metadata, ("", -1), -1)
}

/// A commit for a member and its generation, to be kept for a time if that is not -1.
fn commit_for(
    wire: &mut Wire,
    group: &str,
    (topic, partition): (&str, i32),
    metadata: &str,
    member: (&str, i32),
    keep_ms: i64,
) -> Option<ResponseError> {
    let version = if keep_ms < 0 { 7 } else { 2 };
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(1)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(text(group).into()).with_topics(vec![topic]);
    let request = request.with_generation_id_or_member_epoch(member.1).with_member_id(text(member.0));
    let request = request.with_retention_time_ms(keep_ms);
    let code = |response: &OffsetCommitResponse| response.topics[0].partitions[0].error_code;
    refusal(code(&wire.settled(version, &request, code)))
}

fn metadata_longer_than_allowed_is_refused(target: &Target) {
    let (topic, group) = (target.topic("long", 1), target.unique("g"));
    let mut wire = target.wire();
    wire.find_coordinator(Coordinator::Group, &group);
    assert_eq!(commit(&mut wire, &group, &topic, 0, &"x".repeat(4096)), None);
    let refused = commit(&mut wire, &group, &topic, 0, &"x".repeat(4097));
    assert_eq!(refused, Some(ResponseError::OffsetMetadataTooLarge));
}

fn an_offset_of_an_unknown_partition_is_refused(target: &Target) {
    let (topic, group) = (target.topic("known", 1), target.unique("g"));
    let mut wire = target.wire();
    wire.find_coordinator(Coordinator::Group, &group);
    let unknown = Some(ResponseError::UnknownTopicOrPartition);
    assert_eq!(commit(&mut wire, &group, &target.unique("unknown"), 0, ""), unknown);
    // Kafka asks for the topic only.
    assert_eq!(commit(&mut wire, &group, &topic, 0, ""), None);
}

fn an_offset_is_deleted_alone(target: &Target) {
    let (topic, group) = (target.topic("deleted", 2), target.unique("g"));
    let consumer = target.consumer(&[("group.id", &group)]);
    target.commit(&consumer, &topic, 0, 1, "");
    target.commit(&consumer, &topic, 1, 2, "");
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let asked = OffsetDeleteRequestTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default().with_group_id(text(&group).into()).with_topics(vec![asked]);
    let response = target.wire().call(0, &request);
    assert_eq!(refusal(response.error_code), None);
    assert_eq!(refusal(response.topics[0].partitions[0].error_code), None);
    assert_eq!(target.committed(&consumer, &topic, 0).0, Offset::Invalid);
    assert_eq!(target.committed(&consumer, &topic, 1).0, Offset::Offset(2));
}

fn a_list_of_all_offsets_of_a_group_has_every_topic(target: &Target) {
    let (one, two, group) = (target.topic("one", 1), target.topic("two", 1), target.unique("g"));
    let consumer = target.consumer(&[("group.id", &group)]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&one, 0, Offset::Offset(1)).unwrap();
    list.add_partition_offset(&two, 0, Offset::Offset(2)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    let request = kafka_protocol::messages::OffsetFetchRequest::default()
        .with_group_id(text(&group).into())
        .with_topics(None);
    let response = target.wire().call(6, &request);
    let mut found: Vec<(String, i64)> =
        response.topics.iter().map(|t| (t.name.to_string(), t.partitions[0].committed_offset)).collect();
    found.sort();
    assert_eq!(found, [(one, 1), (two, 2)]);
}

fn an_offset_of_a_group_without_members_is_forgotten_after_its_time_and_the_group_too(target: &Target) {
    let (one, two) = (target.topic("one", 1), target.topic("two", 1));
    let (group, short) = (target.unique("g"), target.unique("short"));
    let mut wire = target.wire();
    for group in [&group, &short] {
        wire.find_coordinator(Coordinator::Group, group);
        assert_eq!(commit_for(&mut wire, group, (&one, 0), "", ("", -1), 1), None);
    }
    assert_eq!(commit(&mut wire, &group, &two, 0, ""), None);
    let consumer = target.consumer(&[("group.id", &group)]);
    target.until("the offset is forgotten", || {
        (target.committed(&consumer, &one, 0).0 == Offset::Invalid).then_some(())
    });
    assert_eq!(target.committed(&consumer, &two, 0).0, Offset::Offset(1));
    target.until("the group with nothing left is gone", || {
        let asked = DescribeGroupsRequest::default().with_groups(vec![text(&short).into()]);
        (wire.call(0, &asked).groups[0].group_state.as_str() == "Dead").then_some(())
    });
}

fn an_offset_of_a_topic_that_members_read_is_kept_and_others_forgotten(target: &Target) {
    let (read, other) = (target.topic("read", 1), target.topic("other", 1));
    let group = target.unique("g");
    target.send(&target.producer(&[]), &read, 0, &["a"]);
    let consumer = target.consumer(&[("auto.offset.reset", "earliest"), ("group.id", &group)]);
    consumer.subscribe(&[&read]).unwrap();
    target.poll(&consumer, "a record", |event| event.ok().map(drop));
    let listed = consumer.fetch_group_list(Some(&group), target.patience).unwrap();
    let member = listed.groups()[0].members()[0].id().to_owned();
    let mut wire = target.wire();
    for topic in [&read, &other] {
        assert_eq!(commit_for(&mut wire, &group, (topic, 0), "", (&member, 1), 1), None);
    }
    let outside = target.consumer(&[("group.id", &group)]);
    target.until("the offset nobody needs is forgotten", || {
        (target.committed(&outside, &other, 0).0 == Offset::Invalid).then_some(())
    });
    assert_eq!(target.committed(&outside, &read, 0).0, Offset::Offset(1));
}
