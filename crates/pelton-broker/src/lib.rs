//! A Kafka-protocol broker on one node: for development, tests and edge boxes, embedded in a process.
//!
//! - [`core`]: pure decisions per partition, and about transactions and groups.
//! - [`store`]: append-only segments and a journal, in files or in memory.
//! - [`Broker`]: both together; a request's effects are stored before its reply exists.
//! - [`api`]: the Kafka protocol on top of a [`Broker`], without sockets.
//! - [`sasl`], [`scram`]: logins, the latter without passwords on the wire. - [`server`]: TCP and TLS. - [`inproc`]: the same broker called in process, for simulations.
//!
//! Acknowledged means: written to the file system. A killed process loses nothing; what a power cut may
//! take is set by [`server::Options::fsync`].

pub mod api;
pub mod batch;
mod broker;
mod cleaner;
mod code;
pub mod codec;
pub mod core;
pub mod inproc;
pub mod records;
pub mod sasl;
pub mod scram;
pub mod server;
mod stats;
pub mod store;

pub use broker::{Broker, Settings};
pub use code::Code;
pub use stats::{Stats, StatsSnapshot};
