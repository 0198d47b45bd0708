//! What runs in a simulation, and what a test can do to it.

use super::{Auditor, Faults, Sabotage, SimKafka, ends::SimKafkaFactory, kafka::read_all, load::Load, net};
use pelton_broker::records::StoredRecord;
use pelton_coordinator::{Coordinator, Handle, MemoryStore, Options, Snapshot};
use pelton_proto::v1;
use pelton_runtime::Metrics;
use pelton_sdk::{BuildContext, Registry};
use pelton_types::Account;
use pelton_worker::{Host, HostOptions, Worker, WorkerOptions};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

/// Topic the load goes to.
pub const INPUT: &str = "in";
/// Topic the pipeline writes.
pub const OUTPUT: &str = "out";
/// The pipeline's name.
pub const PIPELINE: &str = "copy";
/// A step of the simulation.
pub(super) const TICK: Duration = Duration::from_millis(2);
/// What a test waits for must happen within this much simulated time.
const PATIENCE: Duration = Duration::from_secs(90);
/// For a worker to finish on its way out.
const DRAIN: Duration = Duration::from_secs(10);
/// Wall clock at the beginning, milliseconds since 1970.
pub(super) const BEGAN_MS: i64 = 1_700_000_000_000;

/// What a simulation is made from.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    seed: u64,
    workers: usize,
    partitions: u32,
    records: u64,
    per_second: u64,
    faults: Faults,
    sabotage: Option<Sabotage>,
}

impl Builder {
    /// Workers at the start.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }
    /// Partitions of both topics, and tasks.
    pub fn partitions(self, partitions: u32) -> Self {
        Self { partitions, ..self }
    }
    /// How many records come in, and how many of them in a second.
    pub fn load(self, records: u64, per_second: u64) -> Self {
        Self { records, per_second, ..self }
    }
    /// What goes wrong between workers and broker.
    pub fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }
    /// An error in the workers' clients, to prove the checks.
    pub fn sabotage(self, sabotage: Sabotage) -> Self {
        Self { sabotage: Some(sabotage), ..self }
    }

    /// Start everything and wait until all workers are attached.
    pub fn start(self) -> SimCluster {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(self.seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(5))
            .tcp_capacity(4096);
        let kafka = SimKafka::new(self.seed, self.faults, self.sabotage);
        for topic in [INPUT, OUTPUT] {
            kafka.broker().create_topic(topic, self.partitions).expect("an empty broker takes a topic");
        }
        let mut cluster = SimCluster {
            settings: self,
            sim: builder.build(),
            auditor: Auditor::new(INPUT, OUTPUT, self.partitions, &format!("pelton.default.{PIPELINE}")),
            audited: 0,
            wrong: None,
            load: Load::new(self.seed, self.records, self.per_second, self.partitions),
            handle: Rc::default(),
            questions: Rc::default(),
            terminate: BTreeMap::new(),
            kafka,
        };
        cluster.add_coordinator();
        cluster.add_client();
        for _ in 0..self.workers {
            cluster.add_worker();
        }
        cluster.until("all workers are attached", |c| c.attached().len() == self.workers);
        cluster
    }
}

type Question = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

/// See the module.
pub struct SimCluster {
    settings: Builder,
    sim: turmoil::Sim<'static>,
    kafka: SimKafka,
    auditor: Auditor,
    audited: u64,
    wrong: Option<String>,
    load: Load,
    handle: Rc<RefCell<Option<Handle>>>,
    questions: Rc<RefCell<VecDeque<Question>>>,
    /// Sends SIGTERM to a worker.
    terminate: BTreeMap<String, Rc<RefCell<watch::Sender<bool>>>>,
}

impl SimCluster {
    /// The cluster of a seed: one worker, eight partitions, 3000 records in 5 seconds, nothing goes wrong by chance.
    pub fn seeded(seed: u64) -> Builder {
        Builder {
            seed,
            workers: 1,
            partitions: 8,
            records: 3000,
            per_second: 600,
            faults: Faults::default(),
            sabotage: None,
        }
    }

    fn registry(&self, name: &str) -> Registry {
        Registry::default()
            .connector(SimKafkaFactory::new(&self.kafka, name))
            .operator(pelton_filter::FilterFactory)
            .operator(pelton_map::MapFactory)
    }

