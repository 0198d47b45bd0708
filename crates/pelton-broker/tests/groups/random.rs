//! Any order of events: generations only grow, each has one leader, and nobody waits for ever.

use std::collections::{BTreeMap, BTreeSet};

use pelton_broker::core::members::{GroupAnswer, JoinAnswer, SyncAnswer, Ticket, Turn};
use pelton_broker::store::MemoryStore;
use pelton_broker::{Broker, Code};
use proptest::prelude::*;

use super::kit::{REBALANCE_MS, ask, commit, group, heartbeat, join, leave, of, start, sync};

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
