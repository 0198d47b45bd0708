//! `cargo xtask bench broker`: the embedded broker beside a real Kafka; the harness is in `tests/src/bench`.

use std::path::PathBuf;

use clap::Args;

use crate::{chaos, shell};

/// What `cargo xtask bench broker` may be told.
#[derive(Args, Clone, Debug)]
pub struct Broker {
    /// Parts to measure, by commas: throughput, latency, start, idle, partitions, kill. All unless given.
    #[arg(long)]
    only: Option<String>,
    /// Records of a round of produce and fetch.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Times each figure that is taken in turns is taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Decides about values and kills; by the clock unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Take `pelton` and `broker-bench` from this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// Measure the embedded broker alone.
    #[arg(long)]
    without_kafka: bool,
    /// What to print: `table` or `json`.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

/// Builds what is needed, starts a Kafka, and measures.
pub fn run(options: &Broker) -> Result<(), String> {
    let built = match &options.built {
        Some(folder) => {
            std::path::absolute(folder).map_err(|cause| format!("{}: {cause}", folder.display()))?
        }
        None => {
            let binaries = ["--bin", "pelton", "--bin", "broker-bench"];
            let common = ["build", "--locked", "--workspace", "--release"];
            shell::run(&mut shell::cargo(common.into_iter().chain(binaries)))?;
            shell::target().join("release")
        }
    };
    let kafka = if options.without_kafka { None } else { Some(chaos::started()?) };
    let mut harness = shell::program(built.join("broker-bench"));
    harness.arg("--binary").arg(built.join("pelton"));
    harness.arg("--folder").arg(shell::target().join("bench-broker"));
    if let Some(kafka) = &kafka {
        harness.args(["--kafka", &kafka.bootstrap, &kafka.process()?.to_string()]);
    }
    for (name, value) in [("--only", options.only.clone()), ("--seed", options.seed.map(|s| s.to_string()))] {
        harness.args(value.map(|value| [name.to_owned(), value]).into_iter().flatten());
    }
    harness.args(["--records", &options.records.to_string(), "--rounds", &options.rounds.to_string()]);
    harness.args(["--output", &options.output]);
    // Standard output is the harness's alone, for programs that read it.
    eprintln!("$ {}", shell::shown(&harness));
    let status = harness.status().map_err(|cause| format!("`broker-bench` did not start: {cause}"))?;
    if status.success() { Ok(()) } else { Err(format!("`broker-bench`: {status}")) }
}
