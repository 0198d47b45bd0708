//! The core of classic groups: whoever comes, goes, or falls silent, each generation has one assignment.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pelton_broker::core::members::{
    GroupAnswer, Join, JoinAnswer, MemberRef, Phase, Sync, SyncAnswer, Ticket, Turn,
};
use pelton_broker::core::{CommittedOffset, GroupOffset, TopicConfig};
use pelton_broker::store::MemoryStore;
use pelton_broker::{Broker, Code, Settings};
use proptest::prelude::*;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

fn start(store: MemoryStore, now_ms: i64) -> Broker<MemoryStore> {
    Broker::open(store, Settings::default(), now_ms).unwrap()
}

fn group() -> Broker<MemoryStore> {
    let mut broker = start(MemoryStore::default(), 0);
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    broker
}

fn join(member_id: &str, fresh_id: &str) -> Join {
    Join {
        group: "g".to_owned(),
        member_id: member_id.to_owned(),
        instance: None,
        fresh_id: fresh_id.to_owned(),
        must_know_id: false,
        may_skip_assignment: false,
        client_id: "client".to_owned(),
        host: "/127.0.0.1".to_owned(),
        session_ms: SESSION_MS,
        rebalance_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: vec![
            ("range".to_owned(), subscription("t")),
            ("roundrobin".to_owned(), subscription("t")),
        ],
    }
}

fn instance(name: &str, member_id: &str, fresh_id: &str) -> Join {
    Join { instance: Some(name.to_owned()), ..join(member_id, fresh_id) }
}

/// A consumer's subscription to one topic: version 0, the topic, no user data.
fn subscription(topic: &str) -> Bytes {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    [&[0, 0, 0, 0, 0, 1][..], &length, topic.as_bytes(), &[255; 4]].concat().into()
}

fn of(id: &str, generation: i32) -> MemberRef<'_> {
    MemberRef { id, instance: None, generation }
}

fn ask(broker: &mut Broker<MemoryStore>, join: &Join, now_ms: i64) -> Turn<JoinAnswer> {
    let plan = broker.state().members().plan_join(join, now_ms, 0);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()
}

fn answer(broker: &mut Broker<MemoryStore>, turn: Turn<JoinAnswer>) -> JoinAnswer {
    match turn {
        Turn::Now(answer) => answer,
        Turn::Later(ticket) => match broker.take_answer(ticket) {
            Some(GroupAnswer::Join(answer)) => answer,
            other => panic!("no answer to a join: {other:?}"),
        },
    }
}

fn joined(broker: &mut Broker<MemoryStore>, join: &Join, now_ms: i64) -> JoinAnswer {
    let turn = ask(broker, join, now_ms);
    answer(broker, turn)
}

