//! Consumer groups with members (the classic protocol), and what an administrator may do with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError::*;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{DescribeGroupsRequest, JoinGroupResponse, LeaveGroupRequest};
use pelton_conformance::client::{block_on, position};
use pelton_conformance::member::{Member, subscription};
use pelton_conformance::wire::{refusal, text};
use pelton_conformance::{Target, conform};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;

conform!(
    members_share_the_partitions_by_range,
    members_share_the_partitions_by_turns,
    members_share_the_partitions_and_keep_what_they_have,
    a_member_that_leaves_hands_over_at_once,
    a_group_goes_on_where_it_committed,
    a_pattern_finds_a_topic_made_later,
    a_first_join_is_told_its_member_id,
    the_leader_sees_all_members_and_its_plan_reaches_each,
    a_heartbeat_says_that_a_new_member_joins,
    a_silent_member_is_given_up_after_its_session,
    a_stale_generation_and_an_unknown_member_are_refused,
    a_commit_from_outside_is_refused_while_there_are_members,
    a_member_that_speaks_no_common_protocol_is_refused,
    a_session_shorter_than_allowed_is_refused,
    a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self,
    a_static_member_is_removed_by_name,
    groups_are_listed_and_described,
    a_group_is_deleted_only_without_members,
    a_group_that_its_members_left_without_an_offset_is_gone,
);

type Assigned = BTreeSet<(String, i32)>;

fn assigned(consumer: &BaseConsumer) -> Assigned {
    let list = consumer.assignment().unwrap();
    list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect()
}

/// Polls all members until their assignments are as wanted.
fn settle(
    target: &Target,
    what: &str,
    members: &[&BaseConsumer],
    wanted: impl Fn(&[Assigned]) -> bool,
) -> Vec<Assigned> {
    target.until(what, || {
        for member in members {
            while let Some(event) = member.poll(Duration::from_millis(10)) {
                drop(event);
            }
        }
        let all: Vec<Assigned> = members.iter().map(|member| assigned(member)).collect();
        wanted(&all).then_some(all)
    })
}

fn member(target: &Target, group: &str, strategy: &str, topics: &[&str]) -> BaseConsumer {
    let settings = [
        ("group.id", group),
        ("partition.assignment.strategy", strategy),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "200"),
        ("auto.offset.reset", "earliest"),
        ("topic.metadata.refresh.interval.ms", "300"),
        ("enable.partition.eof", "false"),
    ];
    let consumer = target.consumer(&settings);
    consumer.subscribe(topics).unwrap();
    consumer
}

/// Two topics of three partitions each for two members. Gives what each has at the end.
fn share(target: &Target, strategy: &str) -> Vec<Assigned> {
    let (one, two) = (target.topic("one", 3), target.topic("two", 3));
    let group = target.unique("sharing");
    let first = member(target, &group, strategy, &[&one, &two]);
    settle(target, "one member has all", &[&first], |all| all[0].len() == 6);
    let second = member(target, &group, strategy, &[&one, &two]);
    let both = settle(target, "two members have all", &[&first, &second], |all| {
        all[0].len() + all[1].len() == 6 && !all[1].is_empty() && all[0].is_disjoint(&all[1])
    });
    // What each is assigned it also gets, and nobody else does.
    let producer = target.producer(&[]);
    let mut got: BTreeMap<usize, Assigned> = BTreeMap::new();
    for (topic, partition) in both.iter().flatten() {
        target.send(&producer, topic, *partition, &["x"]);
    }
    target.until("all records", || {
        for (at, member) in [&first, &second].into_iter().enumerate() {
            while let Some(event) = member.poll(Duration::from_millis(10)) {
                let message = event.unwrap();
                got.entry(at).or_default().insert((message.topic().to_owned(), message.partition()));
            }
        }
        (got.values().map(BTreeSet::len).sum::<usize>() == 6).then_some(())
    });
    assert_eq!(got.into_values().collect::<Vec<_>>(), both);
    both
}

fn members_share_the_partitions_by_range(target: &Target) {
    let sizes: BTreeSet<usize> = share(target, "range").iter().map(BTreeSet::len).collect();
    assert_eq!(sizes, [2, 4].into(), "of each topic one has two partitions and the other one");
}

