//! Offsets nobody came back for.

use crate::core::members::{ClassicGroup, Phase};
use crate::core::{Effect, Entry, Plan, State};

impl State {
    /// Removes offsets that are older than `retention_ms`, or over the time their client gave them, and that nobody
    /// uses: of a group without members for so long, of one that never had any, or of a topic that the members of a
    /// consumer group do not read. A group that has nothing left goes too.
    #[must_use]
    pub fn plan_expire_offsets(&self, group: &str, retention_ms: i64, now_ms: i64) -> Plan<()> {
        let members = self.members().get(group);
        let phase = self.group_phase(group).unwrap_or(Phase::Empty);
        let empty_since_ms = members.and_then(ClassicGroup::empty_since_ms);
        let is_unused = |topic: &str| match phase {
            Phase::Empty => true,
            Phase::Stable => {
                members.is_some_and(|m| m.protocol_type() == "consumer" && !m.is_subscribed(topic))
            }
            Phase::Preparing { .. } | Phase::Completing { .. } => false,
        };
        let old = self.groups().old(group, empty_since_ms, retention_ms, now_ms);
        let partitions: Vec<(String, i32)> = old
            .filter(|(topic, partition)| {
                is_unused(topic) && !self.transactions().has_pending(group, topic, *partition)
            })
            .collect();
        let all = self.groups().all(group).count();
        let is_awaited = members.is_some_and(ClassicGroup::is_awaited);
        let entry = if phase == Phase::Empty && partitions.len() == all && !is_awaited {
            Entry::GroupDeleted { group: group.to_owned() }
        } else if partitions.is_empty() {
            return Plan::reply(());
        } else {
            Entry::OffsetsDeleted { group: group.to_owned(), partitions }
        };
        Plan::new(vec![Effect::Journal(entry)], ())
    }
}
