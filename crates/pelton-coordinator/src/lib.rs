//! Decides which worker runs which task, and remembers what was decided.
//!
//! * [`planner`]: facts to a balanced assignment, pure;
//! * [`core`]: the state machine of membership, grants, moves and pipelines, pure;
//! * [`store`]: what must not be forgotten;
//! * [`service`]: the gRPC services around them, over any listener;
//! * [`metrics`]: gauges for Prometheus;
//! * [`discovery`]: where it finds the workers.
//!
//! What if it fails: a coordinator that cannot write its store, or finds another one writing, stops with an error.
//! Workers keep their tasks and go on; the next coordinator learns from them what they hold.

pub mod core;
pub mod discovery;
pub mod metrics;
pub mod planner;
pub mod service;
pub mod store;

pub use core::Snapshot;
pub use service::{Admin, Coordinator, CoordinatorError, Fleet, Handle, Options, Scaled};
pub use store::{FileStore, MemoryStore, MetadataStore};