fn members_share_the_partitions_by_turns(target: &Target) {
    assert!(share(target, "roundrobin").iter().all(|has| has.len() == 3));
}

fn members_share_the_partitions_and_keep_what_they_have(target: &Target) {
    assert!(share(target, "cooperative-sticky").iter().all(|has| has.len() == 3));
    let topic = target.topic("kept", 4);
    let group = target.unique("sticky");
    let first = member(target, &group, "cooperative-sticky", &[&topic]);
    let before = settle(target, "one member has all", &[&first], |all| all[0].len() == 4);
    assert!(matches!(first.rebalance_protocol(), RebalanceProtocol::Cooperative));
    let second = member(target, &group, "cooperative-sticky", &[&topic]);
    let mut least = 4;
    target.until("two members have two each", || {
        for member in [&first, &second] {
            while let Some(event) = member.poll(Duration::from_millis(10)) {
                drop(event);
            }
        }
        let (kept, new) = (assigned(&first), assigned(&second));
        least = least.min(kept.len());
        (kept.len() == 2 && new.len() == 2 && kept.is_subset(&before[0])).then_some(())
    });
    assert_eq!(least, 2, "the first never stopped with all of its partitions");
}

fn a_member_that_leaves_hands_over_at_once(target: &Target) {
    let topic = target.topic("left", 2);
    let group = target.unique("leaving");
    let first = member(target, &group, "range", &[&topic]);
    let second = member(target, &group, "range", &[&topic]);
    settle(target, "one partition each", &[&first, &second], |all| all.iter().all(|has| has.len() == 1));
    // Closing leaves the group. Its session would last longer than this case waits.
    drop(first);
    settle(target, "the other has both", &[&second], |all| all[0].len() == 2);
}

fn a_group_goes_on_where_it_committed(target: &Target) {
    let topic = target.topic("resumed", 1);
    let group = target.unique("resuming");
    target.send(&target.producer(&[]), &topic, 0, &["a", "b", "c"]);
    let first = member(target, &group, "range", &[&topic]);
    let offset = target.poll(&first, "a record", |event| Some(event.unwrap().offset()));
    assert_eq!(offset, 0);
    first.commit(&position(&topic, 0, 1, ""), CommitMode::Sync).unwrap();
    drop(first);
    let second = member(target, &group, "range", &[&topic]);
    let value = target.poll(&second, "a record", |event| event.unwrap().payload().map(<[u8]>::to_vec));
    assert_eq!(value, b"b");
}

fn a_pattern_finds_a_topic_made_later(target: &Target) {
    let (base, group) = (target.unique("pattern"), target.unique("matching"));
    let consumer = member(target, &group, "range", &[&format!("^{base}.*")]);
    let topic = target.topic("pattern", 2);
    settle(target, "the topic is found", &[&consumer], |all| {
        all[0] == [(topic.clone(), 0), (topic.clone(), 1)].into()
    });
}

fn a_first_join_is_told_its_member_id(target: &Target) {
    let mut member = Member::new(target, &target.unique("g"));
    let request = member.request();
    let response = member.wire.settled(5, &request, |r: &JoinGroupResponse| r.error_code);
    assert_eq!(refusal(response.error_code), Some(MemberIdRequired));
    assert!(!response.member_id.is_empty());
    member.id = response.member_id.to_string();
    let joined = member.join().unwrap();
    assert_eq!(joined.member_id, response.member_id);
    assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
    assert_eq!(joined.protocol_name.unwrap(), text("range"));
}

fn the_leader_sees_all_members_and_its_plan_reaches_each(target: &Target) {
    let group = target.unique("g");
    let mut first = Member::alone(target, &group);
    let mut second = Member::new(target, &group);
    second.begin_join();
    target.until("the first is told", || (first.heartbeat() == Some(RebalanceInProgress)).then_some(()));
    let as_leader = first.join().unwrap();
    let as_follower = second.end_join().unwrap();
    assert_eq!((as_leader.generation_id, as_follower.generation_id), (2, 2));
    assert_eq!(as_leader.leader, as_follower.leader);
    assert_eq!(as_leader.leader.as_str(), first.id);
    assert!(as_follower.members.is_empty(), "only the leader plans");
    let members: BTreeMap<&str, Bytes> =
        as_leader.members.iter().map(|m| (m.member_id.as_str(), m.metadata.clone())).collect();
    let all = [&first.id, &second.id].map(|id| (id.as_str(), subscription(id)));
    assert_eq!(members, all.into());
    let (one, two) = (first.id.clone(), second.id.clone());
    let follower = std::thread::spawn(move || second.sync(&[]));
    assert_eq!(first.sync(&[(&one, "left"), (&two, "right")]).unwrap(), "left");
    assert_eq!(follower.join().unwrap().unwrap(), "right");
}

