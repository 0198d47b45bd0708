//! A worker process: it does what its machine says, one request at a time.

use crate::broker::{Broker, Commit, Outcome, Producer, Reply, Request, generation_and_epoch, rank};
use crate::coordinators::Message;
use pelton_checkpoint::{
    Action, Committed, Delivery, Event, Failure, Grant, Machine, Phase, Positions, Stamp,
};
use pelton_types::{Partition, PipelineName, TaskId};
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Ways in which a worker (its machine, or what carries it out) can be wrong. Each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sabotage {
    KeepsAProducerThatWasNotClean,
    SkipsTheClaim,
    IgnoresNewerEpochs,
    ReadsBeforeInit,
    DoesNotRewind,
    CommitsBeforeTheFlush,
    CommitsWhatItHolds,
    ForgetsAFailedFlush,
    SendsOutOfOrder,
    NeverTriesAgain,
    AlarmsAtTakingOver,
    /// Of the coordinator: an old generation is ended without a claim for the next.
    SkipsTheRetirementClaim,
    /// Of the coordinator: it leaves the id to its strays when a request of the claim was sent twice.
    TrustsAnUncleanRetirement,
}

/// What a worker is about to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Confirm,
    Init,
    Read,
    Flush,
    /// A plain commit (at-least-once).
    Offsets {
        offset: i64,
        claim: bool,
    },
    /// First half of a transactional commit.
    TxnOffsets {
        offset: i64,
        claim: bool,
    },
    /// Second half.
    EndTxn {
        claim: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    pub machine: Machine,
    pub ops: VecDeque<Op>,
    pub running: bool,
    pub timer: bool,
    pub position: i64,
    /// Outputs in the client's queue (at-least-once).
    pub queue: Vec<i64>,
    pub producer: Option<Producer>,
    /// A request of the producer went unanswered.
    dirty: bool,
    /// Stopped with an incident; nothing in these worlds deserves one.
    pub alarm: bool,
    sabotage: Option<Sabotage>,
    /// What was read too early (`ReadsBeforeInit`).
    early: Option<Option<Commit>>,
}

static TASKS: LazyLock<[TaskId; 2]> = LazyLock::new(|| {
    [1, 2].map(|generation| TaskId {
        pipeline: PipelineName::new("n", "p"),
        uuid: "u".into(),
        stage: 0,
        generation,
        index: 0,
    })
});
static PARTITION: LazyLock<Partition> = LazyLock::new(|| Partition::new("t", 0));
/// Texts by rank, made once: the explorer reads them very often.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = |rank| {
        let (generation, epoch) = generation_and_epoch(rank);
        Stamp::of(task(generation), epoch).map(|stamp| stamp.encode()).unwrap_or_default()
    };
    (0..32).map(text).collect()
});

/// The task of a generation.
pub fn task(generation: u32) -> &'static TaskId {
    &TASKS[id_of(generation)]
}

/// Its transactional id.
fn id_of(generation: u32) -> usize {
    usize::from(generation > 1)
}

/// What a reader finds committed.
pub fn committed(found: Option<Commit>) -> Committed {
    let text = found.and_then(|(_, rank)| TEXTS.get(usize::try_from(rank).ok()?).cloned());
    let offset = found.map(|(offset, _)| offset);
    Committed { partition: PARTITION.clone(), offset, start: offset.unwrap_or(0), metadata: text }
}

fn only(positions: &Positions) -> i64 {
    positions[0].1
}

impl Worker {
    pub fn granted(message: Message, delivery: Delivery, sabotage: Option<Sabotage>) -> Self {
        let Message { generation, epoch, virgin, .. } = message;
        let task = task(generation).clone();
        let grant =
            Grant { task, epoch, term: 1, virgin, partitions: vec![PARTITION.clone()], heard: Vec::new() };
        let (machine, actions) = Machine::new(grant, delivery);
        let mut worker = Self {
            machine,
            ops: VecDeque::new(),
            running: false,
            timer: false,
            position: 0,
            queue: Vec::new(),
            producer: None,
            dirty: false,
            alarm: false,
            sabotage,
            early: None,
        };
        worker.carry_out(actions, &mut Broker::default());
        worker
    }

