//! One thread that steps many tasks.
//!
//! An [`Executor`] is a value with a [`Executor::step`]; [`spawn`] gives it a thread that parks on one wake handle when
//! no task has anything to do. Commands come in through a channel, events go out through a function, snapshots are left
//! where anybody may read them.

use crate::{
    metrics::Metrics,
    plan::StagePlan,
    setup::{Parts, Workshop},
    status::{TaskSnapshot, TaskState},
    tap::Tap,
    task::{Step, Task, TaskOptions},
};
use pelton_checkpoint::Grant;
use pelton_sdk::{Background, Budget, BuildContext, Calls, Registry, Scope, Services, Wake};
use pelton_types::{Epoch, Incident, Partition, PipelineName, TaskId};
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often snapshots are renewed while a task works.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(200);
/// How often a task that has nothing to do looks for work nobody woke it for. A wake-up should always come; this bounds
/// the harm of one that does not.
const IDLE_STEP: Duration = Duration::from_millis(500);

/// Warm parts nobody asked for are dropped after this: the coordinator changed its mind.
const KEEP_WARM: Duration = Duration::from_secs(60);

/// The part of its stage that a task has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignedPartitions {
    /// The task's partitions, by name of the source.
    pub sources: BTreeMap<String, Vec<Partition>>,
    /// Tasks that the stage is divided into; 0: not known, by a coordinator of an earlier version.
    pub tasks: u32,
}

/// What an executor is told.
pub enum Command {
    /// Make the task's parts and connect, ahead of the grant.
    Warm {
        /// The task.
        task: TaskId,
        /// What it runs.
        plan: Arc<StagePlan>,
        /// Its partitions.
        partitions: AssignedPartitions,
    },
    /// Run a granted task.
    Start {
        /// The grant.
        grant: Grant,
        /// What it runs.
        plan: Arc<StagePlan>,
        /// Its partitions.
        partitions: AssignedPartitions,
    },
    /// The coordinator's answer about an epoch; `None`: it does not answer.
    Confirmed {
        /// The task.
        task: TaskId,
        /// Whether the task's epoch is the newest.
        newest: Option<bool>,
    },
    /// Finish, commit and let go of a task, at this epoch or below.
    Release {
        /// The task.
        task: TaskId,
        /// Its epoch.
        epoch: Epoch,
        /// For finishing.
        within: Duration,
    },
    /// Forget a task's warm parts.
    Cool(TaskId),
    /// Finish, commit and let go of everything.
    Drain {
        /// For finishing.
        within: Duration,
    },
    /// Watch a pipeline's records.
    Tap {
        /// The pipeline.
        pipeline: PipelineName,
        /// The watcher; made once for each task.
        tap: Box<dyn Fn() -> Tap + Send>,
    },
    /// Drop everything and end the thread.
    Stop,
}

/// What an executor says.
#[derive(Clone, Debug)]
pub enum ExecutorEvent {
    /// Ask the coordinator whether this epoch is the newest, and answer with [`Command::Confirmed`].
    Confirm {
        /// The task.
        task: TaskId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A task changed its state; the last word about a task that ended.
    Changed(Box<TaskSnapshot>),
}

/// Where executors say things; must not block.
pub type EventSink = Arc<dyn Fn(ExecutorEvent) + Send + Sync>;

/// Snapshots of all tasks of a process.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<TaskId, TaskSnapshot>>>);

impl Board {
    /// How all tasks stand.
    pub fn all(&self) -> Vec<TaskSnapshot> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| a.task.cmp(&b.task));
        all
    }

    fn put(&self, snapshot: TaskSnapshot) {
        self.lock().insert(snapshot.task.clone(), snapshot);
    }

    fn remove(&self, task: &TaskId) {
        self.lock().remove(task);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, TaskSnapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an executor is made from.
#[derive(Clone)]
pub struct ExecutorOptions {
    /// Its number within the process.
    pub index: usize,
    /// The binary's components.
    pub registry: Registry,
    /// Where models are looked up.
    pub models: PathBuf,
    /// What one poll of a source may return.
    pub budget: Budget,
    /// Bytes that the clients of this executor may queue.
    pub queue_bytes: usize,
    /// Commits fall on multiples of their interval after this moment.
    pub origin: Instant,
    /// Tells how long a step took; the same clock as the times the executor is stepped with.
    pub clock: fn() -> Instant,
    /// Milliseconds since 1970, for the ages of records.
    pub wall_clock: fn() -> i64,
    /// Where events go.
    pub events: EventSink,
    /// Where snapshots go.
    pub board: Board,
    /// Counters.
    pub metrics: Metrics,
    /// Runs what operators wait for.
    pub background: Background,
}

struct Running {
    task: Task,
    shown: TaskState,
    snapshot_at: Instant,
    /// When the newest snapshot was taken; the times below are counted from it.
    measured_since: Instant,
    /// Time spent in steps that did work.
    busy: Duration,
    /// Time during which a sink or an operator had no room.
    backpressured: Duration,
    /// Since when one has none; counted up to here.
    blocked_since: Option<Instant>,
    meter: crate::metrics::TaskMeter,
}

/// See the module.
pub struct Executor {
    options: ExecutorOptions,
    commands: Receiver<Command>,
    workshop: Workshop,
    warm: HashMap<TaskId, Warm>,
    tasks: Vec<Running>,
    stopped: bool,
}

/// Parts made ahead of a grant.
struct Warm {
    revision: u64,
    partitions: AssignedPartitions,
    parts: Parts,
    until: Instant,
}

/// Sends commands to an executor.
#[derive(Clone)]
pub struct ExecutorHandle {
    commands: Sender<Command>,
    wake: Wake,
}

impl ExecutorHandle {
    /// Tell the executor; false when it has ended.
    pub fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.wake.wake();
        sent
    }
}

