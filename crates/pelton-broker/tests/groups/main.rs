//! The core of classic groups: whoever comes, goes, or falls silent, each generation has one assignment.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod kit;
mod random;

use bytes::Bytes;
use pelton_broker::core::members::{Join, JoinAnswer, MemberRef, Phase, Turn};
use pelton_broker::store::MemoryStore;
use pelton_broker::{Broker, Code};

use kit::{
    REBALANCE_MS, SESSION_MS, answer, ask, commit, group, heartbeat, instance, join, joined, leave, of,
    phase, start, subscription, sync, synced, two_members,
};

#[test]
fn two_members_share_what_the_leader_decides() {
    let mut broker = two_members();
    for id in ["a", "b"] {
        assert_eq!(heartbeat(&mut broker, of(id, 2), 0), Code::None);
        assert_eq!(heartbeat(&mut broker, of(id, 1), 0), Code::IllegalGeneration);
    }
    assert_eq!(heartbeat(&mut broker, of("c", 2), 0), Code::UnknownMemberId);
}

#[test]
fn a_silent_member_is_out_and_the_rest_shares_anew() {
    let mut broker = two_members();
    assert_eq!(heartbeat(&mut broker, of("a", 2), 5_000), Code::None);
    broker.expire_groups(i64::from(SESSION_MS) - 1);
    assert_eq!(phase(&broker), Phase::Stable);
    broker.expire_groups(i64::from(SESSION_MS));
    assert_eq!(heartbeat(&mut broker, of("a", 2), 10_000), Code::RebalanceInProgress);
    assert_eq!(heartbeat(&mut broker, of("b", 2), 10_000), Code::UnknownMemberId);
    let a = joined(&mut broker, &join("a", ""), 10_000);
    assert_eq!((a.generation, a.members.len()), (3, 1));
}

#[test]
fn a_member_that_does_not_come_back_in_time_is_left_out() {
    let mut broker = two_members();
    let c = ask(&mut broker, &join("", "c"), 0);
    let a = ask(&mut broker, &join("a", ""), 0);
    // b keeps its session but never joins.
    for now_ms in (0..i64::from(REBALANCE_MS)).step_by(5_000) {
        assert_eq!(heartbeat(&mut broker, of("b", 2), now_ms), Code::RebalanceInProgress);
        broker.expire_groups(now_ms);
    }
    broker.expire_groups(i64::from(REBALANCE_MS));
    let (a, c) = (answer(&mut broker, a), answer(&mut broker, c));
    assert_eq!((a.generation, c.generation, a.members.len()), (3, 3, 2));
    assert_eq!(heartbeat(&mut broker, of("b", 2), 60_000), Code::UnknownMemberId);
}

#[test]
fn a_leader_that_never_assigns_is_left_out() {
    let mut broker = two_members();
    let b = ask(&mut broker, &join("b", ""), 0);
    assert_eq!(answer(&mut broker, b).generation, 2, "a follower without news keeps its generation");
    let a = ask(&mut broker, &join("a", ""), 0); // a leader that joins again wants a rebalance
    let b = ask(&mut broker, &join("b", ""), 0);
    assert_eq!((answer(&mut broker, a).generation, answer(&mut broker, b).generation), (3, 3));
    let waiting = sync(&mut broker, of("b", 3), &[], 0);
    for now_ms in (0..i64::from(REBALANCE_MS)).step_by(5_000) {
        heartbeat(&mut broker, of("a", 3), now_ms);
        broker.expire_groups(now_ms);
    }
    broker.expire_groups(i64::from(REBALANCE_MS));
    assert_eq!(synced(&mut broker, waiting).code, Code::RebalanceInProgress);
    let b = joined(&mut broker, &join("b", ""), 60_000);
    assert_eq!((b.generation, b.leader.as_str()), (4, "b"));
}

#[test]
fn the_last_one_to_leave_leaves_an_empty_group_with_its_offsets() {
    let mut broker = two_members();
    commit(&mut broker, of("a", 2), 7).unwrap();
    assert_eq!(leave(&mut broker, of("b", -1), 0), Code::None);
    assert_eq!(leave(&mut broker, of("b", -1), 0), Code::UnknownMemberId);
    assert_eq!(broker.state().plan_delete_group("g").map(|_| ()), Err(Code::NonEmptyGroup));
    assert_eq!(leave(&mut broker, of("a", -1), 0), Code::None);
    assert_eq!(phase(&broker), Phase::Empty);
    assert_eq!(broker.state().groups().committed("g", "t", 0).unwrap().offset, 7);
    let plan = broker.state().plan_delete_group("g").unwrap();
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap();
    assert_eq!(broker.state().group_phase("g"), None);
}

