//! The one consumer of an (executor, cluster, group), shared by the tasks of the executor.

use crate::{
    alarm::Alarm,
    counts::{AGAIN, Asker, Count, Counts},
    errors::{self, Reachability, is_unreachable},
    link::Link,
    native::{Client, ClientKind, Failure, Queue, c_text},
    requests::{Answer, LogEnd, NO_OFFSET, PartitionList, Requests},
    settings::Properties,
};
use pelton_sdk::{EndError, Wake};
use pelton_types::{Code, Offset, Partition};
use rdkafka_sys as sys;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Ends of partitions are asked for at most this often.
const ENDS_EVERY: Duration = Duration::from_secs(1);

/// See the module's text.
pub(crate) struct SharedConsumer {
    pub client: Arc<Client>,
    pub bootstrap: String,
    pub group: String,
    pub wake: Wake,
    pub alarm: Alarm,
    counts: Counts,
    state: Mutex<ConsumerState>,
}

/// What changes, behind a lock that only the executor's own thread takes in practice.
pub(crate) struct ConsumerState {
    client: Arc<Client>,
    main: Queue,
    pub requests: Requests,
    pub reach: Reachability,
    /// That the broker keeps the group from us, told once when its coordinator was looked for.
    pub refusal: Option<Failure>,
    asker: Asker,
    assigned: HashSet<Partition>,
    ends: HashMap<Partition, Offset>,
    ends_open: Option<u64>,
    ends_asked: Option<Instant>,
    /// Topics whose leaders are being looked up ahead of the assignment.
    warmed: HashMap<String, Topic>,
    successes: u64,
    bootstrap: String,
    /// When the executor is woken to look for missing topics.
    look_at: Option<Instant>,
}

/// A topic handle; making one starts the search for the topic's leaders.
pub(crate) struct Topic {
    raw: *mut sys::rd_kafka_topic_t,
    client: Arc<Client>,
}

// SAFETY: topic handles may be used from any thread.
unsafe impl Send for Topic {}

impl Topic {
    pub(crate) fn new(client: &Arc<Client>, name: &str) -> Option<Topic> {
        let name = c_text(name);
        // SAFETY: without its own configuration the topic takes the client's; the handle is checked and owned.
        let raw = unsafe { sys::rd_kafka_topic_new(client.raw(), name.as_ptr(), std::ptr::null_mut()) };
        (!raw.is_null()).then(|| Topic { raw, client: client.clone() })
    }

    /// A topic with properties of its own.
    pub(crate) fn with(client: &Arc<Client>, name: &str, properties: &[(&str, &str)]) -> Option<Topic> {
        let name = c_text(name);
        // SAFETY: a copy of the client's topic configuration, taken over by the topic; texts are copied.
        let raw = unsafe {
            let conf = sys::rd_kafka_default_topic_conf_dup(client.raw());
            for (name, value) in properties {
                let (name, value) = (c_text(name), c_text(value));
                sys::rd_kafka_topic_conf_set(conf, name.as_ptr(), value.as_ptr(), std::ptr::null_mut(), 0);
            }
            sys::rd_kafka_topic_new(client.raw(), name.as_ptr(), conf)
        };
        (!raw.is_null()).then(|| Topic { raw, client: client.clone() })
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_topic_t {
        self.raw
    }

    /// Ask a broker who leads its partitions, and wait until the client knows.
    pub(crate) fn find_leaders(&self, within_ms: i32) {
        let mut known: *const sys::rd_kafka_metadata = std::ptr::null();
        // SAFETY: a live client and topic; what the call gives is destroyed.
        unsafe {
            sys::rd_kafka_metadata(self.client.raw(), 0, self.raw, &mut known, within_ms);
            if !known.is_null() {
                sys::rd_kafka_metadata_destroy(known);
            }
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_topic_destroy(self.raw) }
    }
}

impl SharedConsumer {
    pub(crate) fn new(
        link: &Arc<Link>,
        group: &str,
        properties: &Properties,
        wake: &Wake,
        alarm: &Alarm,
        counts: &Counts,
    ) -> Result<Arc<Self>, EndError> {
        let client = Client::new(ClientKind::Consumer, properties, link)?;
        let bootstrap = &*link.label;
        let state = ConsumerState {
            client: client.clone(),
            main: Queue::main(&client, ClientKind::Consumer, wake),
            requests: Requests::new(&client, wake),
            reach: Reachability::default(),
            refusal: None,
            asker: Asker::new(bootstrap, counts),
            assigned: HashSet::new(),
            ends: HashMap::new(),
            ends_open: None,
            ends_asked: None,
            warmed: HashMap::new(),
            successes: 0,
            bootstrap: bootstrap.to_owned(),
            look_at: None,
        };
        Ok(Arc::new(Self {
            client,
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
            wake: wake.clone(),
            alarm: alarm.clone(),
            counts: counts.clone(),
            state: Mutex::new(state),
        }))
    }

