//! One granted task: reads its partitions, runs its chain, commits, lets go.
//!
//! A task is a value with a [`Task::step`]: a thread, a test or a simulation calls it. What to do when is decided by
//! the machine of `pelton-checkpoint`; this file carries its actions out and tells it what came of them.

mod answers;
mod cut;
mod report;
mod transaction;
mod work;

use crate::{
    ages::{Stamps, Waits},
    chain::Chain,
    outputs::OutputQueue,
    plan::StagePlan,
    positions::PositionStore,
    setup::{Parts, SourceSlot},
    status::Progress,
    trouble,
};
use pelton_checkpoint::{Action, Delivery, Event, Failure, Grant, Machine, Phase, Positions};
use pelton_sdk::{Budget, Lag, Producer};
use pelton_types::{Account, Incident};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use transaction::Doubt;

/// How long the coordinator may take to confirm an epoch; the claim, not the answer, makes it safe.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// A commit is repeated after this; see [`Task::plan_repetition`].
const REPEAT_COMMIT_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often a sink that flushes is asked again: a flush ends in a few milliseconds.
const FLUSH_POLL: Duration = Duration::from_millis(1);

/// Limits and times of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskOptions {
    /// What one poll of a source may return.
    pub budget: Budget,
    /// Commits of all tasks fall on multiples of the interval after this moment, so that tasks that share a producer
    /// flush together.
    pub origin: Instant,
    /// What is promised about outputs. Exactly-once needs parts with a producer.
    pub delivery: Delivery,
    /// Milliseconds since 1970, for the ages of records.
    pub wall_clock: fn() -> i64,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Let go at a commit.
    Released,
    /// Somebody else owns it.
    SteppedDown,
    /// Stopped by an incident.
    Failed(Incident),
    /// Its sources ended and everything is committed.
    Completed,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Work was done: step again soon.
    Progress,
    /// Nothing to do until a wake-up, or until this time.
    Waiting {
        /// `None`: only a wake-up.
        until: Option<Instant>,
    },
}

/// See the module.
pub struct Task {
    grant: Grant,
    /// The task's id as text, for spans.
    name: String,
    plan: Arc<StagePlan>,
    options: TaskOptions,
    machine: Machine,
    sources: Vec<SourceSlot>,
    chain: Chain,
    outputs: Vec<OutputQueue>,
    dead_letters: Option<OutputQueue>,
    positions: PositionStore,
    producer: Option<Box<dyn Producer>>,
    /// What the machine was told last: why a producer is discarded.
    doubt: Doubt,
    /// When its producer was fenced, lately.
    fencings: Vec<Instant>,

    actions: VecDeque<Action>,
    reading: bool,
    working: bool,
    cutting: Option<cut::Cutting>,
    flushing: bool,
    ended: bool,
    wants_confirmation: bool,
    confirm_by: Option<Instant>,
    retry_at: Option<Instant>,
    deadline: Option<Instant>,
    /// When finishing ends, for the last commit to be in time.
    finish_by: Option<Instant>,
    /// Asked to let go during a commit that reads nothing on: told once it is over.
    revoke_later: bool,
    initialising: bool,
    /// What was done since the last commit is forgotten.
    undone: bool,
    /// Under exactly-once: results may go to the sinks, because the transaction of the next commit takes them.
    outlet_open: bool,
    next_commit: Instant,
    /// When what is committed is committed once more, although nothing moved (P9).
    repeat_commit: Instant,
    stalls: cut::Stalls,
    turn: usize,
    waits: Waits,
    /// Of records whose output nobody sees before the next commit.
    unseen: Stamps,

    account: Account,
    /// As of the last commit that is known to have succeeded: what a rewind goes back to.
    settled: Books,
    /// As of the cut whose commit is under way.
    cut: Option<Books>,
    committed: Positions,
    commits: u64,
    progress: Progress,
    incident: Option<Incident>,
    /// How it ends once its producer is closed.
    closing: Option<Outcome>,
    outcome: Option<Outcome>,
    /// Where it stood when it ended, for its last words.
    last_lag: Vec<Lag>,
}

/// The books as of a cut.
#[derive(Default)]
struct Books {
    account: Account,
    operators: Vec<Account>,
}