#[test]
fn offsets_are_taken_from_members_of_the_current_generation_only() {
    let mut broker = two_members();
    assert_eq!(commit(&mut broker, of("a", 2), 1), Ok(()));
    assert_eq!(commit(&mut broker, of("a", 1), 2), Err(Code::IllegalGeneration));
    assert_eq!(commit(&mut broker, of("x", 2), 2), Err(Code::UnknownMemberId));
    assert_eq!(commit(&mut broker, of("", -1), 2), Err(Code::UnknownMemberId), "not past its members");
    // In a transaction, a producer without membership may.
    assert!(broker.state().plan_commit_as("g", &of("", -1), true, 0).is_ok());
    assert_eq!(
        broker.state().plan_commit_as("g", &of("a", 1), true, 0).map(|_| ()),
        Err(Code::IllegalGeneration)
    );
    let _ = ask(&mut broker, &join("", "c"), 0);
    assert_eq!(commit(&mut broker, of("b", 2), 3), Ok(()), "before it joins again it may commit");
    let _ = ask(&mut broker, &join("a", ""), 0);
    let _ = ask(&mut broker, &join("b", ""), 0);
    assert_eq!(commit(&mut broker, of("b", 3), 4), Err(Code::RebalanceInProgress));
    assert_eq!(broker.state().groups().committed("g", "t", 0).unwrap().offset, 3);
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut broker = two_members();
    commit(&mut broker, of("a", 2), 7).unwrap();
    let places = [("t".to_owned(), 0)];
    let delete = |broker: &mut Broker<MemoryStore>| {
        let plan = broker.state().plan_delete_offsets("g", &places)?;
        broker.run(plan, Code::CoordinatorNotAvailable)
    };
    assert_eq!(delete(&mut broker), Ok(vec![Code::GroupSubscribedToTopic]));
    leave(&mut broker, of("a", -1), 0);
    leave(&mut broker, of("b", -1), 0);
    assert_eq!(delete(&mut broker), Ok(vec![Code::None]));
    assert_eq!(broker.state().groups().committed("g", "t", 0), None);
}

#[test]
fn a_new_member_comes_back_with_the_id_it_is_given() {
    let mut broker = group();
    let first = Join { must_know_id: true, ..join("", "a") };
    let refused = joined(&mut broker, &first, 0);
    assert_eq!((refused.code, refused.member_id.as_str()), (Code::MemberIdRequired, "a"));
    let again = Join { must_know_id: true, ..join("a", "unused") };
    assert_eq!(joined(&mut broker, &again, 0).code, Code::None);
    let stranger = Join { must_know_id: true, ..join("guessed", "unused") };
    assert_eq!(joined(&mut broker, &stranger, 0).code, Code::UnknownMemberId);
    // Whoever does not come back is forgotten.
    let mut broker = group();
    let _ = joined(&mut broker, &first, 0);
    broker.expire_groups(i64::from(SESSION_MS));
    assert_eq!(joined(&mut broker, &again, 0).code, Code::UnknownMemberId);
}

#[test]
fn nonsense_is_refused() {
    let mut broker = two_members();
    let mut code = |join: Join| joined(&mut broker, &join, 0).code;
    assert_eq!(code(Join { group: String::new(), ..join("", "c") }), Code::InvalidGroupId);
    assert_eq!(code(Join { session_ms: 5_999, ..join("", "c") }), Code::InvalidSessionTimeout);
    assert_eq!(code(Join { session_ms: 1_800_001, ..join("", "c") }), Code::InvalidSessionTimeout);
    assert_eq!(code(Join { protocols: Vec::new(), ..join("", "c") }), Code::InconsistentGroupProtocol);
    let connect = Join { protocol_type: "connect".to_owned(), ..join("", "c") };
    assert_eq!(code(connect), Code::InconsistentGroupProtocol);
    let sticky = Join { protocols: vec![("sticky".to_owned(), Bytes::new())], ..join("", "c") };
    assert_eq!(code(sticky), Code::InconsistentGroupProtocol);
    assert_eq!(phase(&broker), Phase::Stable, "and nobody was disturbed");
}

