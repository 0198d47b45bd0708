//! Drives chains of operators: reads, processes, holds back, commits, stops.
//!
//! * [`plan`]: what a task runs, resolved;
//! * [`chain`]: the operators of a task, their books, and their panics;
//! * [`task`]: one granted task as a value with a `step`;
//! * [`executor`]: one thread that steps many tasks;
//! * [`status`], [`metrics`], [`tap`]: what can be seen from outside.
//!
//! There is no Kafka in this crate: to it a partition is an opaque name and an offset a number that rises.

mod ages;
pub mod chain;
pub mod dead_letter;
pub mod executor;
pub mod metrics;
mod outputs;
pub mod plan;
mod positions;
pub mod setup;
pub mod status;
pub mod tap;
pub mod task;
mod trouble;

pub use executor::{
    Board, Command, EventSink, Executor, ExecutorEvent, ExecutorHandle, ExecutorOptions, spawn,
};
pub use metrics::Metrics;
pub use plan::StagePlan;
pub use status::{TaskSnapshot, TaskState};
pub use task::{Outcome, Step};
