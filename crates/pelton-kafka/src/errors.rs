//! What the library's and the brokers' error codes mean to a task. Pure.

use crate::{
    diagnose::diagnose,
    native::{ErrorCode, Failure},
};
use pelton_sdk::EndError;
use pelton_types::{Code, Offset, Partition};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Codes that decisions hang on, by the names in librdkafka's `rdkafka.h`.
#[allow(missing_docs)]
pub(crate) mod code {
    pub(crate) const BAD_MSG: i32 = -199;
    pub(crate) const BAD_COMPRESSION: i32 = -198;
    pub(crate) const TRANSPORT: i32 = -195;
    pub(crate) const RESOLVE: i32 = -193;
    pub(crate) const MSG_TIMED_OUT: i32 = -192;
    pub(crate) const PARTITION_EOF: i32 = -191;
    pub(crate) const UNKNOWN_PARTITION: i32 = -190;
    pub(crate) const UNKNOWN_TOPIC: i32 = -188;
    pub(crate) const ALL_BROKERS_DOWN: i32 = -187;
    pub(crate) const TIMED_OUT: i32 = -185;
    pub(crate) const QUEUE_FULL: i32 = -184;
    pub(crate) const SSL: i32 = -181;
    pub(crate) const WAIT_COORD: i32 = -180;
    pub(crate) const WAIT_CACHE: i32 = -164;
    pub(crate) const STATE: i32 = -172;
    pub(crate) const AUTHENTICATION: i32 = -169;
    pub(crate) const UNSUPPORTED_FEATURE: i32 = -165;
    pub(crate) const TIMED_OUT_QUEUE: i32 = -166;
    pub(crate) const FATAL: i32 = -150;
    pub(crate) const FENCED: i32 = -144;
    pub(crate) const AUTO_OFFSET_RESET: i32 = -140;
    pub(crate) const LOG_TRUNCATION: i32 = -139;
    pub(crate) const OFFSET_OUT_OF_RANGE: i32 = 1;
    pub(crate) const UNKNOWN_TOPIC_OR_PART: i32 = 3;
    pub(crate) const LEADER_NOT_AVAILABLE: i32 = 5;
    pub(crate) const NOT_LEADER: i32 = 6;
    pub(crate) const REQUEST_TIMED_OUT: i32 = 7;
    pub(crate) const MSG_SIZE_TOO_LARGE: i32 = 10;
    pub(crate) const OFFSET_METADATA_TOO_LARGE: i32 = 12;
    pub(crate) const NETWORK_EXCEPTION: i32 = 13;
    pub(crate) const COORDINATOR_LOAD_IN_PROGRESS: i32 = 14;
    pub(crate) const COORDINATOR_NOT_AVAILABLE: i32 = 15;
    pub(crate) const NOT_COORDINATOR: i32 = 16;
    pub(crate) const INVALID_TOPIC: i32 = 17;
    pub(crate) const RECORD_LIST_TOO_LARGE: i32 = 18;
    pub(crate) const ILLEGAL_GENERATION: i32 = 22;
    pub(crate) const UNKNOWN_MEMBER_ID: i32 = 25;
    pub(crate) const REBALANCE_IN_PROGRESS: i32 = 27;
    pub(crate) const TOPIC_AUTHORIZATION: i32 = 29;
    pub(crate) const GROUP_AUTHORIZATION: i32 = 30;
    pub(crate) const CLUSTER_AUTHORIZATION: i32 = 31;
    pub(crate) const UNSUPPORTED_VERSION: i32 = 35;
    pub(crate) const TOPIC_EXISTS: i32 = 36;
    pub(crate) const INVALID_PRODUCER_EPOCH: i32 = 47;
    pub(crate) const INVALID_TRANSACTION_TIMEOUT: i32 = 50;
    pub(crate) const TRANSACTIONAL_ID_AUTHORIZATION: i32 = 53;
    pub(crate) const SASL_AUTHENTICATION: i32 = 58;
    pub(crate) const INVALID_RECORD: i32 = 87;
    pub(crate) const UNSTABLE_OFFSET_COMMIT: i32 = 88;
    pub(crate) const PRODUCER_FENCED: i32 = 90;
}

