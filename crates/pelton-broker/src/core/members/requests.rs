//! What members ask: join, sync, heartbeat, leave.

use bytes::Bytes;

use super::turn::Step;
use super::{ClassicGroup, Member, Members, Phase, SESSION_MS, Ticket, Turn};
use crate::code::Code;
use crate::core::{Effect, Plan};

/// Whom a request speaks for.
#[derive(Debug, Clone, Copy)]
pub struct MemberRef<'a> {
    /// Member id; empty if it has none.
    pub id: &'a str,
    /// Name of a static member.
    pub instance: Option<&'a str>,
    /// Generation it believes in; negative if it has none.
    pub generation: i32,
}

/// A `JoinGroup`.
#[derive(Debug, Clone)]
pub struct Join {
    /// Group id.
    pub group: String,
    /// Member id; empty at first.
    pub member_id: String,
    /// Name of a static member.
    pub instance: Option<String>,
    /// The id a new member gets: unique and hard to guess.
    pub fresh_id: String,
    /// A new member must come back with the id it is given (version 4 on).
    pub must_know_id: bool,
    /// The client understands that a leader need not assign (version 9 on).
    pub may_skip_assignment: bool,
    /// Client id of the connection.
    pub client_id: String,
    /// Where it connected from.
    pub host: String,
    /// Session, milliseconds.
    pub session_ms: i32,
    /// How long a rebalance may wait for it, milliseconds.
    pub rebalance_ms: i32,
    /// `consumer`, or what else it is.
    pub protocol_type: String,
    /// Protocols it knows, best first, with its subscription for each.
    pub protocols: Vec<(String, Bytes)>,
}

/// Answer to a `JoinGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// How it went.
    pub code: Code,
    /// The generation that began.
    pub generation: i32,
    /// What the members are.
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: String,
    /// Member id of the one asking.
    pub member_id: String,
    /// The leader has nothing to assign.
    pub skip_assignment: bool,
    /// All members, for the leader.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub id: String,
    /// Name of a static member.
    pub instance: Option<String>,
    /// Its subscription.
    pub metadata: Bytes,
}