impl Task {
    /// A task as it was granted, with the parts made for it. Does nothing until it is stepped.
    pub fn new(grant: Grant, plan: Arc<StagePlan>, parts: Parts, options: TaskOptions, now: Instant) -> Task {
        let (machine, actions) = Machine::new(grant.clone(), options.delivery);
        let Parts { sources, chain, outputs, dead_letters, positions, producer } = parts;
        let mut task = Task {
            name: grant.task.to_string(),
            grant,
            options,
            machine,
            sources,
            chain,
            outputs,
            dead_letters,
            positions,
            producer,
            doubt: Doubt::default(),
            fencings: Vec::new(),
            actions: actions.into(),
            reading: false,
            working: false,
            cutting: None,
            flushing: false,
            ended: false,
            wants_confirmation: false,
            confirm_by: None,
            retry_at: None,
            deadline: None,
            finish_by: None,
            revoke_later: false,
            initialising: false,
            undone: false,
            outlet_open: false,
            next_commit: now,
            repeat_commit: now,
            stalls: cut::Stalls::new(),
            turn: 0,
            waits: Waits::default(),
            unseen: Stamps::default(),
            account: Account::default(),
            settled: Books::default(),
            cut: None,
            committed: Vec::new(),
            commits: 0,
            progress: Progress::default(),
            incident: None,
            closing: None,
            outcome: None,
            last_lag: Vec::new(),
            plan,
        };
        task.plan_commit(now);
        task.plan_repetition(now);
        task
    }

    /// The grant it works under.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The plan it runs.
    pub fn plan(&self) -> &StagePlan {
        &self.plan
    }

    /// The operators, for taps.
    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether the coordinator should be asked to confirm the epoch; true once per question.
    pub fn take_confirmation_wish(&mut self) -> bool {
        std::mem::take(&mut self.wants_confirmation)
    }

    /// The coordinator's answer: is our epoch the newest? `None`: it does not answer.
    pub fn confirmed(&mut self, newest: Option<bool>) {
        if self.confirm_by.take().is_some() {
            self.tell(match newest {
                Some(true) => Event::EpochConfirmed,
                Some(false) => Event::EpochRefused,
                None => Event::CoordinatorSilent,
            });
        }
    }

    /// Finish, commit and let go, by the deadline at the latest.
    pub fn release(&mut self, deadline: Instant) {
        if self.deadline.is_none() {
            self.deadline = Some(deadline);
            self.revoke_later = true;
            self.tell_revoke();
        }
    }

    /// A commit under exactly-once reads nothing on, so the machine would take it for the last: but what is held is to
    /// be finished and committed too.
    fn tell_revoke(&mut self) {
        let commits = matches!(self.machine.phase(), Phase::Cutting | Phase::Flushing | Phase::Committing);
        if self.revoke_later && !(self.exactly_once() && commits) {
            self.revoke_later = false;
            self.tell(Event::Revoked);
        }
    }

    /// Do what can be done now.
    pub fn step(&mut self, now: Instant) -> Step {
        let mut progressed = self.act(now);
        progressed |= self.poll_closing();
        self.check_times(now);
        progressed |= self.poll_positions(now);
        progressed |= self.poll_producer();
        self.tell_revoke();
        if self.working {
            progressed |= self.work(now);
        }
        progressed |= self.act(now);
        if progressed && self.outcome.is_none() {
            return Step::Progress;
        }
        Step::Waiting { until: self.wake_at(now) }
    }

    fn tell(&mut self, event: Event) {
        self.doubt.note(&event);
        let actions = self.machine.on(event);
        self.actions.extend(actions);
    }

    /// Carry out what the machine asked for.
    fn act(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(action) = self.actions.pop_front() {
            any = true;
            self.perform(action, now);
        }
        any
    }

    fn perform(&mut self, action: Action, now: Instant) {
        match action {
            Action::ConfirmEpoch => {
                self.wants_confirmation = true;
                self.confirm_by = Some(now + CONFIRM_TIMEOUT);
            }
            Action::ReadCommitted => self.positions.start_read(&mut self.sources),
            Action::Claim { positions, stamp } => {
                let (store, by) = self.committer();
                store.start_claim(by, positions, &stamp.to_string());
            }
            Action::Commit { positions, stamp } => {
                self.progress.commit_started = Some(now);
                let (store, by) = self.committer();
                store.start_commit(by, positions, &stamp.to_string());
            }
            Action::StartWork { positions } => self.start_work(positions, now),
            Action::Rewind { positions } => {
                if !self.undone {
                    self.undo();
                }
                self.start_work(positions, now);
            }
            Action::Cut => self.begin_cut(),
            Action::Flush => {
                self.flushing = true;
                self.all_outputs().for_each(OutputQueue::start_flush);
            }
            Action::ResumeWork => {
                self.reading = self.working && !self.ended;
                self.outlet_open = self.working;
            }
            Action::UndoUncommitted => self.undo(),
            Action::RetryAfter(pause) => self.retry_at = Some(now + pause),
            Action::InitProducer { throw_away } => match &mut self.producer {
                Some(producer) => {
                    producer.start_init(throw_away);
                    self.initialising = true;
                }
                None => self.tell(Event::InitFailed(Failure::Stop(trouble::no_transactions()))),
            },
            Action::DiscardProducer => {
                if self.doubt == Doubt::Fenced {
                    self.note_fencing(now);
                }
                self.discard_producer();
            }
            Action::Release { positions } => {
                if !positions.is_empty() {
                    self.committed = positions;
                }
                self.finish(Outcome::Released);
            }
            Action::StepDown { reason } => {
                tracing::info!(task = %self.grant.task, epoch = self.grant.epoch, ?reason, "stepping down");
                self.finish(Outcome::SteppedDown);
            }
            Action::Stop { incident } => self.finish(Outcome::Failed(incident)),
            Action::Completed => self.finish(Outcome::Completed),
        }
    }

