//! A worker: attaches to a coordinator, is granted tasks, and hosts the executors that run them.
//!
//! * [`plan`]: from a definition to what a task runs;
//! * [`host`]: the executors of the process and which task is where;
//! * [`session`]: the life of a worker beside its coordinator;
//! * [`local`]: one pipeline in one process, without a coordinator.
//!
//! The data plane outlives the control plane: a worker that cannot reach the coordinator keeps its tasks and keeps
//! committing.

pub mod host;
mod ledger;
mod letters;
pub mod local;
pub mod plan;
mod report;
mod serve;
pub mod session;
pub mod usage;

pub use host::{Host, HostOptions};
pub use session::{Dial, Worker, WorkerOptions};
