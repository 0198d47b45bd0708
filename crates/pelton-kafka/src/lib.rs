//! Kafka as a source, a sink and the place where positions are kept. The only crate that knows the client library.
//!
//! The clients of an executor are shared: one consumer per cluster and group, with a queue of its own for every
//! partition, so that a stalled task stops only itself; one idempotent producer per cluster and way of batching. Under
//! exactly-once each task has a transactional producer of its own.
//! Nothing here waits: answers, records, errors and delivery reports arrive on queues that wake the executor, and what
//! the library can only do by waiting (a flush, closing a client, questions about topics and their ends) has a thread that
//! does.
//!
//! Offsets are committed under [`pelton_types::PipelineName::group_id`] by a consumer that never joins the group.

mod alarm;
#[cfg(feature = "bench")]
pub mod bench;
mod catalog;
mod connector;
mod consumer;
mod counts;
mod diagnose;
mod errors;
mod flush;
mod link;
mod login;
mod native;
mod offsets;
mod options;
mod overheard;
mod places;
mod produce;
mod producer;
mod reach;
mod requests;
mod settings;
mod sink;
mod source;
mod token;
mod transaction;
mod waiting;

pub use connector::KafkaFactory;
pub use options::{Compression, SinkOptions, SourceOptions, Start, brokers_fault, topic_fault};
pub use settings::KafkaOptions;
