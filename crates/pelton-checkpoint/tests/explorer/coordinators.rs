//! Two coordinators over one store: they grant the task, and retire its first generation when shards are dealt anew.

use crate::broker::{Broker, Outcome, Producer, Reply, Request, rank};
use crate::worker::{Sabotage, committed, task};
use pelton_checkpoint::{Delivery, Retirement, retirement};

/// The coordinators' store: written by compare-and-swap that also compares the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    term: u64,
    /// The generation that is granted.
    generation: u32,
    epoch: u64,
    /// The shards were dealt anew, and the first generation is not retired yet: nothing is granted.
    retiring: bool,
    /// A worker has reported its claim: from then on grants are not virgin.
    claimed: bool,
    forgot: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Coordinator {
    /// Under which it thinks it leads; 0 before it was elected.
    term: u64,
    epoch: u64,
    /// What its hand does next, while it retires the first generation.
    hand: Option<Hand>,
}

/// A grant on its way to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    pub to: usize,
    pub generation: u32,
    pub epoch: u64,
    pub term: u64,
    pub virgin: bool,
}

impl Message {
    pub fn rank(&self) -> u64 {
        rank(self.generation, self.epoch)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinators {
    store: Store,
    each: [Coordinator; 2],
}

impl Coordinators {
    /// The first leads. A store that `forgets` is replaced by an older copy once.
    pub fn new(forgets: bool) -> Self {
        let store =
            Store { term: 1, generation: 1, epoch: 0, retiring: false, claimed: false, forgot: !forgets };
        Self { store, each: [Coordinator { term: 1, ..Coordinator::default() }, Coordinator::default()] }
    }

    /// Rank of the newest grant.
    pub fn newest(&self) -> u64 {
        self.store.rank()
    }

    pub fn generation(&self) -> u32 {
        self.store.generation
    }

    /// The hand of one of them.
    pub fn hand(&self, index: usize) -> Option<Hand> {
        self.each[index].hand
    }

    pub fn hands(&mut self) -> impl Iterator<Item = &mut Hand> {
        self.each.iter_mut().filter_map(|it| it.hand.as_mut())
    }

    /// Whether another was elected since.
    pub fn is_deposed(&self, index: usize) -> bool {
        self.each[index].term < self.store.term
    }

    /// The one whose writes the store takes.
    pub fn leader(&self) -> Option<usize> {
        let leads = |it: &Coordinator| (it.term, it.epoch) == (self.store.term, self.store.epoch);
        self.each.iter().position(leads)
    }

    pub fn elect(&mut self, index: usize) {
        self.store.term += 1;
        let hand = self.store.retiring.then_some(Hand::Init);
        self.each[index] = Coordinator { term: self.store.term, epoch: self.store.epoch, hand };
    }

    pub fn may_forget(&self) -> bool {
        !self.store.forgot && self.store.epoch > 0
    }

    pub fn forget(&mut self) {
        self.store.forgot = true;
        self.store.epoch -= 1;
        for coordinator in &mut self.each {
            coordinator.epoch = self.store.epoch;
        }
    }

    /// Compare-and-swap of the epoch under the term: a coordinator that was replaced, or that remembers an older
    /// epoch, changes nothing.
    pub fn may_grant(&self, by: usize) -> bool {
        self.leader() == Some(by) && !self.store.retiring
    }

    pub fn grant(&mut self, by: usize, to: usize) -> Option<Message> {
        self.may_grant(by).then(|| {
            self.store.epoch += 1;
            self.each[by].epoch = self.store.epoch;
            let Store { term, generation, epoch, claimed, .. } = self.store;
            Message { to, generation, epoch, term, virgin: !claimed }
        })
    }

    /// Somebody with a grant of this rank works, and has said so.
    pub fn hear_of_work(&mut self, by: u64) {
        self.store.claimed |= by > rank(self.store.generation, 0);
    }

    /// Only a task that was granted has to be retired.
    pub fn may_redeal(&self, by: usize) -> bool {
        let Store { generation, epoch, retiring, .. } = self.store;
        self.leader() == Some(by) && !retiring && generation == 1 && epoch > 0
    }

    /// The shards are dealt anew. Under at-least-once the new tasks are granted at once.
    pub fn redeal(&mut self, by: usize, delivery: Delivery) {
        self.store.retiring = true;
        match delivery {
            Delivery::AtLeastOnce => self.next_generation(),
            Delivery::ExactlyOnce => self.each[by].hand = Some(Hand::Init),
        }
    }

    /// The next thing that retiring the first generation takes. False when it was refused, and nobody was elected who
    /// may have gone on.
    pub fn retire(
        &mut self,
        by: usize,
        outcome: Outcome,
        broker: &mut Broker,
        sabotage: Option<Sabotage>,
    ) -> bool {
        let Some(hand) = self.each[by].hand else { return true };
        match hand.go_on(outcome, broker, sabotage) {
            Next::Hand(next) => self.each[by].hand = Some(next),
            Next::Retired => {
                self.each[by].hand = None;
                if !self.is_deposed(by) {
                    self.next_generation();
                }
            }
            Next::Refused => {
                self.each[by].hand = None;
                return self.is_deposed(by);
            }
        }
        true
    }

    fn next_generation(&mut self) {
        self.store = Store { generation: 2, epoch: 0, retiring: false, claimed: false, ..self.store };
        for coordinator in self.each.iter_mut().filter(|it| it.term == self.store.term) {
            coordinator.epoch = 0;
        }
    }
}

impl Store {
    fn rank(&self) -> u64 {
        rank(self.generation, self.epoch)
    }
}

/// What a coordinator's hand is about to do in retiring the first generation (P8). When something fails, or another
/// initialises the id, it begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hand {
    Init,
    Read(Producer),
    /// Restamp the offset it read: first half of a transaction.
    Claim(Producer, i64),
    /// Second half. `clean`: the first was sent once.
    End {
        producer: Producer,
        clean: bool,
    },
}

/// What follows.
enum Next {
    Hand(Hand),
    Retired,
    Refused,
}

impl Hand {
    pub fn producer(&mut self) -> Option<&mut Producer> {
        match self {
            Self::Init => None,
            Self::Read(producer) | Self::Claim(producer, _) | Self::End { producer, .. } => Some(producer),
        }
    }