    pub fn generation(&self) -> u32 {
        self.machine.grant().task.generation
    }

    pub fn rank(&self) -> u64 {
        rank(self.generation(), self.machine.grant().epoch)
    }

    fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    pub fn tell(&mut self, event: Event, broker: &mut Broker) {
        let actions = self.machine.on(event);
        self.carry_out(actions, broker);
    }

    fn carry_out(&mut self, actions: Vec<Action>, broker: &mut Broker) {
        let plain = self.machine.delivery() == Delivery::AtLeastOnce;
        for action in actions {
            match action {
                Action::ConfirmEpoch => self.ops.push_back(Op::Confirm),
                Action::InitProducer { .. } => self.ops.push_back(Op::Init),
                Action::ReadCommitted => self.ops.push_back(Op::Read),
                // Nothing is held between steps, so the cut is done at once.
                Action::Cut => {
                    self.running = false;
                    let ahead = i64::from(self.is(Sabotage::CommitsWhatItHolds));
                    let positions = vec![(PARTITION.clone(), self.position + ahead)];
                    self.tell(Event::CutDone { positions }, broker);
                }
                Action::Flush => self.ops.push_back(Op::Flush),
                Action::Claim { positions, .. } => self.push_commit(only(&positions), true, plain),
                Action::Commit { positions, .. } => self.push_commit(only(&positions), false, plain),
                Action::StartWork { positions } => {
                    broker.owner = broker.owner.max(self.rank());
                    self.position = only(&positions);
                    self.running = true;
                }
                Action::Rewind { positions } => {
                    self.queue.clear();
                    self.running = true;
                    if !self.is(Sabotage::DoesNotRewind) {
                        self.position = only(&positions);
                    }
                }
                Action::ResumeWork => self.running = true,
                Action::DiscardProducer => self.producer = None,
                Action::UndoUncommitted => {
                    self.running = false;
                    self.ops.retain(|op| matches!(op, Op::Offsets { .. }));
                    self.queue.clear();
                }
                Action::RetryAfter(_) => self.timer = true,
                Action::Stop { .. } => self.alarm = true,
                Action::Release { .. } | Action::StepDown { .. } | Action::Completed => {}
            }
        }
    }

    fn push_commit(&mut self, offset: i64, claim: bool, plain: bool) {
        if plain {
            self.ops.push_back(Op::Offsets { offset, claim });
        } else {
            self.ops.push_back(Op::TxnOffsets { offset, claim });
            self.ops.push_back(Op::EndTxn { claim });
        }
    }

    /// The request that the next op sends, when it is one that may be delayed.
    pub fn next_request(&self) -> Option<Request> {
        let producer = self.producer.unwrap_or_default();
        match *self.ops.front()? {
            Op::Offsets { offset, .. } => Some(Request::Offsets((offset, self.rank()))),
            Op::TxnOffsets { offset, .. } => Some(Request::TxnOffsets(producer, (offset, self.rank()))),
            Op::EndTxn { .. } => Some(Request::EndTxn(producer)),
            _ => None,
        }
    }

    /// Process the next record.
    pub fn work(&mut self, broker: &mut Broker) {
        match (self.machine.delivery(), self.producer) {
            (Delivery::AtLeastOnce, _) => self.queue.push(self.position),
            // A fenced producer takes records and says nothing.
            (Delivery::ExactlyOnce, Some(producer)) => broker.produce(producer, self.position, self.rank()),
            (Delivery::ExactlyOnce, None) => {}
        }
        self.position += 1;
    }

    /// One queued output reaches the broker before the flush.
    pub fn send(&mut self, broker: &mut Broker) {
        let at = if self.is(Sabotage::SendsOutOfOrder) { self.queue.len() - 1 } else { 0 };
        broker.visible.push(self.queue.remove(at));
    }

