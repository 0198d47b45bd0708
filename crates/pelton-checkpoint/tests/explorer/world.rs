//! Two coordinators, two workers and a broker, and every step that may come next.

mod calm;

use crate::broker::{Broker, BrokerFlaws, Outcome, Producer};
use crate::coordinators::{Coordinators, Hand, Message};
use crate::worker::{Op, Sabotage, Worker};
use pelton_checkpoint::{Delivery, Event, Phase};

/// What is explored, and how much may go wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub delivery: Delivery,
    pub records: i64,
    pub left: Left,
    /// The coordinators' store was restored from a copy once: an epoch may be granted twice.
    pub store_forgets: bool,
    pub sabotage: Option<Sabotage>,
    pub flaws: BrokerFlaws,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Crashes, lost or repeated requests of workers, failed flushes, transactions that time out.
    pub faults: u8,
    /// Lost or repeated requests of a coordinator's hand.
    pub slips: u8,
    pub grants: u8,
    pub elections: u8,
    pub revokes: u8,
    /// Producers initialised: rivals may fence each other for ever, a bound keeps the exploration finite.
    pub inits: u8,
    /// The shards are dealt anew, so that a second generation follows the first.
    pub redeals: u8,
}

/// What must hold. All but the last hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// Every record below the committed offset has its output.
    NothingLost,
    /// No output twice (exactly-once).
    NothingDoubled,
    /// Outputs and offsets become visible together (exactly-once).
    OutputsAndOffsetsTogether,
    /// The epoch in the committed metadata never falls (exactly-once).
    EpochsNeverFall,
    /// Nothing of an older grant is committed after a newer one began to work (exactly-once).
    NoZombieCommits,
    /// First occurrences of outputs come in order and without gaps.
    FirstOccurrencesRise,
    /// No machine stops with an incident: nothing here deserves one.
    NoFalseAlarm,
    /// From any state, once nothing goes wrong any more, all records are processed and committed.
    WorkGoesOn,
}

impl Invariant {
    pub const ALL: [Self; 8] = [
        Self::NothingLost,
        Self::NothingDoubled,
        Self::OutputsAndOffsetsTogether,
        Self::EpochsNeverFall,
        Self::NoZombieCommits,
        Self::FirstOccurrencesRise,
        Self::NoFalseAlarm,
        Self::WorkGoesOn,
    ];

    /// Those that a delivery promises.
    pub fn promised(delivery: Delivery) -> Vec<Self> {
        let exactly_once = [
            Self::NothingDoubled,
            Self::OutputsAndOffsetsTogether,
            Self::EpochsNeverFall,
            Self::NoZombieCommits,
        ];
        let promised = |it: &Self| delivery == Delivery::ExactlyOnce || !exactly_once.contains(it);
        Self::ALL.into_iter().filter(promised).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A coordinator becomes leader.
    Elect(usize),
    /// A coordinator that thinks it leads grants the task to a worker.
    Grant {
        by: usize,
        to: usize,
    },
    /// The store is replaced by an older copy.
    StoreForgets,
    /// A coordinator deals the shards anew.
    Redeal(usize),
    /// The next thing that its hand does to retire the first generation.
    Retire(usize, Outcome),
    Deliver(usize),
    Execute(usize, Outcome),
    Process(usize),
    Send(usize),
    CommitDue(usize),
    Timer(usize),
    NoticeFencing(usize),
    Revoke(usize),
    /// `sent`: the request it was about to make is on its way.
    Crash {
        worker: usize,
        sent: bool,
    },
    /// A delayed request arrives.
    Stray(usize),
    TransactionTimesOut(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    delivery: Delivery,
    records: i64,
    sabotage: Option<Sabotage>,
    pub left: Left,
    coordinators: Coordinators,
    grants: Vec<Message>,
    pub workers: [Option<Worker>; 2],
    /// Highest term and rank each worker process has seen.
    floors: [(u64, u64); 2],
    pub broker: Broker,
    pub alarm: bool,
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            delivery: scenario.delivery,
            records: scenario.records,
            sabotage: scenario.sabotage,
            left: scenario.left,
            coordinators: Coordinators::new(scenario.store_forgets),
            grants: Vec::new(),
            workers: [None, None],
            floors: [(0, 0); 2],
            broker: Broker { flaws: scenario.flaws, ..Broker::default() },
            alarm: false,
        }
    }

