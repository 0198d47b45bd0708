//! A transactional producer as the library has it: calls that wait, for the commit thread of a task.

use crate::{
    consumer::Topic,
    errors::code,
    flush::until_sent,
    link::Link,
    native::{Client, ClientKind, Failure, Queue, c_text, text},
    options::Compression,
    requests::{Answer, PartitionList, Requests},
    settings::Properties,
};
use pelton_sabotage::{
    Defect, breaks,
    points::{self, Point},
};
use pelton_sdk::{EndError, Wake};
use pelton_types::{Offset, Partition};
use rdkafka_sys as sys;
use std::{
    collections::HashMap,
    ffi::c_char,
    sync::Arc,
    time::{Duration, Instant},
};

/// No limit: with one the library's state and the broker's may part ways.
const NEVER: i32 = -1;
/// How long a question for a topic's leaders may take.
const CONNECT_MS: i32 = 3_000;
/// How long the question for a group's members may take.
const MEMBERS_MS: i32 = 2_000;
/// How long the library may look for that answer: the most it takes. Its question must not run out of time: while a new
/// cluster has no coordinator yet, the search for it would go on, and then use what was freed and abort the process
/// (`rd_kafka_coord_req_fail` of librdkafka 2.12.1). Nobody waits for an answer that comes later.
const OPEN_MS: i32 = 3_600_000;
/// How long offsets are offered to the transaction.
const OFFSETS_WITHIN: Duration = Duration::from_secs(30);

/// One client, initialised or not. Dropping it closes it before the drop returns, and aborts nothing.
pub(super) struct TransactionalClient {
    // Topics and queues go before the client they belong to; each holds a reference anyway.
    topics: HashMap<String, Topic>,
    pub main: Queue,
    pub client: Arc<Client>,
    /// Records were taken since the last commit.
    pub dirty: bool,
}

/// An error of a call, and whether the same call may succeed later.
struct Refused {
    failure: Failure,
    retriable: bool,
}

impl TransactionalClient {
    pub(super) fn new(link: &Arc<Link>, properties: &Properties, wake: &Wake) -> Result<Self, EndError> {
        let client = Client::new(ClientKind::Transactional, properties, link)?;
        client.closes_where_dropped();
        let main = Queue::main(&client, ClientKind::Transactional, wake);
        Ok(Self { topics: HashMap::new(), main, client, dirty: false })
    }

