//! The transactional producer of one task: outputs and offsets become durable together.
//!
//! A thin one over the client library, because only its interceptors tell whether every request had its answer (P7).
//! Calls that wait are made by a thread of the task's own. The client moves into the job of a commit and back with the
//! outcome, so that nothing can be written meanwhile; a job whose outcome nobody wants any more drops it.

mod client;
mod sink;
mod thread;

use crate::{
    alarm::Alarm,
    consumer::SharedConsumer,
    counts::Counts,
    errors::{Transactional, is_unreachable},
    link::Link,
    options::SinkOptions,
    places::{Places, ReadTopics},
    settings::{self, TransactionSettings},
};
use client::TransactionalClient;
use pelton_sabotage::{Defect, breaks};
use pelton_sdk::{EndError, Producer, ProducerSpec, Sink, SinkSpec, Wake};
use pelton_types::{Code, Offset, Partition};
use rdkafka_sys as sys;
use serde_json::Value;
use sink::TransactionalSink;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    task::Poll,
    time::{Duration, Instant},
};
use thread::{Job, Setup};

/// See the module's text.
pub(crate) struct KafkaProducer {
    shared: Arc<Shared>,
    link: Arc<Link>,
    executor: usize,
    settings: TransactionSettings,
    counts: Counts,
    read_topics: ReadTopics,
    jobs: Sender<Job>,
    /// A topic of the cluster, for one that writes to none.
    some_topic: String,
    closing: Option<Instant>,
}

/// What the task, its sinks and its commit thread have in common.
struct Shared {
    of: Transactional,
    consumer: Arc<SharedConsumer>,
    wake: Wake,
    alarm: Alarm,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The client, while no job has it.
    live: Option<TransactionalClient>,
    /// The last job whose outcome is wanted.
    number: u64,
    outcome: Option<Outcome>,
    closed: bool,
}

/// What came of a job.
enum Outcome {
    Init(Result<(), EndError>),
    /// Whether it was clean.
    Commit(Result<bool, EndError>),
}

/// What the producers of an executor share.
pub(crate) struct Surroundings<'a> {
    pub consumer: &'a Arc<SharedConsumer>,
    pub counts: &'a Counts,
    pub read_topics: &'a ReadTopics,
    pub wake: &'a Wake,
    pub alarm: &'a Alarm,
    pub executor: usize,
    /// Bytes that clients of the executor may hold.
    pub queue_bytes: usize,
}

impl KafkaProducer {
    pub(crate) fn new(link: &Arc<Link>, spec: &ProducerSpec, with: &Surroundings<'_>) -> Self {
        let mut id = spec.task.transactional_id();
        if breaks(Defect::FreshId) {
            id += &format!(".{}", std::process::id());
        }
        let of = Transactional {
            id,
            group: spec.task.pipeline.group_id(),
            brokers: link.label.clone(),
            topics: Mutex::default(),
        };
        let settings = TransactionSettings::new(&of.id, spec.commit_interval, with.queue_bytes);
        let shared = Arc::new(Shared {
            of,
            consumer: with.consumer.clone(),
            wake: with.wake.clone(),
            alarm: with.alarm.clone(),
            state: Mutex::default(),
        });
        Self {
            shared,
            link: link.clone(),
            executor: with.executor,
            settings,
            counts: with.counts.clone(),
            read_topics: with.read_topics.clone(),
            jobs: channel().0,
            some_topic: topic_of(&spec.options).unwrap_or_default().to_owned(),
            closing: None,
        }
    }

    /// Give the commit thread a job; it is started with the first one, when all sinks are known.
    fn give(&mut self, job: Job) {
        let Err(returned) = self.jobs.send(job) else { return };
        let (jobs, received) = channel();
        let shared = self.shared.clone();
        let started = std::thread::Builder::new()
            .name("kafka-commit".into())
            .spawn(move || thread::run(&received, &shared));
        if let Err(why) = started {
            tracing::error!(id = self.shared.of.id, "no thread to commit with: {why}");
        }
        self.jobs = jobs;
        if self.jobs.send(returned.0).is_err() {
            self.shared.closed();
        }
    }

    fn setup(&self) -> Setup {
        let topic = self.shared.of.topics().first().unwrap_or(&self.some_topic).clone();
        let properties = settings::transactional(&self.link, &self.settings, self.executor);
        Setup { link: self.link.clone(), properties, topic }
    }
}