impl Executor {
    /// An executor to be stepped by the caller, which `wake` wakes.
    pub fn new(options: ExecutorOptions, wake: Wake) -> (Executor, ExecutorHandle) {
        let (sender, commands) = channel();
        let context = BuildContext {
            wake: wake.clone(),
            models: options.models.clone(),
            services: Services::default(),
            tasks: 1,
            background: options.background.clone(),
            calls: Calls::new(Arc::new(options.metrics.clone())),
            input: None,
            fields: None,
        };
        let scope = Scope { wake: wake.clone(), executor: options.index, queue_bytes: options.queue_bytes };
        let workshop = Workshop::new(options.registry.clone(), context, scope);
        let executor =
            Executor { options, commands, workshop, warm: HashMap::new(), tasks: Vec::new(), stopped: false };
        (executor, ExecutorHandle { commands: sender, wake })
    }

    /// Whether it was told to stop, or nobody can tell it anything any more.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Step every task once.
    pub fn step(&mut self, now: Instant) -> Step {
        self.obey(now);
        self.warm.retain(|_, warm| now < warm.until);
        let mut progressed = false;
        let mut until: Option<Instant> = None;
        for running in &mut self.tasks {
            let begun = (self.options.clock)();
            match running.task.step(now) {
                Step::Progress => {
                    progressed = true;
                    running.busy += (self.options.clock)().saturating_duration_since(begun);
                }
                Step::Waiting { until: at } => until = [until, at].into_iter().flatten().min(),
            }
            if running.task.take_confirmation_wish() {
                let grant = running.task.grant();
                let (task, epoch) = (grant.task.clone(), grant.epoch);
                (self.options.events)(ExecutorEvent::Confirm { task, epoch });
            }
            running.note_room(now);
            running.report(now, &self.options);
        }
        self.tasks.retain(|running| running.task.outcome().is_none());
        if progressed { Step::Progress } else { Step::Waiting { until } }
    }

    fn obey(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.execute(command, now),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
            }
        }
    }

    fn execute(&mut self, command: Command, now: Instant) {
        match command {
            Command::Warm { task, plan, partitions } => self.warm_up(task, &plan, partitions, now),
            Command::Start { grant, plan, partitions } => self.start(grant, plan, partitions, now),
            Command::Confirmed { task, newest } => {
                for running in self.tasks.iter_mut().filter(|r| r.task.grant().task == task) {
                    running.task.confirmed(newest);
                }
            }
            Command::Release { task, epoch, within } => {
                self.warm.remove(&task);
                let matches = |r: &&mut Running| r.task.grant().task == task && r.task.grant().epoch <= epoch;
                for running in self.tasks.iter_mut().filter(matches) {
                    running.task.release(now + within);
                }
            }
            Command::Cool(task) => {
                self.warm.remove(&task);
            }
            Command::Drain { within } => {
                self.warm.clear();
                self.tasks.iter_mut().for_each(|r| r.task.release(now + within));
            }
            Command::Tap { pipeline, tap } => {
                for running in self.tasks.iter_mut().filter(|r| r.task.grant().task.pipeline == pipeline) {
                    running.task.chain_mut().taps.add(tap());
                }
            }
            Command::Stop => {
                self.stopped = true;
                self.tasks.clear();
                self.warm.clear();
            }
        }
    }

    fn warm_up(&mut self, task: TaskId, plan: &StagePlan, partitions: AssignedPartitions, now: Instant) {
        // A task that cannot be made says so when it is granted.
        if let Ok(mut parts) = self.workshop.make(&task, plan, &partitions) {
            parts.warm();
            let snapshot = empty_snapshot(&task, 0, plan.revision, TaskState::Warm, None);
            let until = now + KEEP_WARM;
            self.warm.insert(task, Warm { revision: plan.revision, partitions, parts, until });
            (self.options.events)(ExecutorEvent::Changed(Box::new(snapshot)));
        }
    }

    fn start(&mut self, grant: Grant, plan: Arc<StagePlan>, partitions: AssignedPartitions, now: Instant) {
        let id = grant.task.clone();
        if self.tasks.iter().any(|r| r.task.grant().task == id && r.task.grant().epoch >= grant.epoch) {
            return;
        }
        // An older grant of the same task here is over: its successor reads what it committed.
        self.tasks.retain(|r| r.task.grant().task != id);
        let fits = |warm: &Warm| warm.revision == plan.revision && warm.partitions == partitions;
        let made = match self.warm.remove(&id).filter(fits) {
            Some(warm) => Ok(warm.parts),
            None => self.workshop.make(&id, &plan, &partitions),
        };
        match made {
            Ok(parts) => {
                let options = TaskOptions {
                    budget: self.options.budget,
                    origin: self.options.origin,
                    delivery: plan.delivery,
                    wall_clock: self.options.wall_clock,
                };
                let (metrics, clock) = (&self.options.metrics, self.options.clock);
                let meter = metrics.task(&id);
                let mut task = Task::new(grant, plan, parts, options, now);
                task.chain_mut().count(|operator| metrics.operator(&id.pipeline, operator, clock));
                self.tasks.push(Running::new(task, meter, now));
            }
            Err(incident) => {
                // What an older grant left there is not true any more.
                self.options.board.remove(&id);
                tracing::error!(task = %id, epoch = grant.epoch, code = %incident.code, "{incident}");
                let snapshot =
                    empty_snapshot(&id, grant.epoch, plan.revision, TaskState::Failed, Some(incident));
                (self.options.events)(ExecutorEvent::Changed(Box::new(snapshot)));
            }
        }
    }
}