    fn start_work(&mut self, positions: Positions, now: Instant) {
        self.committed.clone_from(&positions);
        self.reopen_books();
        self.undone = false;
        self.ended = false;
        self.waits.clear();
        for slot in &mut self.sources {
            let at: Positions =
                positions.iter().filter(|(p, _)| slot.spec.partitions.contains(p)).cloned().collect();
            slot.ended = false;
            if let Err(e) = slot.source.start(&at) {
                let event = Event::WorkFailed(trouble::of_end(&e, &slot.spec.name));
                let actions = self.machine.on(event);
                self.actions.extend(actions);
                return;
            }
        }
        self.working = true;
        self.reading = true;
        self.outlet_open = true;
        self.plan_commit(now);
    }

    /// Back to the last commit: nothing read since counts, nothing held is kept.
    fn undo(&mut self) {
        self.pause_work();
        self.unseen.clear();
        self.all_outputs().for_each(OutputQueue::clear);
        if let Err((operator, error)) = self.chain.reset() {
            let incident = trouble::cannot_build(&operator, &error);
            self.tell(Event::WorkFailed(incident));
        }
        self.undone = true;
        self.reopen_books();
    }

    /// The books as of the last commit.
    fn reopen_books(&mut self) {
        self.account = self.settled.account;
        self.chain.set_accounts(&self.settled.operators);
    }

    fn pause_work(&mut self) {
        self.working = false;
        self.reading = false;
        self.outlet_open = false;
        self.cutting = None;
        self.flushing = false;
        self.stalls.clear();
        self.progress.stalled = Duration::ZERO;
        self.progress.blocked = false;
        self.sources.iter_mut().for_each(|slot| slot.source.stop());
    }

    fn finish(&mut self, outcome: Outcome) {
        self.last_lag = self.sources.iter_mut().flat_map(|slot| slot.source.lag()).collect();
        self.pause_work();
        self.actions.clear();
        self.close_producer(outcome);
    }

    fn all_outputs(&mut self) -> impl Iterator<Item = &mut OutputQueue> {
        self.outputs.iter_mut().chain(self.dead_letters.as_mut())
    }

    fn check_times(&mut self, now: Instant) {
        let passed = |time: Option<Instant>| time.is_some_and(|at| now >= at);
        if passed(self.confirm_by) {
            self.confirmed(None);
        }
        if passed(self.retry_at) {
            self.retry_at = None;
            self.tell(Event::RetryDue);
        }
        if passed(self.deadline) && self.outcome.is_none() {
            self.deadline = None;
            self.tell(Event::DeadlinePassed);
        }
        self.plan_finish(now);
        if self.working && now >= self.next_commit {
            self.plan_commit(now);
            self.note_stalls(now);
            self.forget_fencings(now);
            if self.could_commit() || now >= self.repeat_commit {
                self.tell(Event::CommitDue);
            }
        }
    }

    /// The next multiple of the commit interval.
    fn plan_commit(&mut self, now: Instant) {
        let interval = self.plan.commit_interval.max(Duration::from_millis(1));
        let passed = now.saturating_duration_since(self.options.origin).as_nanos() / interval.as_nanos();
        let next = u64::try_from((passed + 1) * interval.as_nanos()).unwrap_or(u64::MAX);
        self.next_commit = self.options.origin + Duration::from_nanos(next);
    }

    /// Offsets of a group without members expire a week after their last commit, however long the task works on, and so
    /// do idle transactional ids. Tasks take their turns, or all would commit at once.
    pub(super) fn plan_repetition(&mut self, now: Instant) {
        let turn = Duration::from_secs(u64::from(self.grant.task.index % 60) * 60);
        self.repeat_commit = now + REPEAT_COMMIT_AFTER - turn;
    }

    fn read_positions(&mut self) -> Positions {
        let mut all: Positions = self.sources.iter_mut().flat_map(|slot| slot.source.positions()).collect();
        all.sort();
        all
    }

    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let flush = self.flushing.then(|| now + FLUSH_POLL);
        let commit = self.working.then_some(self.next_commit);
        [
            flush,
            commit,
            self.confirm_by,
            self.retry_at,
            self.finish_by,
            self.deadline,
            self.progress.poll_again,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
