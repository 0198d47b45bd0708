//! A Kafka for simulations: the core of the embedded broker behind a network of our own.
//!
//! A call takes time to reach the broker and its answer takes time to come back; on one line, calls keep their order.
//! A call may be lost on the way, or its answer; then the line is broken, as a TCP connection would be, and nothing
//! sent on it later arrives. What was sent before its sender died still arrives. Nothing here blocks, reads a clock or
//! starts a thread: [`SimKafka::advance`] moves time and does all that is due.

use super::random::Random;
use pelton_broker::{
    inproc::InProcBroker,
    records::{NewRecord, StoredRecord},
};
use pelton_sdk::Wake;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// One way to the broker or back, at least and at most.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(4));
/// A client gives up on a call after this.
const CALL_TIMEOUT: Duration = Duration::from_millis(400);

/// A client's program error on purpose, to prove that a checker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The sink takes a batch and never sends it.
    DropsABatch,
    /// The sink calls its records stored while they are still on their way.
    FlushesEarly,
    /// The sink sends records of one key in another order.
    Reorders,
    /// Positions are committed that were only read.
    CommitsAhead,
}

/// What goes wrong by chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Calls in a thousand that are lost, or their answers.
    pub lost_permille: u32,
}

/// A call was lost, or its answer: it may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// Where the answer to a call turns up.
pub(super) struct Pending<T>(Arc<Mutex<Option<Result<T, Lost>>>>);

impl<T> Pending<T> {
    /// The answer, once.
    pub(super) fn take(&self) -> Option<Result<T, Lost>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One connection of one worker: calls arrive in the order they were made.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) worker: Arc<str>,
    arrived: Duration,
    answered: Duration,
    broken: Arc<AtomicBool>,
}

impl Line {
    pub(super) fn new(worker: Arc<str>) -> Self {
        Self { worker, arrived: Duration::ZERO, answered: Duration::ZERO, broken: Arc::default() }
    }

    /// Give the connection up and make another.
    pub(super) fn reconnect(&mut self) {
        // What is still on its way there is discarded by the broker's end.
        self.broken.store(true, Ordering::Relaxed);
        *self = Line { arrived: self.arrived, answered: self.answered, ..Line::new(self.worker.clone()) };
    }
}

type Event = Box<dyn FnOnce(&InProcBroker, &mut State) + Send>;

struct State {
    now: Duration,
    random: Random,
    faults: Faults,
    sabotage: Option<Sabotage>,
    /// Workers that do not reach the broker.
    cut: BTreeSet<Arc<str>>,
    events: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    commits: BTreeMap<Arc<str>, u64>,
    trace: Vec<String>,
}

impl State {
    fn at(&mut self, due: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((due, self.sequence), event);
    }
}

/// See the module. Clones are handles to the same one.
#[derive(Clone)]
pub struct SimKafka {
    broker: InProcBroker,
    state: Arc<Mutex<State>>,
}

