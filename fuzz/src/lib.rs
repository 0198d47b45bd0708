//! What is fuzzed of the embedded broker: functions that take any bytes and must not panic, with seeds for each.
//!
//! libFuzzer calls them through `targets/`, and `crates/pelton-broker/tests/fuzz.rs` with mutations of its own.

pub mod alloc;
pub mod log;
pub mod login;
pub mod records;
pub mod request;
pub mod samples;
pub mod seeds;