#[test]
fn the_protocol_all_know_and_most_like_is_chosen() {
    let mut broker = group();
    let knows = |names: &[&str], id: &str| Join {
        protocols: names.iter().map(|name| ((*name).to_owned(), subscription("t"))).collect(),
        ..join(id, id)
    };
    let mut waiting: Vec<Turn<JoinAnswer>> = Vec::new();
    let a = knows(&["x", "y", "z"], "a");
    let _ = joined(&mut broker, &Join { member_id: String::new(), ..a.clone() }, 0);
    for join in [knows(&["y", "x"], "b"), knows(&["y", "x", "w"], "c")] {
        waiting.push(ask(&mut broker, &Join { member_id: String::new(), ..join }, 0));
    }
    assert_eq!(joined(&mut broker, &a, 0).protocol.as_deref(), Some("y"));
    for turn in waiting {
        assert_eq!(answer(&mut broker, turn).protocol.as_deref(), Some("y"));
    }
}

/// A stable group of one static member `one`, member id `a`.
fn static_member() -> Broker<MemoryStore> {
    let mut broker = group();
    assert_eq!(joined(&mut broker, &instance("one", "", "a"), 0).generation, 1);
    let turn = sync(&mut broker, of("a", 1), &[("a", "all")], 0);
    assert_eq!(synced(&mut broker, turn).code, Code::None);
    broker
}

#[test]
fn a_static_member_that_restarts_takes_its_share_back_without_a_rebalance() {
    let mut broker = static_member();
    let back = joined(&mut broker, &instance("one", "", "b"), 5_000);
    assert_eq!((back.code, back.generation, back.member_id.as_str()), (Code::None, 1, "b"));
    assert_eq!((back.leader.as_str(), back.members.len()), ("a", 0), "it is told that another leads");
    let turn = sync(&mut broker, of("b", 1), &[], 5_000);
    assert_eq!(synced(&mut broker, turn).assignment, "all");
    let old = MemberRef { id: "a", instance: Some("one"), generation: 1 };
    assert_eq!(heartbeat(&mut broker, old, 5_000), Code::FencedInstanceId);
    assert_eq!(commit(&mut broker, old, 1), Err(Code::FencedInstanceId));
    let newer = Join { may_skip_assignment: true, ..instance("one", "", "c") };
    let back = joined(&mut broker, &newer, 5_000);
    assert!(back.skip_assignment && back.leader == "c" && back.members.len() == 1, "{back:?}");
    // The new id is in the journal too.
    let mut restarted = start(broker.store().clone(), 5_000);
    let current = MemberRef { id: "c", instance: Some("one"), generation: 1 };
    assert_eq!(heartbeat(&mut restarted, current, 5_000), Code::None);
}

#[test]
fn a_static_member_with_another_subscription_starts_a_rebalance() {
    let mut broker = static_member();
    let other = Join { protocols: vec![("range".to_owned(), subscription("u"))], ..instance("one", "", "b") };
    assert_eq!(joined(&mut broker, &other, 0).generation, 2);
}

#[test]
fn a_static_member_is_out_when_its_session_ends_or_an_administrator_removes_it() {
    let mut broker = static_member();
    broker.expire_groups(i64::from(SESSION_MS));
    assert_eq!(phase(&broker), Phase::Empty);
    let mut broker = static_member();
    let by_name = MemberRef { id: "", instance: Some("one"), generation: -1 };
    assert_eq!(leave(&mut broker, by_name, 0), Code::None);
    assert_eq!(phase(&broker), Phase::Empty);
}

#[test]
fn members_go_on_after_a_restart_and_no_generation_comes_twice() {
    let mut broker = two_members();
    commit(&mut broker, of("a", 2), 7).unwrap();
    let mut restarted = start(broker.store().clone(), 50_000);
    assert_eq!(heartbeat(&mut restarted, of("a", 2), 55_000), Code::None);
    assert_eq!(commit(&mut restarted, of("b", 2), 8), Ok(()));
    let turn = sync(&mut restarted, of("b", 2), &[], 0);
    assert_eq!(synced(&mut restarted, turn).assignment, "second");
    // Stopped between a join and its assignment: the members come back as new ones.
    let _ = ask(&mut broker, &join("a", ""), 0);
    let _ = ask(&mut broker, &join("b", ""), 0);
    let mut restarted = start(broker.store().clone(), 0);
    assert_eq!(heartbeat(&mut restarted, of("a", 3), 0), Code::UnknownMemberId);
    assert_eq!(joined(&mut restarted, &join("", "c"), 0).generation, 4);
}
