//! What a source, an operator or a sink is, for whoever writes one.
//!
//! Everything here runs on an **executor**: one thread that steps many tasks. So nothing may block: a call does what it
//! can at once and returns; what is not ready is asked for again after [`Wake::wake`], or at a time the callee names.
//! Time comes in as an argument.
//!
//! * [`Operator`]: batch in, batches out through a [`Collector`];
//! * [`Source`], [`Sink`], [`Offsets`]: the ends of a stage, made by a [`Connector`];
//! * [`Reorder`]: the order in which an operator that waits for something hands on its results;
//! * [`connection`]: how a queue is reached, with secrets by reference;
//! * [`Registry`]: the components a binary was built with, a plain value handed down from `main`.

mod background;
mod calls;
mod collector;
pub mod connection;
mod ends;
mod error;
pub mod member;
mod operator;
mod options;
mod registry;
mod reorder;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod units;
mod verdicts;
mod wake;

pub use background::Background;
pub use calls::{CallCounter, CallMeter, Calls};
pub use collector::{Collector, Failed};
pub use connection::{Connection, Revealed, Secret};
pub use ends::{
    BoxFuture, Budget, Committed, Connector, ConnectorFactory, Durability, Lag, Offsets, Polled, Producer,
    ProducerSpec, Pushed, Scope, Sink, SinkSpec, Source, SourceShape, SourceSpec, TopicCatalog,
};
pub use error::{EndError, ErrorKind, OptionError};
pub use operator::{BuildContext, Operator, OperatorFactory, OperatorShape, Services, parse_options};
pub use options::Options;
pub use registry::Registry;
pub use reorder::{Order, Reorder, Ticket};
pub use verdicts::Verdicts;
pub use wake::Wake;

pub use pelton_types as types;
pub use pelton_types::suggest::nearest;
