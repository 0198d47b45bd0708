//! A classic group and its members: who they are, and for whom a request may speak.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{MemberRef, Ticket};
use crate::code::Code;

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
pub(super) enum Waits {
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
    pub(super) deadline_ms: i64,
    pub(super) waits: Option<Waits>,
}

impl Member {
    /// Its subscription for a protocol.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn heard(&mut self, now_ms: i64) {
        self.deadline_ms = now_ms.saturating_add(i64::from(self.session_ms));
    }

    pub(super) fn is_overdue(&self, now_ms: i64) -> bool {
        self.waits.is_none() && now_ms >= self.deadline_ms
    }
}

/// A classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroup {
    pub(super) generation: i32,
    pub(super) phase: Phase,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Ids handed out to members that must come back with them, and until when.
    pub(super) pending: BTreeMap<String, i64>,
    /// When the current generation began, milliseconds since 1970.
    pub(super) since_ms: i64,
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

    /// Since when it has no members any more, milliseconds since 1970; `None` if it has some, never had, or is of a
    /// journal that did not note it.
    #[must_use]
    pub fn empty_since_ms(&self) -> Option<i64> {
        (self.phase == Phase::Empty && self.since_ms > 0).then_some(self.since_ms)
    }

    /// Whether somebody was given an id to join with.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.pending.is_empty()
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

    pub(super) fn find(&self, id: &str, instance: Option<&str>) -> Result<&Member, Code> {
        if let Some(instance) = instance {
            return match self.by_instance(instance) {
                None => Err(Code::UnknownMemberId),
                Some((current, _)) if current != id => Err(Code::FencedInstanceId),
                Some((_, member)) => Ok(member),
            };
        }
        self.members.get(id).ok_or(Code::UnknownMemberId)
    }

    pub(super) fn by_instance(&self, instance: &str) -> Option<(&str, &Member)> {
        let mut members = self.members.iter();
        let found = members.find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(id, member)| (id.as_str(), member))
    }

    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        let phase_is_over = match self.phase {
            Phase::Preparing { until_ms, .. } | Phase::Completing { until_ms } => now_ms >= until_ms,
            Phase::Empty | Phase::Stable => false,
        };
        phase_is_over
            || self.members.values().any(|member| member.is_overdue(now_ms))
            || self.pending.values().any(|until_ms| now_ms >= *until_ms)
    }

    /// Nothing in it that anybody could ask for.
    pub(super) fn is_blank(&self) -> bool {
        self.generation == 0 && self.members.is_empty() && self.pending.is_empty()
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
