//! What may become of topics and of the beginnings of their logs.

use super::entry::{Entry, LogId, TopicConfig};
use super::{Effect, Plan, State};
use crate::code::Code;

/// More partitions than this in one topic are refused: each costs memory and files here.
pub const MAX_PARTITIONS: u32 = 10_000;

/// Longest topic name, as in Kafka.
const MAX_TOPIC_NAME: usize = 249;

impl State {
    /// Creates a topic.
    ///
    /// # Errors
    /// Bad name or one too like that of another topic, bad count, or it exists.
    pub fn plan_create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Plan<()>, Code> {
        check_topic_name(name)?;
        if self.topics().contains_key(name) {
            return Err(Code::TopicAlreadyExists);
        }
        if self.topics().keys().any(|other| collide(name, other)) {
            return Err(Code::InvalidTopic);
        }
        if partitions == 0 || partitions > MAX_PARTITIONS {
            return Err(Code::InvalidPartitions);
        }
        let created =
            Entry::TopicCreated { name: name.to_owned(), number: self.next_topic, partitions, config };
        Ok(Plan::new(vec![Effect::Journal(created)], ()))
    }

    /// Gives a topic `total` partitions.
    ///
    /// # Errors
    /// Unknown topic, or `total` is not more than it has.
    pub fn plan_add_partitions(&self, name: &str, total: i32) -> Result<Plan<()>, Code> {
        let topic = self.topics().get(name).ok_or(Code::UnknownTopicOrPartition)?;
        let total = u32::try_from(total).map_err(|_| Code::InvalidPartitions)?;
        if total <= topic.partitions || total > MAX_PARTITIONS {
            return Err(Code::InvalidPartitions);
        }
        let added = Entry::PartitionsAdded { name: name.to_owned(), total };
        Ok(Plan::new(vec![Effect::Journal(added)], ()))
    }

    /// Gives a topic these settings and no others. They must have been checked.
    ///
    /// # Errors
    /// Unknown topic.
    pub fn plan_configure_topic(&self, name: &str, config: TopicConfig) -> Result<Plan<()>, Code> {
        let topic = self.topics().get(name).ok_or(Code::UnknownTopicOrPartition)?;
        if topic.config == config {
            return Ok(Plan::reply(()));
        }
        let configured = Entry::TopicConfigured { name: name.to_owned(), number: topic.number, config };
        Ok(Plan::new(vec![Effect::Journal(configured)], ()))
    }

    /// Deletes the records of a partition before `offset`, -1 for all there are. The reply is the offset of
    /// the first one left.
    ///
    /// # Errors
    /// Unknown partition, an offset that is not there yet, or a topic that may only be compacted.
    pub fn plan_delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<Plan<i64>, Code> {
        let (log, core) = self.find(topic, partition)?;
        if self.topics().get(topic).is_some_and(|topic| !topic.settings.deletes) {
            return Err(Code::PolicyViolation);
        }
        let offset = if offset == -1 { core.next_offset() } else { offset };
        if !(0..=core.next_offset()).contains(&offset) {
            return Err(Code::OffsetOutOfRange);
        }
        let plan = self.plan_begin_log(log, offset);
        Ok(Plan { effects: plan.effects, reply: offset.max(core.start_offset()) })
    }

    /// Lets a log begin at `offset`, if it does not begin later.
    #[must_use]
    pub fn plan_begin_log(&self, log: LogId, offset: i64) -> Plan<()> {
        if self.partition(log).is_none_or(|core| offset <= core.start_offset()) {
            return Plan::reply(());
        }
        let begins = Entry::LogStart { topic: log.topic, partition: log.partition, offset };
        Plan::new(vec![Effect::Journal(begins)], ())
    }

    /// Deletes a topic with its records and offsets.
    ///
    /// # Errors
    /// Unknown topic.
    pub fn plan_delete_topic(&self, name: &str) -> Result<Plan<()>, Code> {
        let topic = self.topics().get(name).ok_or(Code::UnknownTopicOrPartition)?;
        let deleted = Entry::TopicDeleted { name: name.to_owned(), number: topic.number };
        Ok(Plan::new(vec![Effect::Journal(deleted)], ()))
    }
}

/// Names that differ in `.` and `_` alone are one name in metrics, and so Kafka takes one of them only.
fn collide(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.bytes().map(plain).eq(other.bytes().map(plain))
}

/// Letters, digits, `.`, `_` and `-`, as in Kafka.
fn check_topic_name(name: &str) -> Result<(), Code> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= MAX_TOPIC_NAME && name != "." && name != "..";
    if fits && name.chars().all(legal) { Ok(()) } else { Err(Code::InvalidTopic) }
}