/// The broker, or the way to it, is in transition: ask again soon.
pub(crate) fn is_passing(failure: ErrorCode) -> bool {
    matches!(
        failure,
        code::TRANSPORT
            | code::TIMED_OUT
            | code::TIMED_OUT_QUEUE
            | code::WAIT_COORD
            | code::WAIT_CACHE
            | code::LEADER_NOT_AVAILABLE
            | code::NOT_LEADER
            | code::REQUEST_TIMED_OUT
            | code::NETWORK_EXCEPTION
            | code::COORDINATOR_LOAD_IN_PROGRESS
            | code::COORDINATOR_NOT_AVAILABLE
            | code::NOT_COORDINATOR
            | code::UNSTABLE_OFFSET_COMMIT
    )
}

/// The topic or partition is not there.
pub(crate) fn is_missing(failure: ErrorCode) -> bool {
    matches!(failure, code::UNKNOWN_TOPIC_OR_PART | code::UNKNOWN_TOPIC | code::UNKNOWN_PARTITION)
}

/// The position is outside what the broker keeps.
pub(crate) fn is_out_of_range(failure: ErrorCode) -> bool {
    matches!(failure, code::AUTO_OFFSET_RESET | code::OFFSET_OUT_OF_RANGE | code::LOG_TRUNCATION)
}

/// No broker answers, or none lets us in.
pub(crate) fn is_unreachable(failure: ErrorCode) -> bool {
    matches!(
        failure,
        code::ALL_BROKERS_DOWN | code::RESOLVE | code::SSL | code::AUTHENTICATION | code::SASL_AUTHENTICATION
    )
}

/// A topic that is not there.
pub(crate) fn missing(topic: &str, brokers: &str) -> EndError {
    EndError::retry(
        Code::TopicMissing,
        format!(
            "topic {topic} does not exist at {brokers}; create it or correct its name, work goes on by itself"
        ),
    )
}

/// No broker answers at the bootstrap address, or none lets us in: why, and what to do, where the words say it.
pub(crate) fn unreachable(brokers: &str, failure: &Failure) -> EndError {
    let Some(found) = diagnose(failure) else {
        return EndError::retry(
            Code::BrokerUnreachable,
            format!("no broker answers at {brokers}: {}", failure.text),
        );
    };
    let where_ = if found.code == Code::BrokerUnreachable { "no broker answers at " } else { "" };
    let text = format!("{where_}{brokers}: {}; {} ({})", found.what, found.remedy, failure.text);
    EndError::retry(found.code, text)
}

/// A right that the user of a connection lacks: an operation on a resource, as `kafka-acls` calls them.
pub(crate) fn forbidden(operation: &str, resource: &str, brokers: &str, failure: &Failure) -> EndError {
    EndError::stop(
        Code::NotPermitted,
        format!(
            "no right to {operation} {resource} at {brokers}: {}; grant it: kafka-acls --add --allow-principal \
             User:NAME --operation {operation} --{resource}",
            failure.text
        ),
    )
}

/// A topic that a user may not even see, by whoever looks for it ahead of reading or writing.
pub(crate) fn unseen(topic: &str, brokers: &str, failure: &Failure) -> EndError {
    EndError::stop(
        Code::NotPermitted,
        format!(
            "no right to see topic {topic} at {brokers}: {}; grant Read on it to a source's user, Write to a sink's: \
             kafka-acls --add --allow-principal User:NAME --operation Read --topic {topic}",
            failure.text
        ),
    )
}

/// An error of one partition while reading it.
pub(crate) fn reading(partition: &Partition, brokers: &str, failure: &Failure) -> EndError {
    match failure.code {
        c if is_missing(c) => missing(&partition.topic, brokers),
        // The library would go on behind a damaged batch: that loses records, so the task must not.
        code::BAD_MSG | code::BAD_COMPRESSION | code::INVALID_RECORD => EndError::stop(
            Code::SourceFailed,
            format!("{partition} holds a batch that cannot be read: {}", failure.text),
        ),
        code::TOPIC_AUTHORIZATION => {
            forbidden("Read", &format!("topic {}", partition.topic), brokers, failure)
        }
        _ => EndError::retry(Code::SourceFailed, format!("{partition} cannot be read: {}", failure.text)),
    }
}

