//! The one idempotent producer of an (executor, cluster, batching), shared by the sinks of the executor.

use crate::{
    alarm::Alarm,
    consumer::Topic,
    counts::{Asker, Counts},
    errors::{self, Reachability, code, is_unreachable},
    flush::until_sent,
    link::Link,
    native::{Client, ClientKind, Failure, Queue},
    produce::{self, Produced},
    requests::Requests,
    settings::Properties,
};
use pelton_sdk::{EndError, Wake};
use pelton_types::{Batch, Code};
use rdkafka_sys as sys;
use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// See the module's text.
pub(crate) struct SharedProducer {
    pub bootstrap: String,
    pub counts: Counts,
    wake: Wake,
    alarm: Alarm,
    state: Mutex<ProducerState>,
}

pub(crate) struct ProducerState {
    properties: Properties,
    wake: Wake,
    bootstrap: String,
    link: Arc<Link>,
    live: Live,
    asker: Asker,
    reach: Reachability,
    sinks: HashMap<u64, SinkState>,
    last_sink: u64,
    flush: Flush,
}

/// A running client and what hangs on it; replaced as a whole after a fatal error.
struct Live {
    // Topics and queues go before the client they belong to; each holds a reference anyway.
    topics: HashMap<String, Topic>,
    main: Queue,
    requests: Requests,
    client: Arc<Client>,
    successes: u64,
}

/// What a sink has in flight.
#[derive(Default)]
struct SinkState {
    topic: String,
    /// Records were pushed that no flush has covered: how many flushes had begun when the last of them was.
    dirty: Option<u64>,
    /// The first record since then that was not stored.
    failed: Option<EndError>,
}

/// One flush serves all sinks: while it runs nothing is taken, so that it comes to an end.
struct Flush {
    /// Flushes begun.
    begun: u64,
    flusher: Arc<Flusher>,
}

/// Waits in the library for the queue to drain, on a thread of its own: only a waiting flush makes the library send
/// without lingering.
struct Flusher {
    job: Mutex<Option<Job>>,
    changed: Condvar,
    /// Flushes ended.
    ended: AtomicU64,
    over: AtomicBool,
}

struct Job {
    client: Arc<Client>,
    number: u64,
    wake: Wake,
}

impl Live {
    fn new(properties: &Properties, link: &Arc<Link>, wake: &Wake) -> Result<Live, EndError> {
        let client = Client::new(ClientKind::Producer, properties, link)?;
        Ok(Live {
            topics: HashMap::new(),
            main: Queue::main(&client, ClientKind::Producer, wake),
            requests: Requests::new(&client, wake),
            client,
            successes: 0,
        })
    }
}

impl SharedProducer {
    pub(crate) fn new(
        link: &Arc<Link>,
        properties: Properties,
        wake: &Wake,
        alarm: &Alarm,
        counts: &Counts,
    ) -> Result<Arc<Self>, EndError> {
        let live = Live::new(&properties, link, wake)?;
        let bootstrap = &*link.label;
        let state = ProducerState {
            properties,
            wake: wake.clone(),
            bootstrap: bootstrap.to_owned(),
            link: link.clone(),
            live,
            asker: Asker::new(bootstrap, counts),
            reach: Reachability::default(),
            sinks: HashMap::new(),
            last_sink: 0,
            flush: Flush { begun: 0, flusher: Flusher::start() },
        };
        Ok(Arc::new(Self {
            bootstrap: bootstrap.to_owned(),
            counts: counts.clone(),
            wake: wake.clone(),
            alarm: alarm.clone(),
            state: Mutex::new(state),
        }))
    }

    /// The state, after everything that has arrived was looked at.
    pub(crate) fn served(&self) -> MutexGuard<'_, ProducerState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.serve();
        state
    }

    /// Look again soon, for room or for an answer.
    pub(crate) fn look_again(&self, after: Duration) {
        self.alarm.wake_after(after, &self.wake);
    }
}

impl ProducerState {
    /// A sink more; its number marks its records.
    pub(crate) fn add_sink(&mut self, topic: &str) -> u64 {
        self.last_sink += 1;
        self.sinks.insert(self.last_sink, SinkState { topic: topic.to_owned(), ..SinkState::default() });
        self.asker.watch(topic);
        self.ask_counts();
        self.last_sink
    }

