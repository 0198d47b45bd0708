//! Groups as the journal keeps them: finished assignments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::group::{ClassicGroup, Member, Phase};

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

impl ClassicGroup {
    pub(super) fn assignment(&self) -> StoredAssignment {
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

    pub(super) fn from_stored(stored: &StoredAssignment) -> Self {
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