    /// Connect, to the cluster and to the leader of a topic's first partition: an init without a connection waits for
    /// a timer of 500 ms, and the connection to the bootstrap address alone is dropped again.
    pub(super) fn connect(&self, topic: &str) {
        let name = c_text(topic);
        let Some(handle) = Topic::new(&self.client, topic) else { return };
        let (mut low, mut high) = (0, 0);
        handle.find_leaders(CONNECT_MS);
        // SAFETY: a live client; the call fills in two numbers.
        unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.client.raw(),
                name.as_ptr(),
                0,
                &mut low,
                &mut high,
                CONNECT_MS,
            );
        }
    }

    pub(super) fn init(&self, timeout_ms: i32) -> Result<(), Failure> {
        // SAFETY: a live client.
        take(unsafe { sys::rd_kafka_init_transactions(self.client.raw(), timeout_ms) }).map_err(|r| r.failure)
    }

    pub(super) fn begin(&self) -> Result<(), Failure> {
        // SAFETY: a live client.
        take(unsafe { sys::rd_kafka_begin_transaction(self.client.raw()) }).map_err(|r| r.failure)
    }

    /// Who takes part in a group; `None` when its coordinator does not answer.
    pub(super) fn members(&self, group: &str) -> Option<Answer> {
        let mut requests = Requests::new(&self.client, &Wake::none());
        let number = requests.members(group, OPEN_MS);
        requests.wait(MEMBERS_MS);
        requests.take(number)
    }

    /// Commit what was produced, with these positions.
    pub(super) fn commit(
        &mut self,
        group: &str,
        positions: &[(Partition, Offset)],
        metadata: &str,
    ) -> Result<(), Failure> {
        // What is not stored after it shows at the commit.
        until_sent(&self.client, || false);
        points::reach(Point::Produced);
        if breaks(Defect::OffsetsOutside) {
            // SAFETY: a live client.
            again(None, || unsafe { sys::rd_kafka_commit_transaction(self.client.raw(), NEVER) })?;
            self.begin()?;
        }
        if !positions.is_empty() {
            self.send_offsets(group, positions, metadata)?;
        }
        points::reach(Point::OffsetsSent);
        // SAFETY: a live client.
        again(None, || unsafe { sys::rd_kafka_commit_transaction(self.client.raw(), NEVER) })?;
        self.dirty = false;
        Ok(())
    }

    fn send_offsets(
        &self,
        group: &str,
        positions: &[(Partition, Offset)],
        metadata: &str,
    ) -> Result<(), Failure> {
        self.find_coordinator(group)?;
        let list = PartitionList::new(positions.iter().map(|(p, o)| (p, *o)), Some(metadata));
        let name = c_text(group);
        // SAFETY: an object with the group's name and no member: a task joins no group. Destroyed below.
        let of_group = unsafe { sys::rd_kafka_consumer_group_metadata_new(name.as_ptr()) };
        // Retriable, and then with the same arguments; not resumable.
        let sent = again(Some(Instant::now() + OFFSETS_WITHIN), || {
            let within = i32::try_from(OFFSETS_WITHIN.as_millis()).unwrap_or(i32::MAX);
            // SAFETY: all arguments live through the call, which copies them.
            unsafe {
                sys::rd_kafka_send_offsets_to_transaction(self.client.raw(), list.raw(), of_group, within)
            }
        });
        // SAFETY: owned.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(of_group) };
        sent
    }

    /// When the connection to the group's coordinator has ended, see that there is one before anything waits for it. The
    /// library lets go of a broker that metadata lacks for a moment, and keeps it as the coordinator: what is to go there
    /// waits, without a limit, for a connection that nobody makes any more (`rd_kafka_coord_req_fsm` of librdkafka 2.12.1).
    /// A question that need not be waited for goes the same way.
    fn find_coordinator(&self, group: &str) -> Result<(), Failure> {
        if self.client.coordinator_left() && self.members(group).is_none() {
            let why = format!("no answer of the broker that keeps the offsets of group {group}");
            return Err(Failure::new(code::TIMED_OUT, why));
        }
        Ok(())
    }

    /// Abort what is open, for readers that wait for it.
    pub(super) fn abort(&self, timeout_ms: i32) -> Result<(), Failure> {
        // SAFETY: a live client.
        take(unsafe { sys::rd_kafka_abort_transaction(self.client.raw(), timeout_ms) }).map_err(|r| r.failure)
    }

    /// A handle for a topic, with its own compression.
    pub(super) fn topic(&mut self, name: &str, compression: Compression) -> Option<&Topic> {
        if !self.topics.contains_key(name) {
            let topic = Topic::with(&self.client, name, &[("compression.codec", compression.name())])?;
            self.topics.insert(name.to_owned(), topic);
        }
        self.topics.get(name)
    }
}

/// Call until it succeeds, or fails for good, or the time is over.
fn again(
    until: Option<Instant>,
    mut call: impl FnMut() -> *mut sys::rd_kafka_error_t,
) -> Result<(), Failure> {
    loop {
        match take(call()) {
            Ok(()) => return Ok(()),
            Err(refused) if refused.retriable && until.is_none_or(|at| Instant::now() < at) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(refused) => return Err(refused.failure),
        }
    }
}

fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), Refused> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, owned, and destroyed here; the code is read as the integer it is represented by.
    unsafe {
        let why: *const c_char = sys::rd_kafka_error_string(error);
        let mut code = sys::rd_kafka_error_code(error) as i32;
        if sys::rd_kafka_error_is_fatal(error) != 0 && code == code::FATAL {
            code = code::STATE;
        }
        let failure = Failure::new(code, text(why));
        let retriable = sys::rd_kafka_error_is_retriable(error) != 0;
        sys::rd_kafka_error_destroy(error);
        Err(Refused { failure, retriable })
    }
}
