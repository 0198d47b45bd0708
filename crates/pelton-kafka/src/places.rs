//! To which partition of a sink's topic records go.

use crate::{
    consumer::SharedConsumer,
    counts::{Count, Counts},
    errors,
};
use pelton_sdk::EndError;
use pelton_types::Batch;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// The library's word for "where the key belongs".
const BY_KEY: i32 = -1;
/// When to look whether a topic is known by now, if no answer wakes us.
pub(crate) const TOPIC_AGAIN: Duration = Duration::from_millis(500);

/// Topics that Kafka sources of the executor read, with the consumer that reads them: a batch of any other topic
/// comes from elsewhere, and its partition number says nothing.
pub(crate) type ReadTopics = Arc<Mutex<HashMap<String, Weak<SharedConsumer>>>>;

/// Where the records of a batch go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// All to this partition, or by key (-1).
    To(i32),
    /// Counts are not known yet.
    Wait,
}

/// Keep the partition where keys are unchanged and both topics have the same number of partitions. Pure.
fn placement(rekeyed: bool, index: i32, source: Option<&Count>, sink: u32) -> Placement {
    match source {
        _ if rekeyed => Placement::To(BY_KEY),
        None | Some(Count::Missing | Count::Refused(_)) => Placement::To(BY_KEY),
        Some(Count::Unknown) => Placement::Wait,
        Some(Count::Known(count)) if *count == sink && u32::try_from(index).is_ok_and(|i| i < sink) => {
            Placement::To(index)
        }
        Some(Count::Known(_)) => Placement::To(BY_KEY),
    }
}

/// The partitions of one topic, as a sink needs to know them.
pub(crate) struct Places {
    pub topic: String,
    bootstrap: String,
    counts: Counts,
    read_topics: ReadTopics,
    /// The topic's absence was reported.
    missing_reported: bool,
}

impl Places {
    pub(crate) fn new(counts: &Counts, bootstrap: &str, read_topics: ReadTopics, topic: String) -> Places {
        let (counts, bootstrap) = (counts.clone(), bootstrap.to_owned());
        Places { topic, bootstrap, counts, read_topics, missing_reported: false }
    }

    /// Whether the topic is still to be heard of.
    pub(crate) fn is_unknown(&self) -> bool {
        !matches!(self.counts.get(&self.bootstrap, &self.topic), Count::Known(_))
    }

    /// Where a batch goes, or why it goes nowhere. `refused`: why nothing may ever be heard of the topic.
    pub(crate) fn of(
        &mut self,
        batch: &Batch,
        refused: impl FnOnce() -> Option<EndError>,
    ) -> Result<Placement, EndError> {
        let sink = match self.counts.get(&self.bootstrap, &self.topic) {
            Count::Known(count) => count,
            Count::Unknown => return refused().map_or(Ok(Placement::Wait), Err),
            Count::Missing if self.missing_reported => return Ok(Placement::Wait),
            Count::Missing => {
                self.missing_reported = true;
                return Err(errors::missing(&self.topic, &self.bootstrap));
            }
            Count::Refused(failure) => return Err(errors::delivery(&self.topic, &self.bootstrap, &failure)),
        };
        self.missing_reported = false;
        let source = if batch.rekeyed { None } else { self.source_count(&batch.partition.topic) };
        Ok(placement(batch.rekeyed, batch.partition.index, source.as_ref(), sink))
    }

    /// Count of the source topic, when a Kafka source of this executor reads it.
    fn source_count(&self, topic: &str) -> Option<Count> {
        let consumer = {
            let read = self.read_topics.lock().unwrap_or_else(PoisonError::into_inner);
            read.get(topic)?.upgrade()?
        };
        let count = self.counts.get(&consumer.bootstrap, topic);
        if count == Count::Unknown {
            // A task that cannot push does not poll its source: the answer has to be fetched here.
            consumer.warm(&[topic.into()]);
            return Some(self.counts.get(&consumer.bootstrap, topic));
        }
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_kept_only_between_topics_of_one_size() {
        let known = |n| Some(Count::Known(n));
        assert_eq!(placement(false, 3, known(8).as_ref(), 8), Placement::To(3));
        assert_eq!(placement(false, 3, known(8).as_ref(), 4), Placement::To(BY_KEY));
        assert_eq!(placement(true, 3, known(8).as_ref(), 8), Placement::To(BY_KEY));
        assert_eq!(placement(false, 3, None, 8), Placement::To(BY_KEY), "a file's partition says nothing");
        assert_eq!(placement(false, 3, Some(&Count::Unknown), 8), Placement::Wait);
        assert_eq!(
            placement(false, 9, known(8).as_ref(), 8),
            Placement::To(BY_KEY),
            "counts are out of date"
        );
    }
}
