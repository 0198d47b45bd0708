//! The core of transactions: who owns a transactional id, and what its open transaction holds.

use std::collections::{BTreeMap, BTreeSet};

mod ending;
mod expiry;
mod markers;
mod requests;

pub use markers::WantedMarker;

use super::entry::{CommittedOffset, Entry, GroupOffset, TxnOwner};
use crate::code::Code;

/// Longest transaction a client may ask for; Kafka's default of `transaction.max.timeout.ms`.
pub const MAX_TXN_TIMEOUT_MS: i32 = 15 * 60 * 1000;

/// Producer ids reserved by one journal line.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Where the transaction of one transactional id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxnStatus {
    /// None since the last `InitProducerId`.
    Empty,
    /// Open since this time, milliseconds since 1970.
    Ongoing {
        /// Time of its first request.
        since_ms: i64,
    },
    /// Decided; markers are being written.
    Ending {
        /// Commit or abort.
        commit: bool,
    },
    /// The last one is over.
    Ended {
        /// Commit or abort.
        commit: bool,
    },
}

/// Group, topic, partition.
type OffsetKey = (String, String, i32);

/// A transactional id and its current transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Producer id of this transactional id.
    pub producer_id: i64,
    /// Current epoch.
    pub epoch: i16,
    /// Age at which an open transaction is aborted, milliseconds.
    pub timeout_ms: i32,
    /// Where it stands.
    pub status: TxnStatus,
    /// Topic and partition of everything it writes to.
    pub partitions: BTreeSet<(String, i32)>,
    /// The epoch that was raised to the current one, because its owner asked or its transaction was aborted.
    pub raised_from: Option<i16>,
    /// When it last changed while nothing was open, milliseconds since 1970.
    idle_since_ms: i64,
    /// With the time of the request, milliseconds since 1970.
    pending: BTreeMap<OffsetKey, (CommittedOffset, i64)>,
}

/// All transactional ids, and the producer ids handed out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    /// The next unused id.
    next_producer_id: i64,
    /// Ids below this are covered by the journal.
    reserved: i64,
}

