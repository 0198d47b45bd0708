//! The shipped binary, used as its users use it.
//!
//! Every process listens on a port the system chose, says so on its first line, and is killed when its test ends.
//! Tests wait for conditions, never for a time.
// Helpers of tests may unwrap as tests may.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod dev;
mod driver;
mod endpoints;
mod exactly_once;
mod examples;
mod operations;
mod operators;
mod outage;
mod refusals;
mod run;
mod support;
mod verbs;
