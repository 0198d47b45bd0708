//! What the broker does, as far as the protocol can see it: one input partition, one transactional id.

use std::fmt;

/// Offset and epoch of a commit.
pub type Commit = (i64, u64);

/// A transaction under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Records whose outputs are in it, with the epoch of the grant that made them.
    outputs: Vec<(i64, u64)>,
    offset: Option<Commit>,
}

/// A request that may be delayed, so that it arrives after its call is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// A plain offset commit.
    Offsets(Commit),
    /// Offsets into the transaction of this producer epoch.
    TxnOffsets(u32, Commit),
    /// Commit the transaction of this producer epoch.
    EndTxn(u32),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offsets((offset, epoch)) => write!(f, "OffsetCommit({offset}, e={epoch})"),
            Self::TxnOffsets(pid, (offset, epoch)) => {
                write!(f, "TxnOffsetCommit({offset}, e={epoch}, producer {pid})")
            }
            Self::EndTxn(pid) => write!(f, "EndTxn(producer {pid})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    Fenced,
    Refused,
}

/// Ways in which a broker can be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BrokerFlaws {
    pub init_does_not_fence: bool,
    pub offsets_outside_the_transaction: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broker {
    pub flaws: BrokerFlaws,
    pub committed: Option<Commit>,
    /// Highest offset ever committed; a delayed plain commit may set `committed` back.
    pub highest: i64,
    /// What readers see: records whose output is stored (at-least-once) or committed, in log order.
    pub visible: Vec<i64>,
    pub producer_epoch: u32,
    pub open: Option<Transaction>,
    pub last_ended_with_commit: bool,
    /// Delayed requests, sorted.
    pub strays: Vec<Request>,
    /// Highest epoch that began to work.
    pub owner: u64,
    /// The epoch in the committed metadata fell.
    pub epoch_fell: bool,
    /// A transaction of an epoch below `owner` was committed.
    pub zombie_committed: bool,
}

impl Broker {
    /// A new producer: fences the ones before it and aborts their transaction. Last init wins.
    pub fn init(&mut self) -> u32 {
        if !self.flaws.init_does_not_fence {
            self.producer_epoch += 1;
            self.abort();
        }
        self.producer_epoch
    }

    /// The transaction took too long: aborted, and its producer is fenced.
    pub fn time_out(&mut self) {
        self.producer_epoch += 1;
        self.abort();
    }

    fn abort(&mut self) {
        if self.open.take().is_some() {
            self.last_ended_with_commit = false;
        }
    }

    /// Each record's output goes to a partition of its own: the case in which a broker notices least.
    pub fn produce(&mut self, producer: u32, record: i64, epoch: u64) {
        if producer == self.producer_epoch {
            self.open.get_or_insert_default().outputs.push((record, epoch));
        }
    }

    pub fn apply(&mut self, request: Request) -> Reply {
        match request {
            Request::Offsets(commit) => {
                self.committed = Some(commit);
                self.highest = self.highest.max(commit.0);
                Reply::Done
            }
            Request::TxnOffsets(producer, _) | Request::EndTxn(producer)
                if producer != self.producer_epoch =>
            {
                Reply::Fenced
            }
            Request::TxnOffsets(_, commit) => {
                self.open.get_or_insert_default().offset = Some(commit);
                if self.flaws.offsets_outside_the_transaction {
                    self.commit_offset(commit);
                }
                Reply::Done
            }
            Request::EndTxn(_) => self.end(),
        }
    }

    fn end(&mut self) -> Reply {
        match self.open.take() {
            None if self.last_ended_with_commit => Reply::Done,
            None => Reply::Refused,
            Some(transaction) => {
                self.last_ended_with_commit = true;
                let epochs = transaction.outputs.iter().map(|(_, epoch)| *epoch);
                self.zombie_committed |= epochs.clone().any(|epoch| epoch < self.owner);
                self.visible.extend(transaction.outputs.iter().map(|(record, _)| *record));
                if let Some(commit) = transaction.offset {
                    self.zombie_committed |= commit.1 < self.owner;
                    self.commit_offset(commit);
                }
                Reply::Done
            }
        }
    }

    fn commit_offset(&mut self, commit: Commit) {
        self.epoch_fell |= self.committed.is_some_and(|(_, epoch)| epoch > commit.1);
        self.committed = Some(commit);
        self.highest = self.highest.max(commit.0);
    }

    /// Offsets that a read which wants stable ones would have to wait for.
    pub fn unstable(&self) -> bool {
        self.open.as_ref().is_some_and(|transaction| transaction.offset.is_some())
    }

    pub fn delay(&mut self, request: Request) {
        self.strays.push(request);
        self.strays.sort_unstable();
    }
}
