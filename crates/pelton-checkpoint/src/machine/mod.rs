//! One grant of one task as a state machine: [`Event`]s in, [`Action`]s out.
mod action;
mod event;

pub use action::{Action, StepDownReason};
pub use event::{Delivery, Event, Failure, Grant};

use crate::Positions;

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Asking the coordinator whether the epoch is the newest.
    Confirming,
    /// Initialising the producer.
    Initialising,
    /// Reading committed offsets.
    Reading,
    /// Committing the claim.
    Claiming,
    /// Working; no commit under way.
    Working,
    /// Finishing what is held.
    Cutting,
    /// Having the outputs stored.
    Flushing,
    /// Committing.
    Committing,
    /// Something failed: waiting before starting again from what is committed.
    Discarding,
    /// Final: let go.
    Released,
    /// Final: another owner is at work.
    SteppedDown,
    /// Final: an incident.
    Stopped,
    /// Final: the sources ended and all is committed.
    Completed,
}

impl Phase {
    /// Nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Released | Self::SteppedDown | Self::Stopped | Self::Completed)
    }
}

/// The protocol of one grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    grant: Grant,
    delivery: Delivery,
    phase: Phase,
    committed: Positions,
}

impl Machine {
    /// The machine of a fresh grant, and what to do first.
    pub fn new(grant: Grant, delivery: Delivery) -> (Self, Vec<Action>) {
        let machine = Self { grant, delivery, phase: Phase::Confirming, committed: Vec::new() };
        (machine, vec![Action::ConfirmEpoch])
    }
    /// What follows from an event.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let _ = event;
        Vec::new()
    }
    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }
    /// The grant.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
    /// What is promised about outputs.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }
    /// The positions known to be committed; empty before the first read.
    pub fn committed(&self) -> &Positions {
        &self.committed
    }
}
