//! The harness behind `cargo xtask bench broker`, which builds what it measures and starts a Kafka for it.

use clap::Parser;
use pelton_tests::bench::{self, Part, Setting};
use std::{path::PathBuf, process::ExitCode};

/// Measures an embedded broker, beside a real Kafka if one is named.
#[derive(Debug, Parser)]
struct Arguments {
    /// The `pelton` whose broker is measured.
    #[arg(long)]
    binary: PathBuf,
    /// Address of the real Kafka, and the number of its process.
    #[arg(long, num_args = 2, value_names = ["HOST:PORT", "PID"])]
    kafka: Vec<String>,
    /// Parts to measure; all unless given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Records of a round of produce and fetch.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Times each figure that is taken in turns is taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Decides about values and kills; by the clock unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where data and logs go; made new.
    #[arg(long)]
    folder: PathBuf,
    /// `table` or `json`.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(bench::seed_by_clock);
    eprintln!("seed {seed}; logs in {}", arguments.folder.display());
    let kafka = match &arguments.kafka[..] {
        [bootstrap, pid] => pid.parse().ok().map(|pid| (bootstrap.clone(), pid)),
        _ => None,
    };
    let setting = Setting {
        binary: arguments.binary,
        kafka,
        parts: arguments.only,
        records: arguments.records,
        rounds: arguments.rounds,
        seed,
        folder: arguments.folder,
    };
    match bench::run(&setting) {
        Ok(figures) if arguments.output == "json" => println!("{}", figures.json()),
        Ok(figures) => print!("{}", figures.table()),
        Err(trouble) => {
            eprintln!("broker-bench: {trouble}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
