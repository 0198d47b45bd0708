//! Everything the broker knows, and how effects change it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::config::TopicSettings;
use super::entry::{Entry, GroupOffset, LogId, TopicConfig};
use super::groups::Groups;
use super::members::{MemberRef, Members, Phase};
use super::partition::{Admission, Partition};
use super::transactions::{MAX_TXN_TIMEOUT_MS, Transaction, Transactions, TxnStatus};
use super::{Effect, Plan};
use uuid::Uuid;

use crate::batch::{Batch, BatchHeader, Marker};
use crate::code::Code;
use crate::records;

/// More partitions than this in one topic are refused: each costs memory and files here.
pub const MAX_PARTITIONS: u32 = 10_000;

/// Longest topic name, as in Kafka.
const MAX_TOPIC_NAME: usize = 249;

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
    cluster_id: String,
    topics: BTreeMap<String, Topic>,
    next_topic: u64,
    partitions: HashMap<LogId, Partition>,
    groups: Groups,
    members: Members,
    transactions: Transactions,
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
        let members = self.members.get(group).map(super::members::ClassicGroup::phase);
        members.or_else(|| self.groups.contains(group).then_some(Phase::Empty))
    }

    /// Transactional ids.
    #[must_use]
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
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

    // ---- topics ----

    /// Creates a topic.
    ///
    /// # Errors
    /// Bad name, bad count, or it exists.
    pub fn plan_create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Plan<()>, Code> {
        check_topic_name(name)?;
        if self.topics.contains_key(name) {
            return Err(Code::TopicAlreadyExists);
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
        let topic = self.topics.get(name).ok_or(Code::UnknownTopicOrPartition)?;
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
        let topic = self.topics.get(name).ok_or(Code::UnknownTopicOrPartition)?;
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
        if self.topics.get(topic).is_some_and(|topic| !topic.settings.deletes) {
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
        if self.partitions.get(&log).is_none_or(|core| offset <= core.start_offset()) {
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
        let topic = self.topics.get(name).ok_or(Code::UnknownTopicOrPartition)?;
        let deleted = Entry::TopicDeleted { name: name.to_owned(), number: topic.number };
        Ok(Plan::new(vec![Effect::Journal(deleted)], ()))
    }

    // ---- records ----

    /// Decides about one batch for one partition; the reply is its base offset, and the broker's time if the
    /// topic stamps it.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn plan_produce(
        &self,
        (topic, partition): (&str, i32),
        transactional_id: Option<&str>,
        mut batch: Batch,
        now_ms: i64,
    ) -> Result<Plan<(i64, Option<i64>)>, Code> {
        let (log, core) = self.find(topic, partition)?;
        let settings = self.topics.get(topic).map(|topic| &topic.settings);
        if let Some(settings) = settings {
            check_batch(&batch.header, settings, now_ms)?;
        }
        if batch.header.is_transactional() {
            self.check_in_transaction((topic, partition), transactional_id, &batch.header)?;
        }
        if settings.is_some_and(|settings| settings.compacts) {
            check_keys(&batch)?;
        }
        match core.admit(&batch.header)? {
            Admission::Repeat(base_offset) => Ok(Plan::reply((base_offset, None))),
            Admission::Append(base_offset) => {
                let stamp = settings.is_some_and(|settings| settings.stamps_append_time).then_some(now_ms);
                batch.place(base_offset, stamp);
                Ok(Plan::new(vec![Effect::Append { log, batch }], (base_offset, stamp)))
            }
        }
    }

    /// A batch of a transaction must speak for its current epoch, and its partition must be part of it: a late
    /// batch after an abort would otherwise open a transaction nobody ends. On Produce a fenced epoch is
    /// always `INVALID_PRODUCER_EPOCH`.
    fn check_in_transaction(
        &self,
        (topic, partition): (&str, i32),
        transactional_id: Option<&str>,
        header: &BatchHeader,
    ) -> Result<(), Code> {
        let id = transactional_id.ok_or(Code::InvalidRequest)?;
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        let txn = self.transactions.open_for(id, producer_id, epoch, Code::InvalidProducerEpoch)?;
        if !txn.partitions.contains(&(topic.to_owned(), partition)) {
            return Err(Code::InvalidTxnState);
        }
        Ok(())
    }

    // ---- offsets ----

    /// Stores offsets of a group.
    #[must_use]
    pub fn plan_commit_offsets(&self, group: &str, offsets: Vec<GroupOffset>, now_ms: i64) -> Plan<()> {
        if offsets.is_empty() {
            return Plan::reply(());
        }
        let committed = Entry::OffsetsCommitted { group: group.to_owned(), offsets, at_ms: now_ms };
        Plan::new(vec![Effect::Journal(committed)], ())
    }

    /// Whether somebody may store offsets for a group, and what the group notes about it.
    ///
    /// # Errors
    /// Not a member, of another generation, fenced, or in the middle of a rebalance.
    pub fn plan_commit_as(
        &self,
        group: &str,
        member: &MemberRef<'_>,
        is_in_txn: bool,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        if group.is_empty() {
            return Err(Code::InvalidGroupId);
        }
        let Some(members) = self.members.get(group) else {
            let claims_nothing = member.generation < 0 && member.id.is_empty() && member.instance.is_none();
            return match (claims_nothing, member.generation >= 0) {
                (true, _) => Ok(Plan::reply(())),
                (false, true) => Err(Code::IllegalGeneration),
                (false, false) => Err(Code::UnknownMemberId),
            };
        };
        members.check_commit(member, is_in_txn)?;
        Ok(Plan::new(vec![Members::note_heard(group, member, now_ms)], ()))
    }

    /// Removes offsets of a group; the reply has a code for each partition.
    ///
    /// # Errors
    /// The group does not exist, or its members are not consumers.
    pub fn plan_delete_offsets(
        &self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<Plan<Vec<Code>>, Code> {
        let phase = self.group_phase(group).ok_or(Code::GroupIdNotFound)?;
        let members = self.members.get(group).filter(|_| phase != Phase::Empty);
        if members.is_some_and(|members| members.protocol_type() != "consumer") {
            return Err(Code::NonEmptyGroup);
        }
        let code = |(topic, partition): &(String, i32)| {
            if members.is_some_and(|members| members.is_subscribed(topic)) {
                Code::GroupSubscribedToTopic
            } else if self.find(topic, *partition).is_err() {
                Code::UnknownTopicOrPartition
            } else {
                Code::None
            }
        };
        let codes: Vec<Code> = partitions.iter().map(code).collect();
        let fine = partitions.iter().zip(&codes).filter(|(_, code)| **code == Code::None);
        let fine: Vec<(String, i32)> = fine.map(|(place, _)| place.clone()).collect();
        if fine.is_empty() {
            return Ok(Plan::reply(codes));
        }
        let deleted = Entry::OffsetsDeleted { group: group.to_owned(), partitions: fine };
        Ok(Plan::new(vec![Effect::Journal(deleted)], codes))
    }

    /// Deletes a group.
    ///
    /// # Errors
    /// [`Code::GroupIdNotFound`], or [`Code::NonEmptyGroup`] while it has members.
    pub fn plan_delete_group(&self, group: &str) -> Result<Plan<()>, Code> {
        match self.group_phase(group) {
            None => return Err(Code::GroupIdNotFound),
            Some(Phase::Empty) => {}
            Some(_) => return Err(Code::NonEmptyGroup),
        }
        Ok(Plan::new(vec![Effect::Journal(Entry::GroupDeleted { group: group.to_owned() })], ()))
    }

    // ---- producers and transactions ----

    /// A producer id for an idempotent producer; the caller marks it as used with [`State::use_producer_id`].
    #[must_use]
    pub fn plan_producer_id(&self) -> Plan<(i64, i16)> {
        let (id, reserve) = self.transactions.next_producer_id();
        Plan::new(reserve.into_iter().map(Effect::Journal).collect(), (id, 0))
    }

    /// Notes that a producer id was handed out.
    pub fn use_producer_id(&mut self, id: i64) {
        self.transactions.take_producer_id(id);
    }

    /// A producer id and a new epoch for a transactional id. Fences the former owner and ends its open
    /// transaction: finishes a decided one, aborts any other. `current` is the producer id and epoch of a
    /// client that asks for the next epoch of its own.
    ///
    /// # Errors
    /// Bad timeout, or `current` is not current (`fenced`).
    pub fn plan_init_transactional(
        &self,
        id: &str,
        timeout_ms: i32,
        current: Option<(i64, i16)>,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<(i64, i16)>, Code> {
        if timeout_ms <= 0 || timeout_ms > MAX_TXN_TIMEOUT_MS {
            return Err(Code::InvalidTransactionTimeout);
        }
        let mut effects = Vec::new();
        let mut owner = None;
        if let Some(txn) = self.transactions.get(id) {
            if current.is_some_and(|current| current != (txn.producer_id, txn.epoch)) {
                return Err(fenced);
            }
            let epoch = self.finish(id, txn, &mut effects, now_ms);
            owner = epoch.checked_add(1).map(|next| (txn.producer_id, next));
        } else if current.is_some() {
            return Err(Code::InvalidProducerIdMapping);
        }
        let (producer_id, epoch) = owner.unwrap_or_else(|| {
            let (fresh, reserve) = self.transactions.next_producer_id();
            effects.extend(reserve.map(Effect::Journal));
            (fresh, 0)
        });
        effects.push(Effect::Journal(Entry::TxnProducer {
            id: id.to_owned(),
            producer_id,
            epoch,
            timeout_ms,
        }));
        Ok(Plan::new(effects, (producer_id, epoch)))
    }

    /// Ends whatever is open; gives the epoch the transactional id has then. An abort on behalf of nobody
    /// raises it, so that the markers fence the former owner in every partition.
    fn finish(&self, id: &str, txn: &Transaction, effects: &mut Vec<Effect>, now_ms: i64) -> i16 {
        match txn.status {
            TxnStatus::Empty | TxnStatus::Ended { .. } => txn.epoch,
            TxnStatus::Ending { commit } => {
                self.write_markers(id, txn, (txn.epoch, commit), effects, now_ms);
                txn.epoch
            }
            TxnStatus::Ongoing { .. } => {
                let epoch = txn.epoch.saturating_add(1);
                self.write_markers(id, txn, (epoch, false), effects, now_ms);
                epoch
            }
        }
    }

    /// Decision, markers, end: the order recovery relies on.
    fn write_markers(
        &self,
        id: &str,
        txn: &Transaction,
        (epoch, commit): (i16, bool),
        effects: &mut Vec<Effect>,
        now_ms: i64,
    ) {
        let decided = matches!(txn.status, TxnStatus::Ending { .. });
        if !decided {
            effects.push(Effect::Journal(Entry::TxnEnding { id: id.to_owned(), epoch, commit }));
        }
        let kind = if commit { Marker::Commit } else { Marker::Abort };
        for (topic, partition) in &txn.partitions {
            let Ok((log, core)) = self.find(topic, *partition) else { continue };
            // Carrying on after a stop: a partition without open records has its marker or needs none.
            if decided && !core.has_open(txn.producer_id) {
                continue;
            }
            let mut batch = Batch::marker(txn.producer_id, epoch, kind, now_ms);
            batch.place(core.next_offset(), None);
            effects.push(Effect::Append { log, batch });
        }
        effects.push(Effect::Journal(Entry::TxnEnded { id: id.to_owned() }));
    }

    /// Adds partitions to the transaction. Unknown partitions must be sorted out before.
    ///
    /// # Errors
    /// As [`Transactions::open_for`].
    pub fn plan_txn_partitions(
        &self,
        (id, producer_id, epoch): (&str, i64, i16),
        partitions: Vec<(String, i32)>,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let txn = self.transactions.open_for(id, producer_id, epoch, fenced)?;
        let is_ongoing = matches!(txn.status, TxnStatus::Ongoing { .. });
        if is_ongoing && partitions.iter().all(|partition| txn.partitions.contains(partition)) {
            return Ok(Plan::reply(()));
        }
        let added = Entry::TxnPartitions { id: id.to_owned(), partitions, at_ms: now_ms };
        Ok(Plan::new(vec![Effect::Journal(added)], ()))
    }

    /// Adds offsets to the transaction; an empty list announces the group.
    ///
    /// # Errors
    /// As [`Transactions::open_for`]; offsets without an announced transaction are
    /// [`Code::InvalidTxnState`].
    pub fn plan_txn_offsets(
        &self,
        (id, producer_id, epoch): (&str, i64, i16),
        group: &str,
        offsets: Vec<GroupOffset>,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let txn = self.transactions.open_for(id, producer_id, epoch, fenced)?;
        if !offsets.is_empty() && !matches!(txn.status, TxnStatus::Ongoing { .. }) {
            return Err(Code::InvalidTxnState);
        }
        let group = group.to_owned();
        let added = Entry::TxnOffsets { id: id.to_owned(), group, offsets, at_ms: now_ms };
        Ok(Plan::new(vec![Effect::Journal(added)], ()))
    }

    /// Commits or aborts. A repeat of the last decision is answered as the first time.
    ///
    /// # Errors
    /// As [`Transactions::owned`], or [`Code::InvalidTxnState`].
    pub fn plan_end_txn(
        &self,
        (id, producer_id, epoch): (&str, i64, i16),
        commit: bool,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let txn = self.transactions.owned(id, producer_id, epoch, fenced)?;
        match txn.status {
            TxnStatus::Empty => Err(Code::InvalidTxnState),
            TxnStatus::Ended { commit: before } | TxnStatus::Ending { commit: before }
                if before != commit =>
            {
                Err(Code::InvalidTxnState)
            }
            TxnStatus::Ended { .. } => Ok(Plan::reply(())),
            TxnStatus::Ongoing { .. } | TxnStatus::Ending { .. } => {
                let mut effects = Vec::new();
                self.write_markers(id, txn, (epoch, commit), &mut effects, now_ms);
                Ok(Plan::new(effects, ()))
            }
        }
    }

    /// Ends a transaction nobody will end: overdue, or decided before a restart.
    #[must_use]
    pub fn plan_finish_txn(&self, id: &str, now_ms: i64) -> Plan<()> {
        let mut effects = Vec::new();
        if let Some(txn) = self.transactions.get(id) {
            self.finish(id, txn, &mut effects, now_ms);
        }
        Plan::new(effects, ())
    }

    /// Aborts records of transactions that nobody will end: a power cut can take the journal's last lines and
    /// leave the log's. Without this, readers of committed records would wait at them for ever.
    #[must_use]
    pub fn plan_abort_orphans(&self, now_ms: i64) -> Plan<()> {
        let mut effects = Vec::new();
        for (name, topic) in &self.topics {
            for partition in 0..topic.partitions {
                let log = LogId { topic: topic.number, partition };
                let Some(core) = self.partitions.get(&log) else { continue };
                let place = (name.clone(), partition.cast_signed());
                let mut offset = core.next_offset();
                for (producer_id, epoch) in core.open_producers() {
                    if !self.transactions.will_end(producer_id, &place) {
                        let mut batch = Batch::marker(producer_id, epoch, Marker::Abort, now_ms);
                        batch.place(offset, None);
                        offset += 1;
                        effects.push(Effect::Append { log, batch });
                    }
                }
            }
        }
        Plan::new(effects, ())
    }

    // ---- changes ----

    /// Takes an effect that the store has taken.
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Append { log, batch } => self.apply_batch(*log, &batch.header),
            Effect::Journal(entry) => self.apply_entry(entry),
            Effect::Group { name, group } => self.members.put(name, group),
            Effect::Heard { group, member, now_ms } => self.members.heard(group, member, *now_ms),
            Effect::Answer { .. } => {}
        }
    }

    /// Takes a batch that is in a log. Logs of unknown topics are leftovers of deleted ones.
    pub fn apply_batch(&mut self, log: LogId, header: &BatchHeader) {
        if let Some(core) = self.partitions.get_mut(&log) {
            core.apply(header);
            // Ids in the logs were handed out, even if the journal lost its tail in a power cut.
            if header.producer_id >= 0 {
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
            Entry::OffsetsCommitted { group, offsets, at_ms } => {
                self.groups.store(group, offsets.iter().cloned(), *at_ms);
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
            Entry::TxnProducer { id, producer_id, epoch, timeout_ms } => {
                self.transactions.take_producer_id(*producer_id);
                self.transactions.set_producer(id, *producer_id, *epoch, *timeout_ms);
            }
            Entry::TxnPartitions { id, partitions, at_ms } => {
                self.transactions.add_partitions(id, partitions, *at_ms);
            }
            Entry::TxnOffsets { id, group, offsets, at_ms } => {
                self.transactions.add_offsets(id, group, offsets, *at_ms);
            }
            Entry::TxnEnding { id, epoch, commit } => self.transactions.end(id, *epoch, *commit),
            Entry::TxnEnded { id } => {
                for (group, offset, at_ms) in self.transactions.ended(id) {
                    self.groups.store(&group, [offset], at_ms);
                }
            }
        }
    }

    /// Call once after a replay.
    pub fn replayed(&mut self, now_ms: i64) {
        self.transactions.skip_reserved();
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
        entries
    }
}

/// What a topic's settings say about a batch.
fn check_batch(header: &BatchHeader, settings: &TopicSettings, now_ms: i64) -> Result<(), Code> {
    if header.length > settings.max_message_bytes {
        return Err(Code::MessageTooLarge);
    }
    let is_ahead = header.max_timestamp.saturating_sub(now_ms) > settings.ahead_max_ms;
    let is_behind = now_ms.saturating_sub(header.base_timestamp) > settings.behind_max_ms;
    let has_time = header.base_timestamp >= 0 && !settings.stamps_append_time;
    if has_time && (is_ahead || is_behind) { Err(Code::InvalidTimestamp) } else { Ok(()) }
}

/// Every record of a compacted topic needs a key.
fn check_keys(batch: &Batch) -> Result<(), Code> {
    let records = records::raw(&batch.to_bytes()).map_err(|_| Code::CorruptMessage)?;
    if records.iter().all(|record| record.key.is_some()) { Ok(()) } else { Err(Code::InvalidRecord) }
}

/// Letters, digits, `.`, `_` and `-`, as in Kafka.
fn check_topic_name(name: &str) -> Result<(), Code> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= MAX_TOPIC_NAME && name != "." && name != "..";
    if fits && name.chars().all(legal) { Ok(()) } else { Err(Code::InvalidTopic) }
}
