//! The harness behind `cargo xtask bench recovery`, which starts a Kafka for it and builds what it measures.

use clap::Parser;
use pelton_tests::chaos::{
    check::Delivery,
    plan::Wish,
    recovery::{Part, measure},
    run::Ground,
};
use std::{process::ExitCode, time::Duration};

/// Measures how long work stands still when tasks move, a worker dies or stops, or the coordinator is away.
#[derive(Debug, Parser)]
struct Arguments {
    /// Parts to measure; all unless given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Times each worker has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    ground: Ground,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ground = arguments.ground;
    let wish = Wish {
        seed: 0,
        workers: ground.workers,
        kills: 0,
        coordinator_kills: 0,
        faults: 0,
        broker_restarts: 0,
        tasks: ground.tasks(),
        at_least: Duration::ZERO,
    };
    let setting = ground.setting(wish, Delivery::ExactlyOnce, "1s".into());
    let all = [Part::Move, Part::Kill, Part::Stop, Part::Outage];
    let parts = if arguments.only.is_empty() { &all[..] } else { &arguments.only };
    for part in parts {
        match measure(&setting, *part, arguments.rounds) {
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