    /// The state, after everything that has arrived was looked at.
    pub(crate) fn served(&self) -> MutexGuard<'_, ConsumerState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.serve();
        state
    }

    /// Learn where topics live, ahead of an assignment.
    pub(crate) fn warm(&self, topics: &[Arc<str>]) {
        let mut state = self.served();
        for name in topics {
            if !state.warmed.contains_key(&**name)
                && let Some(topic) = Topic::new(&self.client, name)
            {
                state.warmed.insert(name.to_string(), topic);
            }
            state.asker.watch(name);
        }
        let state = &mut *state;
        state.asker.refresh(&mut state.requests, Instant::now());
    }

    /// Whether a topic is known not to exist. While that is so, the executor is woken to look again.
    pub(crate) fn is_missing(&self, topic: &str) -> bool {
        let missing = self.counts.get(&self.bootstrap, topic) == Count::Missing;
        if missing {
            let mut state = self.served();
            let now = Instant::now();
            if state.look_at.is_none_or(|at| at <= now) {
                state.look_at = Some(now + AGAIN);
                self.alarm.wake_after(AGAIN, &self.wake);
            }
        }
        missing
    }

    /// Add partitions at offsets to what is read, each with a queue of its own.
    pub(crate) fn assign(&self, at: &[(Partition, Offset)]) -> Result<Vec<Queue>, EndError> {
        let mut state = self.served();
        if let Some((taken, _)) = at.iter().find(|(p, _)| state.assigned.contains(p)) {
            let text = format!("{taken} is already read by group {} on this executor", self.group);
            return Err(EndError::stop(Code::SourceFailed, text));
        }
        // Taken out of the common queue before the assignment, so that no record can reach it.
        let queues: Option<Vec<_>> = at
            .iter()
            .map(|(p, _)| Queue::of_partition(&self.client, &p.topic, p.index, &self.wake))
            .collect();
        let Some(queues) = queues else {
            return Err(EndError::stop(Code::SourceFailed, format!("no partitions named {at:?}")));
        };
        let list = PartitionList::new(at.iter().map(|(p, o)| (p, *o)), None);
        // SAFETY: the list is copied by the call.
        let error = unsafe { sys::rd_kafka_incremental_assign(self.client.raw(), list.raw()) };
        take_error(error).map_err(|f| EndError::retry(Code::SourceFailed, format!("assign: {}", f.text)))?;
        state.assigned.extend(at.iter().map(|(p, _)| p.clone()));
        state.ends_asked = None;
        Ok(queues)
    }

    /// Let go of partitions.
    pub(crate) fn unassign(&self, partitions: &[Partition]) {
        let mut state = self.served();
        let ours: Vec<_> = partitions.iter().filter(|p| state.assigned.remove(p)).collect();
        if ours.is_empty() {
            return;
        }
        let list = PartitionList::new(ours.into_iter().map(|p| (p, NO_OFFSET)), None);
        // SAFETY: the list is copied by the call.
        let error = unsafe { sys::rd_kafka_incremental_unassign(self.client.raw(), list.raw()) };
        if let Err(failure) = take_error(error) {
            tracing::warn!(group = self.group, "unassign: {}", failure.text);
        }
    }

