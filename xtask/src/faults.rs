//! `cargo xtask faults`: every failure window of exactly-once with every shape of a pipeline, on the embedded broker and on a
//! real Kafka. `cargo xtask ci` plays each with one shape on both.

use clap::Args;

use crate::{chaos, shell};

/// What `cargo xtask faults` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only windows with this in their names, such as `w4`.
    window: Option<String>,
    /// A real Kafka that runs already, instead of starting one.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// On the embedded broker alone.
    #[arg(long)]
    without_kafka: bool,
    /// Windows at a time.
    #[arg(long, default_value_t = 2)]
    threads: u32,
}

/// Builds what is needed, starts a Kafka unless one is given, and plays.
pub fn run(options: &Options) -> Result<(), String> {
    // Built as for `cargo test --workspace`, with the binary that has fail points.
    let common = ["--workspace", "--locked", "--bin", "pelton", "--test", "faults"];
    shell::run(shell::cargo(["build"]).args(common))?;
    let own = if options.kafka.is_none() && !options.without_kafka { Some(chaos::started()?) } else { None };
    let kafka = options.kafka.as_ref().or(own.as_ref().map(|kafka| &kafka.bootstrap));
    let mut tests = shell::cargo(["test", "--workspace", "--locked", "--test", "faults", "--"]);
    tests.arg(format!("--test-threads={}", options.threads)).args(&options.window);
    tests.env("PELTON_TEST_SHAPES", "all").env_remove("PELTON_TEST_BINARY");
    if let (Some(kafka), false) = (kafka, options.without_kafka) {
        tests.env("PELTON_TEST_KAFKA", kafka);
    }
    shell::run(&mut tests)
}
