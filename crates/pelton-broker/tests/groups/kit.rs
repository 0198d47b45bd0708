//! One group of one broker, and what clients ask of it.

use bytes::Bytes;
use pelton_broker::core::members::{GroupAnswer, Join, JoinAnswer, MemberRef, Phase, Sync, SyncAnswer, Turn};
use pelton_broker::core::{CommittedOffset, GroupOffset, TopicConfig};
use pelton_broker::store::MemoryStore;
use pelton_broker::{Broker, Code, Settings};

pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;

pub fn start(store: MemoryStore, now_ms: i64) -> Broker<MemoryStore> {
    Broker::open(store, Settings::default(), now_ms).unwrap()
}

pub fn group() -> Broker<MemoryStore> {
    let mut broker = start(MemoryStore::default(), 0);
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    broker
}

pub fn join(member_id: &str, fresh_id: &str) -> Join {
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

pub fn instance(name: &str, member_id: &str, fresh_id: &str) -> Join {
    Join { instance: Some(name.to_owned()), ..join(member_id, fresh_id) }
}

/// A consumer's subscription to one topic: version 0, the topic, no user data.
pub fn subscription(topic: &str) -> Bytes {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    [&[0, 0, 0, 0, 0, 1][..], &length, topic.as_bytes(), &[255; 4]].concat().into()
}

pub fn of(id: &str, generation: i32) -> MemberRef<'_> {
    MemberRef { id, instance: None, generation }
}

pub fn ask(broker: &mut Broker<MemoryStore>, join: &Join, now_ms: i64) -> Turn<JoinAnswer> {
    let plan = broker.state().members().plan_join(join, now_ms, 0);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()
}

pub fn answer(broker: &mut Broker<MemoryStore>, turn: Turn<JoinAnswer>) -> JoinAnswer {
    match turn {
        Turn::Now(answer) => answer,
        Turn::Later(ticket) => match broker.take_answer(ticket) {
            Some(GroupAnswer::Join(answer)) => answer,
            other => panic!("no answer to a join: {other:?}"),
        },
    }
}

pub fn joined(broker: &mut Broker<MemoryStore>, join: &Join, now_ms: i64) -> JoinAnswer {
    let turn = ask(broker, join, now_ms);
    answer(broker, turn)
}

pub fn sync(
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

pub fn synced(broker: &mut Broker<MemoryStore>, turn: Turn<SyncAnswer>) -> SyncAnswer {
    match turn {
        Turn::Now(answer) => answer,
        Turn::Later(ticket) => match broker.take_answer(ticket) {
            Some(GroupAnswer::Sync(answer)) => answer,
            other => panic!("no answer to a sync: {other:?}"),
        },
    }
}

pub fn heartbeat(broker: &mut Broker<MemoryStore>, member: MemberRef<'_>, now_ms: i64) -> Code {
    let plan = broker.state().members().plan_heartbeat("g", &member, now_ms);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()
}

pub fn leave(broker: &mut Broker<MemoryStore>, member: MemberRef<'_>, now_ms: i64) -> Code {
    let plan = broker.state().members().plan_leave("g", &[member], now_ms);
    broker.run(plan, Code::CoordinatorNotAvailable).unwrap()[0]
}

pub fn commit(broker: &mut Broker<MemoryStore>, member: MemberRef<'_>, offset: i64) -> Result<(), Code> {
    let heard = broker.state().plan_commit_as("g", &member, false, 0)?;
    broker.run(heard, Code::CoordinatorNotAvailable)?;
    let committed = CommittedOffset { offset, leader_epoch: -1, metadata: String::new() };
    let offsets = vec![GroupOffset { topic: "t".to_owned(), partition: 0, committed }];
    broker.run(broker.state().plan_commit_offsets("g", offsets, 0), Code::CoordinatorNotAvailable)
}

pub fn phase(broker: &Broker<MemoryStore>) -> Phase {
    broker.state().group_phase("g").unwrap()
}

/// A stable group of `a` (leader) and `b`, generation 2.
pub fn two_members() -> Broker<MemoryStore> {
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
