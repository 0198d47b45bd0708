//! What the machine is told.

use crate::{Committed, Positions};
use pelton_types::{Epoch, Incident, Partition, TaskId, Term};

/// What the coordinator gives to a worker (P2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The task; its generation is the g of the protocol.
    pub task: TaskId,
    /// Counts the grants of this task, from 1 on; the e of the protocol.
    pub epoch: Epoch,
    /// Leadership under which it was given.
    pub term: Term,
    /// The task was never claimed: only then may its partitions have no committed metadata under exactly-once.
    pub virgin: bool,
    /// All partitions of the task; every commit names all of them.
    pub partitions: Vec<Partition>,
    /// What the coordinator has heard to be committed of them. Under exactly-once a lower committed offset is not believed:
    /// what lies between would be done twice.
    pub heard: Positions,
}

/// What is promised about outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Outputs are flushed, then offsets are committed: nothing lost, the first occurrences of each key rise.
    AtLeastOnce,
    /// Outputs and offsets are committed in one transaction.
    ExactlyOnce,
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may pass; the outcome may be unknown.
    Retry,
    /// Nothing goes on until somebody acts.
    Stop(Incident),
}

/// What happened. Each action that asks for an answer is answered at most once, and not at all once the machine
/// said [`Action::UndoUncommitted`], [`Action::Rewind`], [`Action::DiscardProducer`] or one of the final actions
/// (except a commit under at-least-once, which is always answered). Events that do not fit the phase change
/// nothing.
///
/// [`Action::UndoUncommitted`]: super::Action::UndoUncommitted
/// [`Action::Rewind`]: super::Action::Rewind
/// [`Action::DiscardProducer`]: super::Action::DiscardProducer
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answer to `ConfirmEpoch`: the coordinator knows no higher epoch.
    EpochConfirmed,
    /// Answer to `ConfirmEpoch`: somebody else has a higher epoch.
    EpochRefused,
    /// Answer to `ConfirmEpoch`: none came in time, or there is no coordinator.
    CoordinatorSilent,
    /// The producer is initialised.
    InitDone,
    /// The producer could not be initialised.
    InitFailed(Failure),
    /// What is committed, one entry for each partition of the task.
    ReadDone(Vec<Committed>),
    /// Committed offsets could not be read.
    ReadFailed(Failure),
    /// The claim is durable. `clean`: no request of the producer went unanswered since its init (P7); always
    /// true under at-least-once.
    ClaimDone {
        /// The producer may be kept.
        clean: bool,
    },
    /// The claim failed, or its outcome is unknown.
    ClaimFailed(Failure),
    /// The claim was refused because of a later init.
    ClaimFenced,
    /// The commit interval has passed and something was read or produced since the last commit, or the claim must
    /// be repeated (P9, every 24 h).
    CommitDue,
    /// Answer to `Cut`: everything below `positions` is complete and its outputs were given to the sinks (under
    /// exactly-once no others were). They never lie behind what is committed; a partition left out stays there.
    CutDone {
        /// The cut.
        positions: Positions,
    },
    /// Everything given to the sinks before `Flush` is stored.
    FlushDone,
    /// Some of it is not.
    FlushFailed(Failure),
    /// The commit is durable; `clean` as in `ClaimDone`.
    CommitDone {
        /// The producer may be kept.
        clean: bool,
    },
    /// The commit failed, or its outcome is unknown.
    CommitFailed(Failure),
    /// The commit was refused because of a later init.
    CommitFenced,
    /// The producer was found fenced outside a commit (its fatal error, a delivery report).
    Fenced,
    /// Reading, an operator or a sink failed. When the incident does not stop the task, it is tried again from the
    /// committed positions.
    WorkFailed(Incident),
    /// The coordinator asks for the task back: finish, commit, release.
    Revoked,
    /// The worker is about to end: finish, commit, release.
    Drain,
    /// The time for finishing is over: release without a further commit.
    DeadlinePassed,
    /// The time of the last `RetryAfter` is over.
    RetryDue,
    /// Every source has delivered everything: commit a last time. Said again after a `Rewind`.
    SourceEnded,
}