/// A position outside the log; the range where it is known.
pub(crate) fn out_of_range(partition: &Partition, at: Offset, range: Option<(Offset, Offset)>) -> EndError {
    let there = match range {
        Some((first, end)) => format!("the broker keeps {first} to {end}"),
        None => "the broker did not say what it keeps".to_owned(),
    };
    EndError::stop(
        Code::OffsetOutOfRange,
        format!(
            "{partition} has no offset {at}: {there}; set the group's offset to where reading shall go on, \
             knowing what is skipped or repeated"
        ),
    )
}

/// An error of a commit; `topic` is one of those committed.
pub(crate) fn committing(group: &str, topic: &str, brokers: &str, failure: &Failure) -> EndError {
    match failure.code {
        code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID | code::REBALANCE_IN_PROGRESS => EndError::stop(
            Code::GroupTaken,
            format!(
                "group {group} has members ({}): nobody else may subscribe with this group id",
                failure.text
            ),
        ),
        code::GROUP_AUTHORIZATION => forbidden("Read", &format!("group {group}"), brokers, failure),
        code::TOPIC_AUTHORIZATION => forbidden("Read", &format!("topic {topic}"), brokers, failure),
        code::OFFSET_METADATA_TOO_LARGE => EndError::stop(
            Code::CommitFailed,
            format!("the broker refuses the metadata of a commit to group {group}: {}", failure.text),
        ),
        c if is_unreachable(c) || c == code::TRANSPORT => {
            EndError::retry(Code::BrokerUnreachable, format!("commit to group {group}: {}", failure.text))
        }
        _ => EndError::retry(Code::CommitFailed, format!("commit to group {group}: {}", failure.text)),
    }
}

/// Whose transaction failed, for people.
#[derive(Debug)]
pub(crate) struct Transactional {
    pub id: String,
    pub group: String,
    pub brokers: String,
    /// Topics it writes to.
    pub topics: Mutex<Vec<String>>,
}