    /// The offset behind everything taken from each partition's queue, markers included; `None` before the first.
    pub(crate) fn taken_up_to(&self, partitions: &[Partition]) -> Vec<Option<Offset>> {
        let list = PartitionList::new(partitions.iter().map(|p| (p, NO_OFFSET)), None);
        // SAFETY: fills in the list, in place.
        let code = unsafe { sys::rd_kafka_position(self.client.raw(), list.raw()) as i32 };
        let answers = list.answers();
        answers
            .into_iter()
            .map(|a| (code == 0 && a.failure.is_none() && a.offset >= 0).then_some(a.offset))
            .collect()
    }
}

impl ConsumerState {
    fn serve(&mut self) {
        if self.main.signal().take() {
            while let Some(event) = self.main.next_event(0) {
                if event.kind() == sys::RD_KAFKA_EVENT_ERROR
                    && let Some(failure) = event.failure()
                {
                    self.trouble(failure);
                }
            }
        }
        self.requests.collect();
        if self.requests.successes != self.successes {
            self.successes = self.requests.successes;
            self.alive();
        }
        if let Some(answer) = self.ends_open.and_then(|number| self.requests.take(number)) {
            self.ends_open = None;
            self.learn_ends(answer);
        }
        // Also while nothing is due: an answer may have come.
        self.asker.refresh(&mut self.requests, Instant::now());
    }

    fn trouble(&mut self, failure: Failure) {
        let failure = self.client.explain(failure);
        if failure.code == errors::code::GROUP_AUTHORIZATION {
            self.refusal = Some(failure.clone());
        }
        if !is_unreachable(failure.code) {
            tracing::debug!(brokers = self.bootstrap, "{}", failure.text);
        }
        if self.reach.heard(failure)
            && let Some(failure) = self.reach.down()
        {
            let why = errors::unreachable(&self.bootstrap, failure);
            tracing::warn!(code = %why.code, "{why}; waiting");
        }
    }

    /// A broker has answered, or sent records.
    pub(crate) fn alive(&mut self) {
        self.client.answered();
        if self.reach.answered() {
            tracing::info!(brokers = self.bootstrap, "the broker answers again");
        }
    }

    /// Keep the ends that were answered. What is not answered is not known any more: a broker that is away does not say
    /// how far it is.
    fn learn_ends(&mut self, answer: Answer) {
        self.ends.clear();
        if let Answer::Partitions(Ok(all)) = answer {
            let known = all.into_iter().filter(|e| e.failure.is_none() && e.offset >= 0);
            self.ends.extend(known.map(|e| (e.partition, e.offset)));
        }
    }

    /// The end of a partition as last heard.
    pub(crate) fn end_of(&mut self, partition: &Partition) -> Option<Offset> {
        self.ends.get(partition).copied()
    }

    /// Ask for the ends of everything assigned, unless they are fresh or being asked for.
    pub(crate) fn refresh_ends(&mut self) {
        let now = Instant::now();
        let fresh = self.ends_asked.is_some_and(|asked| now.duration_since(asked) < ENDS_EVERY);
        if self.ends_open.is_none() && !fresh && !self.assigned.is_empty() {
            self.ends_asked = Some(now);
            self.ends.retain(|p, _| self.assigned.contains(p));
            let all: Vec<_> = self.assigned.iter().cloned().collect();
            self.ends_open = Some(self.requests.log_ends(&all, LogEnd::Latest));
        }
    }
}

/// An error object the library handed over.
pub(crate) fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, owned, and destroyed here.
    unsafe {
        let failure = Failure::new(
            sys::rd_kafka_error_code(error) as i32,
            crate::native::text(sys::rd_kafka_error_string(error)),
        );
        sys::rd_kafka_error_destroy(error);
        Err(failure)
    }
}
