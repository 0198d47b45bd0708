//! The commit protocol as pure decisions. No I/O, no clock, no chance: facts in, actions out.
//!
//! * [`metadata`]: the text stored beside every committed offset, which says who committed it;
//! * [`mod@verdict`]: what those texts mean for the holder of a grant;
//! * [`machine`]: one grant of one task, from confirming its epoch to letting go, for both deliveries.
//!
//! The rules are named as in the protocol (P1 to P14). Safety never rests on a clock or on the coordinator:
//! under exactly-once it is the broker's fencing by transactional id and the claim (P5), under at-least-once it
//! is that an offset is committed only after everything below it is stored.

pub mod backoff;
pub mod machine;
pub mod metadata;
pub mod retirement;
pub mod verdict;

pub use machine::{Action, Delivery, Event, Failure, Grant, Machine, Phase, StepDownReason};
pub use metadata::{Stamp, StampError, StatePointer, Token};
pub use retirement::{Retirement, retirement};
pub use verdict::{Committed, Verdict, verdict, went_back};

use pelton_types::{Offset, Partition};

/// The next offset to read, of every partition of a task, sorted by partition.
pub type Positions = Vec<(Partition, Offset)>;
