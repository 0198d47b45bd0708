//! One granted task: reads its partitions, runs its chain, commits, lets go.
//!
//! A task is a value with a [`Task::step`]: a thread, a test or a simulation calls it. What to do when is decided by
//! the machine of `pelton-checkpoint`; this file carries its actions out and tells it what came of them.

use crate::{
    chain::{Chain, LostRecords, Output},
    dead_letter::dead_letter,
    outputs::OutputQueue,
    plan::StagePlan,
    positions::PositionStore,
    setup::{Parts, SourceSlot},
    status::{Progress, TaskSnapshot, TaskState},
    trouble,
};
use pelton_checkpoint::{Action, Delivery, Event, Failure, Grant, Machine, Positions};
use pelton_sdk::{Budget, Failed, Polled};
use pelton_telemetry::batch::BatchSpan;
use pelton_types::{Account, Code, Incident};
use std::{
    collections::VecDeque,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

/// How long the coordinator may take to confirm an epoch; the claim, not the answer, makes it safe.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
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

    actions: VecDeque<Action>,
    reading: bool,
    working: bool,
    cutting: bool,
    flushing: bool,
    ended: bool,
    wants_confirmation: bool,
    confirm_by: Option<Instant>,
    retry_at: Option<Instant>,
    deadline: Option<Instant>,
    next_commit: Instant,
    dirty: bool,
    turn: usize,

    account: Account,
    settled: Settled,
    committed: Positions,
    commits: u64,
    progress: Progress,
    incident: Option<Incident>,
    outcome: Option<Outcome>,
}

/// The books as of the last commit.
#[derive(Default)]
struct Settled {
    account: Account,
    operators: Vec<Account>,
}

