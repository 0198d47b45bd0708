//! The executors of a process, and which task lives on which.

use pelton_checkpoint::Grant;
use pelton_runtime::{
    Board, Command, EventSink, Executor, ExecutorHandle, ExecutorOptions, Metrics, StagePlan, Step,
    executor::AssignedPartitions, spawn, tap::Tap,
};
use pelton_sdk::{Background, Budget, Registry, Wake};
use pelton_types::{Epoch, PipelineName, TaskId};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

/// Records and bytes of one poll of a source: enough to spread the cost of a batch, small enough to stay in a cache.
const BATCH: Budget = Budget { records: 2000, bytes: 1 << 20 };
/// How long the threads may take to end once they were told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the executors of a process are made from.
#[derive(Clone)]
pub struct HostOptions {
    /// Number of executors.
    pub executors: usize,
    /// The binary's components.
    pub registry: Registry,
    /// Where models are looked up.
    pub models: PathBuf,
    /// Bytes that the clients' queues may hold, in all.
    pub queue_bytes: usize,
    /// Counters.
    pub metrics: Metrics,
    /// Where executors say things.
    pub events: EventSink,
    /// Commits fall on multiples of their interval after this moment.
    pub origin: Instant,
    /// Runs what operators wait for, such as calls over the network.
    pub background: Background,
}

/// See the module.
pub struct Host {
    executors: Vec<ExecutorHandle>,
    threads: Vec<JoinHandle<()>>,
    /// Executor and epoch of each task.
    placed: HashMap<TaskId, (usize, Epoch)>,
    board: Board,
}

impl Host {
    /// Executors with a thread each.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn threads(options: &HostOptions) -> std::io::Result<Host> {
        let board = Board::default();
        let mut host =
            Host { executors: Vec::new(), threads: Vec::new(), placed: HashMap::new(), board: board.clone() };
        for index in 0..options.executors.max(1) {
            let (handle, thread) = spawn(executor_options(options, index, &board, Instant::now))?;
            host.executors.push(handle);
            host.threads.push(thread);
        }
        Ok(host)
    }

    /// One executor as a future that the caller runs beside the rest, for simulations on a single thread: time is that
    /// of the runtime.
    pub fn inline(options: &HostOptions) -> (Host, impl Future<Output = ()> + use<>) {
        let board = Board::default();
        let notify = Arc::new(tokio::sync::Notify::new());
        let woken = notify.clone();
        let wake = Wake::new(move || woken.notify_one());
        let clock = || tokio::time::Instant::now().into_std();
        let (mut executor, handle) = Executor::new(executor_options(options, 0, &board, clock), wake);
        let host = Host { executors: vec![handle], threads: Vec::new(), placed: HashMap::new(), board };
        let run = async move {
            while !executor.stopped() {
                let now = tokio::time::Instant::now();
                match executor.step(now.into_std()) {
                    Step::Progress => tokio::task::yield_now().await,
                    Step::Waiting { until } => {
                        let pause = until.map_or(Duration::from_millis(500), |at| {
                            at.saturating_duration_since(now.into_std())
                        });
                        let pause = pause.clamp(Duration::from_millis(1), Duration::from_millis(500));
                        tokio::select! {
                            biased;
                            () = notify.notified() => {}
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                }
            }
        };
        (host, run)
    }

    /// How all tasks stand.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Number of executors.
    pub fn executors(&self) -> usize {
        self.executors.len()
    }

    /// The executor of a task, or for a new one that with the fewest.
    fn place(&mut self, task: &TaskId, epoch: Epoch) -> usize {
        if let Some((at, known)) = self.placed.get_mut(task) {
            *known = epoch.max(*known);
            return *at;
        }
        let mut counts = vec![0_usize; self.executors.len()];
        self.placed.values().for_each(|(at, _)| counts[*at] += 1);
        let at = (0..counts.len()).min_by_key(|at| counts[*at]).unwrap_or(0);
        self.placed.insert(task.clone(), (at, epoch));
        at
    }

    /// Make a task's parts ahead of its grant.
    pub fn warm(&mut self, task: TaskId, plan: Arc<StagePlan>, partitions: AssignedPartitions) {
        let at = self.place(&task, 0);
        self.executors[at].send(Command::Warm { task, plan, partitions });
    }

    /// Run a granted task.
    pub fn start(&mut self, grant: Grant, plan: Arc<StagePlan>, partitions: AssignedPartitions) {
        let at = self.place(&grant.task, grant.epoch);
        self.executors[at].send(Command::Start { grant, plan, partitions });
    }

    /// The coordinator's answer about an epoch.
    pub fn confirmed(&self, task: TaskId, newest: Option<bool>) {
        if let Some((at, _)) = self.placed.get(&task) {
            self.executors[*at].send(Command::Confirmed { task, newest });
        }
    }

    /// Finish, commit and let go of a task; false when it is not here.
    pub fn release(&mut self, task: &TaskId, epoch: Epoch, within: Duration) -> bool {
        match self.placed.get(task) {
            Some((at, 0)) => {
                self.executors[*at].send(Command::Cool(task.clone()));
                self.placed.remove(task);
                false
            }
            Some((at, _)) => self.executors[*at].send(Command::Release { task: task.clone(), epoch, within }),
            None => false,
        }
    }

    /// Drop what was made ahead of grants that will not come.
    pub fn forget_warm(&mut self) {
        let executors = &self.executors;
        self.placed.retain(|task, (at, epoch)| {
            if *epoch == 0 {
                executors[*at].send(Command::Cool(task.clone()));
            }
            *epoch > 0
        });
    }

    /// A task of this epoch ended: it takes no place any more.
    pub fn ended(&mut self, task: &TaskId, epoch: Epoch) {
        if self.placed.get(task).is_some_and(|(_, known)| *known <= epoch) {
            self.placed.remove(task);
        }
    }

    /// Finish, commit and let go of everything.
    pub fn drain(&self, within: Duration) {
        for executor in &self.executors {
            executor.send(Command::Drain { within });
        }
    }

    /// Watch a pipeline's records; `tap` is made once per executor, and by it once per task.
    pub fn tap(&self, pipeline: &PipelineName, tap: impl Fn() -> Tap + Clone + Send + 'static) {
        for executor in &self.executors {
            executor.send(Command::Tap { pipeline: pipeline.clone(), tap: Box::new(tap.clone()) });
        }
    }

    /// End the threads and wait for them, within reason. Tasks that still run are dropped where they are.
    pub fn stop(self) {
        let mut abandoned = 0;
        for executor in &self.executors {
            executor.send(Command::Stop);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                if thread.join().is_err() {
                    tracing::error!("an executor thread panicked");
                }
            } else {
                abandoned += 1;
            }
        }
        if abandoned > 0 {
            tracing::warn!(
                "{abandoned} executors did not end within {STOP_TIMEOUT:?}; the process ends without them"
            );
        }
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    now.saturating_add(pelton_sabotage::points::skew_ms())
}

fn executor_options(
    options: &HostOptions,
    index: usize,
    board: &Board,
    clock: fn() -> Instant,
) -> ExecutorOptions {
    ExecutorOptions {
        index,
        registry: options.registry.clone(),
        models: options.models.clone(),
        budget: BATCH,
        queue_bytes: options.queue_bytes / options.executors.max(1),
        origin: options.origin,
        clock,
        wall_clock: unix_ms,
        events: options.events.clone(),
        board: board.clone(),
        metrics: options.metrics.clone(),
        background: options.background.clone(),
    }
}