impl Transactional {
    pub(crate) fn topics(&self) -> MutexGuard<'_, Vec<String>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of a transactional producer: of its init, of a record or of a commit.
pub(crate) fn transaction(of: &Transactional, failure: &Failure) -> EndError {
    let Transactional { id, group, brokers, .. } = of;
    let topics = of.topics().join(", ");
    let topic = topics.as_str();
    let text = &failure.text;
    match failure.code {
        code::FENCED | code::INVALID_PRODUCER_EPOCH | code::PRODUCER_FENCED => EndError::fenced(
            Code::CommitFailed,
            format!(
                "transactional id {id} was initialised by somebody else, or its transaction timed out: {text}"
            ),
        ),
        code::TRANSACTIONAL_ID_AUTHORIZATION => {
            forbidden("Write", &format!("transactional-id {id}"), brokers, failure)
        }
        code::UNSUPPORTED_FEATURE | code::UNSUPPORTED_VERSION => EndError::stop(
            Code::NoTransactions,
            format!("the cluster at {brokers} has no transactions ({text}); use `delivery: at-least-once`"),
        ),
        code::INVALID_TRANSACTION_TIMEOUT => EndError::stop(
            Code::NoTransactions,
            format!(
                "the cluster at {brokers} refuses the transaction timeout ({text}); give a shorter `commitInterval`, \
                 or raise the broker's transaction.max.timeout.ms"
            ),
        ),
        code::ILLEGAL_GENERATION
        | code::UNKNOWN_MEMBER_ID
        | code::REBALANCE_IN_PROGRESS
        | code::GROUP_AUTHORIZATION
        | code::OFFSET_METADATA_TOO_LARGE => committing(group, topic, brokers, failure),
        c if is_missing(c) => missing(topic, brokers),
        code::TOPIC_AUTHORIZATION
        | code::CLUSTER_AUTHORIZATION
        | code::MSG_SIZE_TOO_LARGE
        | code::RECORD_LIST_TOO_LARGE
        | code::INVALID_RECORD => delivery(topic, brokers, failure),
        c if is_unreachable(c) || matches!(c, code::TRANSPORT | code::TIMED_OUT) => EndError::retry(
            Code::BrokerUnreachable,
            format!("no answer from {brokers} for transactional id {id}: {text}"),
        ),
        _ => EndError::retry(Code::CommitFailed, format!("the transaction of {id} failed: {text}")),
    }
}

/// An error while asking for committed offsets.
pub(crate) fn reading_offsets(group: &str, topic: &str, brokers: &str, failure: &Failure) -> EndError {
    match failure.code {
        code::GROUP_AUTHORIZATION => forbidden("Read", &format!("group {group}"), brokers, failure),
        code::TOPIC_AUTHORIZATION => forbidden("Read", &format!("topic {topic}"), brokers, failure),
        // The library asks again where an open transaction holds offsets back, and does not say so.
        code::TIMED_OUT if diagnose(failure).is_none() => EndError::retry(
            Code::BrokerUnreachable,
            format!(
                "{brokers} gives no committed offsets of group {group}: no broker is reached, or an open transaction holds \
                 them back, until it ends or its timeout has passed ({})",
                failure.text
            ),
        ),
        c if is_unreachable(c) || matches!(c, code::TRANSPORT | code::TIMED_OUT | code::TIMED_OUT_QUEUE) => {
            unreachable(brokers, failure)
        }
        _ => EndError::retry(Code::SourceFailed, format!("offsets of group {group}: {}", failure.text)),
    }
}

/// A record that was not stored.
pub(crate) fn delivery(topic: &str, brokers: &str, failure: &Failure) -> EndError {
    match failure.code {
        c if is_missing(c) => missing(topic, brokers),
        code::MSG_SIZE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE => EndError::stop(
            Code::SinkFailed,
            format!(
                "topic {topic} refuses a batch as too large: {}; raise its max.message.bytes",
                failure.text
            ),
        ),
        code::INVALID_RECORD => EndError::stop(
            Code::SinkFailed,
            format!("topic {topic} refuses a record: {}; a compacted topic needs keys", failure.text),
        ),
        // An idempotent producer may start where its user may write to any topic: without, it may write to this neither.
        code::TOPIC_AUTHORIZATION | code::CLUSTER_AUTHORIZATION => {
            forbidden("Write", &format!("topic {topic}"), brokers, failure)
        }
        code::INVALID_TOPIC => {
            EndError::stop(Code::SinkFailed, format!("topic {topic} cannot be written: {}", failure.text))
        }
        code::MSG_TIMED_OUT | code::TRANSPORT => EndError::retry(
            Code::BrokerUnreachable,
            format!("records for topic {topic} were not stored at {brokers} in time: {}", failure.text),
        ),
        _ => EndError::retry(
            Code::SinkFailed,
            format!("topic {topic} did not store a record: {}", failure.text),
        ),
    }
}

/// Whether a broker is there, and how often that changed. One episode is reported once.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    /// Counts the times it went away.
    episode: u64,
    is_down: bool,
    /// What was heard since a broker last answered: the latest that says more than that it failed.
    cause: Option<Failure>,
}

impl Reachability {
    /// The client complains; `true` when it says so for the first time that no broker is there.
    pub(crate) fn heard(&mut self, failure: Failure) -> bool {
        let is_down = is_unreachable(failure.code);
        if self.cause.is_none() || diagnose(&failure).is_some() {
            self.cause = Some(failure);
        }
        let news = is_down && !self.is_down;
        if news {
            self.is_down = true;
            self.episode += 1;
        }
        news
    }

    /// It answered; `true` when that is news.
    pub(crate) fn answered(&mut self) -> bool {
        self.cause = None;
        std::mem::take(&mut self.is_down)
    }

    /// Why no broker is there, while that is so.
    pub(crate) fn down(&self) -> Option<&Failure> {
        self.cause.as_ref().filter(|_| self.is_down)
    }

    /// The trouble, if `reported` has not seen this episode; marks it seen.
    pub(crate) fn unreported(&self, reported: &mut u64) -> Option<&Failure> {
        let failure = self.down().filter(|_| *reported < self.episode)?;
        *reported = self.episode;
        Some(failure)
    }