    fn add_coordinator(&mut self) {
        let store = Arc::new(MemoryStore::new());
        let registry = self.registry("coordinator");
        let (handle, kafka) = (self.handle.clone(), self.kafka.clone());
        let names = Arc::new(std::sync::atomic::AtomicU64::new(0));
        self.sim.host("coordinator", move || {
            let (store, registry, handle, names) =
                (store.clone(), registry.clone(), handle.clone(), names.clone());
            let clock = kafka.clone();
            let options = Options {
                wall_clock: Arc::new(move || {
                    BEGAN_MS + i64::try_from(clock.now().as_millis()).unwrap_or(i64::MAX - BEGAN_MS)
                }),
                new_uuid: Arc::new(move || {
                    format!("sim-{}", names.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                }),
                env: Arc::new(|_| None),
                ..Options::default()
            };
            async move {
                let context = BuildContext::detached(".");
                let coordinator = Coordinator::new(options, registry, context, store).await?;
                *handle.borrow_mut() = Some(coordinator.handle());
                let incoming = net::listen(net::GRPC).await?;
                coordinator.serve(incoming, std::future::pending()).await?;
                Ok(())
            }
        });
    }

    /// Where questions of people come from.
    fn add_client(&mut self) {
        let questions = self.questions.clone();
        self.sim.host("client", move || {
            let questions = questions.clone();
            async move {
                loop {
                    while let Some(question) = questions.borrow_mut().pop_front() {
                        tokio::task::spawn_local(question());
                    }
                    tokio::time::sleep(TICK).await;
                }
            }
        });
    }

    /// Start one worker more; gives its name.
    pub fn add_worker(&mut self) -> String {
        let name = format!("worker-{}", self.terminate.len() + 1);
        let terminate = Rc::new(RefCell::new(watch::channel(false).0));
        self.terminate.insert(name.clone(), terminate.clone());
        let registry = self.registry(&name);
        let lives = Cell::new(0_u32);
        let id = name.clone();
        self.sim.host(name.as_str(), move || {
            lives.set(lives.get() + 1);
            let (shutdown, told) = watch::channel(false);
            *terminate.borrow_mut() = shutdown;
            let options = WorkerOptions {
                id: id.clone(),
                incarnation: format!("{id}/{}", lives.get()),
                capacity: 64,
                labels: Default::default(),
                http: String::new(),
                drain_timeout: DRAIN,
                attached: watch::channel(false).0,
                logs: Default::default(),
            };
            live(options, registry.clone(), told)
        });
        self.kafka.note(format_args!("{name} starts"));
        name
    }

    /// One step of everything.
    fn tick(&mut self) {
        self.kafka.advance(self.sim.elapsed());
        self.load.tick(&self.kafka);
        let commits = self.kafka.commits();
        if commits != self.audited {
            self.audited = commits;
            self.audit();
        }
        if let Err(e) = self.sim.step() {
            panic!("a process of the simulation failed: {e}");
        }
    }

    fn audit(&mut self) {
        if let Err(wrong) = self.auditor.look(self.kafka.broker()) {
            self.wrong.get_or_insert(wrong);
        }
    }

    /// Let time pass until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut SimCluster) -> bool) {
        let limit = self.sim.elapsed() + PATIENCE;
        while !holds(self) {
            assert!(self.sim.elapsed() < limit, "not within {PATIENCE:?}: {what}; {:?}", self.owners());
            self.tick();
        }
    }

