//! One step of a group: the changed group, what to journal for it, and who gets an answer by it.

use bytes::Bytes;

use super::group::Waits;
use super::{ClassicGroup, GroupAnswer, JoinAnswer, JoinedMember, Member, Phase, SyncAnswer, Ticket};
use crate::code::Code;
use crate::core::entry::Entry;
use crate::core::{Effect, Plan};

/// A group while a request changes it.
pub(super) struct Step {
    pub name: String,
    pub group: ClassicGroup,
    pub now_ms: i64,
    /// How long the first members of an empty group wait for more, milliseconds.
    pub first_wait_ms: i64,
    entries: Vec<Entry>,
    answers: Vec<(Ticket, GroupAnswer)>,
}

impl Step {
    pub fn new(name: &str, group: ClassicGroup, now_ms: i64, first_wait_ms: i64) -> Self {
        Self { name: name.to_owned(), group, now_ms, first_wait_ms, entries: Vec::new(), answers: Vec::new() }
    }

    /// Journal first, then the group, then the answers to those who waited.
    pub fn plan<R>(self, reply: R) -> Plan<R> {
        let mut effects: Vec<Effect> = self.entries.into_iter().map(Effect::Journal).collect();
        effects.push(Effect::Group { name: self.name, group: Box::new(self.group) });
        effects.extend(self.answers.into_iter().map(|(ticket, answer)| Effect::Answer { ticket, answer }));
        Plan::new(effects, reply)
    }

