//! Partition counts of topics, learnt in the background and kept for a while.

use crate::{
    errors::{is_missing, is_passing},
    native::Failure,
    requests::{Answer, Requests, TopicShape},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Not asked, or not answered yet.
    Unknown,
    /// It has this many partitions.
    Known(u32),
    /// It does not exist.
    Missing,
    /// The broker refuses to say.
    Refused(Failure),
}

/// Counts by bootstrap address and topic, shared by the clients of an executor.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<HashMap<String, HashMap<String, Entry>>>>);

#[derive(Clone)]
struct Entry {
    count: Count,
    asked: Option<Instant>,
}

/// A known count is asked again after this: partitions may be added to a topic, which is rare.
const KEEP: Duration = Duration::from_secs(60);
/// A missing topic is looked for this often.
pub(crate) const AGAIN: Duration = Duration::from_millis(500);
/// How long one question may take before it counts as unanswered.
const ANSWER_WITHIN_MS: i32 = 5_000;

/// The topics one client asks about, and its open question.
pub(crate) struct Asker {
    bootstrap: String,
    counts: Counts,
    topics: Vec<String>,
    open: Option<u64>,
}

impl Counts {
    pub(crate) fn get(&self, bootstrap: &str, topic: &str) -> Count {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(bootstrap).and_then(|topics| topics.get(topic)).map_or(Count::Unknown, |e| e.count.clone())
    }

    fn set(&self, bootstrap: &str, topic: &str, change: impl FnOnce(&mut Entry)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = all.entry(bootstrap.to_owned()).or_default();
        change(topics.entry(topic.to_owned()).or_insert(Entry { count: Count::Unknown, asked: None }));
    }

    fn is_due(&self, bootstrap: &str, topic: &str, now: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = all.get(bootstrap).and_then(|topics| topics.get(topic)) else { return true };
        let wait = if matches!(entry.count, Count::Known(_)) { KEEP } else { AGAIN };
        entry.asked.is_none_or(|asked| now.duration_since(asked) >= wait)
    }
}

impl Asker {
    pub(crate) fn new(bootstrap: &str, counts: &Counts) -> Self {
        Self { bootstrap: bootstrap.to_owned(), counts: counts.clone(), topics: Vec::new(), open: None }
    }

    /// Ask about this topic from now on.
    pub(crate) fn watch(&mut self, topic: &str) {
        if !self.topics.iter().any(|t| t == topic) {
            self.topics.push(topic.to_owned());
        }
    }

    /// Ask what is due, file what was answered. `true`: something was learnt.
    pub(crate) fn refresh(&mut self, requests: &mut Requests, now: Instant) -> bool {
        let learnt = self.open.and_then(|number| requests.take(number)).is_some_and(|answer| {
            self.open = None;
            self.learn(answer)
        });
        if self.open.is_none() {
            let due: Vec<&str> = self
                .topics
                .iter()
                .map(String::as_str)
                .filter(|t| self.counts.is_due(&self.bootstrap, t, now))
                .collect();
            if !due.is_empty() {
                for topic in &due {
                    self.counts.set(&self.bootstrap, topic, |e| e.asked = Some(now));
                }
                self.open = Some(requests.describe(&due, ANSWER_WITHIN_MS));
            }
        }
        learnt
    }

    fn learn(&self, answer: Answer) -> bool {
        let Answer::Topics(Ok(topics)) = answer else { return false };
        for (topic, answer) in topics {
            self.counts.set(&self.bootstrap, &topic, |e| match learnt(answer) {
                Some(count) => e.count = count,
                None => tracing::debug!(topic, "the broker does not know the partitions yet"),
            });
        }
        true
    }
}

/// What an answer says of a topic; `None` when it says nothing yet.
fn learnt(answer: Result<TopicShape, Failure>) -> Option<Count> {
    match answer {
        Ok(TopicShape { partitions: 0, .. }) => None,
        Ok(shape) => Some(Count::Known(shape.partitions)),
        Err(failure) if is_missing(failure.code) => Some(Count::Missing),
        Err(failure) if is_passing(failure.code) => None,
        Err(failure) => Some(Count::Refused(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::code;

    #[test]
    fn a_topic_without_a_leader_yet_is_neither_known_nor_missing() {
        assert_eq!(learnt(Ok(TopicShape { partitions: 8, replicas: 1 })), Some(Count::Known(8)));
        assert_eq!(learnt(Err(Failure::of(code::UNKNOWN_TOPIC_OR_PART))), Some(Count::Missing));
        assert_eq!(learnt(Err(Failure::of(code::LEADER_NOT_AVAILABLE))), None);
        assert!(matches!(learnt(Err(Failure::of(code::TOPIC_AUTHORIZATION))), Some(Count::Refused(_))));
    }
}
