//! The workers that a driver of this coordinator keeps.

use std::sync::Arc;
use tonic::Status;

/// What a change of their number did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Wanted before.
    pub before: usize,
    /// Those that exist at this moment, leaving ones included.
    pub existing: usize,
}

/// A driver whose number of workers can be changed.
pub trait Fleet: Send + Sync {
    /// Keep so many from now on, also after a restart.
    ///
    /// # Errors
    /// When the number cannot be kept.
    fn scale(&self, workers: usize) -> Result<Scaled, String>;
}

/// Most workers of a fleet: a mistyped number should not start a million.
const MOST: u32 = 10_000;

/// The fleet, if there is one.
#[derive(Clone)]
pub(super) struct Slot(pub(super) Option<Arc<dyn Fleet>>);

impl Slot {
    pub(super) fn scale(&self, workers: u32) -> Result<Scaled, Status> {
        let fleet = self.0.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "this coordinator's driver keeps no number of workers that could be changed: start and stop them where \
                 they run, or choose the driver `docker`",
            )
        })?;
        if workers > MOST {
            return Err(Status::invalid_argument(format!("{workers} workers are more than {MOST}")));
        }
        fleet.scale(workers as usize).map_err(Status::internal)
    }
}