    /// Let time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.tick();
        }
    }

    /// kill -9.
    pub fn crash(&mut self, name: &str) {
        self.kafka.note(format_args!("{name} crashes"));
        self.sim.crash(name);
    }

    /// Start a process again.
    pub fn restart(&mut self, name: &str) {
        self.kafka.note(format_args!("{name} starts again"));
        self.sim.bounce(name);
    }

    /// SIGTERM.
    pub fn terminate(&mut self, worker: &str) {
        self.kafka.note(format_args!("{worker} is asked to end"));
        self.terminate[worker].borrow().send_replace(true);
    }

    /// Whether a process runs.
    pub fn runs(&mut self, name: &str) -> bool {
        self.sim.is_host_running(name)
    }

    /// Nothing passes between two processes any more.
    pub fn partition(&mut self, a: &str, b: &str) {
        self.kafka.note(format_args!("{a} and {b} are parted"));
        self.sim.partition(a, b);
    }

    /// The line between two processes works again.
    pub fn repair(&mut self, a: &str, b: &str) {
        self.kafka.note(format_args!("{a} and {b} meet again"));
        self.sim.repair(a, b);
    }

    /// A worker and the broker do not reach each other, or do again.
    pub fn cut_from_broker(&mut self, worker: &str, cut: bool) {
        self.kafka.note(format_args!("{worker} is cut from the broker: {cut}"));
        self.kafka.cut(worker, cut);
    }

    /// Ask the coordinator over gRPC and wait for the answer.
    pub fn ask<T, F>(
        &mut self,
        what: &str,
        question: impl FnOnce(Channel) -> F + 'static,
    ) -> Result<T, Status>
    where
        T: 'static,
        F: Future<Output = Result<T, Status>>,
    {
        let answer = Rc::new(RefCell::new(None));
        let slot = answer.clone();
        let question: Question = Box::new(move || {
            Box::pin(async move {
                let answer = match net::connect().await {
                    Ok(channel) => question(channel).await,
                    Err(e) => Err(Status::unavailable(e.to_string())),
                };
                *slot.borrow_mut() = Some(answer);
            })
        });
        self.questions.borrow_mut().push_back(question);
        self.kafka.note(format_args!("asked: {what}"));
        self.until(what, |_| answer.borrow().is_some());
        answer.take().expect("it was just seen")
    }

    /// The state as the coordinator published it last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.handle.borrow().as_ref().map(Handle::snapshot).unwrap_or_default()
    }

    /// Names of workers that are attached.
    pub fn attached(&self) -> BTreeSet<String> {
        let snapshot = self.snapshot();
        let attached = snapshot.workers.iter().filter(|w| w.state != "lost");
        attached.map(|w| w.id.clone()).collect()
    }

    /// The tasks of the pipeline as the coordinator knows them.
    pub fn tasks(&self) -> Vec<v1::Task> {
        self.snapshot().pipelines.iter().flat_map(|p| p.tasks.clone()).collect()
    }

    /// How many running tasks each worker has.
    pub fn owners(&self) -> BTreeMap<String, usize> {
        let mut owners = BTreeMap::new();
        for task in self.tasks() {
            let running = task.status.as_ref().is_some_and(|s| s.state() == v1::TaskState::Running);
            if running && !task.worker_id.is_empty() {
                *owners.entry(task.worker_id).or_default() += 1;
            }
        }
        owners
    }

    /// Whether every task runs.
    pub fn all_run(&self) -> bool {
        self.owners().values().sum::<usize>() == self.settings.partitions as usize
    }

    /// Epoch of each task, by index.
    pub fn epochs(&self) -> Vec<u64> {
        self.tasks().iter().filter_map(|task| Some(task.status.as_ref()?.epoch)).collect()
    }

    /// Commits of one worker that the broker took.
    pub fn commits_of(&self, worker: &str) -> u64 {
        self.kafka.commits_of(worker)
    }

    /// A number in the value of every record of the output, by partition.
    pub fn values_of(&self, name: &str) -> Vec<Vec<i64>> {
        let partitions = 0..i32::try_from(self.settings.partitions).unwrap_or(i32::MAX);
        let number = |stored: StoredRecord| {
            let value = stored.record.value.unwrap_or_default();
            serde_json::from_slice::<serde_json::Value>(&value).ok()?[name].as_i64()
        };
        partitions
            .map(|index| {
                read_all(self.kafka.broker(), (OUTPUT, index), 0).into_iter().filter_map(number).collect()
            })
            .collect()
    }

    /// Let records come in, from now on.
    pub fn open_load(&mut self) {
        self.load.open = true;
    }

    /// Records of the load that have not come in yet.
    pub fn load_left(&self) -> u64 {
        self.load.left
    }

    /// The simulated Kafka.
    pub fn kafka(&self) -> &SimKafka {
        &self.kafka
    }

    /// The observer of the topics.
    pub fn auditor(&self) -> &Auditor {
        &self.auditor
    }

    /// Wait until all of the load is in, read and committed; then say what is wrong, if anything is.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn finish(&mut self) -> Result<(), String> {
        self.open_load();
        self.until("everything is committed, or something is wrong", |c| {
            c.wrong.is_some() || (c.load.left == 0 && c.auditor.all_committed(c.kafka.broker()))
        });
        self.audit();
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let lost = self.auditor.lost();
        if lost.is_empty() { Ok(()) } else { Err(format!("{} records are lost: {lost:?}", lost.len())) }
    }

    /// [`SimCluster::finish`] for a run in which nothing may be wrong; gives the pipeline's account.
    ///
    /// # Panics
    /// When something is wrong, an account does not balance, or an incident is open that stops a task.
    pub fn finish_well(&mut self) -> Account {
        if let Err(wrong) = self.finish() {
            panic!("{wrong}");
        }
        // Accounts travel with heartbeats.
        self.until("the coordinator has heard of the last commit", |c| {
            c.snapshot().pipelines.iter().all(|p| p.pending == 0 && p.lag == 0) && c.all_run()
        });
        let snapshot = self.snapshot();
        let pipeline = &snapshot.pipelines[0];
        let account = Account::from(pipeline.account.unwrap_or_default());
        assert_eq!(account.imbalance(), 0, "the pipeline's account: {account:?}");
        for operator in &pipeline.operators {
            let account = Account::from(operator.account.unwrap_or_default());
            assert_eq!(account.imbalance(), 0, "the account of {}: {account:?}", operator.name);
        }
        assert!(pipeline.incidents.iter().all(|i| !i.stops_task), "{:?}", pipeline.incidents);
        account
    }
}

impl Drop for SimCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.kafka.trace();
            let from = trace.len().saturating_sub(40);
            trace.iter().skip(from).for_each(|line| eprintln!("{line}"));
            eprintln!("PELTON_SEED={} replays this run", self.settings.seed);
        }
    }
}

/// One life of a worker process.
async fn live(options: WorkerOptions, registry: Registry, told: watch::Receiver<bool>) -> turmoil::Result {
    let (events, heard) = Worker::event_channel();
    let (host, executor) = Host::inline(&HostOptions {
        executors: 1,
        registry: registry.clone(),
        models: ".".into(),
        queue_bytes: 1 << 20,
        metrics: Metrics::detached(),
        events,
        origin: tokio::time::Instant::now().into_std(),
        background: pelton_sdk::Background::none(),
    });
    let executor = tokio::task::spawn_local(executor);
    let context = BuildContext::detached(".");
    Worker::new(options, registry, context, host, heard, net::dial()).run(told).await;
    executor.await?;
    Ok(())
}
