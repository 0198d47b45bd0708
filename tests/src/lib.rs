//! Tests of whole clusters, and what they need: real parts and containers.

pub mod docker;
pub mod parts;
