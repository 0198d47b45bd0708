//! Questions to the broker whose answers arrive on a queue, so that nobody waits for them.
//!
//! Each request carries a number; [`Requests::collect`] files the answers by it and whoever asked takes them out.

use crate::{
    native::{Client, Event, Failure, Queue, c_text, text},
    waiting::{Waiting, What},
};
use pelton_sdk::Wake;
use pelton_types::{Offset, Partition};
use rdkafka_sys as sys;
use std::{
    collections::{HashMap, HashSet},
    ffi::{c_char, c_void},
    ptr,
    sync::Arc,
};

/// A partition list as the library keeps it.
pub(crate) struct PartitionList {
    raw: *mut sys::rd_kafka_topic_partition_list_t,
}

/// One entry of a list the library filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionAnswer {
    pub partition: Partition,
    /// -1001 when there is none.
    pub offset: Offset,
    /// Bytes committed with the offset; whoever wrote them need not have written text.
    pub metadata: Option<Vec<u8>>,
    pub failure: Option<Failure>,
}

impl PartitionList {
    /// A list with an offset, and optionally a text, for each partition.
    pub(crate) fn new<'a>(
        entries: impl IntoIterator<Item = (&'a Partition, Offset)>,
        metadata: Option<&str>,
    ) -> PartitionList {
        // SAFETY: a new list, owned here; `add` returns an entry inside it; the library frees metadata with `free`.
        unsafe {
            let raw = sys::rd_kafka_topic_partition_list_new(8);
            for (partition, offset) in entries {
                let topic = c_text(&partition.topic);
                let entry = sys::rd_kafka_topic_partition_list_add(raw, topic.as_ptr(), partition.index);
                (*entry).offset = offset;
                if let Some(metadata) = metadata.filter(|m| !m.is_empty()) {
                    let copy = libc::malloc(metadata.len());
                    if !copy.is_null() {
                        ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                        (*entry).metadata = copy.cast();
                        (*entry).metadata_size = metadata.len();
                    }
                }
            }
            PartitionList { raw }
        }
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.raw
    }

    pub(crate) fn answers(&self) -> Vec<PartitionAnswer> {
        // SAFETY: a live list.
        unsafe { answers(self.raw) }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.raw) }
    }
}

/// # Safety
/// `list` is null or a live list.
unsafe fn answers(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<PartitionAnswer> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list holds `cnt` entries.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count).map(|i| answer((*list).elems.add(i))).collect()
    }
}

/// # Safety
/// `entry` is a live list entry.
unsafe fn answer(entry: *const sys::rd_kafka_topic_partition_t) -> PartitionAnswer {
    // SAFETY: the caller's promise; the code is read as the integer it is represented by.
    unsafe {
        let code = ptr::addr_of!((*entry).err).cast::<i32>().read();
        let metadata = (!(*entry).metadata.is_null()).then(|| {
            std::slice::from_raw_parts((*entry).metadata.cast::<u8>(), (*entry).metadata_size).to_vec()
        });
        PartitionAnswer {
            partition: Partition::new(text((*entry).topic), (*entry).partition),
            offset: (*entry).offset,
            metadata,
            failure: (code != 0).then(|| Failure::of(code)),
        }
    }
}

/// Which end of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEnd {
    /// The oldest offset still there.
    Earliest,
    /// The last stable offset: behind it are only unfinished transactions.
    Latest,
}

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicShape {
    pub partitions: u32,
    /// Copies of each partition; the fewest of any.
    pub replicas: u32,
}

/// A topic's name, and its shape.
pub(crate) type TopicAnswer = (String, Result<TopicShape, Failure>);

/// What a broker answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Committed, listed or just committed offsets.
    Partitions(Result<Vec<PartitionAnswer>, Failure>),
    /// Shapes of topics.
    Topics(Result<Vec<TopicAnswer>, Failure>),
    /// Topics made.
    Created(Result<Vec<(String, Option<Failure>)>, Failure>),
    /// Topics deleted.
    Deleted(Result<Vec<(String, Option<Failure>)>, Failure>),
    /// Settings of a topic by name.
    Settings(Result<Vec<(String, String)>, Failure>),
    /// Members of a group.
    Members(Result<Vec<String>, Failure>),
}

/// Requests of one client that are under way, and answers nobody has fetched yet.
pub(crate) struct Requests {
    client: Arc<Client>,
    queue: Queue,
    ends: Waiting,
    offsets: Waiting,
    last: u64,
    open: HashSet<u64>,
    answered: HashMap<u64, Answer>,
    /// Whole requests that a broker answered, for whoever wonders whether one is there.
    pub successes: u64,
}