    /// Its records in flight are stored or not, nobody asks any more.
    pub(crate) fn remove_sink(&mut self, sink: u64) {
        self.sinks.remove(&sink);
    }

    /// Find out about topics what is due.
    pub(crate) fn ask_counts(&mut self) {
        self.asker.refresh(&mut self.live.requests, Instant::now());
    }

    fn serve(&mut self) {
        if self.live.main.signal().take() {
            let mut fatal = None;
            while let Some(event) = self.live.main.next_event(0) {
                match event.kind() {
                    sys::RD_KAFKA_EVENT_DR => {
                        for (sink, failure) in event.undelivered() {
                            self.undelivered(sink, &failure);
                        }
                    }
                    sys::RD_KAFKA_EVENT_ERROR => {
                        let failure = event.failure();
                        if event.is_fatal() {
                            fatal = self.live.client.fatal_error().or(failure);
                        } else if let Some(failure) = failure {
                            self.trouble(failure);
                        }
                    }
                    _ => {}
                }
            }
            if let Some(failure) = fatal {
                self.replace(&failure);
            }
        }
        self.live.requests.collect();
        if self.live.requests.successes != self.live.successes {
            self.live.successes = self.live.requests.successes;
            self.alive();
        }
        self.ask_counts();
    }

    fn undelivered(&mut self, sink: u64, failure: &Failure) {
        if let Some(sink) = self.sinks.get_mut(&sink) {
            sink.failed.get_or_insert_with(|| errors::delivery(&sink.topic, &self.bootstrap, failure));
        }
    }

    fn trouble(&mut self, failure: Failure) {
        let failure = self.live.client.explain(failure);
        if !is_unreachable(failure.code) {
            tracing::debug!(brokers = self.bootstrap, "{}", failure.text);
        }
        if self.reach.heard(failure)
            && let Some(failure) = self.reach.down()
        {
            let why = errors::unreachable(&self.bootstrap, failure);
            tracing::warn!(code = %why.code, "{why}; records wait");
        }
    }

    /// That no broker lets us in, once for each time.
    pub(crate) fn refused(&self, reported: &mut u64) -> Option<EndError> {
        self.reach.refused(&self.bootstrap, reported)
    }

    fn alive(&mut self) {
        self.live.client.answered();
        if self.reach.answered() {
            tracing::info!(brokers = self.bootstrap, "the broker answers again");
        }
    }

    /// After a fatal error: every sink with records in flight hears of it, and a new client takes over.
    fn replace(&mut self, failure: &Failure) {
        tracing::warn!(brokers = self.bootstrap, "the producer is done for and made anew: {}", failure.text);
        for sink in self.sinks.values_mut().filter(|s| s.dirty.is_some()) {
            sink.failed.get_or_insert_with(|| {
                if failure.code == code::CLUSTER_AUTHORIZATION {
                    return errors::delivery(&sink.topic, &self.bootstrap, failure);
                }
                let text = format!("records for topic {} may be lost: {}", sink.topic, failure.text);
                EndError::retry(Code::SinkFailed, text)
            });
        }
        match Live::new(&self.properties, &self.link, &self.wake) {
            Ok(live) => {
                let old = std::mem::replace(&mut self.live, live);
                // SAFETY: a live client; what it still holds is given up, without waiting.
                unsafe { sys::rd_kafka_purge(old.client.raw(), PURGE_ALL) };
                // A flush of the old client never ends by itself.
                self.flush.flusher.ended.fetch_max(self.flush.begun, Ordering::AcqRel);
            }
            Err(why) => tracing::error!(brokers = self.bootstrap, "no new producer: {why}"),
        }
    }