    /// Members have to join again.
    pub fn prepare(&mut self) {
        if matches!(self.group.phase, Phase::Completing { .. }) {
            for member in self.group.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(Waits::Sync(ticket)) = member.waits {
                    member.waits = None;
                    member.heard(self.now_ms);
                    let answer = SyncAnswer::failed(Code::RebalanceInProgress);
                    self.answers.push((ticket, GroupAnswer::Sync(answer)));
                }
            }
        }
        self.group.phase = if self.group.phase == Phase::Empty {
            Phase::Preparing { until_ms: self.now_ms + self.first_wait_ms, is_first: true }
        } else {
            Phase::Preparing { until_ms: self.now_ms + self.longest_rebalance_ms(), is_first: false }
        };
        self.go_on();
    }

    fn longest_rebalance_ms(&self) -> i64 {
        self.group.members.values().map(|member| i64::from(member.rebalance_ms)).max().unwrap_or(0)
    }

    /// Ends the gathering if it can end.
    pub fn go_on(&mut self) {
        let Phase::Preparing { until_ms, is_first } = self.group.phase else { return };
        let mut members = self.group.members.values();
        let all_here =
            self.group.pending.is_empty() && members.all(|m| matches!(m.waits, Some(Waits::Join(_))));
        if self.now_ms >= until_ms || (all_here && !is_first) {
            self.complete();
        }
    }

    fn complete(&mut self) {
        let is_away = |member: &Member| !matches!(member.waits, Some(Waits::Join(_)));
        self.group.members.retain(|_, member| !is_away(member) || member.instance.is_some());
        if self.group.members.is_empty() {
            return self.empty();
        }
        if self.group.members.values().all(is_away) {
            // Static members keep their place until their session ends.
            self.group.phase =
                Phase::Preparing { until_ms: self.now_ms + self.longest_rebalance_ms(), is_first: false };
            return;
        }
        self.next_generation();
        let leader_is_here =
            self.group.leader.as_ref().and_then(|id| self.group.members.get(id)).is_some_and(|m| !is_away(m));
        if !leader_is_here {
            let here = self.group.members.iter().find(|(_, member)| !is_away(member));
            self.group.leader = here.map(|(id, _)| id.clone());
        }
        self.group.protocol = self.group.vote();
        self.group.phase = Phase::Completing { until_ms: self.now_ms + self.longest_rebalance_ms() };
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let answer = self.group.joined(&id);
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            member.heard(self.now_ms);
            member.assignment = Bytes::new();
            if let Some(Waits::Join(ticket)) = member.waits.take() {
                self.answers.push((ticket, GroupAnswer::Join(answer)));
            }
        }
    }

    fn empty(&mut self) {
        self.next_generation();
        self.group.phase = Phase::Empty;
        (self.group.protocol, self.group.leader) = (None, None);
    }

    fn next_generation(&mut self) {
        self.group.generation = self.group.generation.checked_add(1).unwrap_or(1);
        let (group, generation) = (self.name.clone(), self.group.generation);
        self.group.since_ms = self.now_ms;
        self.entries.push(Entry::GroupGeneration { group, generation, at_ms: self.now_ms });
    }

    /// The assignment of this generation is complete, or a member of it got another id.
    pub fn store_assignment(&mut self) {
        let assignment = self.group.assignment();
        self.entries.push(Entry::GroupAssigned { group: self.name.clone(), assignment });
    }

    /// The leader has decided.
    pub fn assign(&mut self, assignments: Vec<(String, Bytes)>) {
        for (id, assignment) in assignments {
            if let Some(member) = self.group.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.group.phase = Phase::Stable;
        self.store_assignment();
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let answer = self.group.synced(&id);
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            if let Some(Waits::Sync(ticket)) = member.waits {
                member.waits = None;
                member.heard(self.now_ms);
                self.answers.push((ticket, GroupAnswer::Sync(answer)));
            }
        }
    }

    /// Takes a member out; whatever it waits for fails with `code`. The others are not told yet.
    pub fn take_out(&mut self, id: &str, code: Code) -> Option<Member> {
        let member = self.group.members.remove(id)?;
        self.fail(id, member.waits, code);
        Some(member)
    }

    fn fail(&mut self, id: &str, waits: Option<Waits>, code: Code) {
        match waits {
            Some(Waits::Join(ticket)) => {
                self.answers.push((ticket, GroupAnswer::Join(JoinAnswer::failed(code, id))));
            }
            Some(Waits::Sync(ticket)) => {
                self.answers.push((ticket, GroupAnswer::Sync(SyncAnswer::failed(code))));
            }
            None => {}
        }
    }

    /// After members went: the rest shares anew.
    pub fn after_leaving(&mut self) {
        match self.group.phase {
            Phase::Stable | Phase::Completing { .. } => self.prepare(),
            Phase::Preparing { .. } => self.go_on(),
            Phase::Empty => {}
        }
    }

    /// The member waits for the end of the gathering from now on; a question it asked before is void.
    pub fn await_join(&mut self, id: &str, ticket: Ticket) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        let before = member.waits.replace(Waits::Join(ticket));
        self.fail(id, before, Code::RebalanceInProgress);
    }

    /// The member waits for its assignment from now on.
    pub fn await_sync(&mut self, id: &str, ticket: Ticket) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        let before = member.waits.replace(Waits::Sync(ticket));
        self.fail(id, before, Code::RebalanceInProgress);
    }

    /// Members silent for too long, and waits that are over.
    pub fn expire(&mut self) {
        let now_ms = self.now_ms;
        self.group.pending.retain(|_, until_ms| now_ms < *until_ms);
        let is_over = |until_ms: i64| now_ms >= until_ms;
        let sync_is_over = matches!(self.group.phase, Phase::Completing { until_ms } if is_over(until_ms));
        let is_gone =
            |m: &Member| m.is_overdue(now_ms) || (sync_is_over && !matches!(m.waits, Some(Waits::Sync(_))));
        let gone = self.group.members.iter().filter(|(_, member)| is_gone(member));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            tracing::info!(group = %self.name, member = %id, "a member was silent for too long and is out");
            self.take_out(id, Code::UnknownMemberId);
        }
        if gone.is_empty() && !sync_is_over { self.go_on() } else { self.after_leaving() }
    }
}

impl ClassicGroup {
    /// The protocol most members like best among those that all know.
    fn vote(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let mut best: Option<(usize, &String)> = None;
        for (name, _) in first.protocols.iter().filter(|(name, _)| self.all_know(name)) {
            let votes = self.members.values().filter(|member| self.favourite(member) == Some(name)).count();
            if best.is_none_or(|(most, _)| votes > most) {
                best = Some((votes, name));
            }
        }
        best.map(|(_, name)| name.clone())
    }

    fn favourite<'a>(&self, member: &'a Member) -> Option<&'a String> {
        member.protocols.iter().map(|(name, _)| name).find(|name| self.all_know(name))
    }

    pub(super) fn all_know(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.knows(protocol))
    }

    /// What a member is told when a generation begins; the leader gets all subscriptions.
    pub(super) fn joined(&self, id: &str) -> JoinAnswer {
        let is_leader = self.leader.as_deref() == Some(id);
        JoinAnswer {
            code: Code::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            skip_assignment: false,
            members: if is_leader { self.subscriptions() } else { Vec::new() },
        }
    }

    pub(super) fn subscriptions(&self) -> Vec<JoinedMember> {
        let member = |(id, member): (&String, &Member)| JoinedMember {
            id: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(self.protocol()),
        };
        self.members.iter().map(member).collect()
    }

    pub(super) fn synced(&self, id: &str) -> SyncAnswer {
        SyncAnswer {
            code: Code::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}