impl Running {
    fn new(task: Task, meter: crate::metrics::TaskMeter, now: Instant) -> Running {
        Running {
            task,
            shown: TaskState::Warm,
            snapshot_at: now,
            measured_since: now,
            busy: Duration::ZERO,
            backpressured: Duration::ZERO,
            blocked_since: None,
            meter,
        }
    }

    /// Count the time without room up to now.
    fn note_room(&mut self, now: Instant) {
        if let Some(since) = self.blocked_since.take() {
            self.backpressured += now.saturating_duration_since(since);
        }
        self.blocked_since = self.task.blocked().then_some(now);
    }

    /// Put what was measured since the last snapshot into this one.
    fn measure(&mut self, now: Instant, snapshot: &mut TaskSnapshot) {
        let since = std::mem::replace(&mut self.measured_since, now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let share = |time: Duration| if passed > 0.0 { (time.as_secs_f64() / passed).min(1.0) } else { 0.0 };
        let (busy, backpressured) = (std::mem::take(&mut self.busy), std::mem::take(&mut self.backpressured));
        snapshot.busy_ratio = share(busy);
        snapshot.backpressured_ratio = share(backpressured);
        snapshot.progress.busy = busy;
        snapshot.progress.backpressured = backpressured;
        snapshot.lag_seconds = self.task.lag_seconds(&snapshot.lag, now);
    }

    /// Leave a snapshot when it is time, and tell of a change of state at once.
    fn report(&mut self, now: Instant, options: &ExecutorOptions) {
        let ended = self.task.outcome().is_some();
        if !ended && now < self.snapshot_at && self.shown == self.task.state() {
            return;
        }
        self.snapshot_at = now + SNAPSHOT_INTERVAL;
        let mut snapshot = self.task.snapshot();
        self.measure(now, &mut snapshot);
        self.meter.record(&snapshot);
        self.task.chain_mut().publish_counts();
        let changed = snapshot.state != self.shown;
        self.shown = snapshot.state;
        if snapshot.state.is_final() {
            options.board.remove(&snapshot.task);
        } else {
            options.board.put(snapshot.clone());
        }
        if changed {
            (options.events)(ExecutorEvent::Changed(Box::new(snapshot)));
        }
    }
}

/// A snapshot of a task that is not running.
pub fn empty_snapshot(
    task: &TaskId,
    epoch: Epoch,
    revision: u64,
    state: TaskState,
    incident: Option<Incident>,
) -> TaskSnapshot {
    TaskSnapshot {
        task: task.clone(),
        epoch,
        revision,
        state,
        lag: Vec::new(),
        committed: Vec::new(),
        account: Default::default(),
        operators: Vec::new(),
        pending: 0,
        commits: 0,
        busy_ratio: 0.0,
        backpressured_ratio: 0.0,
        lag_seconds: None,
        progress: Default::default(),
        incident,
    }
}

/// Give an executor a thread. It ends after [`Command::Stop`], or when every handle is dropped.
///
/// # Errors
/// When the system has no thread to give.
pub fn spawn(options: ExecutorOptions) -> std::io::Result<(ExecutorHandle, JoinHandle<()>)> {
    let (reply, made) = channel();
    let thread =
        std::thread::Builder::new().name(format!("executor-{}", options.index)).spawn(move || {
            let wake = Wake::thread(std::thread::current());
            let (mut executor, handle) = Executor::new(options, wake);
            let received = reply.send(handle).is_ok();
            drop(reply);
            while received && !executor.stopped() {
                if let Step::Waiting { until } = executor.step(Instant::now()) {
                    let pause = until.map_or(IDLE_STEP, |at| at.saturating_duration_since(Instant::now()));
                    std::thread::park_timeout(pause.min(IDLE_STEP));
                }
            }
        })?;
    let handle = made.recv().map_err(|_| std::io::Error::other("the executor's thread ended at once"))?;
    Ok((handle, thread))
}
