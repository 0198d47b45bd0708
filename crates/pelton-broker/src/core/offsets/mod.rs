//! Committed offsets of consumer groups.

mod expiry;
mod requests;

use std::collections::BTreeMap;

use super::entry::{CommittedOffset, Entry, GroupOffset};
use crate::code::Code;

/// Longest metadata string beside an offset; the default of Kafka's `offset.metadata.max.bytes`.
pub const MAX_METADATA_BYTES: usize = 4096;

/// With the time of the commit, milliseconds since 1970.
type Offsets = BTreeMap<(String, i32), (CommittedOffset, i64)>;

/// Groups that have committed offsets, by id.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Groups {
    groups: BTreeMap<String, Offsets>,
}

impl Groups {
    /// What the group committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(&(topic.to_owned(), partition)).map(|(committed, _)| committed)
    }

    /// Everything the group committed.
    pub fn all(&self, group: &str) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        offsets.map(|((topic, partition), (committed, _))| (topic.as_str(), *partition, committed))
    }

    /// Partitions whose offset was committed at or before `at_ms`.
    pub(in crate::core) fn committed_by(
        &self,
        group: &str,
        at_ms: i64,
    ) -> impl Iterator<Item = (String, i32)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        offsets.filter(move |(_, (_, committed_ms))| *committed_ms <= at_ms).map(|(place, _)| place.clone())
    }

    /// Ids of all groups.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Whether the group has ever committed.
    #[must_use]
    pub fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Whether one offset may be committed.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check(committed: &CommittedOffset) -> Result<(), Code> {
        if committed.metadata.len() > MAX_METADATA_BYTES { Err(Code::OffsetMetadataTooLarge) } else { Ok(()) }
    }

    pub(in crate::core) fn store(
        &mut self,
        group: &str,
        offsets: impl IntoIterator<Item = GroupOffset>,
        at_ms: i64,
    ) {
        let stored = self.groups.entry(group.to_owned()).or_default();
        stored.extend(offsets.into_iter().map(|o| ((o.topic, o.partition), (o.committed, at_ms))));
    }

    pub(in crate::core) fn delete(&mut self, group: &str, partitions: &[(String, i32)]) {
        if let Some(offsets) = self.groups.get_mut(group) {
            partitions.iter().for_each(|place| {
                offsets.remove(place);
            });
        }
    }

    pub(in crate::core) fn remove(&mut self, group: &str) {
        self.groups.remove(group);
    }

    /// Offsets of a deleted topic go with it: a topic of the same name starts afresh.
    pub(in crate::core) fn forget_topic(&mut self, topic: &str) {
        for offsets in self.groups.values_mut() {
            offsets.retain(|(name, _), _| name != topic);
        }
    }

    /// One entry for all offsets of a group that were committed at the same time.
    pub(in crate::core) fn snapshot(&self) -> impl Iterator<Item = Entry> {
        self.groups.iter().flat_map(|(group, offsets)| {
            let mut by_time: BTreeMap<i64, Vec<GroupOffset>> = BTreeMap::new();
            for ((topic, partition), (committed, at_ms)) in offsets {
                by_time.entry(*at_ms).or_default().push(GroupOffset {
                    topic: topic.clone(),
                    partition: *partition,
                    committed: committed.clone(),
                });
            }
            if by_time.is_empty() {
                by_time.insert(0, Vec::new()); // the group exists
            }
            let entry = |(at_ms, offsets)| Entry::OffsetsCommitted { group: group.clone(), offsets, at_ms };
            by_time.into_iter().map(entry)
        })
    }
}
