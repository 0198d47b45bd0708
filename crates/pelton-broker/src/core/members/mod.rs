//! Members of classic consumer groups: who is in, whose turn it is, and what each was assigned.
//!
//! A group goes `Empty -> Preparing -> Completing -> Stable`, and back to `Preparing` whenever its members
//! change. The clients choose the assignment: the broker collects who joined, picks the protocol all of them
//! know, names a leader, and hands on what the leader decided.
//!
//! Who is in a group right now lives in memory, as sessions do. Generations and finished assignments are in
//! the journal, so that after a restart members go on without a rebalance and no generation comes twice.

mod requests;
mod turn;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use requests::{Join, JoinAnswer, JoinedMember, MemberRef, Sync, SyncAnswer};

use super::entry::Entry;
use crate::code::Code;

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

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// Waits until everybody has joined again, or for this time (milliseconds since 1970).
    Preparing {
        /// When it goes on without those who did not come back.
        until_ms: i64,
        /// The first members gather: the end of the wait counts, not that all are here.
        is_first: bool,
    },
    /// Waits for the assignment of the leader.
    Completing {
        /// When those who did not ask for their assignment are given up.
        until_ms: i64,
    },
    /// Everybody has an assignment.
    Stable,
}

impl Phase {
    /// Its name in Kafka's admin protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing { .. } => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// What a member waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Join(Ticket),
    Sync(Ticket),
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name that stays across restarts of a static member.
    pub instance: Option<String>,
    /// Client id of its connection.
    pub client_id: String,
    /// Where it connected from.
    pub host: String,
    /// It is out after silence this long, milliseconds.
    pub session_ms: i32,
    /// How long a rebalance waits for it, milliseconds.
    pub rebalance_ms: i32,
    /// Names of protocols it knows, best first, and its subscription for each.
    pub protocols: Vec<(String, Bytes)>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// End of its session, milliseconds since 1970.
    deadline_ms: i64,
    waits: Option<Waits>,
}

impl Member {
    /// Its subscription for a protocol.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn heard(&mut self, now_ms: i64) {
        self.deadline_ms = now_ms.saturating_add(i64::from(self.session_ms));
    }

    fn is_overdue(&self, now_ms: i64) -> bool {
        self.waits.is_none() && now_ms >= self.deadline_ms
    }
}

/// A member as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMember {
    /// Member id.
    pub id: String,
    /// Name of a static member.
    pub instance: Option<String>,
    /// Client id of its connection.
    pub client_id: String,
    /// Where it connected from.
    pub host: String,
    /// Session, milliseconds.
    pub session_ms: i32,
    /// Longest wait of a rebalance for it, milliseconds.
    pub rebalance_ms: i32,
    /// Its subscription for the group's protocol.
    pub metadata: Vec<u8>,
    /// What the leader gave it.
    pub assignment: Vec<u8>,
}

/// A finished assignment as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAssignment {
    /// Its generation.
    pub generation: i32,
    /// `consumer`, or what else the members are.
    pub protocol_type: String,
    /// The protocol all of them know.
    pub protocol: String,
    /// Member id of the leader.
    pub leader: String,
    /// All members.
    pub members: Vec<StoredMember>,
}

/// A classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroup {
    generation: i32,
    phase: Phase,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Ids handed out to members that must come back with them, and until when.
    pending: BTreeMap<String, i64>,
    /// When the current generation began, milliseconds since 1970.
    since_ms: i64,
}

impl Default for ClassicGroup {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: Phase::Empty,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            since_ms: 0,
        }
    }
}

