//! `cargo xtask bench recovery`: how long work stands still; the harness is `tests/src/chaos/recovery.rs`.

use std::path::PathBuf;

use clap::Args;

use crate::{chaos, shell};

/// What `cargo xtask bench recovery` may be told.
#[derive(Args, Clone, Debug)]
pub struct Recovery {
    /// Parts to measure, by commas: move, kill, stop, outage. All unless given.
    #[arg(long)]
    only: Option<String>,
    /// Times each worker has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The `pelton` to measure, instead of building target/release/pelton.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A real Kafka that `cargo xtask infra` started, instead of a new one.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
}

/// Builds what is needed, starts a Kafka unless one is given, and measures.
pub fn run(options: &Recovery) -> Result<(), String> {
    shell::run(&mut shell::cargo(["build", "--locked", "--workspace", "--bin", "recovery"]))?;
    let binary = chaos::binary(options.binary.as_deref())?;
    let own = if options.kafka.is_none() { Some(chaos::started()?) } else { None };
    let kafka = options.kafka.as_ref().or(own.as_ref().map(|kafka| &kafka.bootstrap));
    let mut harness = shell::program(shell::target().join("debug/recovery"));
    harness.arg("--binary").arg(binary).arg("--kafka").arg(kafka.map_or("", String::as_str));
    harness.arg("--broker-scripts").arg(shell::top().join("tests/infra/kafka"));
    harness.arg("--folder").arg(shell::target().join("recovery"));
    harness.args(["--rounds", &options.rounds.to_string()]);
    harness.args(options.only.iter().flat_map(|only| ["--only", only]));
    shell::run(&mut harness)
}