    /// Carry out the next op.
    pub fn execute(&mut self, outcome: Outcome, newest: u64, broker: &mut Broker) {
        let request = self.next_request();
        let Some(op) = self.ops.pop_front() else { return };
        let event = match op {
            Op::Confirm => match outcome {
                Outcome::Done if self.rank() < newest => Event::EpochRefused,
                Outcome::Done => Event::EpochConfirmed,
                _ => Event::CoordinatorSilent,
            },
            Op::Init => self.init(outcome, broker),
            Op::Read => Event::ReadDone(vec![self.read(broker)]),
            Op::Flush => self.flush(outcome, broker),
            Op::Offsets { claim, .. } | Op::TxnOffsets { claim, .. } | Op::EndTxn { claim } => {
                match self.request(op, claim, request, outcome, broker) {
                    Some(event) => event,
                    None => return,
                }
            }
        };
        self.tell(event, broker);
    }

    fn init(&mut self, outcome: Outcome, broker: &mut Broker) -> Event {
        if self.is(Sabotage::ReadsBeforeInit) && self.early.is_none() {
            self.early = Some(broker.committed);
            self.ops.push_front(Op::Init);
            return Event::CommitDue; // changes nothing in this phase
        }
        let producer = broker.init(id_of(self.generation()));
        if outcome != Outcome::Done {
            return Event::InitFailed(Failure::Retry);
        }
        self.producer = Some(producer);
        self.dirty = false;
        Event::InitDone
    }

    fn read(&mut self, broker: &Broker) -> Committed {
        let mut found = self.early.take().unwrap_or(broker.committed);
        if let Some((_, by)) = &mut found
            && self.is(Sabotage::IgnoresNewerEpochs)
        {
            *by = (*by).min(self.rank());
        }
        let mut read = committed(found);
        if self.is(Sabotage::AlarmsAtTakingOver) && found.is_some_and(|(_, by)| by < self.rank()) {
            read.metadata = Some("p1;".into());
        }
        read
    }

    fn flush(&mut self, outcome: Outcome, broker: &mut Broker) -> Event {
        if self.is(Sabotage::CommitsBeforeTheFlush) {
            return Event::FlushDone;
        }
        if outcome == Outcome::Done {
            broker.visible.append(&mut self.queue);
            return Event::FlushDone;
        }
        self.queue.clear();
        if self.is(Sabotage::ForgetsAFailedFlush) {
            return Event::FlushDone;
        }
        Event::FlushFailed(Failure::Retry)
    }

    /// One request of a claim or commit; `None`: the other half follows.
    fn request(
        &mut self,
        op: Op,
        claim: bool,
        request: Option<Request>,
        outcome: Outcome,
        broker: &mut Broker,
    ) -> Option<Event> {
        if claim && self.is(Sabotage::SkipsTheClaim) {
            self.ops.clear();
            return Some(Event::ClaimDone { clean: true });
        }
        let request = request?;
        let reply = broker.send(request, outcome);
        self.dirty |= matches!(outcome, Outcome::Delayed | Outcome::DoneTwice);
        let failed = reply == Reply::Refused;
        let clean = !self.dirty || self.is(Sabotage::KeepsAProducerThatWasNotClean);
        let first_half = matches!(op, Op::TxnOffsets { .. });
        if first_half && (failed || reply == Reply::Fenced) {
            self.ops.clear();
        }
        match (reply, failed, claim) {
            (Reply::Fenced, _, true) => Some(Event::ClaimFenced),
            (Reply::Fenced, _, false) => Some(Event::CommitFenced),
            (_, true, true) => Some(Event::ClaimFailed(Failure::Retry)),
            (_, true, false) => Some(Event::CommitFailed(Failure::Retry)),
            _ if first_half => None,
            (_, false, true) => Some(Event::ClaimDone { clean }),
            (_, false, false) => Some(Event::CommitDone { clean }),
        }
    }

    /// The wait is over.
    pub fn time(&mut self, broker: &mut Broker) {
        self.timer = false;
        if !self.is(Sabotage::NeverTriesAgain) {
            self.tell(Event::RetryDue, broker);
        }
    }

    pub fn may_notice_fencing(&self, broker: &Broker) -> bool {
        self.producer.is_some_and(|producer| !broker.is_current(producer))
            && matches!(self.machine.phase(), Phase::Working | Phase::Cutting | Phase::Flushing)
    }
}
