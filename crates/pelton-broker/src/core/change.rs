//! How the state changes: by what the store has taken, live and at a start alike.

use super::config::TopicSettings;
use super::entry::{Entry, LogId};
use super::partition::Partition;
use super::{Effect, State, Topic};
use crate::batch::BatchHeader;

impl State {
    /// Takes an effect that the store has taken.
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Append { log, batch } => self.apply_batch(*log, &batch.header),
            Effect::Journal(entry) => self.apply_entry(entry),
            Effect::Group { name, group } => self.members.put(name, group),
            Effect::Heard { group, member, now_ms } => self.members.heard(group, member, *now_ms),
            Effect::ForgetProducers { log, until_ms } => {
                if let Some(core) = self.partitions.get_mut(log) {
                    core.forget_producers(*until_ms);
                }
            }
            Effect::Answer { .. } => {}
        }
    }

    /// Takes a batch that is in a log. Logs of unknown topics are leftovers of deleted ones.
    pub fn apply_batch(&mut self, log: LogId, header: &BatchHeader) {
        if let Some(core) = self.partitions.get_mut(&log) {
            core.apply(header);
            // Ids in the logs were handed out, even if the journal lost its tail in a power cut. A client can make up
            // any: one near the end of all numbers says nothing.
            if (0..i64::MAX / 2).contains(&header.producer_id) {
                self.transactions.take_producer_id(header.producer_id);
            }
        }
    }

    /// Notes where a log ends, even if its last records are gone.
    pub fn end_log(&mut self, log: LogId, offset: i64) {
        if let Some(core) = self.partitions.get_mut(&log) {
            core.end_at(offset);
        }
    }

    /// Takes a line of the journal.
    pub fn apply_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Cluster { id } => self.cluster_id.clone_from(id),
            Entry::TopicCreated { name, number, partitions, config } => {
                self.next_topic = self.next_topic.max(number + 1);
                let settings = TopicSettings::of(config);
                let topic = Topic { number: *number, partitions: 0, config: config.clone(), settings };
                self.topics.insert(name.clone(), topic);
                self.grow(name, *partitions);
            }
            Entry::TopicNumbers { next } => self.next_topic = self.next_topic.max(*next),
            Entry::TopicConfigured { name, number, config } => {
                if let Some(topic) = self.topics.get_mut(name).filter(|topic| topic.number == *number) {
                    (topic.config, topic.settings) = (config.clone(), TopicSettings::of(config));
                }
            }
            Entry::LogStart { topic, partition, offset } => {
                if let Some(core) = self.partitions.get_mut(&LogId { topic: *topic, partition: *partition }) {
                    core.begin_at(*offset);
                }
            }
            Entry::Compacted { topic, partition, to } => {
                let log = LogId { topic: *topic, partition: *partition };
                if let Some(core) = self.partitions.get_mut(&log) {
                    core.compacted(*to);
                }
            }
            Entry::PartitionsAdded { name, total } => self.grow(name, *total),
            Entry::TopicDeleted { name, number } => {
                self.topics.remove(name);
                self.next_topic = self.next_topic.max(number + 1);
                self.partitions.retain(|log, _| log.topic != *number);
                self.groups.forget_topic(name);
                self.transactions.forget_topic(name);
            }
            Entry::OffsetsCommitted { group, offsets, at_ms, until_ms } => {
                self.groups.store(group, offsets.iter().cloned(), (*at_ms, *until_ms));
            }
            Entry::OffsetsDeleted { group, partitions } => self.groups.delete(group, partitions),
            Entry::GroupGeneration { group, generation, at_ms } => {
                self.members.begin_generation(group, *generation, *at_ms);
            }
            Entry::GroupAssigned { group, assignment } => self.members.assign(group, assignment),
            Entry::GroupDeleted { group } => {
                self.groups.remove(group);
                self.members.remove(group);
            }
            Entry::ProducerIds { next } => self.transactions.reserve(*next),
            Entry::TxnProducer { id, owner } => {
                self.transactions.take_producer_id(owner.producer_id);
                self.transactions.set_owner(id, owner);
            }
            Entry::TxnPartitions { id, partitions, at_ms } => {
                self.transactions.add_partitions(id, partitions, *at_ms);
            }
            Entry::TxnOffsets { id, group, offsets, at_ms } => {
                self.transactions.add_offsets(id, group, offsets, *at_ms);
            }
            Entry::TxnEnding { id, epoch, commit, at_ms } => {
                self.transactions.end(id, *epoch, *commit, *at_ms);
            }
            Entry::TxnForgotten { id } => self.transactions.forget(id),
            Entry::UserCredential { user, hash, credential } => self.users.set(user, *hash, credential),
            Entry::UserCredentialDeleted { user, hash } => self.users.remove(user, *hash),
            Entry::TxnEnded { id } => {
                for (group, offset, at_ms) in self.transactions.ended(id) {
                    self.groups.store(&group, [offset], (at_ms, None));
                }
            }
        }
    }

    /// Call once after a replay.
    pub fn replayed(&mut self, now_ms: i64) {
        self.transactions.skip_reserved();
        self.transactions.restart_idleness(now_ms);
        self.members.restart_sessions(now_ms);
    }

    fn grow(&mut self, name: &str, total: u32) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        for partition in topic.partitions..total {
            self.partitions.insert(LogId { topic: topic.number, partition }, Partition::default());
        }
        topic.partitions = topic.partitions.max(total);
    }

    /// A short journal that leads to the same state.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::Cluster { id: self.cluster_id.clone() }];
        entries.push(Entry::TopicNumbers { next: self.next_topic });
        entries.extend(self.topics.iter().map(|(name, topic)| Entry::TopicCreated {
            name: name.clone(),
            number: topic.number,
            partitions: topic.partitions,
            config: topic.config.clone(),
        }));
        let starts = self.partitions.iter().filter(|(_, core)| core.start_offset() > 0);
        let mut starts: Vec<(LogId, i64)> = starts.map(|(log, core)| (*log, core.start_offset())).collect();
        starts.sort_unstable();
        entries.extend(starts.into_iter().map(|(log, offset)| Entry::LogStart {
            topic: log.topic,
            partition: log.partition,
            offset,
        }));
        let compacted = self.partitions.iter().filter(|(_, core)| core.compacted_to() > 0);
        let mut compacted: Vec<(LogId, i64)> =
            compacted.map(|(log, core)| (*log, core.compacted_to())).collect();
        compacted.sort_unstable();
        entries.extend(compacted.into_iter().map(|(log, to)| Entry::Compacted {
            topic: log.topic,
            partition: log.partition,
            to,
        }));
        entries.extend(self.groups.snapshot());
        entries.extend(self.members.snapshot());
        entries.extend(self.transactions.snapshot());
        entries.extend(self.users.snapshot());
        entries
    }
}
