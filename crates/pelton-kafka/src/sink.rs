//! Writes records to one topic through the executor's shared producer.

use crate::{
    consumer::SharedConsumer,
    counts::Count,
    errors,
    producer::{Produced, SharedProducer},
};
use pelton_sdk::{EndError, Pushed, Sink};
use pelton_types::{Batch, Code};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

/// The library's word for "where the key belongs".
const BY_KEY: i32 = -1;
/// When to look whether a topic is known by now, if no answer wakes us.
const TOPIC_AGAIN: Duration = Duration::from_millis(500);

/// Topics that Kafka sources of the executor read, with the consumer that reads them: a batch of any other topic
/// comes from elsewhere, and its partition number says nothing.
pub(crate) type ReadTopics = Arc<Mutex<HashMap<String, Weak<SharedConsumer>>>>;

/// See the module's text.
pub(crate) struct KafkaSink {
    producer: Arc<SharedProducer>,
    read_topics: ReadTopics,
    topic: String,
    number: u64,
    flush: Flushing,
    /// The topic's absence was reported.
    missing_reported: bool,
    /// The last episode of brokers that do not let us in that was reported.
    reported: u64,
}

enum Flushing {
    No,
    Under(u64),
    Nothing,
}

/// Where the records of a batch go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Placement {
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

impl KafkaSink {
    pub(crate) fn new(producer: Arc<SharedProducer>, read_topics: ReadTopics, topic: String) -> Self {
        let number = producer.served().add_sink(&topic);
        Self {
            producer,
            read_topics,
            topic,
            number,
            flush: Flushing::No,
            missing_reported: false,
            reported: 0,
        }
    }

    /// Count of the source topic, when a Kafka source of this executor reads it.
    fn source_count(&self, topic: &str) -> Option<Count> {
        let consumer = {
            let read = self.read_topics.lock().unwrap_or_else(PoisonError::into_inner);
            read.get(topic)?.upgrade()?
        };
        let count = self.producer.counts.get(&consumer.bootstrap, topic);
        if count == Count::Unknown {
            // A task that cannot push does not poll its source: the answer has to be fetched here.
            consumer.warm(&[topic.into()]);
            return Some(self.producer.counts.get(&consumer.bootstrap, topic));
        }
        Some(count)
    }

    /// Where to, or why not now.
    fn place(&mut self, batch: &Batch) -> Result<Placement, EndError> {
        let sink = match self.producer.counts.get(&self.producer.bootstrap, &self.topic) {
            Count::Known(count) => count,
            // Nothing was ever taken: that no broker lets us in is a failure of the sink, and not of records on their way.
            Count::Unknown => {
                return self.producer.served().refused(&mut self.reported).map_or(Ok(Placement::Wait), Err);
            }
            Count::Missing if self.missing_reported => return Ok(Placement::Wait),
            Count::Missing => {
                self.missing_reported = true;
                return Err(errors::missing(&self.topic, &self.producer.bootstrap));
            }
            Count::Refused(failure) => {
                return Err(errors::delivery(&self.topic, &self.producer.bootstrap, &failure));
            }
        };
        self.missing_reported = false;
        let source = if batch.rekeyed { None } else { self.source_count(&batch.partition.topic) };
        Ok(placement(batch.rekeyed, batch.partition.index, source.as_ref(), sink))
    }
}

impl Sink for KafkaSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        if from >= batch.len() {
            return Ok(Pushed::default());
        }
        // Unreachable brokers are no failure of these records: they wait, and the log says so.
        if self.producer.served().is_flushing() {
            return Ok(Pushed::default());
        }
        let Placement::To(partition) = self.place(batch)? else {
            self.producer.look_again(TOPIC_AGAIN);
            return Ok(Pushed::default());
        };
        let mut state = self.producer.served();
        state.open_topic(&self.topic)?;
        let (taken, stopped) = state.produce(self.number, &self.topic, batch, from, partition);
        match stopped {
            Produced::Failed(error) if taken == 0 => return Err(error),
            Produced::Rejected(why) => return Ok(Pushed { taken, rejected: Some(why) }),
            Produced::Full => self.producer.await_room(),
            // Asked again for the rest, it fails again.
            Produced::Taken | Produced::Failed(_) => {}
        }
        Ok(Pushed { taken, rejected: None })
    }

    fn start_flush(&mut self) {
        let number = self.producer.served().flush(self.number);
        self.flush = number.map_or(Flushing::Nothing, Flushing::Under);
    }

    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        let ended = match self.flush {
            Flushing::No => Some(Err(EndError::stop(Code::SinkFailed, "no flush was started"))),
            Flushing::Nothing => Some(Ok(())),
            Flushing::Under(number) => self.producer.served().flushed(self.number, number),
        };
        match ended {
            None => Poll::Pending,
            Some(outcome) => {
                self.flush = Flushing::No;
                Poll::Ready(outcome)
            }
        }
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.producer.served().remove_sink(self.number);
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
