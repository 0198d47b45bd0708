//! Fetch: which batches to send, and whether to wait for more.

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::code::Code;
use crate::core::{AbortedRange, Isolation, LogId};
use crate::store::{SegmentStore, Wanted};

/// One answer never carries more than this, whatever the client asks for.
const MAX_FETCH_BYTES: usize = 64 * 1024 * 1024;
/// Nobody waits longer than this, milliseconds: a connection in a fetch notices nothing else.
const MAX_WAIT_MS: i32 = 60_000;

/// A fetch request, to be planned again whenever something arrived.
#[derive(Debug)]
pub struct FetchPlanner {
    request: FetchRequest,
}

/// What to send for a fetch.
#[derive(Debug)]
pub struct FetchPlan<R> {
    pub(super) topics: Vec<FetchedTopic<R>>,
    bytes: usize,
    has_error: bool,
    logs: Vec<LogId>,
}

#[derive(Debug)]
pub(super) struct FetchedTopic<R> {
    pub name: StrBytes,
    pub partitions: Vec<FetchedPartition<R>>,
}

#[derive(Debug)]
pub(super) struct FetchedPartition<R> {
    pub index: i32,
    pub code: Code,
    pub next_offset: i64,
    pub stable_offset: i64,
    pub start_offset: i64,
    pub aborted: Vec<AbortedRange>,
    pub ranges: Vec<R>,
    pub bytes: usize,
}

impl<R> FetchedPartition<R> {
    pub(super) fn failed(index: i32, code: Code) -> Self {
        let (aborted, ranges) = (Vec::new(), Vec::new());
        Self { index, code, next_offset: -1, stable_offset: -1, start_offset: -1, aborted, ranges, bytes: 0 }
    }
}

impl<R> FetchPlan<R> {
    /// Bytes of batches in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Logs an append to which may make a waiting fetch worth sending.
    #[must_use]
    pub fn logs(&self) -> &[LogId] {
        &self.logs
    }
}

impl FetchPlanner {
    pub(super) fn new(request: FetchRequest) -> Self {
        Self { request }
    }

    /// How long the client is willing to wait, milliseconds.
    #[must_use]
    pub fn max_wait_ms(&self) -> u64 {
        u64::try_from(self.request.max_wait_ms.clamp(0, MAX_WAIT_MS)).unwrap_or(0)
    }

    /// Whether `plan` should be sent without waiting: enough bytes, or an error to tell.
    #[must_use]
    pub fn is_satisfied<R>(&self, plan: &FetchPlan<R>) -> bool {
        let min_bytes = usize::try_from(self.request.min_bytes).unwrap_or(0).min(MAX_FETCH_BYTES);
        plan.has_error || plan.bytes >= min_bytes
    }

    /// Looks up what there is now.
    pub fn plan<S: SegmentStore>(&self, broker: &Broker<S>) -> FetchPlan<S::Range> {
        let isolation = Isolation::from_wire(self.request.isolation_level);
        let mut left = usize::try_from(self.request.max_bytes).unwrap_or(0).min(MAX_FETCH_BYTES);
        let mut plan = FetchPlan { topics: Vec::new(), bytes: 0, has_error: false, logs: Vec::new() };
        for topic in &self.request.topics {
            let mut fetched = FetchedTopic { name: topic.topic.0.clone(), partitions: Vec::new() };
            for asked in &topic.partitions {
                let budget = Budget { left, at_least_one: plan.bytes == 0 };
                let found = match broker.state().find(&topic.topic, asked.partition) {
                    Ok((log, _)) => {
                        plan.logs.push(log);
                        fetch_partition(broker, log, asked, isolation, budget)
                    }
                    Err(code) => FetchedPartition::failed(asked.partition, code),
                };
                left = left.saturating_sub(found.bytes);
                plan.bytes += found.bytes;
                plan.has_error |= found.code != Code::None;
                fetched.partitions.push(found);
            }
            plan.topics.push(fetched);
        }
        plan
    }
}

#[derive(Clone, Copy)]
struct Budget {
    left: usize,
    at_least_one: bool,
}

fn fetch_partition<S: SegmentStore>(
    broker: &Broker<S>,
    log: LogId,
    asked: &FetchPartition,
    isolation: Isolation,
    budget: Budget,
) -> FetchedPartition<S::Range> {
    let Some(core) = broker.state().partition(log) else {
        return FetchedPartition::failed(asked.partition, Code::UnknownTopicOrPartition);
    };
    let mut fetched = FetchedPartition {
        next_offset: core.next_offset(),
        stable_offset: core.stable_offset(),
        start_offset: core.start_offset(),
        ..FetchedPartition::failed(asked.partition, Code::None)
    };
    let from = asked.fetch_offset;
    if !(core.start_offset()..=core.next_offset()).contains(&from) {
        fetched.code = Code::OffsetOutOfRange;
        return fetched;
    }
    let limit = core.visible_end(isolation);
    let max_bytes = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(budget.left);
    if from < limit {
        let wanted = Wanted { from, limit, max_bytes, at_least_one: budget.at_least_one };
        let found = broker.store().locate(log, wanted);
        if isolation == Isolation::ReadCommitted {
            fetched.aborted = core.aborted_between(from, found.next_offset);
        }
        (fetched.ranges, fetched.bytes) = (found.ranges, found.bytes);
    }
    fetched
}
