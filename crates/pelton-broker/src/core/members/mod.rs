//! Members of classic consumer groups: who is in, whose turn it is, and what each was assigned.
//!
//! A group goes `Empty -> Preparing -> Completing -> Stable`, and back to `Preparing` whenever its members
//! change. The clients choose the assignment: the broker collects who joined, picks the protocol all of them
//! know, names a leader, and hands on what the leader decided.
//!
//! Who is in a group right now lives in memory, as sessions do. Generations and finished assignments are in
//! the journal, so that after a restart members go on without a rebalance and no generation comes twice.

mod group;
mod requests;
mod stored;
mod turn;

use std::collections::BTreeMap;

pub use group::{ClassicGroup, Member, Phase};
pub use requests::{Join, JoinAnswer, JoinedMember, MemberRef, Sync, SyncAnswer};

pub use stored::{StoredAssignment, StoredMember};

use super::entry::Entry;

/// Shortest and longest session a member may ask for; Kafka's defaults of `group.min.session.timeout.ms` and
/// `group.max.session.timeout.ms`.
pub const SESSION_MS: std::ops::RangeInclusive<i32> = 6_000..=1_800_000;

/// A question that is answered later, by [`super::Effect::Answer`].
pub type Ticket = u64;

/// The answer to a question that had to wait for other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAnswer {
    /// To a `JoinGroup`.
    Join(JoinAnswer),
    /// To a `SyncGroup`.
    Sync(SyncAnswer),
}

/// An answer, or the promise of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn<T> {
    /// Answer this.
    Now(T),
    /// Wait for the answer with this number.
    Later(Ticket),
}

/// All classic groups with members, or with a generation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Members {
    groups: BTreeMap<String, ClassicGroup>,
    next_ticket: Ticket,
}

impl Members {
    /// A group, if it ever had members.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<&ClassicGroup> {
        self.groups.get(group)
    }

    /// Ids of all groups in here.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Groups in which somebody's time is over.
    #[must_use]
    pub fn due(&self, now_ms: i64) -> Vec<String> {
        let due = self.groups.iter().filter(|(_, group)| group.is_due(now_ms));
        due.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn put(&mut self, name: &str, group: &ClassicGroup) {
        self.next_ticket += 1;
        if group.is_blank() {
            self.groups.remove(name);
        } else {
            self.groups.insert(name.to_owned(), group.clone());
        }
    }

    pub(super) fn heard(&mut self, group: &str, member: &str, now_ms: i64) {
        if let Some(member) = self.groups.get_mut(group).and_then(|group| group.members.get_mut(member)) {
            member.heard(now_ms);
        }
    }

    pub(super) fn remove(&mut self, group: &str) {
        self.groups.remove(group);
    }

    /// A generation begins. While the broker lives the members are in [`ClassicGroup`] already; read from the
    /// journal this says that an assignment before it is history.
    pub(super) fn begin_generation(&mut self, name: &str, generation: i32, since_ms: i64) {
        let group = self.groups.entry(name.to_owned()).or_default();
        let protocol_type = group.protocol_type.take();
        *group = ClassicGroup { generation, protocol_type, since_ms, ..ClassicGroup::default() };
    }

    pub(super) fn assign(&mut self, name: &str, stored: &StoredAssignment) {
        self.groups.insert(name.to_owned(), ClassicGroup::from_stored(stored));
    }

    /// After a restart nobody has been silent yet.
    pub(super) fn restart_sessions(&mut self, now_ms: i64) {
        let members = self.groups.values_mut().flat_map(|group| group.members.values_mut());
        members.for_each(|member| member.heard(now_ms));
    }

    pub(super) fn snapshot(&self) -> impl Iterator<Item = Entry> {
        self.groups.iter().filter(|(_, group)| group.generation > 0).map(|(name, group)| {
            if group.phase == Phase::Stable {
                Entry::GroupAssigned { group: name.clone(), assignment: group.assignment() }
            } else {
                let (group, generation, at_ms) = (name.clone(), group.generation, group.since_ms);
                Entry::GroupGeneration { group, generation, at_ms }
            }
        })
    }
}