impl ClassicGroup {
    /// Number of the current assignment; it only grows.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// When the current generation began, milliseconds since 1970; of an empty group, since when it is empty.
    #[must_use]
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// `consumer`, or what else its members are; empty without members ever.
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// The protocol in use; empty while there is none.
    #[must_use]
    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or_default()
    }

    /// Its members by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// Whether members that consume are subscribed to `topic`. Subscriptions that cannot be read count.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let of_member = |member: &Member| match subscribed_topics(&member.metadata(self.protocol())) {
            Some(topics) => topics.iter().any(|name| name == topic),
            None => true,
        };
        !self.members.is_empty()
            && (self.protocol_type() != "consumer" || self.members.values().any(of_member))
    }

    /// Whether a commit of offsets comes from a current member.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_commit(&self, member: &MemberRef<'_>, is_in_txn: bool) -> Result<(), Code> {
        let claims_nothing = member.generation < 0 && member.id.is_empty() && member.instance.is_none();
        if claims_nothing && (is_in_txn || self.phase == Phase::Empty) {
            return Ok(());
        }
        if member.generation >= 0 || !member.id.is_empty() || member.instance.is_some() {
            self.check_member(member)?;
        } else {
            return Err(Code::UnknownMemberId);
        }
        // The offsets belong to an assignment that is being replaced: the client commits again afterwards.
        if !is_in_txn && matches!(self.phase, Phase::Completing { .. }) {
            return Err(Code::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether a request speaks for a member of the current generation.
    ///
    /// # Errors
    /// Unknown, fenced by another with the same instance name, or of another generation.
    pub fn check_member(&self, member: &MemberRef<'_>) -> Result<(), Code> {
        self.find(member.id, member.instance)?;
        if member.generation == self.generation { Ok(()) } else { Err(Code::IllegalGeneration) }
    }

    fn find(&self, id: &str, instance: Option<&str>) -> Result<&Member, Code> {
        if let Some(instance) = instance {
            return match self.by_instance(instance) {
                None => Err(Code::UnknownMemberId),
                Some((current, _)) if current != id => Err(Code::FencedInstanceId),
                Some((_, member)) => Ok(member),
            };
        }
        self.members.get(id).ok_or(Code::UnknownMemberId)
    }

    fn by_instance(&self, instance: &str) -> Option<(&str, &Member)> {
        let mut members = self.members.iter();
        let found = members.find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(id, member)| (id.as_str(), member))
    }

    fn is_due(&self, now_ms: i64) -> bool {
        let phase_is_over = match self.phase {
            Phase::Preparing { until_ms, .. } | Phase::Completing { until_ms } => now_ms >= until_ms,
            Phase::Empty | Phase::Stable => false,
        };
        phase_is_over
            || self.members.values().any(|member| member.is_overdue(now_ms))
            || self.pending.values().any(|until_ms| now_ms >= *until_ms)
    }

    /// Nothing in it that anybody could ask for.
    fn is_blank(&self) -> bool {
        self.generation == 0 && self.members.is_empty() && self.pending.is_empty()
    }

    fn assignment(&self) -> StoredAssignment {
        let member = |(id, member): (&String, &Member)| StoredMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            host: member.host.clone(),
            session_ms: member.session_ms,
            rebalance_ms: member.rebalance_ms,
            metadata: member.metadata(self.protocol()).to_vec(),
            assignment: member.assignment.to_vec(),
        };
        StoredAssignment {
            generation: self.generation,
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().to_owned(),
            leader: self.leader.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
        }
    }

    fn from_stored(stored: &StoredAssignment) -> Self {
        let member = |stored_member: &StoredMember| Member {
            instance: stored_member.instance.clone(),
            client_id: stored_member.client_id.clone(),
            host: stored_member.host.clone(),
            session_ms: stored_member.session_ms,
            rebalance_ms: stored_member.rebalance_ms,
            protocols: vec![(stored.protocol.clone(), stored_member.metadata.clone().into())],
            assignment: stored_member.assignment.clone().into(),
            deadline_ms: i64::MAX,
            waits: None,
        };
        let members: BTreeMap<_, _> = stored.members.iter().map(|m| (m.id.clone(), member(m))).collect();
        Self {
            generation: stored.generation,
            phase: if members.is_empty() { Phase::Empty } else { Phase::Stable },
            protocol_type: Some(stored.protocol_type.clone()),
            protocol: Some(stored.protocol.clone()),
            leader: Some(stored.leader.clone()),
            members,
            pending: BTreeMap::new(),
            since_ms: 0,
        }
    }
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
                {
                    let (group, generation, at_ms) = (name.clone(), group.generation, group.since_ms);
                    Entry::GroupGeneration { group, generation, at_ms }
                }
            }
        })
    }
}

/// Topics of a consumer's subscription: version, then a list of names. Later versions add fields behind.
fn subscribed_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (_, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (name, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        topics.push(String::from_utf8_lossy(name).into_owned());
        rest = behind;
    }
    Some(topics)
}