    pub fn holds(&self, invariant: Invariant) -> bool {
        let visible = &self.broker.visible;
        let offset = self.broker.committed.map_or(0, |(offset, _)| offset);
        match invariant {
            Invariant::NothingLost => (0..offset).all(|record| visible.contains(&record)),
            Invariant::NothingDoubled => {
                (0..self.records).all(|record| visible.iter().filter(|seen| **seen == record).count() <= 1)
            }
            Invariant::OutputsAndOffsetsTogether => visible.iter().all(|record| *record < offset),
            Invariant::EpochsNeverFall => !self.broker.epoch_fell,
            Invariant::NoZombieCommits => !self.broker.zombie_committed,
            Invariant::FirstOccurrencesRise => {
                let mut next = 0;
                visible.iter().all(|record| {
                    next += i64::from(*record == next);
                    *record < next
                })
            }
            Invariant::NoFalseAlarm => !self.alarm,
            Invariant::WorkGoesOn => true,
        }
    }

    /// Every record is processed and committed.
    pub fn done(&self) -> bool {
        self.broker.highest >= self.records
    }

    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.coordinator_steps(&mut steps);
        for worker in 0..2 {
            self.worker_steps(worker, &mut steps);
        }
        steps.extend((0..self.broker.strays.len()).map(Step::Stray));
        let open = (0..2).filter(|id| self.broker.open[*id].is_some());
        let late = open.filter(|id| self.left.faults > 0 || self.is_orphaned(*id));
        steps.extend(late.map(Step::TransactionTimesOut));
        steps
    }

    /// No worker is left that could end the transaction of this id. A coordinator's hand could, but may sleep.
    fn is_orphaned(&self, id: usize) -> bool {
        let current = |producer: Producer| producer.0 == id && self.broker.is_current(producer);
        !self.workers.iter().flatten().filter_map(|worker| worker.producer).any(current)
    }

    fn coordinator_steps(&self, steps: &mut Vec<Step>) {
        let all = &self.coordinators;
        for index in 0..2 {
            if self.left.elections > 0 && all.is_deposed(index) {
                steps.push(Step::Elect(index));
            }
            // One is kept for the generation to come.
            if self.left.grants > self.left.redeals && all.may_grant(index) {
                let to = (0..2).filter(|to| self.may_be_granted(*to));
                steps.extend(to.map(|to| Step::Grant { by: index, to }));
            }
            if self.left.redeals > 0 && all.may_redeal(index) {
                steps.push(Step::Redeal(index));
            }
            if let Some(hand) = all.hand(index).filter(|hand| self.may_go_on(*hand)) {
                let outcomes = hand.outcomes(self.left.slips > 0);
                steps.extend(outcomes.iter().map(|it| Step::Retire(index, *it)));
            }
        }
        if all.may_forget() {
            steps.push(Step::StoreForgets);
        }
        steps.extend((0..self.grants.len()).map(Step::Deliver));
    }

    /// The workers are alike: the first grant goes to the first of them. And a holder of the old generation is kept:
    /// one that is replaced does no more than one that sleeps for ever.
    fn may_be_granted(&self, to: usize) -> bool {
        let holds_old = |worker: &Worker| worker.generation() < self.coordinators.generation();
        (to == 0 || self.coordinators.newest() > 0) && !self.workers[to].as_ref().is_some_and(holds_old)
    }

    fn may_go_on(&self, hand: Hand) -> bool {
        !matches!(hand, Hand::Read(_)) || !self.broker.unstable()
    }

    fn worker_steps(&self, index: usize, steps: &mut Vec<Step>) {
        let Some(worker) = &self.workers[index] else { return };
        let faults = self.left.faults > 0;
        if let Some(op) = worker.ops.front()
            && self.enabled(*op)
        {
            steps.extend(outcomes(*op, self.delivery, faults).iter().map(|it| Step::Execute(index, *it)));
        }
        if worker.running && worker.position < self.records {
            steps.push(Step::Process(index));
        }
        if !worker.queue.is_empty() {
            steps.push(Step::Send(index));
        }
        if worker.machine.phase() == Phase::Working && worker.position > worker.machine.committed()[0].1 {
            steps.push(Step::CommitDue(index));
        }
        if worker.timer {
            steps.push(Step::Timer(index));
        }
        if worker.may_notice_fencing(&self.broker) {
            steps.push(Step::NoticeFencing(index));
        }
        if self.left.revokes > 0 {
            steps.push(Step::Revoke(index));
        }
        if faults {
            steps.push(Step::Crash { worker: index, sent: false });
            if worker.next_request().is_some() {
                steps.push(Step::Crash { worker: index, sent: true });
            }
        }
    }

    fn enabled(&self, op: Op) -> bool {
        match op {
            Op::Init => self.left.inits > 0,
            Op::Read => !self.broker.unstable(),
            _ => true,
        }
    }

    pub fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        next.take(step);
        next
    }

    pub fn take(&mut self, step: Step) {
        self.happen(step);
        let by_workers = self.workers.iter_mut().flatten().filter_map(|worker| worker.producer.as_mut());
        let by_hands = self.coordinators.hands().filter_map(Hand::producer);
        self.broker.forget_old_epochs(by_workers.chain(by_hands));
    }

    fn happen(&mut self, step: Step) {
        match step {
            Step::Elect(index) => {
                self.left.elections -= 1;
                self.coordinators.elect(index);
            }
            Step::Grant { by, to } => {
                self.left.grants -= 1;
                self.grants.extend(self.coordinators.grant(by, to));
            }
            Step::StoreForgets => self.coordinators.forget(),
            Step::Redeal(by) => {
                self.left.redeals -= 1;
                self.coordinators.redeal(by, self.delivery);
            }
            Step::Retire(by, outcome) => {
                self.left.slips -= u8::from(outcome != Outcome::Done);
                let fine = self.coordinators.retire(by, outcome, &mut self.broker, self.sabotage);
                self.alarm |= !fine;
            }
            Step::Deliver(index) => self.deliver(index),
            Step::Execute(index, outcome) => self.execute(index, outcome),
            Step::Crash { worker, sent } => self.crash(worker, sent),
            Step::Stray(index) => {
                let request = self.broker.strays.remove(index);
                self.broker.apply(request);
            }
            Step::TransactionTimesOut(id) => {
                self.left.faults = self.left.faults.saturating_sub(u8::from(!self.is_orphaned(id)));
                self.broker.time_out(id);
            }
            Step::Process(index) => self.with(index, Worker::work),
            Step::Send(index) => self.with(index, Worker::send),
            Step::Timer(index) => self.with(index, Worker::time),
            Step::CommitDue(index) => {
                self.with(index, |worker, broker| worker.tell(Event::CommitDue, broker))
            }
            Step::NoticeFencing(index) => {
                self.with(index, |worker, broker| worker.tell(Event::Fenced, broker));
            }
            Step::Revoke(index) => {
                self.left.revokes -= 1;
                self.with(index, |worker, broker| worker.tell(Event::Revoked, broker));
            }
        }
    }

    fn deliver(&mut self, index: usize) {
        let message = self.grants.remove(index);
        let (term_floor, rank_floor) = self.floors[message.to];
        if message.term < term_floor || message.rank() <= rank_floor {
            return;
        }
        self.floors[message.to] = (message.term, message.rank());
        self.workers[message.to] = Some(Worker::granted(message, self.delivery, self.sabotage));
    }

    fn execute(&mut self, index: usize, outcome: Outcome) {
        let newest = self.coordinators.newest();
        let Some(worker) = &self.workers[index] else { return };
        let op = worker.ops.front();
        self.left.inits -= u8::from(op == Some(&Op::Init));
        self.left.faults -= u8::from(outcome != Outcome::Done && op != Some(&Op::Confirm));
        self.with(index, |worker, broker| worker.execute(outcome, newest, broker));
    }

    fn crash(&mut self, index: usize, sent: bool) {
        self.left.faults -= 1;
        self.floors[index] = (0, 0);
        if let Some(request) = self.workers[index].take().and_then(|worker| worker.next_request())
            && sent
        {
            self.broker.delay(request);
        }
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Worker, &mut Broker)) {
        let Some(worker) = &mut self.workers[index] else { return };
        act(worker, &mut self.broker);
        self.alarm |= worker.alarm;
        if worker.running {
            self.coordinators.hear_of_work(worker.rank());
        }
        if worker.machine.phase().is_final() {
            self.workers[index] = None;
        }
    }
}

/// How a request may end.
fn outcomes(op: Op, delivery: Delivery, faults: bool) -> &'static [Outcome] {
    use Outcome::{Delayed, Done, DoneTwice, DoneUnanswered};
    match op {
        // Asking may always be in vain.
        Op::Confirm => &[Done, DoneUnanswered],
        _ if !faults => &[Done],
        Op::Init => &[Done, DoneUnanswered],
        Op::Read => &[Done],
        Op::Flush => &[Done, Delayed],
        Op::TxnOffsets { .. } => &[Done, DoneTwice, Delayed],
        Op::Offsets { .. } | Op::EndTxn { .. } => {
            debug_assert!(matches!(op, Op::EndTxn { .. }) == (delivery == Delivery::ExactlyOnce));
            &[Done, DoneTwice, Delayed, DoneUnanswered]
        }
    }
}
