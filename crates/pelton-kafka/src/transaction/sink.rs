//! Writes records to one topic inside the task's transaction.

use super::{Shared, State};
use crate::{
    errors::{self, code},
    native::Failure,
    options::Compression,
    places::{Placement, Places, TOPIC_AGAIN},
    produce::{self, Produced, ROOM_AFTER},
};
use pelton_sabotage::points::{self, Point};
use pelton_sdk::{EndError, ErrorKind, Pushed, Sink};
use pelton_types::Batch;
use std::{ptr, sync::Arc, task::Poll};

/// See the module's text.
pub(super) struct TransactionalSink {
    shared: Arc<Shared>,
    places: Places,
    compression: Compression,
    /// The last episode of brokers that do not let us in that was reported.
    reported: u64,
}

impl TransactionalSink {
    pub(super) fn new(shared: &Arc<Shared>, places: Places, compression: Compression) -> Self {
        Self { shared: shared.clone(), places, compression, reported: 0 }
    }

    fn produce(&self, state: &mut State, batch: &Batch, from: usize, partition: i32) -> (usize, Produced) {
        let Some(live) = &mut state.live else { return (0, Produced::Full) };
        let client = live.client.clone();
        let topic = &self.places.topic;
        let Some(handle) = live.topic(topic, self.compression) else {
            let failure = Failure::of(code::UNKNOWN_TOPIC);
            return (0, Produced::Failed(errors::transaction(&self.shared.of, &failure)));
        };
        let (taken, refused) = produce::records(&client, handle, batch, from, partition, ptr::null_mut());
        live.dirty |= taken > 0;
        let stopped = refused.map_or(Produced::Taken, |(record, failure)| match failure.code {
            // The transaction can only be aborted, or the producer only be dropped: say why, not that.
            code::STATE | code::FATAL | code::FENCED => {
                let cause = client.fatal_error().or_else(|| client.transaction_failure());
                let error = errors::transaction(&self.shared.of, &cause.unwrap_or(failure));
                if error.kind == ErrorKind::Fenced {
                    points::reach(Point::Fenced);
                }
                Produced::Failed(error)
            }
            _ => produce::refusal(topic, &self.shared.of.brokers, batch, record, &failure),
        });
        (taken, stopped)
    }
}

impl Sink for TransactionalSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        if from >= batch.len() {
            return Ok(Pushed::default());
        }
        let consumer = &self.shared.consumer;
        if self.places.is_unknown() {
            consumer.warm(&[self.places.topic.as_str().into()]);
        }
        let reported = &mut self.reported;
        let refused = || consumer.served().reach.refused(&consumer.bootstrap, reported);
        let Placement::To(partition) = self.places.of(batch, refused)? else {
            self.shared.look_again(TOPIC_AGAIN);
            return Ok(Pushed::default());
        };
        let mut state = self.shared.served();
        let (taken, stopped) = self.produce(&mut state, batch, from, partition);
        if matches!(stopped, Produced::Full) {
            self.shared.look_again(ROOM_AFTER);
        }
        stopped.pushed(taken)
    }

    fn start_flush(&mut self) {}

    /// The commit waits for what was taken.
    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        Poll::Ready(Ok(()))
    }
}