    /// How what it does next may end.
    pub fn outcomes(self, faults: bool) -> &'static [Outcome] {
        use Outcome::{Delayed, Done, DoneTwice, DoneUnanswered};
        match self {
            Self::Init | Self::Read(_) => &[Done],
            _ if !faults => &[Done],
            Self::Claim(..) => &[Done, DoneTwice, Delayed],
            Self::End { .. } => &[Done, DoneTwice, Delayed, DoneUnanswered],
        }
    }

    fn go_on(self, outcome: Outcome, broker: &mut Broker, sabotage: Option<Sabotage>) -> Next {
        match self {
            Self::Init => Next::Hand(Self::Read(broker.init(0))),
            Self::Read(_) if sabotage == Some(Sabotage::SkipsTheRetirementClaim) => Next::Retired,
            Self::Read(producer) => match retirement(task(1), 2, &[committed(broker.committed)]) {
                Retirement::Claim { positions, .. } => Next::Hand(Self::Claim(producer, positions[0].1)),
                Retirement::Done => Next::Retired,
                Retirement::Refused(_) => Next::Refused,
            },
            Self::Claim(producer, offset) => {
                let request = Request::TxnOffsets(producer, (offset, rank(2, 0)));
                let clean = outcome == Outcome::Done;
                match broker.send(request, outcome) {
                    Reply::Done => Next::Hand(Self::End { producer, clean }),
                    Reply::Fenced | Reply::Refused => Next::Hand(Self::Init),
                }
            }
            // P7: what is still on its way could take the new owner's offsets back, whose id fences nothing of this one.
            Self::End { producer, clean } => {
                let clean = clean && outcome == Outcome::Done
                    || sabotage == Some(Sabotage::TrustsAnUncleanRetirement);
                match broker.send(Request::EndTxn(producer), outcome) {
                    Reply::Done if clean => Next::Retired,
                    _ => Next::Hand(Self::Init),
                }
            }
        }
    }
}