    /// A flush is under way, and nothing is taken.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flush.flusher.ended.load(Ordering::Acquire) < self.flush.begun
    }

    /// Begin a flush, or join the one under way (it covers everything pushed so far, since it holds pushes back).
    /// `None` when this sink has nothing in flight.
    pub(crate) fn flush(&mut self, sink: u64) -> Option<u64> {
        if !self.sinks.get(&sink).is_some_and(|s| s.dirty.is_some() || s.failed.is_some()) {
            return None;
        }
        if !self.is_flushing() {
            self.flush.begun += 1;
            let job =
                Job { client: self.live.client.clone(), number: self.flush.begun, wake: self.wake.clone() };
            self.flush.flusher.give(job);
        }
        Some(self.flush.begun)
    }

    /// Whether a flush has ended, and how for this sink.
    pub(crate) fn flushed(&mut self, sink: u64, number: u64) -> Option<Result<(), EndError>> {
        if self.flush.flusher.ended.load(Ordering::Acquire) < number {
            return None;
        }
        let Some(sink) = self.sinks.get_mut(&sink) else { return Some(Ok(())) };
        // A flush ends before anybody asks, and what is pushed in between is not covered by it.
        sink.dirty = sink.dirty.filter(|begun| *begun >= number);
        let outcome = sink.failed.take().map_or(Ok(()), Err);
        if outcome.is_ok() {
            self.alive();
        }
        Some(outcome)
    }

    /// Make sure the topic has a handle.
    pub(crate) fn open_topic(&mut self, name: &str) -> Result<(), EndError> {
        if !self.live.topics.contains_key(name) {
            let topic = Topic::new(&self.live.client, name)
                .ok_or_else(|| EndError::stop(Code::SinkFailed, format!("topic {name} cannot be opened")))?;
            self.live.topics.insert(name.to_owned(), topic);
        }
        Ok(())
    }

    /// Hand records from index `from` on to the client, each to `partition` or where its key belongs (-1). Ends at the
    /// first that is not taken; the number of those that were, and what stopped it.
    pub(crate) fn produce(
        &mut self,
        sink: u64,
        topic: &str,
        batch: &Batch,
        from: usize,
        partition: i32,
    ) -> (usize, Produced) {
        let Some(handle) = self.live.topics.get(topic) else {
            return (
                0,
                Produced::Failed(EndError::stop(Code::SinkFailed, format!("topic {topic} is not open"))),
            );
        };
        let (taken, refused) =
            produce::records(&self.live.client, handle, batch, from, partition, sink as usize as *mut c_void);
        let stopped = refused.map_or(Produced::Taken, |(record, failure)| {
            let stopped = produce::refusal(topic, &self.bootstrap, batch, record, &failure);
            if failure.code == code::FATAL {
                let fatal = self.live.client.fatal_error().unwrap_or(failure);
                self.mark_dirty(sink);
                self.replace(&fatal);
            }
            stopped
        });
        if taken > 0 {
            self.mark_dirty(sink);
        }
        (taken, stopped)
    }

    fn mark_dirty(&mut self, sink: u64) {
        if let Some(sink) = self.sinks.get_mut(&sink) {
            sink.dirty = Some(self.flush.begun);
        }
    }
}

/// `RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING`.
const PURGE_ALL: i32 = 1 | 2 | 4;

impl Flusher {
    /// A thread that sleeps until there is something to flush.
    fn start() -> Arc<Flusher> {
        let flusher = Arc::new(Flusher {
            job: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let of_thread = flusher.clone();
        let started = std::thread::Builder::new().name("kafka-flush".into()).spawn(move || of_thread.run());
        if let Err(why) = started {
            tracing::error!("no thread to flush with: {why}");
        }
        flusher
    }

    fn give(&self, job: Job) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        self.changed.notify_one();
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            let over =
                || self.over.load(Ordering::Acquire) || self.ended.load(Ordering::Acquire) >= job.number;
            // Failed records are counted until the executor has seen them.
            if until_sent(&job.client, over) {
                self.ended.fetch_max(job.number, Ordering::AcqRel);
            }
            job.wake.wake();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.over.load(Ordering::Acquire) {
                return None;
            }
            if let Some(job) = job.take() {
                return Some(job);
            }
            job = self.changed.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.flusher.over.store(true, Ordering::Release);
        // Under the lock, so that the thread is either waiting or about to look.
        drop(self.flusher.job.lock().unwrap_or_else(PoisonError::into_inner));
        self.flusher.changed.notify_one();
    }
}