fn a_heartbeat_says_that_a_new_member_joins(target: &Target) {
    let group = target.unique("g");
    let mut first = Member::alone(target, &group);
    assert_eq!(first.heartbeat(), None);
    let mut second = Member::new(target, &group);
    second.begin_join();
    target.until("the first is told", || (first.heartbeat() == Some(RebalanceInProgress)).then_some(()));
    // A commit is still taken: the first finishes what it has before it joins again.
    let topic = target.topic("t", 1);
    assert_eq!(first.commit(&topic), None);
}

fn a_silent_member_is_given_up_after_its_session(target: &Target) {
    let group = target.unique("g");
    let mut silent = Member::new(target, &group);
    silent.session_ms = 6000;
    silent.join().unwrap();
    let id = silent.id.clone();
    silent.sync(&[(&id, "all")]).unwrap();
    let mut other = Member::new(target, &group);
    let joined = other.join().unwrap();
    assert_eq!(joined.leader.as_str(), other.id, "the silent one is gone");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(silent.heartbeat(), Some(UnknownMemberId));
}

fn a_stale_generation_and_an_unknown_member_are_refused(target: &Target) {
    let topic = target.topic("t", 1);
    let mut member = Member::alone(target, &target.unique("g"));
    assert_eq!(member.commit(&topic), None);
    member.generation += 1;
    assert_eq!(member.heartbeat(), Some(IllegalGeneration));
    assert_eq!(member.commit(&topic), Some(IllegalGeneration));
    assert_eq!(member.sync(&[]), Err(IllegalGeneration));
    member.generation -= 1;
    let id = std::mem::replace(&mut member.id, "stranger".to_owned());
    assert_eq!(member.heartbeat(), Some(UnknownMemberId));
    assert_eq!(member.commit(&topic), Some(UnknownMemberId));
    assert_eq!(member.join().err(), Some(UnknownMemberId));
    member.id = id;
    assert_eq!(member.heartbeat(), None);
}

fn a_commit_from_outside_is_refused_while_there_are_members(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("g"));
    let mut outside = Member::new(target, &group);
    assert_eq!(outside.commit(&topic), None);
    let _member = Member::alone(target, &group);
    assert_eq!(outside.commit(&topic), Some(UnknownMemberId));
}

fn a_member_that_speaks_no_common_protocol_is_refused(target: &Target) {
    let group = target.unique("g");
    let _member = Member::alone(target, &group);
    let mut other = Member::new(target, &group);
    other.protocols = vec!["another"];
    other.id = String::new();
    let request = other.request();
    let response = other.wire.call(3, &request);
    assert_eq!(refusal(response.error_code), Some(InconsistentGroupProtocol));
}

fn a_session_shorter_than_allowed_is_refused(target: &Target) {
    let mut member = Member::new(target, &target.unique("g"));
    for session_ms in [5999, 1_800_001] {
        member.session_ms = session_ms;
        let request = member.request();
        assert_eq!(refusal(member.wire.call(5, &request).error_code), Some(InvalidSessionTimeout));
    }
}

fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self(target: &Target) {
    let group = target.unique("g");
    let named = |target: &Target| {
        let mut member = Member::new(target, &group);
        member.instance = Some("pump-1".to_owned());
        member
    };
    let mut old = named(target);
    old.join().unwrap();
    let id = old.id.clone();
    assert_eq!(old.sync(&[(&id, "all")]).unwrap(), "all");
    let mut new = named(target);
    new.join().unwrap();
    assert_eq!(new.generation, old.generation, "no rebalance");
    assert_ne!(new.id, old.id);
    assert_eq!(new.sync(&[]).unwrap(), "all", "it has what it had");
    assert_eq!(old.heartbeat(), Some(FencedInstanceId));
    assert_eq!(old.commit(&target.topic("t", 1)), Some(FencedInstanceId));
    assert_eq!(new.heartbeat(), None);
}

