//! Committed offsets of consumer groups.

mod expiry;
mod requests;

use std::collections::BTreeMap;

use super::entry::{CommittedOffset, Entry, GroupOffset};
use crate::code::Code;

/// Longest metadata string beside an offset; the default of Kafka's `offset.metadata.max.bytes`.
pub const MAX_METADATA_BYTES: usize = 4096;

/// A committed offset, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    committed: CommittedOffset,
    /// Time of the commit, milliseconds since 1970.
    at_ms: i64,
    /// When the client said it may go, milliseconds since 1970.
    until_ms: Option<i64>,
}

type Offsets = BTreeMap<(String, i32), Stored>;

/// Groups that have committed offsets, by id.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Groups {
    groups: BTreeMap<String, Offsets>,
}

impl Groups {
    /// What the group committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(&(topic.to_owned(), partition)).map(|stored| &stored.committed)
    }

    /// Everything the group committed.
    pub fn all(&self, group: &str) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        offsets.map(|((topic, partition), stored)| (topic.as_str(), *partition, &stored.committed))
    }

    /// Partitions whose offset is old: over the time that the client gave it, or else over `retention_ms`, counted from
    /// when the last members left (`empty_since_ms`), whenever it was committed, or from the commit if none left.
    fn old(
        &self,
        group: &str,
        empty_since_ms: Option<i64>,
        retention_ms: i64,
        now_ms: i64,
    ) -> impl Iterator<Item = (String, i32)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        let limit_ms = now_ms.saturating_sub(retention_ms);
        let is_old = move |stored: &Stored| match stored.until_ms {
            Some(until_ms) => until_ms <= now_ms,
            None => empty_since_ms.unwrap_or(stored.at_ms) <= limit_ms,
        };
        offsets.filter(move |(_, stored)| is_old(stored)).map(|(place, _)| place.clone())
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
        (at_ms, until_ms): (i64, Option<i64>),
    ) {
        let stored =
            |o: GroupOffset| ((o.topic, o.partition), Stored { committed: o.committed, at_ms, until_ms });
        self.groups.entry(group.to_owned()).or_default().extend(offsets.into_iter().map(stored));
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
            let mut by_time: BTreeMap<(i64, Option<i64>), Vec<GroupOffset>> = BTreeMap::new();
            for ((topic, partition), stored) in offsets {
                by_time.entry((stored.at_ms, stored.until_ms)).or_default().push(GroupOffset {
                    topic: topic.clone(),
                    partition: *partition,
                    committed: stored.committed.clone(),
                });
            }
            if by_time.is_empty() {
                by_time.insert((0, None), Vec::new()); // the group exists
            }
            let entry = |((at_ms, until_ms), offsets)| Entry::OffsetsCommitted {
                group: group.clone(),
                offsets,
                at_ms,
                until_ms,
            };
            by_time.into_iter().map(entry)
        })
    }
}
