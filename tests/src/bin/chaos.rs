//! The harness behind `cargo xtask chaos`, which starts a Kafka for it and builds what it kills.

use clap::Parser;
use pelton_tests::chaos::{check::Delivery, events::now_ms, plan::Wish, run};
use std::{process::ExitCode, time::Duration};

/// Does harm to workers, coordinator, lines and broker under load, and checks what is in the topics afterwards.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is done when follows from it; by the clock unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Workers killed -9, one after the other; the last of them is spared, and its growth is told.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Times the coordinator is killed -9.
    #[arg(long, default_value_t = 5)]
    coordinator_kills: usize,
    /// Other faults, thirteen kinds in turn: SIGTERM, SIGSTOP, a worker less, tasks dealt anew, poison records, and what a
    /// proxy does to a worker's line to the broker.
    #[arg(long, default_value_t = 24)]
    faults: usize,
    /// Times the broker is killed -9 and started again, or stands still, in turns; only one of `cargo xtask infra` can.
    #[arg(long, default_value_t = 1)]
    broker_restarts: usize,
    /// Stretch the pauses to make it last about this long.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// What the pipeline promises.
    #[arg(long, default_value = "exactly-once")]
    delivery: Delivery,
    /// The pipeline's commit interval.
    #[arg(long, default_value = "1s")]
    commit_interval: String,
    #[command(flatten)]
    ground: run::Ground,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| now_ms().unsigned_abs() % 1_000_000);
    let Arguments { kills, coordinator_kills, faults, broker_restarts, .. } = arguments;
    let Arguments { minutes, mut ground, .. } = arguments;
    let run::Ground { rate, partitions, workers, .. } = ground;
    let again = format!(
        "cargo xtask chaos --seed {seed} --kills {kills} --coordinator-kills {coordinator_kills} --faults {faults} \
         --broker-restarts {broker_restarts} --rate {rate} \
         --partitions {partitions} --workers {workers} --minutes {minutes} --commit-interval {} --delivery {}",
        arguments.commit_interval,
        arguments.delivery.as_str()
    );
    let folder = ground.folder.join(seed.to_string());
    ground.folder.clone_from(&folder);
    println!("seed {seed}; logs in {}", folder.display());
    let at_least = Duration::from_secs(minutes * 60);
    let tasks = ground.tasks();
    let wish = Wish { seed, workers, kills, coordinator_kills, faults, broker_restarts, tasks, at_least };
    let setting = ground.setting(wish, arguments.delivery, arguments.commit_interval);
    let failed = match run::run(&setting) {
        Ok(report) => {
            print!("{report}");
            report.faults().len()
        }
        Err(trouble) => {
            eprintln!("chaos: {trouble}");
            1
        }
    };
    if failed > 0 {
        eprintln!("chaos failed; logs are in {}; the same again: {again}", folder.display());
        return ExitCode::FAILURE;
    }
    println!(
        "{}, and the first occurrences of each key rise",
        match setting.delivery {
            Delivery::AtLeastOnce => "every id is in the output",
            Delivery::ExactlyOnce => "every id is in the output exactly once",
        }
    );
    ExitCode::SUCCESS
}
