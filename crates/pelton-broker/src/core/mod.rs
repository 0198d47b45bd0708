//! The pure cores: what a partition, the transactions and the groups are, and what a request does to them.
//!
//! Nothing here reads a clock, a file or a socket. A `plan_*` function looks at the state and a request and
//! says what would have to happen ([`Plan`]); the state changes only by [`State::apply`], with an effect that
//! the store has already taken. Live requests and recovery go through the same `apply`, so what a restart
//! rebuilds is what was there before.

mod change;
pub mod compaction;
pub mod config;
mod entry;
pub mod members;
mod offsets;
mod partition;
mod produce;
mod producer;
pub mod retention;
mod state;
mod topics;
mod transactions;
mod users;

pub use entry::{CommittedOffset, Entry, GroupOffset, LogId, TopicConfig, TxnOwner};
pub use offsets::Groups;
pub use partition::{AbortedRange, Admission, Isolation, Partition};
pub use producer::ProducerInfo;
pub use state::{State, Topic};
pub use transactions::{Transaction, Transactions, TxnStatus, WantedMarker};
pub use users::{Change as UserChange, Refusal as UserRefusal, Users};

use crate::batch::Batch;

/// One step. What is durable goes to the store first, then the state takes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A batch goes to the end of a log; its offset is already in it.
    Append {
        /// Which log.
        log: LogId,
        /// The placed batch.
        batch: Batch,
    },
    /// A line goes to the journal.
    Journal(Entry),
    /// The members of a group are these now. Not stored: sessions end with the process.
    Group {
        /// Group id.
        name: String,
        /// Its members.
        group: Box<members::ClassicGroup>,
    },
    /// A member showed that it is there. Not stored.
    Heard {
        /// Group id.
        group: String,
        /// Member id.
        member: String,
        /// When, milliseconds since 1970.
        now_ms: i64,
    },
    /// A partition forgets producers that were silent for long. Not stored: the clock says the same after a restart.
    ForgetProducers {
        /// Which log.
        log: LogId,
        /// Those whose last batch is not younger, milliseconds since 1970.
        until_ms: i64,
    },
    /// Somebody who waits for others is answered.
    Answer {
        /// Who.
        ticket: members::Ticket,
        /// What.
        answer: members::GroupAnswer,
    },
}

/// What a request leads to: first every effect in this order, then the reply.
///
/// The reply is handed out by [`crate::Broker::run`] alone, after the store took the effects: an answer
/// before its append does not compile.
#[derive(Debug)]
pub struct Plan<R> {
    pub(crate) effects: Vec<Effect>,
    pub(crate) reply: R,
}

impl<R> Plan<R> {
    /// Nothing to store, answer at once.
    pub fn reply(reply: R) -> Self {
        Self { effects: Vec::new(), reply }
    }

    /// Store `effects` in this order, then answer.
    pub fn new(effects: Vec<Effect>, reply: R) -> Self {
        Self { effects, reply }
    }

    /// The durable steps, in order.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }
}
