//! Plain data that every Pelton crate shares. No I/O, no clock, no policy.
//!
//! * [`ids`]: names of pipelines, tasks and partitions, and the counters that order grants;
//! * [`batch`]: records as spans of shared buffers;
//! * [`causes`]: errors in words;
//! * [`fields`]: where members of records stand, found once for several operators;
//! * [`account`]: where every record went;
//! * [`schema`]: what records look like;
//! * [`suggest`]: words that were nearly written;
//! * [`incident`]: codes of failures a user can meet.

pub mod account;
pub mod batch;
pub mod causes;
pub mod fields;
pub mod ids;
pub mod incident;
pub mod schema;
pub mod suggest;

pub use account::Account;
pub use batch::{Batch, Header, Record, Span};
pub use fields::{FieldIndex, FieldRow};
pub use ids::{Epoch, Generation, Offset, Partition, PipelineName, TaskId, Term};
pub use incident::{Code, Incident};
pub use schema::RecordSchema;