impl SimKafka {
    /// An empty one.
    pub fn new(seed: u64, faults: Faults, sabotage: Option<Sabotage>) -> Self {
        let state = State {
            now: Duration::ZERO,
            random: Random::new(seed),
            faults,
            sabotage,
            cut: BTreeSet::new(),
            events: BTreeMap::new(),
            sequence: 0,
            commits: BTreeMap::new(),
            trace: Vec::new(),
        };
        Self { broker: InProcBroker::new(), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker itself, as one who reads topics sees it.
    pub fn broker(&self) -> &InProcBroker {
        &self.broker
    }

    /// The time as of the last [`SimKafka::advance`].
    pub fn now(&self) -> Duration {
        self.state().now
    }

    /// Commits that the broker took so far.
    pub fn commits(&self) -> u64 {
        self.state().commits.values().sum()
    }

    /// Those of one worker.
    pub fn commits_of(&self, worker: &str) -> u64 {
        self.state().commits.get(worker).copied().unwrap_or(0)
    }

    /// What happened at the broker, a line each: the same for the same seed.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// Note something beside what the broker notes.
    pub fn note(&self, line: impl std::fmt::Display) {
        let mut state = self.state();
        let line = format!("{:>7} {line}", state.now.as_millis());
        state.trace.push(line);
    }

    /// From now on a worker does not reach the broker, or does again.
    pub fn cut(&self, worker: &str, cut: bool) {
        let mut state = self.state();
        if cut {
            state.cut.insert(worker.into())
        } else {
            state.cut.remove(worker)
        };
    }

    pub(super) fn sabotage(&self) -> Option<Sabotage> {
        self.state().sabotage
    }

    /// Time has come to `now`: everything that is due arrives. Events that events make wait for their own time.
    pub fn advance(&self, now: Duration) {
        loop {
            let mut state = self.state();
            let Some(event) = state.events.first_entry().filter(|first| first.key().0 <= now) else {
                state.now = now;
                return;
            };
            let ((due, _), event) = event.remove_entry();
            state.now = due;
            event(&self.broker, &mut state);
        }
    }

    /// Ask the broker; `wake` is called when the answer is there. `later` is waited on top, at the broker.
    pub(super) fn call<T: Send + 'static>(
        &self,
        line: &mut Line,
        wake: &Wake,
        later: Duration,
        work: impl FnOnce(&InProcBroker, &mut Notes<'_>) -> T + Send + 'static,
    ) -> Pending<T> {
        let answer = Arc::new(Mutex::new(None));
        let (slot, wake) = (answer.clone(), wake.clone());
        let deliver = move |result| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            wake.wake();
        };
        let mut state = self.state();
        let (there, back) =
            (state.random.between(LATENCY.0, LATENCY.1), state.random.between(LATENCY.0, LATENCY.1));
        let lost_permille = state.faults.lost_permille;
        let (lost, answer_lost) =
            (state.random.permille(lost_permille), state.random.permille(lost_permille));
        line.arrived = (state.now + there + later).max(line.arrived);
        line.answered = (line.arrived + back).max(line.answered);
        let (answered, gives_up) = (line.answered, line.arrived + CALL_TIMEOUT);
        let (worker, broken) = (line.worker.clone(), line.broken.clone());
        let arrive: Event = Box::new(move |broker, state| {
            let cut = state.cut.contains(&worker);
            let gone = broken.load(Ordering::Relaxed);
            let result = if lost || cut || gone {
                Err(Lost)
            } else {
                let mut notes = Notes { state, worker: &worker };
                Ok(work(broker, &mut notes))
            };
            if result.is_err() || answer_lost {
                broken.store(true, Ordering::Relaxed);
                // One that finds the line broken is told so at once; the first to notice waits in vain.
                let due = if gone { answered } else { gives_up };
                state.at(due, Box::new(move |_, _| deliver(Err(Lost))));
            } else {
                state.at(answered, Box::new(move |_, _| deliver(result)));
            }
        });
        let due = line.arrived;
        state.at(due, arrive);
        Pending(answer)
    }
}

/// What a call may write down at the broker.
pub(super) struct Notes<'a> {
    state: &'a mut State,
    worker: &'a Arc<str>,
}

impl Notes<'_> {
    /// Records were stored.
    pub(super) fn stored(&mut self, to: (&str, i32), offset: i64, records: &[NewRecord]) {
        let line = format!(
            "{:>7} {} stores {} records in {}[{}] at {offset}",
            self.state.now.as_millis(),
            self.worker,
            records.len(),
            to.0,
            to.1
        );
        self.state.trace.push(line);
    }

    /// Positions were committed.
    pub(super) fn committed(&mut self, positions: &[(pelton_types::Partition, i64)], metadata: &str) {
        *self.state.commits.entry(self.worker.clone()).or_default() += 1;
        let at: Vec<String> = positions.iter().map(|(p, offset)| format!("{p}={offset}")).collect();
        let line = format!(
            "{:>7} {} commits {} as {metadata}",
            self.state.now.as_millis(),
            self.worker,
            at.join(" ")
        );
        self.state.trace.push(line);
    }
}

/// Everything in a partition from `offset` on.
///
/// # Panics
/// When there is no such partition.
pub fn read_all(broker: &InProcBroker, partition: (&str, i32), offset: i64) -> Vec<StoredRecord> {
    broker.read(partition, offset, usize::MAX).expect("the partition exists and keeps everything")
}