/// A topic that an end's options name.
fn topic_of(options: &Value) -> Option<&str> {
    options.get("topic").or_else(|| options.get("topics")?.get(0))?.as_str()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, after everything the client said was looked at.
    fn served(&self) -> MutexGuard<'_, State> {
        let state = self.lock();
        if let Some(live) = &state.live
            && live.main.signal().take()
        {
            while let Some(event) = live.main.next_event(0) {
                if let Some(failure) = event.failure().filter(|_| event.kind() == sys::RD_KAFKA_EVENT_ERROR)
                    && !is_unreachable(failure.code)
                {
                    tracing::debug!(id = self.of.id, "{}", failure.text);
                }
            }
        }
        state
    }

    /// Look again soon, for room or for an answer.
    fn look_again(&self, after: Duration) {
        self.alarm.wake_after(after, &self.wake);
    }

    /// A job is done. The client is dropped here when nobody wants the outcome any more.
    fn give_back(&self, number: u64, live: Option<TransactionalClient>, outcome: Outcome) {
        let mut unwanted = live;
        let mut state = self.lock();
        if state.number == number {
            state.live = unwanted.take();
            state.outcome = Some(outcome);
        }
        drop(state);
        drop(unwanted);
        self.wake.wake();
    }

    fn closed(&self) {
        self.lock().closed = true;
        self.wake.wake();
    }
}

impl State {
    /// The client for a new job and the job's number; what an earlier one comes to does not matter any more.
    fn next(&mut self) -> (Option<TransactionalClient>, u64) {
        self.number += 1;
        self.outcome = None;
        (self.live.take(), self.number)
    }
}

impl Producer for KafkaProducer {
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        let options = SinkOptions::parse(&spec.options)
            .map_err(|e| crate::connector::refused("sink", &spec.name, &e))?;
        self.settings.linger = self.settings.linger.min(options.linger);
        if let Some(bytes) = options.max_in_flight {
            self.settings.in_flight_bytes = bytes.max(1 << 20);
        }
        self.shared.of.topics().push(options.topic.clone());
        let places =
            Places::new(&self.counts, &self.link.label, self.read_topics.clone(), options.topic.clone());
        Ok(Box::new(TransactionalSink::new(&self.shared, places, options.compression)))
    }

    fn warm(&mut self) {
        let setup = self.setup();
        self.give(Job::Warm(setup));
    }

    fn start_init(&mut self, throw_away: bool) {
        let (old, number) = self.shared.lock().next();
        let setup = self.setup();
        self.give(Job::Init { old, setup, throw_away, number });
    }

    fn poll_init(&mut self) -> Poll<Result<(), EndError>> {
        let mut state = self.shared.lock();
        match state.outcome.take() {
            Some(Outcome::Init(outcome)) => Poll::Ready(outcome),
            other => {
                state.outcome = other;
                Poll::Pending
            }
        }
    }

    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str) {
        let (live, number) = self.shared.served().next();
        match live {
            Some(live) => self.give(Job::Commit {
                live,
                positions: positions.to_vec(),
                metadata: metadata.to_owned(),
                number,
            }),
            None => {
                let why = EndError::retry(Code::CommitFailed, "the producer is not initialised");
                self.shared.lock().outcome = Some(Outcome::Commit(Err(why)));
            }
        }
    }

    fn poll_commit(&mut self) -> Poll<Result<bool, EndError>> {
        let mut state = self.shared.lock();
        match state.outcome.take() {
            Some(Outcome::Commit(outcome)) => Poll::Ready(outcome),
            other => {
                state.outcome = other;
                Poll::Pending
            }
        }
    }

    fn discard(&mut self) {
        let (live, _) = self.shared.lock().next();
        self.give(Job::Drop(live));
    }

    fn start_close(&mut self) {
        let (live, _) = self.shared.lock().next();
        self.closing = Some(Instant::now());
        self.shared.look_again(thread::CLOSE_WITHIN);
        self.give(Job::Close(live));
    }

    fn poll_close(&mut self) -> Poll<()> {
        let late = self.closing.is_none_or(|since| since.elapsed() >= thread::CLOSE_WITHIN);
        if late || self.shared.lock().closed { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for KafkaProducer {
    /// The thread ends with its last job; what is open then is aborted if there is time.
    fn drop(&mut self) {
        let live = self.shared.lock().live.take();
        if live.is_some() {
            self.give(Job::Close(live));
        }
    }
}
