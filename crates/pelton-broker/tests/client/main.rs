//! The broker as a real Kafka client (librdkafka) sees it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod admin;
mod damage;
mod groups;
mod kit;
mod records;
