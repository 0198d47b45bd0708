//! `cargo xtask chaos`: faults of many kinds under load on a real Kafka; the harness is in `tests/src/chaos`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::report::Done;
use crate::{infra, shell};

/// What `cargo xtask chaos` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What is done when follows from it; by the clock unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Workers killed -9, one after the other; the last of them is spared, and its growth is told.
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Times the coordinator is killed -9.
    #[arg(long, default_value_t = 5)]
    coordinator_kills: u32,
    /// Other faults, thirteen kinds in turn: SIGTERM, SIGSTOP, a worker less, tasks dealt anew, poison records, lines cut,
    /// silent, slow, requests held, lost and reordered.
    #[arg(long, default_value_t = 24)]
    faults: u32,
    /// Times the broker is killed -9 and started again, or stands still, in turns.
    #[arg(long, default_value_t = 1)]
    broker_restarts: u32,
    /// Records a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Partitions of each topic, and the most tasks.
    #[arg(long, default_value_t = 12)]
    partitions: u32,
    /// Worker processes.
    #[arg(long, default_value_t = 3)]
    workers: u32,
    /// Stretch the pauses to make it last about this long.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// What the pipeline promises: `exactly-once` or `at-least-once`.
    #[arg(long, default_value = "exactly-once")]
    delivery: String,
    /// The pipeline's commit interval.
    #[arg(long, default_value = "1s")]
    commit_interval: String,
    /// The `pelton` to kill, instead of building target/release/pelton.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A real Kafka that runs already, instead of starting one.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
}

impl Options {
    /// The form for `cargo xtask ci`: about five minutes, each kind of fault three times, another plan each time.
    pub fn five_minutes(kafka: &str) -> Options {
        Options {
            seed: None,
            kills: 18,
            coordinator_kills: 3,
            // Three of each kind.
            faults: 39,
            // The tests that follow use the same Kafka.
            broker_restarts: 0,
            rate: 5_000,
            partitions: 12,
            workers: 3,
            minutes: 0,
            delivery: "exactly-once".into(),
            commit_interval: "1s".into(),
            binary: Some(shell::target().join("release/pelton")),
            kafka: Some(kafka.into()),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            ("--kills", self.kills.to_string()),
            ("--coordinator-kills", self.coordinator_kills.to_string()),
            ("--faults", self.faults.to_string()),
            ("--broker-restarts", self.broker_restarts.to_string()),
            ("--rate", self.rate.to_string()),
            ("--partitions", self.partitions.to_string()),
            ("--workers", self.workers.to_string()),
            ("--minutes", self.minutes.to_string()),
            ("--delivery", self.delivery.clone()),
            ("--commit-interval", self.commit_interval.clone()),
            ("--broker-scripts", shell::top().join("tests/infra/kafka").display().to_string()),
            ("--folder", shell::target().join("chaos").display().to_string()),
        ];
        arguments.extend(self.seed.map(|seed| ("--seed", seed.to_string())));
        arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

/// Builds what is needed, starts a Kafka unless one is given, and runs.
pub fn run(options: &Options) -> Result<(), String> {
    // The whole workspace, so that dependencies get the features they were built with before.
    shell::run(&mut shell::cargo(["build", "--locked", "--workspace", "--bin", "chaos"]))?;
    let binary = binary(options.binary.as_deref())?;
    let own = if options.kafka.is_none() { Some(started()?) } else { None };
    let kafka = options.kafka.as_ref().or(own.as_ref().map(|kafka| &kafka.bootstrap));
    let mut harness = shell::program(shell::target().join("debug/chaos"));
    harness.args(options.arguments()).arg("--binary").arg(binary);
    harness.arg("--kafka").arg(kafka.map_or("", String::as_str));
    shell::run(&mut harness)
}

/// The `pelton` that was given, or a new one as it is shipped.
pub fn binary(given: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(binary) = given {
        return std::path::absolute(binary).map_err(|cause| format!("{}: {cause}", binary.display()));
    }
    shell::run(&mut shell::cargo(["build", "--release", "--locked", "--package", "pelton"]))?;
    Ok(shell::target().join("release/pelton"))
}

/// A Kafka for this run; without the parts for one there is nothing to run.
pub fn started() -> Result<infra::Kafka, String> {
    match infra::Kafka::start()? {
        Done::With(kafka) => Ok(kafka),
        Done::Skipped(why) => Err(format!("{why}; or name a Kafka that runs with --kafka")),
    }
}
