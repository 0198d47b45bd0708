//! Writes records to one topic through the executor's shared producer.

use crate::{
    places::{Placement, Places, ReadTopics, TOPIC_AGAIN},
    produce::{Produced, ROOM_AFTER},
    producer::SharedProducer,
};
use pelton_sdk::{EndError, Pushed, Sink};
use pelton_types::{Batch, Code};
use std::{sync::Arc, task::Poll};

/// See the module's text.
pub(crate) struct KafkaSink {
    producer: Arc<SharedProducer>,
    places: Places,
    number: u64,
    flush: Flushing,
    /// The last episode of brokers that do not let us in that was reported.
    reported: u64,
}

enum Flushing {
    No,
    Under(u64),
    Nothing,
}

impl KafkaSink {
    pub(crate) fn new(producer: Arc<SharedProducer>, read_topics: ReadTopics, topic: String) -> Self {
        let number = producer.served().add_sink(&topic);
        let places = Places::new(&producer.counts, &producer.bootstrap, read_topics, topic);
        Self { producer, places, number, flush: Flushing::No, reported: 0 }
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
        // Nothing was ever taken: that no broker lets us in is a failure of the sink, and not of records on their way.
        let (producer, reported) = (&self.producer, &mut self.reported);
        let Placement::To(partition) = self.places.of(batch, || producer.served().refused(reported))? else {
            self.producer.look_again(TOPIC_AGAIN);
            return Ok(Pushed::default());
        };
        let mut state = self.producer.served();
        state.open_topic(&self.places.topic)?;
        let (taken, stopped) = state.produce(self.number, &self.places.topic, batch, from, partition);
        if matches!(stopped, Produced::Full) {
            self.producer.look_again(ROOM_AFTER);
        }
        stopped.pushed(taken)
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
