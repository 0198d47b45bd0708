//! The long-lived roles: each starts its telemetry, serves its endpoints, works, and ends cleanly.

pub mod broker;
mod containers;
pub mod coordinator;
#[cfg(test)]
mod metrics_page;
pub mod operator;
mod serving;
pub mod worker;

pub use serving::{Endpoints, bind, cannot_listen};
