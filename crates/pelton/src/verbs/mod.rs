//! Commands that ask a coordinator, or only read files.

pub mod apply;
pub mod describe;
pub mod get;
pub mod json;
pub mod pipelines;
pub mod tap;
pub mod validate;