impl Requests {
    pub(crate) fn new(client: &Arc<Client>, wake: &Wake) -> Self {
        let queue = Queue::new(client, wake);
        Self {
            client: client.clone(),
            ends: Waiting::new(client, queue.signal()),
            offsets: Waiting::new(client, queue.signal()),
            queue,
            last: 0,
            open: HashSet::new(),
            answered: HashMap::new(),
            successes: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.open.insert(self.last);
        self.last
    }

    /// File what has arrived.
    pub(crate) fn collect(&mut self) {
        if self.queue.signal().take() {
            while let Some(event) = self.queue.next_event(0) {
                self.file(&event);
            }
            for (number, answer) in self.ends.answers().into_iter().chain(self.offsets.answers()) {
                self.keep(number, answer);
            }
        }
    }

    /// Wait for something to arrive, and file it; not for ends and committed offsets. For threads that may wait.
    pub(crate) fn wait(&mut self, timeout_ms: i32) {
        if let Some(event) = self.queue.next_event(timeout_ms) {
            self.file(&event);
        }
    }

    fn file(&mut self, event: &Event) {
        if let Some(answer) = decode(event) {
            self.keep(event.request(), answer);
        }
    }

    fn keep(&mut self, number: u64, answer: Answer) {
        if self.open.contains(&number) {
            self.successes += u64::from(answer.reached_broker());
            self.answered.insert(number, answer);
        }
    }

    /// The answer to a request, once.
    pub(crate) fn take(&mut self, number: u64) -> Option<Answer> {
        let answer = self.answered.remove(&number)?;
        self.open.remove(&number);
        Some(answer)
    }

    /// Nobody waits for this one any more.
    pub(crate) fn forget(&mut self, number: u64) {
        self.open.remove(&number);
        self.answered.remove(&number);
        self.ends.forget(number);
        self.offsets.forget(number);
    }

    /// Commit offsets for the client's group.
    pub(crate) fn commit(&mut self, positions: &PartitionList) -> Result<u64, Failure> {
        let number = self.number();
        let opaque = number as usize as *mut c_void;
        // SAFETY: the list is copied by the call; the queue outlives the request or receives nothing.
        let code = unsafe {
            sys::rd_kafka_commit_queue(self.client.raw(), positions.raw(), self.queue.raw(), None, opaque)
                as i32
        };
        if code != 0 {
            self.forget(number);
            return Err(Failure::of(code));
        }
        Ok(number)
    }

    /// Ask for the offsets committed under the client's group, not counting those of unfinished transactions.
    pub(crate) fn committed(&mut self, partitions: &[Partition]) -> u64 {
        let number = self.number();
        self.offsets.ask(number, partitions, What::Committed);
        number
    }

    /// Ask where partitions begin or end, as a reader of committed records sees it.
    pub(crate) fn log_ends(&mut self, partitions: &[Partition], end: LogEnd) -> u64 {
        let number = self.number();
        self.ends.ask(number, partitions, What::End(end));
        number
    }

    /// Ask for the settings of a topic.
    pub(crate) fn topic_settings(&mut self, topic: &str, timeout_ms: i32) -> u64 {
        let number = self.number();
        let name = c_text(topic);
        let options =
            Options::new(&self.client, Admin::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, number, timeout_ms);
        // SAFETY: all arguments live through the call, which copies them.
        unsafe {
            let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let mut of = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
            sys::rd_kafka_DescribeConfigs(self.client.raw(), &mut of, 1, options.raw, self.queue.raw());
            sys::rd_kafka_ConfigResource_destroy(of);
        }
        number
    }

    /// Ask who takes part in a group.
    pub(crate) fn members(&mut self, group: &str, timeout_ms: i32) -> u64 {
        let number = self.number();
        let name = c_text(group);
        let mut names = [name.as_ptr()];
        let operation = Admin::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let options = Options::new(&self.client, operation, number, timeout_ms);
        // SAFETY: all arguments live through the call, which copies them.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(
                self.client.raw(),
                names.as_mut_ptr(),
                names.len(),
                options.raw,
                self.queue.raw(),
            );
        }
        number
    }

    /// Ask for the shapes of topics. Creates none.
    pub(crate) fn describe(&mut self, topics: &[&str], timeout_ms: i32) -> u64 {
        let number = self.number();
        let names: Vec<_> = topics.iter().map(|t| c_text(t)).collect();
        let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
        let options = Options::new(&self.client, Admin::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, number, timeout_ms);
        // SAFETY: all arguments live through the call, which copies them.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(self.client.raw(), topics, options.raw, self.queue.raw());
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
        number
    }

    /// Ask for a topic to be made, with the broker's default replication.
    pub(crate) fn create(&mut self, topic: &str, partitions: i32, timeout_ms: i32) -> Result<u64, Failure> {
        let number = self.number();
        let name = c_text(topic);
        let mut why = [0 as c_char; 256];
        let options = Options::new(&self.client, Admin::RD_KAFKA_ADMIN_OP_CREATETOPICS, number, timeout_ms);
        // SAFETY: all arguments live through the call, which copies them.
        unsafe {
            let mut new =
                sys::rd_kafka_NewTopic_new(name.as_ptr(), partitions, -1, why.as_mut_ptr(), why.len());
            if new.is_null() {
                self.forget(number);
                return Err(Failure::new(INVALID_ARGUMENT, text(why.as_ptr())));
            }
            sys::rd_kafka_CreateTopics(self.client.raw(), &mut new, 1, options.raw, self.queue.raw());
            sys::rd_kafka_NewTopic_destroy(new);
        }
        Ok(number)
    }

    /// Ask for a topic to be deleted.
    pub(crate) fn delete(&mut self, topic: &str, timeout_ms: i32) -> u64 {
        let number = self.number();
        let name = c_text(topic);
        let options = Options::new(&self.client, Admin::RD_KAFKA_ADMIN_OP_DELETETOPICS, number, timeout_ms);
        // SAFETY: all arguments live through the call, which copies them.
        unsafe {
            let mut gone = sys::rd_kafka_DeleteTopic_new(name.as_ptr());
            sys::rd_kafka_DeleteTopics(self.client.raw(), &mut gone, 1, options.raw, self.queue.raw());
            sys::rd_kafka_DeleteTopic_destroy(gone);
        }
        number
    }
}