impl Task {
    /// A task as it was granted, with the parts made for it. Does nothing until it is stepped.
    pub fn new(grant: Grant, plan: Arc<StagePlan>, parts: Parts, options: TaskOptions, now: Instant) -> Task {
        let (machine, actions) = Machine::new(grant.clone(), Delivery::AtLeastOnce);
        let Parts { sources, chain, outputs, dead_letters, positions } = parts;
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
            actions: actions.into(),
            reading: false,
            working: false,
            cutting: false,
            flushing: false,
            ended: false,
            wants_confirmation: false,
            confirm_by: None,
            retry_at: None,
            deadline: None,
            next_commit: now,
            dirty: false,
            turn: 0,
            account: Account::default(),
            settled: Settled::default(),
            committed: Vec::new(),
            commits: 0,
            progress: Progress::default(),
            incident: None,
            outcome: None,
            plan,
        };
        task.plan_commit(now);
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
            self.tell(Event::Revoked);
        }
    }

    /// Do what can be done now.
    pub fn step(&mut self, now: Instant) -> Step {
        let mut progressed = self.act(now);
        self.check_times(now);
        progressed |= self.poll_positions();
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
                self.positions.start_claim(&mut self.sources, positions, &stamp.to_string());
            }
            Action::Commit { positions, stamp } => {
                self.progress.commit_started = Some(now);
                self.positions.start_commit(&mut self.sources, positions, &stamp.to_string());
            }
            Action::StartWork { positions } | Action::Rewind { positions } => self.start_work(positions, now),
            Action::Cut => {
                self.reading = false;
                self.cutting = true;
                self.chain.flush();
            }
            Action::Flush => {
                self.flushing = true;
                self.all_outputs().for_each(OutputQueue::start_flush);
            }
            Action::ResumeWork => self.reading = self.working && !self.ended,
            Action::UndoUncommitted => self.undo(),
            Action::RetryAfter(pause) => self.retry_at = Some(now + pause),
            Action::InitProducer { .. } => {
                self.tell(Event::InitFailed(Failure::Stop(trouble::no_transactions())))
            }
            Action::DiscardProducer => {}
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
        self.ended = false;
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
        self.plan_commit(now);
    }

    /// Back to the last commit: nothing read since counts, nothing held is kept.
    fn undo(&mut self) {
        self.pause_work();
        self.all_outputs().for_each(OutputQueue::clear);
        self.account = self.settled.account;
        self.dirty = false;
        if let Err((operator, error)) = self.chain.reset(&self.settled.operators) {
            let incident = trouble::cannot_build(&operator, &error);
            self.tell(Event::WorkFailed(incident));
        }
    }

    fn pause_work(&mut self) {
        self.working = false;
        self.reading = false;
        self.cutting = false;
        self.flushing = false;
        self.sources.iter_mut().for_each(|slot| slot.source.stop());
    }

    fn finish(&mut self, outcome: Outcome) {
        self.pause_work();
        self.actions.clear();
        self.outcome = Some(outcome);
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
        if self.working && now >= self.next_commit {
            self.plan_commit(now);
            if self.dirty || self.moved() {
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

    /// Positions that moved without a record: past transaction markers.
    fn moved(&mut self) -> bool {
        let positions = self.read_positions();
        positions.iter().any(|(p, offset)| self.committed.iter().any(|(q, at)| p == q && offset > at))
    }

    fn read_positions(&mut self) -> Positions {
        let mut all: Positions = self.sources.iter_mut().flat_map(|slot| slot.source.positions()).collect();
        all.sort();
        all
    }

    /// Answers of the places where positions are kept.
    fn poll_positions(&mut self) -> bool {
        let Some(event) = self.positions.poll(&mut self.sources) else { return false };
        match &event {
            Event::CommitDone { .. } => self.note_commit(true),
            Event::CommitFailed(_) => self.note_commit(false),
            _ => {}
        }
        if let Event::ReadFailed(_) | Event::ClaimFailed(_) | Event::CommitFailed(_) = &event {
            self.incident = self.positions.take_trouble();
        } else {
            self.incident = None;
        }
        self.tell(event);
        true
    }

    fn note_commit(&mut self, done: bool) {
        let took = self.progress.commit_started.take().map(|at| at.elapsed());
        if done {
            self.commits += 1;
            self.progress.commits += 1;
            self.committed = self.positions.last_committed().to_vec();
        } else {
            self.progress.commits_failed += 1;
        }
        self.progress.commit_seconds.extend(took.map(|t| t.as_secs_f64()));
    }

    /// One round of reading, processing and writing.
    fn work(&mut self, now: Instant) -> bool {
        let result = self.try_work(now);
        match result {
            Ok(progressed) => progressed,
            Err(incident) => {
                if incident.stops_task {
                    tracing::error!(task = %self.grant.task, epoch = self.grant.epoch, code = %incident.code, "{incident}");
                } else {
                    tracing::warn!(task = %self.grant.task, epoch = self.grant.epoch, code = %incident.code, "{incident}");
                }
                self.incident = Some(incident.clone());
                self.tell(Event::WorkFailed(incident));
                true
            }
        }
    }

    fn try_work(&mut self, now: Instant) -> Result<bool, Incident> {
        let mut out = Output::default();
        let again = self.chain.poll(now, &mut out).map_err(|lost| panicked(&lost))?;
        self.progress.poll_again = again;
        let mut progressed = self.deliver(out)?;
        progressed |= self.push()?;
        let blocked = self.outputs.iter().any(|o| !o.is_empty())
            || self.dead_letters.as_ref().is_some_and(|o| !o.is_empty())
            || !self.chain.ready();
        self.progress.blocked = blocked;
        if self.reading && !blocked {
            progressed |= self.read(now)?;
        }
        if self.cutting && self.chain.held() == 0 && !blocked {
            progressed = true;
            self.cutting = false;
            self.check_books()?;
            let positions = self.read_positions();
            self.settling();
            self.tell(Event::CutDone { positions });
        }
        if self.flushing {
            progressed |= self.poll_flush();
        }
        Ok(progressed)
    }

    /// Poll the sources, each in its turn, until one gives a batch.
    fn read(&mut self, now: Instant) -> Result<bool, Incident> {
        let count = self.sources.len();
        for i in 0..count {
            let index = (self.turn + i) % count;
            let slot = &mut self.sources[index];
            if slot.ended {
                continue;
            }
            match slot.source.poll(self.options.budget) {
                Ok(Polled::Batch(batch)) => {
                    self.turn = index + 1;
                    self.take_batch(index, batch, now)?;
                    return Ok(true);
                }
                Ok(Polled::Pending) => {}
                Ok(Polled::End) => slot.ended = true,
                Err(e) if e.kind == pelton_sdk::ErrorKind::Retry => {
                    let incident = trouble::of_end(&e, &slot.spec.name);
                    tracing::warn!(task = %self.grant.task, code = %incident.code, "{incident}");
                    self.incident = Some(incident);
                }
                Err(e) => return Err(trouble::of_end(&e, &slot.spec.name)),
            }
        }
        if !self.ended && self.sources.iter().all(|slot| slot.ended) {
            self.ended = true;
            self.reading = false;
            self.tell(Event::SourceEnded);
            return Ok(true);
        }
        Ok(false)
    }

    fn take_batch(
        &mut self,
        source: usize,
        batch: pelton_types::Batch,
        now: Instant,
    ) -> Result<(), Incident> {
        let records = batch.len() as u64;
        self.dirty = true;
        self.incident = None;
        self.account.records_in += records;
        self.progress.records_in += records;
        let span = BatchSpan {
            pipeline: &self.grant.task.pipeline.name,
            task: &self.name,
            epoch: self.grant.epoch,
            system: &self.plan.sources[self.sources[source].index].connector,
            topic: &batch.partition.topic,
            partition: batch.partition.index,
            first_offset: batch.records.first().map_or(-1, |r| r.offset),
            records: batch.len(),
        }
        .open();
        let mut out = Output::default();
        let source = self.sources[source].index;
        span.in_scope(|| self.chain.process(source, batch, now, &mut out)).map_err(|lost| panicked(&lost))?;
        self.deliver(out)?;
        self.push()?;
        Ok(())
    }

    /// Book and queue what left the chain.
    fn deliver(&mut self, out: Output) -> Result<bool, Incident> {
        if out.is_empty() {
            return Ok(false);
        }
        self.account.filtered += out.filtered;
        self.account.expanded += out.expanded;
        self.progress.filtered += out.filtered;
        self.progress.expanded += out.expanded;
        for (sink, batch) in out.sinks {
            let output = &mut self.outputs[sink];
            self.chain.taps.offer(output.name(), true, &batch);
            output.add(batch);
        }
        for rejected in out.rejected {
            self.reject(&rejected.operator, rejected.failed)?;
        }
        Ok(true)
    }

    /// A record that cannot be processed: kept with its cause, or the end of this task.
    fn reject(&mut self, operator: &str, failed: Failed) -> Result<(), Incident> {
        let Some(letters) = &mut self.dead_letters else {
            return Err(trouble::poison(operator, &failed));
        };
        let letter = dead_letter(&failed.record, operator, &failed.cause);
        self.account.dead_lettered += letter.len() as u64;
        self.progress.dead_lettered += letter.len() as u64;
        letters.add(letter);
        Ok(())
    }

    /// Give the sinks what they take.
    fn push(&mut self) -> Result<bool, Incident> {
        let mut taken = 0;
        let mut refused = Vec::new();
        for output in self.outputs.iter_mut().filter(|o| !o.is_empty()) {
            let report = output.push().map_err(|e| trouble::of_end(&e, output.name()))?;
            taken += report.taken;
            refused.extend(report.refused.into_iter().map(|f| (output.name().to_owned(), f)));
        }
        self.account.records_out += taken;
        self.progress.records_out += taken;
        for (sink, failed) in refused {
            self.reject(&sink, failed)?;
        }
        if let Some(letters) = self.dead_letters.as_mut().filter(|o| !o.is_empty()) {
            let report = letters.push().map_err(|e| trouble::of_end(&e, "the dead-letter sink"))?;
            taken += report.taken;
            if let Some(failed) = report.refused.first() {
                return Err(trouble::dead_letter_refused(failed));
            }
        }
        Ok(taken > 0)
    }

    fn poll_flush(&mut self) -> bool {
        for output in self.outputs.iter_mut().chain(self.dead_letters.as_mut()) {
            match output.poll_flush() {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => {
                    let incident = trouble::of_end(&e, output.name());
                    tracing::warn!(task = %self.grant.task, code = %incident.code, "{incident}");
                    self.flushing = false;
                    self.incident = Some(incident.clone());
                    self.tell(Event::FlushFailed(trouble::failure(&e, incident)));
                    return true;
                }
            }
        }
        self.flushing = false;
        self.tell(Event::FlushDone);
        true
    }

    /// At a cut nothing is in flight, so every book must balance exactly.
    fn check_books(&self) -> Result<(), Incident> {
        if self.account.imbalance() != 0 {
            return Err(trouble::imbalance("the task", self.account));
        }
        match self.chain.imbalance() {
            Some((operator, account)) => Err(trouble::imbalance(operator, account)),
            None => Ok(()),
        }
    }

    /// The books at the cut are those of the commit that follows; a failed flush or commit undoes to the one before.
    fn settling(&mut self) {
        self.dirty = false;
        self.settled =
            Settled { account: self.account, operators: self.chain.accounts().map(|(_, a)| a).collect() };
    }

    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let flush = self.flushing.then(|| now + FLUSH_POLL);
        let commit = self.working.then_some(self.next_commit);
        [flush, commit, self.confirm_by, self.retry_at, self.deadline, self.progress.poll_again]
            .into_iter()
            .flatten()
            .min()
    }

    /// Where it is in its life.
    pub fn state(&self) -> TaskState {
        match &self.outcome {
            Some(Outcome::Released) => TaskState::Released,
            Some(Outcome::SteppedDown) => TaskState::SteppedDown,
            Some(Outcome::Failed(_)) => TaskState::Failed,
            Some(Outcome::Completed) => TaskState::Completed,
            None if self.deadline.is_some() => TaskState::Releasing,
            None if self.working => TaskState::Running,
            None => TaskState::Starting,
        }
    }

    /// How it stands, for reports. Takes the counts since the last snapshot along.
    pub fn snapshot(&mut self) -> TaskSnapshot {
        let held = self.chain.held() + self.outputs.iter().map(OutputQueue::len).sum::<u64>();
        let incident = match &self.outcome {
            Some(Outcome::Failed(incident)) => Some(incident.clone()),
            _ => self.incident.clone(),
        };
        TaskSnapshot {
            task: self.grant.task.clone(),
            epoch: self.grant.epoch,
            revision: self.plan.revision,
            state: self.state(),
            lag: self.sources.iter_mut().flat_map(|slot| slot.source.lag()).collect(),
            committed: self.committed.clone(),
            account: Account { held, ..self.account },
            operators: self.chain.accounts().map(|(name, account)| (name.to_owned(), account)).collect(),
            pending: self.account.records_in.saturating_sub(self.settled.account.records_in),
            commits: self.commits,
            busy_ratio: 0.0,
            progress: self.progress.take(),
            incident,
        }
    }
}

fn panicked(lost: &LostRecords) -> Incident {
    Incident {
        code: Code::OperatorPanic,
        message: format!(
            "operator `{}` panicked with {} records in flight: {}",
            lost.operator, lost.held, lost.message
        ),
        remedy: "they are read again from the last commit; if it happens again, fix or remove the operator and apply".into(),
        stops_task: false,
    }
}
