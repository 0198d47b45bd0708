//! A whole cluster on one thread: coordinator, workers and the broker's core, under a clock and a network of our own.
//!
//! [`SimCluster`] is what tests use. Everything but the network, the clock and the ends of the pipeline is the product:
//! the coordinator's services and core, the worker's session, the executor and its tasks, the broker's core. The same
//! seed gives the same run; a failing test prints it, and `PELTON_SEED=n` replays it.
//!
//! * [`cluster`]: what runs, and what a test can do to it;
//! * [`kafka`], [`ends`]: the broker and the pipeline's way to it, with losses and delays from the seed;
//! * [`check`]: what must hold, seen by one who reads topics only.

pub mod check;
pub mod cluster;
pub mod ends;
pub mod kafka;
mod load;
mod net;
mod random;

pub use check::Auditor;
pub use cluster::{Builder, SimCluster};
pub use kafka::{Faults, Sabotage, SimKafka};
pub use random::Random;

/// Seeds that a test runs: `PELTON_SEED` alone, or as many as `PELTON_SIM_SEEDS` says, from 1 on.
pub fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("PELTON_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("PELTON_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS)).collect(),
    }
}

/// Runs of each scenario when nothing else is said.
const DEFAULT_SEEDS: u64 = 2;