/// What the library calls "no offset".
pub(crate) const NO_OFFSET: Offset = sys::RD_KAFKA_OFFSET_INVALID as Offset;
const INVALID_ARGUMENT: i32 = -186;

use sys::rd_kafka_admin_op_t as Admin;

struct Options {
    raw: *mut sys::rd_kafka_AdminOptions_t,
}

impl Options {
    fn new(client: &Client, operation: Admin, number: u64, timeout_ms: i32) -> Options {
        let mut why = [0 as c_char; 256];
        // SAFETY: new options, owned here.
        unsafe {
            let raw = sys::rd_kafka_AdminOptions_new(client.raw(), operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(raw, timeout_ms, why.as_mut_ptr(), why.len());
            sys::rd_kafka_AdminOptions_set_opaque(raw, number as usize as *mut c_void);
            Options { raw }
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.raw) }
    }
}

impl Answer {
    fn reached_broker(&self) -> bool {
        matches!(
            self,
            Answer::Partitions(Ok(_))
                | Answer::Topics(Ok(_))
                | Answer::Created(Ok(_))
                | Answer::Deleted(Ok(_))
                | Answer::Settings(Ok(_))
                | Answer::Members(Ok(_))
        )
    }
}

fn decode(event: &Event) -> Option<Answer> {
    let failure = event.failure();
    match event.kind() {
        sys::RD_KAFKA_EVENT_OFFSET_COMMIT => {
            Some(Answer::Partitions(failure.map_or_else(|| Ok(commit_answers(event)), Err)))
        }
        sys::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => {
            Some(Answer::Topics(failure.map_or_else(|| Ok(topic_answers(event)), Err)))
        }
        sys::RD_KAFKA_EVENT_CREATETOPICS_RESULT => {
            Some(Answer::Created(failure.map_or_else(|| Ok(created_answers(event)), Err)))
        }
        sys::RD_KAFKA_EVENT_DELETETOPICS_RESULT => {
            Some(Answer::Deleted(failure.map_or_else(|| Ok(deleted_answers(event)), Err)))
        }
        sys::RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT => {
            Some(Answer::Settings(failure.map_or_else(|| setting_answers(event), Err)))
        }
        sys::RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT => {
            Some(Answer::Members(failure.map_or_else(|| member_answers(event), Err)))
        }
        _ => None,
    }
}

