//! Markers that somebody else decided about: `WriteTxnMarkers`, by which `kafka-transactions abort` ends what hangs.

use crate::batch::{Batch, Marker};
use crate::code::Code;
use crate::core::{Effect, Plan, State};

/// A marker to be written to some partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedMarker {
    /// Whose transaction ends.
    pub producer_id: i64,
    /// Its epoch; batches of lower ones are refused afterwards.
    pub epoch: i16,
    /// How it ends.
    pub marker: Marker,
    /// Epoch of the coordinator in whose name it is written.
    pub coordinator_epoch: i32,
}

impl State {
    /// Ends the transaction of a producer in one partition alone, whatever the coordinator knows of it. The marker is
    /// written even if nothing is open there, as Kafka does it.
    ///
    /// # Errors
    /// Unknown partition, or an older epoch of the producer or of a coordinator.
    pub fn plan_write_marker(
        &self,
        (topic, partition): (&str, i32),
        wanted: WantedMarker,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let (log, core) = self.find(topic, partition)?;
        let WantedMarker { producer_id, epoch, marker, coordinator_epoch } = wanted;
        core.admit_marker(producer_id, epoch, coordinator_epoch)?;
        let mut batch = Batch::marker_of(producer_id, epoch, marker, coordinator_epoch, now_ms);
        batch.place(core.next_offset(), None);
        Ok(Plan::new(vec![Effect::Append { log, batch }], ()))
    }
}
