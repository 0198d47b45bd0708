//! What the broker does, as far as the protocol can see it: one input partition, and a transactional id for each of two
//! generations of the task.

use std::fmt;

/// Offset of a commit, and the rank of who made it (see [`rank`]).
pub type Commit = (i64, u64);
/// A transactional id, by the number of its generation from 0, and its epoch.
pub type Producer = (usize, u32);

/// Epochs of a generation are fewer than this.
const EPOCHS: u64 = 16;

/// Generation and epoch as one number: who has the higher one is newer.
pub fn rank(generation: u32, epoch: u64) -> u64 {
    u64::from(generation - 1) * EPOCHS + epoch
}

/// Generation and epoch of a rank.
pub fn generation_and_epoch(rank: u64) -> (u32, u64) {
    (u32::try_from(rank / EPOCHS).unwrap_or(0) + 1, rank % EPOCHS)
}

/// A transaction under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Records whose outputs are in it, with the rank of the grant that made them.
    outputs: Vec<(i64, u64)>,
    offset: Option<Commit>,
}

/// A request that may be delayed, so that it arrives after its call is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// A plain offset commit.
    Offsets(Commit),
    /// Offsets into the transaction of this producer epoch.
    TxnOffsets(Producer, Commit),
    /// Commit the transaction of this producer epoch.
    EndTxn(Producer),
}

impl Request {
    fn producer(&mut self) -> Option<&mut Producer> {
        match self {
            Self::Offsets(_) => None,
            Self::TxnOffsets(producer, _) | Self::EndTxn(producer) => Some(producer),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offsets((offset, epoch)) => write!(f, "OffsetCommit({offset}, e={epoch})"),
            Self::TxnOffsets(pid, (offset, epoch)) => {
                write!(f, "TxnOffsetCommit({offset}, e={epoch}, producer {pid:?})")
            }
            Self::EndTxn(pid) => write!(f, "EndTxn(producer {pid:?})"),
        }
    }
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done and answered.
    Done,
    /// Sent twice by the client library: done and answered, and one copy still on its way.
    DoneTwice,
    /// The call fails; the request is still on its way.
    Delayed,
    /// The call fails, although it was done.
    DoneUnanswered,
}

/// What a caller hears; `Refused` also when it hears nothing.
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
    /// By transactional id.
    pub producer_epoch: [u32; 2],
    pub open: [Option<Transaction>; 2],
    pub last_ended_with_commit: [bool; 2],
    /// Delayed requests, sorted.
    pub strays: Vec<Request>,
    /// Highest rank that began to work.
    pub owner: u64,
    /// The rank in the committed metadata fell.
    pub epoch_fell: bool,
    /// A transaction of a rank below `owner` was committed.
    pub zombie_committed: bool,
}

impl Broker {
    /// A new producer: fences the ones before it and aborts their transaction. Last init wins.
    pub fn init(&mut self, id: usize) -> Producer {
        if !self.flaws.init_does_not_fence {
            self.producer_epoch[id] += 1;
            self.abort(id);
        }
        (id, self.producer_epoch[id])
    }

    /// The transaction took too long: aborted, and its producer is fenced.
    pub fn time_out(&mut self, id: usize) {
        self.producer_epoch[id] += 1;
        self.abort(id);
    }

    fn abort(&mut self, id: usize) {
        if self.open[id].take().is_some() {
            self.last_ended_with_commit[id] = false;
        }
    }

    /// Whether nobody has initialised its id since.
    pub fn is_current(&self, (id, epoch): Producer) -> bool {
        self.producer_epoch[id] == epoch
    }

    /// All that can be told of a producer is whether it is current, and none becomes so again: count no epochs, and
    /// drop the requests that can only be refused. Worlds that differ in nothing else are then one. `producers` are
    /// all that anybody holds.
    pub fn forget_old_epochs<'a>(&'a mut self, producers: impl Iterator<Item = &'a mut Producer>) {
        let epochs = self.producer_epoch;
        let is_old = |(id, epoch): &Producer| *epoch != epochs[*id];
        self.strays.retain_mut(|request| !request.producer().is_some_and(|it| is_old(it)));
        let strays = self.strays.iter_mut().filter_map(Request::producer);
        for producer in strays.chain(producers) {
            producer.1 = if is_old(producer) { 0 } else { epochs[producer.0].min(1) };
        }
        self.producer_epoch = epochs.map(|epoch| epoch.min(1));
    }

    /// Each record's output goes to a partition of its own: the case in which a broker notices least.
    pub fn produce(&mut self, producer: Producer, record: i64, rank: u64) {
        if self.is_current(producer) {
            self.open[producer.0].get_or_insert_default().outputs.push((record, rank));
        }
    }

    pub fn apply(&mut self, request: Request) -> Reply {
        match request {
            Request::Offsets(commit) => {
                self.committed = Some(commit);
                self.highest = self.highest.max(commit.0);
                Reply::Done
            }
            Request::TxnOffsets(producer, _) | Request::EndTxn(producer) if !self.is_current(producer) => {
                Reply::Fenced
            }
            Request::TxnOffsets((id, _), commit) => {
                self.open[id].get_or_insert_default().offset = Some(commit);
                if self.flaws.offsets_outside_the_transaction {
                    self.commit_offset(commit);
                }
                Reply::Done
            }
            Request::EndTxn((id, _)) => self.end(id),
        }
    }

    fn end(&mut self, id: usize) -> Reply {
        match self.open[id].take() {
            None if self.last_ended_with_commit[id] => Reply::Done,
            None => Reply::Refused,
            Some(transaction) => {
                self.last_ended_with_commit[id] = true;
                self.zombie_committed |= transaction.outputs.iter().any(|(_, rank)| *rank < self.owner);
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
        self.open.iter().flatten().any(|transaction| transaction.offset.is_some())
    }

    /// A request that ends in this way.
    pub fn send(&mut self, request: Request, outcome: Outcome) -> Reply {
        let reply = if outcome == Outcome::Delayed { Reply::Refused } else { self.apply(request) };
        if matches!(outcome, Outcome::Delayed | Outcome::DoneTwice) {
            self.delay(request);
        }
        if outcome == Outcome::DoneUnanswered { Reply::Refused } else { reply }
    }

    pub fn delay(&mut self, request: Request) {
        self.strays.push(request);
        self.strays.sort_unstable();
    }
}
