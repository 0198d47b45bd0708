//! Pelton on Kubernetes: the custom resource `Pipeline` and the operator that carries it to a coordinator.
//!
//! * [`crd`]: the resource's definition, generated from the schema of definition files;
//! * [`decide`]: what to do next about one resource, pure; [`status`]: what is written about it;
//! * [`workers`]: how many workers there are to be, pure;
//! * [`lease`]: which of several operators works;
//! * [`operator`]: the loop around them, and the only place that changes anything.
//!
//! It knows the coordinator as the command line does, by its gRPC services.

pub mod crd;
pub mod decide;
pub mod lease;
pub mod operator;
mod perform;
mod resource;
pub mod status;
mod structural;
pub mod workers;

pub use resource::{Condition, FINALIZER, OpenIncident, Resource, Status};