fn setting_answers(event: &Event) -> Result<Vec<(String, String)>, Failure> {
    let mut all = Vec::new();
    // SAFETY: results belong to the live event; the counts say how many there are.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.raw());
        let mut count = 0;
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
        for i in 0..count {
            let resource = *resources.add(i);
            let code = sys::rd_kafka_ConfigResource_error(resource) as i32;
            if code != 0 {
                return Err(Failure::new(code, text(sys::rd_kafka_ConfigResource_error_string(resource))));
            }
            let mut count = 0;
            let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
            for i in 0..count {
                let entry = *entries.add(i);
                let name = text(sys::rd_kafka_ConfigEntry_name(entry));
                all.push((name, text(sys::rd_kafka_ConfigEntry_value(entry))));
            }
        }
    }
    Ok(all)
}

fn member_answers(event: &Event) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    // SAFETY: results belong to the live event; the counts say how many there are.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.raw());
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        for i in 0..count {
            let group = *groups.add(i);
            if let Some(failure) = failure_of(sys::rd_kafka_ConsumerGroupDescription_error(group)) {
                return Err(failure);
            }
            for i in 0..sys::rd_kafka_ConsumerGroupDescription_member_count(group) {
                let member = sys::rd_kafka_ConsumerGroupDescription_member(group, i);
                let client = text(sys::rd_kafka_MemberDescription_client_id(member));
                all.push(format!("{client} at {}", text(sys::rd_kafka_MemberDescription_host(member))));
            }
        }
    }
    Ok(all)
}

fn commit_answers(event: &Event) -> Vec<PartitionAnswer> {
    // SAFETY: the list belongs to the live event.
    unsafe { answers(sys::rd_kafka_event_topic_partition_list(event.raw())) }
}

fn topic_answers(event: &Event) -> Vec<TopicAnswer> {
    // SAFETY: results belong to the live event; `count` says how many there are.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.raw());
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        (0..count)
            .map(|i| {
                let topic = *topics.add(i);
                let name = text(sys::rd_kafka_TopicDescription_name(topic));
                if let Some(failure) = failure_of(sys::rd_kafka_TopicDescription_error(topic)) {
                    return (name, Err(failure));
                }
                let mut count = 0;
                let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
                let copies = |i| {
                    let mut copies = 0;
                    sys::rd_kafka_TopicPartitionInfo_replicas(*partitions.add(i), &mut copies);
                    copies as u32
                };
                let replicas = (0..count).map(copies).min().unwrap_or(0);
                (name, Ok(TopicShape { partitions: count as u32, replicas }))
            })
            .collect()
    }
}

fn created_answers(event: &Event) -> Vec<(String, Option<Failure>)> {
    // SAFETY: results belong to the live event; `count` says how many there are.
    unsafe {
        let result = sys::rd_kafka_event_CreateTopics_result(event.raw());
        let mut count = 0;
        let topics = sys::rd_kafka_CreateTopics_result_topics(result, &mut count);
        topic_results(topics, count)
    }
}

fn deleted_answers(event: &Event) -> Vec<(String, Option<Failure>)> {
    // SAFETY: results belong to the live event; `count` says how many there are.
    unsafe {
        let result = sys::rd_kafka_event_DeleteTopics_result(event.raw());
        let mut count = 0;
        let topics = sys::rd_kafka_DeleteTopics_result_topics(result, &mut count);
        topic_results(topics, count)
    }
}

/// # Safety
/// `topics` points to `count` live results.
unsafe fn topic_results(
    topics: *mut *const sys::rd_kafka_topic_result_t,
    count: usize,
) -> Vec<(String, Option<Failure>)> {
    let one = |i| {
        // SAFETY: the caller's promise.
        unsafe {
            let topic = *topics.add(i);
            let code = sys::rd_kafka_topic_result_error(topic) as i32;
            let why = text(sys::rd_kafka_topic_result_error_string(topic));
            let failure = || if why.is_empty() { Failure::of(code) } else { Failure::new(code, why) };
            (text(sys::rd_kafka_topic_result_name(topic)), (code != 0).then(failure))
        }
    };
    (0..count).map(one).collect()
}

/// # Safety
/// `error` is null or live.
unsafe fn failure_of(error: *const sys::rd_kafka_error_t) -> Option<Failure> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; the code is turned into a number at once.
    unsafe {
        let code = sys::rd_kafka_error_code(error) as i32;
        (code != 0).then(|| Failure::new(code, text(sys::rd_kafka_error_string(error))))
    }
}
