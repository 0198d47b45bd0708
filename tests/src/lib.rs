//! Tests of whole clusters, and what they need: real parts and containers.

pub mod acls;
pub mod bench;
pub mod chaos;
pub mod docker;
pub mod kubernetes;
pub mod parts;
pub mod proxy;
pub mod sim;
