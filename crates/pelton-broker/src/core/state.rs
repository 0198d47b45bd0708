//! Everything the broker knows. What changes it is in [`super::change`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::config::TopicSettings;
use super::entry::{LogId, TopicConfig};
use super::members::{ClassicGroup, Members, Phase};
use super::offsets::Groups;
use super::partition::Partition;
use super::transactions::Transactions;
use super::users::Users;
use crate::code::Code;

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its number, part of [`LogId`].
    pub number: u64,
    /// How many partitions it has.
    pub partitions: u32,
    /// Its settings as they were given.
    pub config: TopicConfig,
    /// What they mean, with the defaults for the rest.
    pub settings: TopicSettings,
}

/// The whole state. Changes by [`State::apply`] alone.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct State {
    pub(super) cluster_id: String,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) next_topic: u64,
    pub(super) partitions: HashMap<LogId, Partition>,
    pub(super) groups: Groups,
    pub(super) members: Members,
    pub(super) transactions: Transactions,
    pub(super) users: Users,
}

impl State {
    /// Id of the cluster as clients see it.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// All topics by name.
    #[must_use]
    pub fn topics(&self) -> &BTreeMap<String, Topic> {
        &self.topics
    }

    /// Groups and their offsets.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Members of groups.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Ids of all groups, with members or with offsets.
    #[must_use]
    pub fn group_ids(&self) -> BTreeSet<&str> {
        self.groups.ids().chain(self.members.ids()).collect()
    }

    /// Where a group stands; `None` if it does not exist.
    #[must_use]
    pub fn group_phase(&self, group: &str) -> Option<Phase> {
        let members = self.members.get(group).map(ClassicGroup::phase);
        members.or_else(|| self.groups.contains(group).then_some(Phase::Empty))
    }

    /// Transactional ids.
    #[must_use]
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Users and their credentials.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Finds a partition by its name on the wire.
    ///
    /// # Errors
    /// [`Code::UnknownTopicOrPartition`].
    pub fn find(&self, topic: &str, partition: i32) -> Result<(LogId, &Partition), Code> {
        let known = self.topics.get(topic).ok_or(Code::UnknownTopicOrPartition)?;
        let index = u32::try_from(partition).map_err(|_| Code::UnknownTopicOrPartition)?;
        let log = LogId { topic: known.number, partition: index };
        self.partitions.get(&log).map(|core| (log, core)).ok_or(Code::UnknownTopicOrPartition)
    }

    /// The id of a topic as clients see it, never used twice: the cluster's id with the topic's number in it.
    #[must_use]
    pub fn topic_id(&self, topic: &Topic) -> Uuid {
        let (high, low) = Uuid::parse_str(&self.cluster_id).unwrap_or_default().as_u64_pair();
        // The ids 0 and 1 mean something else.
        Uuid::from_u64_pair(high, low.wrapping_add(topic.number).wrapping_add(2))
    }

    /// Name of the topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&str> {
        let mut topics = self.topics.iter();
        topics.find(|(_, topic)| self.topic_id(topic) == id).map(|(name, _)| name.as_str())
    }

    /// State of a partition by its log.
    #[must_use]
    pub fn partition(&self, log: LogId) -> Option<&Partition> {
        self.partitions.get(&log)
    }
}