fn a_static_member_is_removed_by_name(target: &Target) {
    let group = target.unique("g");
    let mut member = Member::new(target, &group);
    member.instance = Some("pump-1".to_owned());
    member.join().unwrap();
    let id = member.id.clone();
    member.sync(&[(&id, "all")]).unwrap();
    let leave = |instance: &str| {
        let identity = MemberIdentity::default().with_group_instance_id(Some(text(instance)));
        let request =
            LeaveGroupRequest::default().with_group_id(text(&group).into()).with_members(vec![identity]);
        let response = target.wire().call(3, &request);
        refusal(response.error_code).or(refusal(response.members[0].error_code))
    };
    assert_eq!(leave("pump-2"), Some(UnknownMemberId));
    assert_eq!(leave("pump-1"), None);
    assert_eq!(member.heartbeat(), Some(UnknownMemberId));
}

fn groups_are_listed_and_described(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("described"));
    let consumer = target.consumer(&[
        ("group.id", &group),
        ("client.id", "a-client"),
        ("partition.assignment.strategy", "roundrobin"),
    ]);
    let list = |group: &str| target.consumer(&[]).fetch_group_list(Some(group), target.patience).unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    settle(target, "the member has its partition", &[&consumer], |all| all[0].len() == 1);
    let groups = list(&group);
    let found = &groups.groups()[0];
    assert_eq!((found.name(), found.state()), (group.as_str(), "Stable"));
    assert_eq!((found.protocol_type(), found.protocol()), ("consumer", "roundrobin"));
    assert_eq!(found.members()[0].client_id(), "a-client");
    assert!(found.members()[0].id().starts_with("a-client-"));
    assert!(!found.members()[0].assignment().unwrap().is_empty());
    consumer.commit(&position(&topic, 0, 1, ""), CommitMode::Sync).unwrap();
    drop(consumer);
    target.until("the group is empty", || (list(&group).groups()[0].state() == "Empty").then_some(()));
    assert!(list(&group).groups()[0].members().is_empty());
    let unknown = DescribeGroupsRequest::default().with_groups(vec![text(&target.unique("unknown")).into()]);
    assert_eq!(target.wire().call(1, &unknown).groups[0].group_state, text("Dead"));
}

fn a_group_is_deleted_only_without_members(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("g"));
    let delete = |group: &str| {
        let deleted = block_on(target.admin().delete_groups(&[group], &target.admin_options())).unwrap();
        deleted.into_iter().next().unwrap().map(drop).map_err(|(_, code)| code)
    };
    let consumer = target.consumer(&[("group.id", &group)]);
    consumer.subscribe(&[&topic]).unwrap();
    settle(target, "the member has its partition", &[&consumer], |all| all[0].len() == 1);
    consumer.commit(&position(&topic, 0, 1, ""), CommitMode::Sync).unwrap();
    assert_eq!(delete(&group), Err(RDKafkaErrorCode::NonEmptyGroup));
    drop(consumer);
    target.until("the member has left", || delete(&group).is_ok().then_some(()));
    let outside = target.consumer(&[("group.id", &group)]);
    assert_eq!(target.committed(&outside, &topic, 0).0, Offset::Invalid);
    assert_eq!(delete(&target.unique("unknown")), Err(RDKafkaErrorCode::GroupIdNotFound));
}

fn a_group_that_its_members_left_without_an_offset_is_gone(target: &Target) {
    let group = target.unique("g");
    let member = Member::alone(target, &group);
    let state = || {
        let asked = DescribeGroupsRequest::default().with_groups(vec![text(&group).into()]);
        target.wire().call(1, &asked).groups[0].group_state.to_string()
    };
    assert_eq!(state(), "Stable");
    let leave =
        LeaveGroupRequest::default().with_group_id(text(&group).into()).with_member_id(text(&member.id));
    assert_eq!(refusal(target.wire().call(1, &leave).error_code), None);
    target.until("the group is gone", || (state() == "Dead").then_some(()));
}
