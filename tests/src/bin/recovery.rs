//! The harness behind `cargo xtask bench recovery`, which starts a Kafka for it and builds what it measures.

use clap::Parser;
use pelton_tests::chaos::{
    check::Delivery,
    plan::Wish,
    recovery::{Part, measure},
    run::Setting,
};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Measures how long work stands still when tasks move, a worker dies or stops, or the coordinator is away.
#[derive(Debug, Parser)]
struct Arguments {
    /// Parts to measure; all unless given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Times each worker has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Records a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Partitions of each topic, and tasks.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Worker processes.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// The `pelton` to measure.
    #[arg(long)]
    binary: PathBuf,
    /// Bootstrap servers of a real Kafka.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: String,
    /// Where the scripts lie that started it.
    #[arg(long)]
    broker_scripts: PathBuf,
    /// Where logs go; made new.
    #[arg(long)]
    folder: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tasks = usize::try_from(arguments.partitions).unwrap_or(1);
    let setting = Setting {
        wish: Wish {
            seed: 0,
            workers: arguments.workers,
            kills: 0,
            coordinator_kills: 0,
            faults: 0,
            broker_restarts: 0,
            tasks,
            at_least: Duration::ZERO,
        },
        rate: arguments.rate,
        partitions: arguments.partitions,
        delivery: Delivery::ExactlyOnce,
        commit_interval: "1s".into(),
        binary: arguments.binary,
        kafka: arguments.kafka,
        broker_scripts: arguments.broker_scripts,
        folder: arguments.folder,
    };
    let all = [Part::Move, Part::Kill, Part::Stop, Part::Outage];
    let parts = if arguments.only.is_empty() { &all[..] } else { &arguments.only };
    for part in parts {
        match measure(&setting, &[*part], arguments.rounds) {
            Ok(figures) => {
                figures.iter().for_each(|f| println!("{:<66} {:>36}   bar {}", f.what, f.came, f.bar));
            }
            Err(trouble) => {
                eprintln!("recovery: {trouble}; logs are in {}", setting.folder.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