impl JoinAnswer {
    pub(super) fn failed(code: Code, member_id: &str) -> Self {
        Self {
            code,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// A `SyncGroup`.
#[derive(Debug, Clone)]
pub struct Sync<'a> {
    /// Group id.
    pub group: &'a str,
    /// Who asks.
    pub member: MemberRef<'a>,
    /// What it believes the members are, if it says so.
    pub protocol_type: Option<&'a str>,
    /// What it believes the protocol is, if it says so.
    pub protocol: Option<&'a str>,
    /// What each member gets, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// Answer to a `SyncGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    /// How it went.
    pub code: Code,
    /// What the members are.
    pub protocol_type: Option<String>,
    /// The protocol in use.
    pub protocol: Option<String>,
    /// What the member got.
    pub assignment: Bytes,
}

impl SyncAnswer {
    pub(super) fn failed(code: Code) -> Self {
        Self { code, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl Join {
    fn member(&self, now_ms: i64) -> Member {
        let mut member = Member {
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            host: self.host.clone(),
            session_ms: self.session_ms,
            rebalance_ms: self.rebalance_ms.max(0),
            protocols: self.protocols.clone(),
            assignment: Bytes::new(),
            deadline_ms: 0,
            waits: None,
        };
        member.heard(now_ms);
        member
    }

    fn check(&self, group: &ClassicGroup) -> Result<(), Code> {
        if self.group.is_empty() {
            return Err(Code::InvalidGroupId);
        }
        if !SESSION_MS.contains(&self.session_ms) {
            return Err(Code::InvalidSessionTimeout);
        }
        if self.protocol_type.is_empty() || self.protocols.is_empty() {
            return Err(Code::InconsistentGroupProtocol);
        }
        let others_know = |protocol: &str| {
            // Its own former protocols do not bind it.
            let others = group.members.iter().filter(|(id, member)| {
                **id != self.member_id && (member.instance.is_none() || member.instance != self.instance)
            });
            others.into_iter().all(|(_, member)| member.knows(protocol))
        };
        let fits = group.members.is_empty()
            || (group.protocol_type() == self.protocol_type
                && self.protocols.iter().any(|(name, _)| others_know(name)));
        if fits { Ok(()) } else { Err(Code::InconsistentGroupProtocol) }
    }
}

impl Members {
    fn step(&self, name: &str, now_ms: i64, first_wait_ms: i64) -> Step {
        Step::new(name, self.groups.get(name).cloned().unwrap_or_default(), now_ms, first_wait_ms)
    }

    /// Takes a member in, or back. The answer comes when everybody is here.
    #[must_use]
    pub fn plan_join(&self, join: &Join, now_ms: i64, first_wait_ms: i64) -> Plan<Turn<JoinAnswer>> {
        let mut step = self.step(&join.group, now_ms, first_wait_ms);
        match step.join(join, self.next_ticket) {
            Ok(turn) => step.plan(turn),
            // An error changes nothing, except that the id of a new member is remembered.
            Err((Code::MemberIdRequired, id)) => {
                step.plan(Turn::Now(JoinAnswer::failed(Code::MemberIdRequired, &id)))
            }
            Err((code, id)) => Plan::reply(Turn::Now(JoinAnswer::failed(code, &id))),
        }
    }

    /// Gives a member its assignment, now or when the leader has decided.
    #[must_use]
    pub fn plan_sync(&self, sync: Sync<'_>, now_ms: i64) -> Plan<Turn<SyncAnswer>> {
        let mut step = self.step(sync.group, now_ms, 0);
        match step.sync(sync, self.next_ticket) {
            Ok(turn) => step.plan(turn),
            Err(code) => Plan::reply(Turn::Now(SyncAnswer::failed(code))),
        }
    }

    /// Keeps a member in.
    #[must_use]
    pub fn plan_heartbeat(&self, group: &str, member: &MemberRef<'_>, now_ms: i64) -> Plan<Code> {
        let found = self.groups.get(group).ok_or(Code::UnknownMemberId);
        let code = match found.and_then(|found| found.check_member(member).map(|()| found.phase)) {
            Err(code) => return Plan::reply(code),
            Ok(Phase::Preparing { .. }) => Code::RebalanceInProgress,
            Ok(_) => Code::None,
        };
        Plan::new(vec![Self::note_heard(group, member, now_ms)], code)
    }

    pub(in crate::core) fn note_heard(group: &str, member: &MemberRef<'_>, now_ms: i64) -> Effect {
        Effect::Heard { group: group.to_owned(), member: member.id.to_owned(), now_ms }
    }

    /// Takes members out; the reply has one code and the id for each.
    #[must_use]
    pub fn plan_leave(&self, group: &str, members: &[MemberRef<'_>], now_ms: i64) -> Plan<Vec<Code>> {
        let mut step = self.step(group, now_ms, 0);
        let codes: Vec<Code> = members.iter().map(|member| step.leave(member)).collect();
        if codes.iter().all(|code| *code != Code::None) {
            return Plan::reply(codes);
        }
        step.after_leaving();
        step.plan(codes)
    }

    /// Does what a group's timers ask for.
    #[must_use]
    pub fn plan_expire(&self, group: &str, now_ms: i64) -> Plan<()> {
        let mut step = self.step(group, now_ms, 0);
        step.expire();
        step.plan(())
    }
}

impl Step {
    fn join(&mut self, join: &Join, ticket: Ticket) -> Result<Turn<JoinAnswer>, (Code, String)> {
        let fail = |code: Code| (code, join.member_id.clone());
        join.check(&self.group).map_err(fail)?;
        let known_static = join.instance.as_deref().and_then(|name| self.group.by_instance(name));
        if join.member_id.is_empty() {
            if let Some((old, _)) = known_static {
                let old = old.to_owned();
                return Ok(self.replace_static(join, &old, ticket));
            }
            if join.must_know_id && join.instance.is_none() {
                let until_ms = self.now_ms.saturating_add(i64::from(join.session_ms));
                self.group.pending.insert(join.fresh_id.clone(), until_ms);
                return Err((Code::MemberIdRequired, join.fresh_id.clone()));
            }
            return Ok(self.add(join, &join.fresh_id, ticket));
        }
        if self.group.pending.remove(&join.member_id).is_some() {
            return Ok(self.add(join, &join.member_id, ticket));
        }
        let member = self.group.find(&join.member_id, join.instance.as_deref()).map_err(fail)?;
        let is_same = member.protocols == join.protocols;
        let is_leader = self.group.leader.as_deref() == Some(join.member_id.as_str());
        let keeps_generation = match self.group.phase {
            Phase::Completing { .. } => is_same,
            Phase::Stable => is_same && !is_leader,
            Phase::Preparing { .. } | Phase::Empty => false,
        };
        if keeps_generation {
            // It lost the answer, or nothing changed for it.
            let answer = self.group.joined(&join.member_id);
            return Ok(Turn::Now(answer));
        }
        self.refresh(join);
        self.await_join(&join.member_id, ticket);
        self.gather();
        Ok(Turn::Later(ticket))
    }

    fn add(&mut self, join: &Join, id: &str, ticket: Ticket) -> Turn<JoinAnswer> {
        self.group.protocol_type = Some(join.protocol_type.clone());
        self.group.members.insert(id.to_owned(), join.member(self.now_ms));
        self.group.leader.get_or_insert_with(|| id.to_owned());
        self.await_join(id, ticket);
        self.gather();
        Turn::Later(ticket)
    }

    fn refresh(&mut self, join: &Join) {
        if let Some(member) = self.group.members.get_mut(&join.member_id) {
            *member = Member {
                assignment: std::mem::take(&mut member.assignment),
                waits: member.waits,
                ..join.member(self.now_ms)
            };
        }
    }

    fn gather(&mut self) {
        if matches!(self.group.phase, Phase::Preparing { .. }) { self.go_on() } else { self.prepare() }
    }

    /// A static member is back under a new id, e.g. after its restart: the old id is fenced, and if it wants
    /// what it had, nobody else notices.
    fn replace_static(&mut self, join: &Join, old_id: &str, ticket: Ticket) -> Turn<JoinAnswer> {
        let was_leader = self.group.leader.as_deref() == Some(old_id);
        let protocol = self.group.protocol().to_owned();
        let old = self.take_out(old_id, Code::FencedInstanceId);
        let had = old.as_ref().map(|member| member.metadata(&protocol));
        let mut member = join.member(self.now_ms);
        member.assignment = old.map(|member| member.assignment).unwrap_or_default();
        let wants_the_same = member.knows(&protocol) && had == Some(member.metadata(&protocol));
        self.group.members.insert(join.fresh_id.clone(), member);
        if was_leader {
            self.group.leader = Some(join.fresh_id.clone());
        }
        if self.group.phase != Phase::Stable || !wants_the_same {
            self.await_join(&join.fresh_id, ticket);
            self.gather();
            return Turn::Later(ticket);
        }
        self.store_assignment();
        let mut answer = self.group.joined(&join.fresh_id);
        if was_leader && join.may_skip_assignment {
            answer.skip_assignment = true;
        } else if was_leader {
            // Told that another leads, it takes what it had and assigns nothing.
            (answer.leader, answer.members) = (old_id.to_owned(), Vec::new());
        }
        Turn::Now(answer)
    }

    fn sync(&mut self, sync: Sync<'_>, ticket: Ticket) -> Result<Turn<SyncAnswer>, Code> {
        self.group.check_member(&sync.member)?;
        let differs = |says: Option<&str>, is: &str| says.is_some_and(|says| says != is);
        if differs(sync.protocol_type, self.group.protocol_type())
            || differs(sync.protocol, self.group.protocol())
        {
            return Err(Code::InconsistentGroupProtocol);
        }
        let id = sync.member.id;
        match self.group.phase {
            Phase::Empty => Err(Code::UnknownMemberId),
            Phase::Preparing { .. } => Err(Code::RebalanceInProgress),
            Phase::Stable => {
                if let Some(member) = self.group.members.get_mut(id) {
                    member.heard(self.now_ms);
                }
                Ok(Turn::Now(self.group.synced(id)))
            }
            Phase::Completing { .. } => {
                self.await_sync(id, ticket);
                if self.group.leader.as_deref() == Some(id) {
                    self.assign(sync.assignments);
                }
                Ok(Turn::Later(ticket))
            }
        }
    }

    fn leave(&mut self, member: &MemberRef<'_>) -> Code {
        let id = match (member.instance, member.id) {
            // An admin names a static member without knowing its id.
            (Some(instance), "") => match self.group.by_instance(instance) {
                Some((id, _)) => id.to_owned(),
                None => return Code::UnknownMemberId,
            },
            (_, id) => id.to_owned(),
        };
        if self.group.pending.remove(&id).is_some() {
            return Code::None;
        }
        if let Err(code) = self.group.find(&id, member.instance) {
            return code;
        }
        self.take_out(&id, Code::UnknownMemberId);
        Code::None
    }
}