    /// That no broker lets us in, once for each episode; brokers that are merely away are no failure.
    pub(crate) fn refused(&self, brokers: &str, reported: &mut u64) -> Option<EndError> {
        let error = unreachable(brokers, self.unreported(reported)?);
        (error.code != Code::BrokerUnreachable).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::ErrorKind;

    #[test]
    fn an_episode_is_reported_once_to_each_and_the_next_one_again() {
        let mut there = Reachability::default();
        let (mut a, mut b) = (0, 0);
        assert!(there.unreported(&mut a).is_none());
        assert!(!there.heard(Failure::new(code::TRANSPORT, "Connect failed: Connection refused")));
        assert!(there.unreported(&mut a).is_none(), "another broker may be there");
        assert!(there.heard(Failure::new(code::ALL_BROKERS_DOWN, "1/1 brokers are down")));
        assert!(!there.heard(Failure::new(code::ALL_BROKERS_DOWN, "still")), "one episode is no news twice");
        let told = there.unreported(&mut a).unwrap();
        assert!(told.text.ends_with("Connection refused"), "what says more is kept: {}", told.text);
        assert!(there.unreported(&mut a).is_none());
        assert!(there.answered());
        assert!(!there.answered());
        assert!(there.unreported(&mut b).is_none(), "over before it was reported");
        there.heard(Failure::of(code::ALL_BROKERS_DOWN));
        assert!(there.unreported(&mut a).is_some());
    }

    #[test]
    fn a_damaged_batch_stops_the_task_and_a_missing_topic_waits() {
        let p = Partition::new("orders", 3);
        let bad = reading(&p, "b:1", &Failure::new(code::BAD_MSG, "crc"));
        assert_eq!((bad.kind, bad.code), (ErrorKind::Stop, Code::SourceFailed));
        let gone = reading(&p, "b:1", &Failure::of(code::UNKNOWN_TOPIC_OR_PART));
        assert_eq!((gone.kind, gone.code), (ErrorKind::Retry, Code::TopicMissing));
        assert!(gone.message.contains("topic orders does not exist at b:1"), "{}", gone.message);
    }

    #[test]
    fn a_missing_right_is_named_as_the_tool_that_grants_it_names_it() {
        let failure = Failure::new(code::GROUP_AUTHORIZATION, "Broker: Group authorization failed");
        let e = committing("pelton.default.orders", "orders", "k:9092", &failure);
        assert_eq!((e.kind, e.code), (ErrorKind::Stop, Code::NotPermitted));
        assert_eq!(
            e.message,
            "no right to Read group pelton.default.orders at k:9092: Broker: Group authorization failed; grant it: \
             kafka-acls --add --allow-principal User:NAME --operation Read --group pelton.default.orders"
        );
        let e = delivery("totals", "k:9092", &Failure::of(code::TOPIC_AUTHORIZATION));
        assert!(e.message.starts_with("no right to Write topic totals at k:9092"), "{}", e.message);
    }

    #[test]
    fn an_offset_outside_the_log_names_what_is_there() {
        let e = out_of_range(&Partition::new("t", 0), 7, Some((20, 31)));
        assert_eq!((e.kind, e.code), (ErrorKind::Stop, Code::OffsetOutOfRange));
        assert!(e.message.starts_with("t[0] has no offset 7: the broker keeps 20 to 31"), "{}", e.message);
    }

    #[test]
    fn codes_are_those_of_the_library() {
        use rdkafka_sys::rd_kafka_resp_err_t as R;
        assert_eq!(code::AUTO_OFFSET_RESET, R::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET as i32);
        assert_eq!(code::LOG_TRUNCATION, R::RD_KAFKA_RESP_ERR__LOG_TRUNCATION as i32);
        assert_eq!(code::FATAL, R::RD_KAFKA_RESP_ERR__FATAL as i32);
        assert_eq!(code::WAIT_CACHE, R::RD_KAFKA_RESP_ERR__WAIT_CACHE as i32);
        assert_eq!(code::WAIT_COORD, R::RD_KAFKA_RESP_ERR__WAIT_COORD as i32);
        assert_eq!(code::TIMED_OUT_QUEUE, R::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE as i32);
        assert_eq!(code::QUEUE_FULL, R::RD_KAFKA_RESP_ERR__QUEUE_FULL as i32);
        assert_eq!(code::AUTHENTICATION, R::RD_KAFKA_RESP_ERR__AUTHENTICATION as i32);
        assert_eq!(code::UNSTABLE_OFFSET_COMMIT, R::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT as i32);
        assert_eq!(code::SASL_AUTHENTICATION, R::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED as i32);
        assert_eq!(code::INVALID_RECORD, R::RD_KAFKA_RESP_ERR_INVALID_RECORD as i32);
        assert_eq!(code::MSG_TIMED_OUT, R::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT as i32);
        assert_eq!(code::PARTITION_EOF, R::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32);
    }
}
