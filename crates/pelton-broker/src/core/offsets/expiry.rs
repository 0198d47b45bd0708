//! Offsets nobody came back for.

use crate::core::members::Phase;
use crate::core::{Effect, Entry, Plan, State};

impl State {
    /// Removes offsets that are older than `retention_ms` and that nobody uses: of a group without members
    /// since then, or of a topic that the members of a consumer group do not read. A group that has nothing
    /// left goes too.
    #[must_use]
    pub fn plan_expire_offsets(&self, group: &str, retention_ms: i64, now_ms: i64) -> Plan<()> {
        let limit_ms = now_ms.saturating_sub(retention_ms);
        let members = self.members().get(group);
        let phase = self.group_phase(group).unwrap_or(Phase::Empty);
        let empty_since = members.map_or(0, crate::core::members::ClassicGroup::since_ms);
        let is_unused = |topic: &str| match phase {
            Phase::Empty => empty_since <= limit_ms,
            Phase::Stable => {
                members.is_some_and(|m| m.protocol_type() == "consumer" && !m.is_subscribed(topic))
            }
            Phase::Preparing { .. } | Phase::Completing { .. } => false,
        };
        let old = self.groups().committed_by(group, limit_ms);
        let partitions: Vec<(String, i32)> = old
            .filter(|(topic, partition)| {
                is_unused(topic) && !self.transactions().has_pending(group, topic, *partition)
            })
            .collect();
        let all = self.groups().all(group).count();
        let entry = if phase == Phase::Empty && partitions.len() == all && empty_since <= limit_ms {
            Entry::GroupDeleted { group: group.to_owned() }
        } else if partitions.is_empty() {
            return Plan::reply(());
        } else {
            Entry::OffsetsDeleted { group: group.to_owned(), partitions }
        };
        Plan::new(vec![Effect::Journal(entry)], ())
    }
}