fn sync(
    broker: &mut Broker<MemoryStore>,
    member: MemberRef<'_>,
    assignments: &[(&str, &'static str)],
    now_ms: i64,
) -> Turn<SyncAnswer> {
    let assignments = assignments.iter().map(|(id, what)| ((*id).to_owned(), Bytes::from(*what))).collect();
    let sync = Sync { group: "g", member, protocol_type: None, protocol: None, assignments };
    let plan = broker.state().members().plan_sync(sync, now_ms);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()
}

fn synced(broker: &mut Broker<MemoryStore>, turn: Turn<SyncAnswer>) -> SyncAnswer {
    match turn {
        Turn::Now(answer) => answer,
        Turn::Later(ticket) => match broker.take_answer(ticket) {
            Some(GroupAnswer::Sync(answer)) => answer,
            other => panic!("no answer to a sync: {other:?}"),
        },
    }
}

fn heartbeat(broker: &mut Broker<MemoryStore>, member: MemberRef<'_>, now_ms: i64) -> Code {
    let plan = broker.state().members().plan_heartbeat("g", &member, now_ms);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()
}

fn leave(broker: &mut Broker<MemoryStore>, member: MemberRef<'_>, now_ms: i64) -> Code {
    let plan = broker.state().members().plan_leave("g", &[member], now_ms);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()[0]
}

fn commit(broker: &mut Broker<MemoryStore>, member: MemberRef<'_>, offset: i64) -> Result<(), Code> {
    let heard = broker.state().plan_commit_as("g", &member, false, 0)?;
    broker.run(heard, Code::CoordinatorNotAvailable)?;
    let committed = CommittedOffset { offset, leader_epoch: -1, metadata: String::new() };
    let offsets = vec![GroupOffset { topic: "t".to_owned(), partition: 0, committed }];
    broker.run(broker.state().plan_commit_offsets("g", offsets, 0), Code::CoordinatorNotAvailable)
}

fn phase(broker: &Broker<MemoryStore>) -> Phase {
    broker.state().group_phase("g").unwrap()
}

/// A stable group of `a` (leader) and `b`, generation 2.
fn two_members() -> Broker<MemoryStore> {
    let mut broker = group();
    assert_eq!(joined(&mut broker, &join("", "a"), 0).generation, 1);
    let turn = sync(&mut broker, of("a", 1), &[("a", "all")], 0);
    assert_eq!(synced(&mut broker, turn).assignment, "all");
    let b = ask(&mut broker, &join("", "b"), 0);
    assert_eq!(heartbeat(&mut broker, of("a", 1), 0), Code::RebalanceInProgress);
    let a = joined(&mut broker, &join("a", ""), 0);
    let b = answer(&mut broker, b);
    assert_eq!((a.generation, b.generation), (2, 2));
    assert_eq!((a.leader.as_str(), b.leader.as_str()), ("a", "a"));
    let ids: Vec<_> = a.members.iter().map(|member| member.id.as_str()).collect();
    assert_eq!((ids, b.members.len()), (vec!["a", "b"], 0), "the leader alone is told who is in");
    let waiting = sync(&mut broker, of("b", 2), &[], 0);
    let turn = sync(&mut broker, of("a", 2), &[("a", "first"), ("b", "second")], 0);
    assert_eq!(synced(&mut broker, turn).assignment, "first");
    assert_eq!(synced(&mut broker, waiting).assignment, "second");
    assert_eq!(phase(&broker), Phase::Stable);
    broker
}

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

#[derive(Debug, Clone)]
enum Event {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Commit(usize),
    Wait(i64),
    Restart,
}

fn any_event() -> impl Strategy<Value = Event> {
    let member = 0..4_usize;
    prop_oneof![
        6 => member.clone().prop_map(Event::Join),
        6 => member.clone().prop_map(Event::Sync),
        4 => member.clone().prop_map(Event::Heartbeat),
        1 => member.clone().prop_map(Event::Leave),
        2 => member.prop_map(Event::Commit),
        2 => (1..70_000_i64).prop_map(Event::Wait),
        1 => Just(Event::Restart),
    ]
}

/// A client as the protocol wants it to behave.
#[derive(Debug, Default)]
struct Client {
    id: String,
    generation: i32,
    is_leader: bool,
    others: Vec<String>,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    owns: bool,
}

impl Client {
    fn forget(&mut self) {
        *self = Self { generation: -1, ..Self::default() };
    }

    fn take_join(&mut self, answer: JoinAnswer) {
        self.joining = None;
        match answer.code {
            Code::None => {
                self.is_leader = answer.leader == answer.member_id;
                self.others = answer.members.into_iter().map(|member| member.id).collect();
                (self.id, self.generation, self.owns) = (answer.member_id, answer.generation, false);
            }
            Code::UnknownMemberId => self.forget(),
            _ => {}
        }
    }

    fn take_sync(&mut self, answer: &SyncAnswer) {
        self.syncing = None;
        match answer.code {
            Code::None => self.owns = true,
            Code::UnknownMemberId => self.forget(),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn generations_only_grow_and_each_has_one_leader(events in prop::collection::vec(any_event(), 1..120)) {
        let mut broker = group();
        let mut clients: Vec<Client> = (0..4).map(|_| Client { generation: -1, ..Client::default() }).collect();
        let (mut now_ms, mut fresh, mut highest) = (0, 0, 0);
        let mut leaders: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
        for event in events {
            match event {
                Event::Join(at) if clients[at].joining.is_none() && clients[at].syncing.is_none() => {
                    fresh += 1;
                    match ask(&mut broker, &join(&clients[at].id, &format!("m{fresh}")), now_ms) {
                        Turn::Now(answer) => clients[at].take_join(answer),
                        Turn::Later(ticket) => clients[at].joining = Some(ticket),
                    }
                }
                Event::Sync(at) if clients[at].joining.is_none() && clients[at].syncing.is_none() => {
                    let (id, generation) = (clients[at].id.clone(), clients[at].generation);
                    let others = clients[at].others.clone();
                    let assigned: Vec<(&str, &'static str)> = if clients[at].is_leader {
                        others.iter().map(|id| (id.as_str(), "share")).collect()
                    } else {
                        Vec::new()
                    };
                    match sync(&mut broker, of(&id, generation), &assigned, now_ms) {
                        Turn::Now(answer) => clients[at].take_sync(&answer),
                        Turn::Later(ticket) => clients[at].syncing = Some(ticket),
                    }
                }
                Event::Heartbeat(at) => {
                    let _ = heartbeat(&mut broker, of(&clients[at].id, clients[at].generation), now_ms);
                }
                Event::Leave(at) if clients[at].joining.is_none() && clients[at].syncing.is_none() => {
                    let _ = leave(&mut broker, of(&clients[at].id, -1), now_ms);
                    clients[at].forget();
                }
                Event::Commit(at) => {
                    let (id, generation) = (clients[at].id.clone(), clients[at].generation);
                    if commit(&mut broker, of(&id, generation), 1).is_ok() && generation >= 0 {
                        let current = broker.state().members().get("g").unwrap().generation();
                        prop_assert_eq!(generation, current, "a former generation committed");
                    }
                }
                Event::Wait(ms) => {
                    now_ms += ms;
                    broker.expire_groups(now_ms);
                }
                Event::Restart => {
                    broker = start(broker.store().clone(), now_ms);
                    // Connections end, and the clients ask again.
                    clients.iter_mut().for_each(|client| (client.joining, client.syncing) = (None, None));
                }
                _ => {}
            }
            for client in &mut clients {
                if let Some(GroupAnswer::Join(answer)) = client.joining.and_then(|t| broker.take_answer(t)) {
                    client.take_join(answer);
                    if client.is_leader && client.generation >= 0 {
                        leaders.entry(client.generation).or_default().insert(client.id.clone());
                    }
                }
                if let Some(GroupAnswer::Sync(answer)) = client.syncing.and_then(|t| broker.take_answer(t)) {
                    client.take_sync(&answer);
                }
            }
            let generation = broker.state().members().get("g").map_or(highest, |group| group.generation());
            prop_assert!(generation >= highest, "generation {} after {}", generation, highest);
            highest = generation;
        }
        for (generation, leaders) in &leaders {
            prop_assert_eq!(leaders.len(), 1, "leaders of generation {}: {:?}", generation, leaders);
        }
        // Whoever still waits is answered when time passes.
        for _ in 0..6 {
            now_ms += i64::from(REBALANCE_MS);
            broker.expire_groups(now_ms);
        }
        for client in &clients {
            let is_answered = |ticket: Option<Ticket>, broker: &mut Broker<MemoryStore>| {
                ticket.is_none_or(|ticket| broker.take_answer(ticket).is_some())
            };
            prop_assert!(is_answered(client.joining, &mut broker), "{:?} waits to join forever", client);
            prop_assert!(is_answered(client.syncing, &mut broker), "{:?} waits to sync forever", client);
        }
    }
}
