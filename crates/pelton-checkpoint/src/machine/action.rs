//! What the machine asks for.

use crate::{Positions, Stamp};
use pelton_types::Incident;
use std::time::Duration;

/// Why a worker lets go of a task without an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDownReason {
    /// The coordinator knows a higher epoch.
    EpochRefused,
    /// The committed metadata names a higher epoch: the task has a newer owner (P4).
    NewerEpoch,
    /// The committed metadata names a higher generation: the map moved on (P4, P8).
    NewerGeneration,
    /// Somebody else works under our epoch: the coordinator's store forgot a grant (P2).
    SharedEpoch,
}

/// What to do next, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the coordinator whether the epoch is still the newest; answer within a second or so.
    ConfirmEpoch,
    /// Make a new transactional producer and initialise it. `throw_away`: first initialise a second producer of the
    /// same id and drop it, because a transaction may be open (P3).
    InitProducer {
        /// A predecessor's transaction may be open.
        throw_away: bool,
    },
    /// Read committed offsets and metadata of all partitions (stable ones under exactly-once).
    ReadCommitted,
    /// Commit the positions with the stamp and nothing else: under exactly-once in a transaction (P5).
    Claim {
        /// Where the task starts.
        positions: Positions,
        /// Metadata for every partition.
        stamp: Stamp,
    },
    /// Start the sources at these positions and work.
    StartWork {
        /// Where to start.
        positions: Positions,
    },
    /// Say `CutDone` with the offsets below which everything is complete; reading stops until then. A task that is about
    /// to end finishes what is held first.
    Cut,
    /// Have everything given to the sinks stored.
    Flush,
    /// Commit the positions with the stamp: under exactly-once in one transaction with the outputs.
    Commit {
        /// The cut.
        positions: Positions,
        /// Metadata for every partition.
        stamp: Stamp,
    },
    /// Read on after a cut.
    ResumeWork,
    /// Drop the producer, whatever its state.
    DiscardProducer,
    /// Stop reading, forget everything held, undo state changes since the last commit. Work stands still until
    /// `Rewind`.
    UndoUncommitted,
    /// Start again at these positions, in order; state is that of the last commit, and nothing is held any more, even
    /// where `UndoUncommitted` was not asked for.
    Rewind {
        /// Where to start.
        positions: Positions,
    },
    /// Say `RetryDue` after this time.
    RetryAfter(Duration),
    /// Final: stop the sources, drop the clients, tell the coordinator that the task is free.
    Release {
        /// What was committed; empty when nothing was claimed.
        positions: Positions,
    },
    /// Final: stop at once and silently, another owner is at work.
    StepDown {
        /// Why.
        reason: StepDownReason,
    },
    /// Final: stop at once and say why.
    Stop {
        /// What a person should know.
        incident: Incident,
    },
    /// Final: the sources ended and everything is committed.
    Completed,
}
