//! Real processes, a real Kafka, harm of many kinds, and a checker that reads topics only: `cargo xtask chaos`.
//!
//! One seed makes one [`plan`]; [`run`](run::run) carries it out with a [`load`] on, and [`check`] judges what stands in
//! the topics afterwards. Everything that was done is kept in an event log.

pub mod broker;
pub mod check;
mod deeds;
mod ear;
pub mod events;
pub mod fleet;
pub mod growth;
pub mod load;
pub mod plan;
pub mod record;
pub mod recovery;
pub mod report;
pub mod run;
pub mod silence;
pub mod topics;
pub mod witness;
