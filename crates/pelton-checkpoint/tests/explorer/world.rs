//! Two coordinators, two workers and a broker, and every step that may come next.

use crate::broker::{Broker, BrokerFlaws};
use crate::worker::{Op, Outcome, Sabotage, Worker};
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
    /// Crashes, lost or repeated requests, failed flushes, transactions that time out.
    pub faults: u8,
    pub grants: u8,
    pub elections: u8,
    pub revokes: u8,
    /// Producers initialised: rivals may fence each other for ever, a bound keeps the exploration finite.
    pub inits: u8,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Coordinator {
    term: u64,
    epoch: u64,
}

/// The coordinators' store: written by compare-and-swap that also compares the term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Store {
    term: u64,
    epoch: u64,
    /// A worker has reported its claim: from then on grants are not virgin.
    claimed: bool,
    forgot: bool,
}

/// A grant on its way to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    to: usize,
    epoch: u64,
    term: u64,
    virgin: bool,
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
    TransactionTimesOut,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    delivery: Delivery,
    records: i64,
    sabotage: Option<Sabotage>,
    pub left: Left,
    store: Store,
    coordinators: [Coordinator; 2],
    grants: Vec<Message>,
    pub workers: [Option<Worker>; 2],
    /// Highest term and epoch each worker process has seen.
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
            store: Store { term: 1, forgot: !scenario.store_forgets, ..Store::default() },
            coordinators: [Coordinator { term: 1, epoch: 0 }, Coordinator::default()],
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
        if self.broker.open.is_some() && (self.left.faults > 0 || self.transaction_is_orphaned()) {
            steps.push(Step::TransactionTimesOut);
        }
        steps
    }

    fn transaction_is_orphaned(&self) -> bool {
        self.workers.iter().flatten().all(|worker| worker.producer != Some(self.broker.producer_epoch))
    }

    fn coordinator_steps(&self, steps: &mut Vec<Step>) {
        for (index, coordinator) in self.coordinators.iter().enumerate() {
            if self.left.elections > 0 && coordinator.term < self.store.term {
                steps.push(Step::Elect(index));
            }
            if self.left.grants > 0 && coordinator.term > 0 {
                // The workers are alike: the first grant goes to the first of them.
                let to = if self.store.epoch == 0 { 0..1 } else { 0..2 };
                steps.extend(to.map(|to| Step::Grant { by: index, to }));
            }
        }
        if !self.store.forgot && self.store.epoch > 0 {
            steps.push(Step::StoreForgets);
        }
        steps.extend((0..self.grants.len()).map(Step::Deliver));
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
        match step {
            Step::Elect(index) => {
                self.left.elections -= 1;
                self.store.term += 1;
                self.coordinators[index] = Coordinator { term: self.store.term, epoch: self.store.epoch };
            }
            Step::Grant { by, to } => {
                self.left.grants -= 1;
                self.grant(by, to);
            }
            Step::StoreForgets => {
                self.store.forgot = true;
                self.store.epoch -= 1;
                for coordinator in &mut self.coordinators {
                    coordinator.epoch = self.store.epoch;
                }
            }
            Step::Deliver(index) => self.deliver(index),
            Step::Execute(index, outcome) => self.execute(index, outcome),
            Step::Crash { worker, sent } => self.crash(worker, sent),
            Step::Stray(index) => {
                let request = self.broker.strays.remove(index);
                self.broker.apply(request);
            }
            Step::TransactionTimesOut => {
                self.left.faults = self.left.faults.saturating_sub(u8::from(!self.transaction_is_orphaned()));
                self.broker.time_out();
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

    /// Compare-and-swap of the epoch under the term: a coordinator that was replaced, or that remembers an older
    /// epoch, changes nothing.
    fn grant(&mut self, by: usize, to: usize) {
        let coordinator = &mut self.coordinators[by];
        if (coordinator.term, coordinator.epoch) != (self.store.term, self.store.epoch) {
            return;
        }
        self.store.epoch += 1;
        coordinator.epoch = self.store.epoch;
        let message =
            Message { to, epoch: self.store.epoch, term: coordinator.term, virgin: !self.store.claimed };
        self.grants.push(message);
    }

    fn deliver(&mut self, index: usize) {
        let Message { to, epoch, term, virgin } = self.grants.remove(index);
        let (term_floor, epoch_floor) = self.floors[to];
        if term < term_floor || epoch <= epoch_floor {
            return;
        }
        self.floors[to] = (term, epoch);
        self.workers[to] = Some(Worker::granted(epoch, virgin, self.delivery, self.sabotage));
    }

    fn execute(&mut self, index: usize, outcome: Outcome) {
        let newest = self.store.epoch;
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
        self.store.claimed |= worker.running;
        if worker.machine.phase().is_final() {
            self.workers[index] = None;
        }
    }

    /// The next step when nothing goes wrong: the newest grant is delivered or made, then each worker in turn does
    /// what it can. `turn` says whose turn it is.
    ///
    /// While the coordinators are `away` nothing is granted and asking is in vain; time then passes slowly: a wait
    /// ends only when nobody has anything else to do.
    pub fn calm_step(&self, turn: usize, away: bool) -> Option<Step> {
        if !away && let Some(step) = self.calm_coordinator_step(turn) {
            return Some(step);
        }
        let mut steps = Vec::new();
        for index in [turn % 2, (turn + 1) % 2] {
            self.worker_steps(index, &mut steps);
        }
        let expected = |step: &Step| match *step {
            Step::Execute(index, outcome) => {
                let asks =
                    self.workers[index].as_ref().is_some_and(|it| it.ops.front() == Some(&Op::Confirm));
                (outcome == Outcome::Done) != (asks && away)
            }
            Step::Revoke(_) | Step::Crash { .. } => false,
            Step::Timer(_) => !away,
            _ => true,
        };
        let orphaned = self.broker.open.is_some() && self.transaction_is_orphaned();
        let timer = steps.iter().find(|step| matches!(step, Step::Timer(_)));
        let step = steps.iter().find(|step| expected(step)).or(timer).copied();
        step.or(orphaned.then_some(Step::TransactionTimesOut))
    }

    /// Make sure that somebody holds the newest grant.
    fn calm_coordinator_step(&self, turn: usize) -> Option<Step> {
        if self.workers.iter().flatten().any(|worker| worker.epoch() == self.store.epoch) {
            return None;
        }
        if let Some(index) = self.grants.iter().rposition(|message| message.epoch == self.store.epoch) {
            return Some(Step::Deliver(index));
        }
        let leads = |it: &Coordinator| (it.term, it.epoch) == (self.store.term, self.store.epoch);
        match self.coordinators.iter().position(leads) {
            Some(by) => Some(Step::Grant { by, to: turn % 2 }),
            None => Some(Step::Elect(usize::from(self.coordinators[0].term == self.store.term))),
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
