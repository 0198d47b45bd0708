//! Commands that ask a coordinator, or only read files.

pub mod apply;
pub mod describe;
pub mod dlq;
pub mod get;
pub mod health;
pub use pelton_proto::json;
pub mod logs;
pub mod operators;
pub mod pipelines;
pub mod positions;
pub mod rollout;
pub mod shell;
pub mod tap;
mod text;
pub mod top;
pub mod validate;