impl Transactions {
    /// The state of one transactional id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    /// All transactional ids.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.by_id.iter().map(|(id, txn)| (id.as_str(), txn))
    }

    /// Looks up the transaction a request speaks for.
    ///
    /// # Errors
    /// Unknown id or producer id, or an epoch that is not the current one (`fenced` names the code for that).
    pub fn owned(&self, id: &str, producer_id: i64, epoch: i16, fenced: Code) -> Result<&Transaction, Code> {
        let txn = self.by_id.get(id).ok_or(Code::InvalidProducerIdMapping)?;
        if txn.producer_id != producer_id {
            return Err(Code::InvalidProducerIdMapping);
        }
        if txn.epoch == epoch { Ok(txn) } else { Err(fenced) }
    }

    /// The same for a request that adds to the transaction: not while the last one is being finished.
    ///
    /// # Errors
    /// As [`Transactions::owned`], or [`Code::ConcurrentTransactions`].
    pub fn open_for(
        &self,
        id: &str,
        producer_id: i64,
        epoch: i16,
        fenced: Code,
    ) -> Result<&Transaction, Code> {
        let txn = self.owned(id, producer_id, epoch, fenced)?;
        if matches!(txn.status, TxnStatus::Ending { .. }) {
            return Err(Code::ConcurrentTransactions);
        }
        Ok(txn)
    }

    /// Whether an open transaction holds an offset for this partition of the group.
    #[must_use]
    pub fn has_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        let key = (group.to_owned(), topic.to_owned(), partition);
        self.by_id.values().any(|txn| txn.pending.contains_key(&key))
    }

    /// Ids whose open transaction is over its time.
    #[must_use]
    pub fn overdue(&self, now_ms: i64) -> Vec<String> {
        let is_overdue = |txn: &Transaction| match txn.status {
            TxnStatus::Ongoing { since_ms } => now_ms - since_ms >= i64::from(txn.timeout_ms),
            _ => false,
        };
        self.by_id.iter().filter(|(_, txn)| is_overdue(txn)).map(|(id, _)| id.clone()).collect()
    }

    /// Ids whose transaction is decided and not carried out: something stopped us in the middle.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let ending = |txn: &Transaction| matches!(txn.status, TxnStatus::Ending { .. });
        self.by_id.iter().filter(|(_, txn)| ending(txn)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether the producer has a transaction that will write its marker to this partition.
    pub(super) fn will_end(&self, producer_id: i64, place: &(String, i32)) -> bool {
        let mut of_producer = self.by_id.values().filter(|txn| txn.producer_id == producer_id);
        of_producer.any(|txn| txn.partitions.contains(place))
    }

    /// The next producer id, and the journal line to store before it is used, if the block is used up.
    pub(super) fn next_producer_id(&self) -> (i64, Option<Entry>) {
        let id = self.next_producer_id;
        let entry = (id >= self.reserved).then(|| Entry::ProducerIds { next: id + PRODUCER_ID_BLOCK });
        (id, entry)
    }

    /// Producer ids are not stored one by one: the caller took this one.
    pub(super) fn take_producer_id(&mut self, id: i64) {
        self.next_producer_id = self.next_producer_id.max(id + 1);
    }

    /// After a restart: what was reserved may have been used.
    pub(super) fn skip_reserved(&mut self) {
        self.next_producer_id = self.next_producer_id.max(self.reserved);
    }

    pub(super) fn reserve(&mut self, next: i64) {
        self.reserved = self.reserved.max(next);
    }

    pub(super) fn set_owner(&mut self, id: &str, owner: &TxnOwner) {
        let txn = Transaction {
            producer_id: owner.producer_id,
            epoch: owner.epoch,
            timeout_ms: owner.timeout_ms,
            status: TxnStatus::Empty,
            partitions: BTreeSet::new(),
            raised_from: owner.raised_from,
            idle_since_ms: owner.at_ms,
            pending: BTreeMap::new(),
        };
        self.by_id.insert(id.to_owned(), txn);
    }

    pub(super) fn add_partitions(&mut self, id: &str, partitions: &[(String, i32)], at_ms: i64) {
        if let Some(txn) = self.by_id.get_mut(id) {
            txn.begin(at_ms);
            txn.partitions.extend(partitions.iter().cloned());
        }
    }

    pub(super) fn add_offsets(&mut self, id: &str, group: &str, offsets: &[GroupOffset], at_ms: i64) {
        if let Some(txn) = self.by_id.get_mut(id) {
            txn.begin(at_ms);
            for o in offsets {
                let key = (group.to_owned(), o.topic.clone(), o.partition);
                txn.pending.insert(key, (o.committed.clone(), at_ms));
            }
        }
    }

    pub(super) fn end(&mut self, id: &str, epoch: i16, commit: bool, at_ms: i64) {
        if let Some(txn) = self.by_id.get_mut(id) {
            if epoch > txn.epoch {
                txn.raised_from = Some(txn.epoch);
            }
            (txn.epoch, txn.idle_since_ms) = (epoch, at_ms);
            txn.status = TxnStatus::Ending { commit };
        }
    }

    /// Closes the transaction; gives the offsets that count now, by group, with the time of their request.
    pub(super) fn ended(&mut self, id: &str) -> Vec<(String, GroupOffset, i64)> {
        let Some(txn) = self.by_id.get_mut(id) else { return Vec::new() };
        let commit = matches!(txn.status, TxnStatus::Ending { commit: true });
        txn.status = TxnStatus::Ended { commit };
        txn.partitions.clear();
        let pending = std::mem::take(&mut txn.pending);
        if !commit {
            return Vec::new();
        }
        pending
            .into_iter()
            .map(|((group, topic, partition), (committed, at_ms))| {
                (group, GroupOffset { topic, partition, committed }, at_ms)
            })
            .collect()
    }

    pub(super) fn forget_topic(&mut self, topic: &str) {
        for txn in self.by_id.values_mut() {
            txn.partitions.retain(|(name, _)| name != topic);
            txn.pending.retain(|(_, name, _), _| name != topic);
        }
    }

    pub(super) fn snapshot(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::ProducerIds { next: self.reserved.max(self.next_producer_id) }];
        for (id, txn) in &self.by_id {
            txn.snapshot(id, &mut entries);
        }
        entries
    }
}

impl Transaction {
    fn begin(&mut self, at_ms: i64) {
        if !matches!(self.status, TxnStatus::Ongoing { .. }) {
            self.status = TxnStatus::Ongoing { since_ms: at_ms };
        }
    }

    fn snapshot(&self, id: &str, entries: &mut Vec<Entry>) {
        let id = id.to_owned();
        entries.push(Entry::TxnProducer {
            id: id.clone(),
            owner: TxnOwner {
                producer_id: self.producer_id,
                epoch: self.epoch,
                raised_from: self.raised_from,
                timeout_ms: self.timeout_ms,
                at_ms: self.idle_since_ms,
            },
        });
        let at_ms = match self.status {
            TxnStatus::Empty => return,
            TxnStatus::Ongoing { since_ms } => since_ms,
            TxnStatus::Ending { .. } | TxnStatus::Ended { .. } => 0,
        };
        let partitions = self.partitions.iter().cloned().collect();
        entries.push(Entry::TxnPartitions { id: id.clone(), partitions, at_ms });
        for ((group, topic, partition), (committed, committed_ms)) in &self.pending {
            let offset =
                GroupOffset { topic: topic.clone(), partition: *partition, committed: committed.clone() };
            entries.push(Entry::TxnOffsets {
                id: id.clone(),
                group: group.clone(),
                offsets: vec![offset],
                at_ms: *committed_ms,
            });
        }
        let (epoch, at_ms) = (self.epoch, self.idle_since_ms);
        match self.status {
            TxnStatus::Ending { commit } => entries.push(Entry::TxnEnding { id, epoch, commit, at_ms }),
            TxnStatus::Ended { commit } => {
                entries.push(Entry::TxnEnding { id: id.clone(), epoch, commit, at_ms });
                entries.push(Entry::TxnEnded { id });
            }
            TxnStatus::Empty | TxnStatus::Ongoing { .. } => {}
        }
    }
}
