//! `cargo xtask bench chain`: records per second and core of filters and maps, beside other ways to do the same.

use clap::Args;

use crate::shell;

/// What `cargo xtask bench chain` may be told.
#[derive(Args, Clone, Debug)]
pub struct Chain {
    /// Times each way is measured, in turns.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Records of a batch: 500 to 2,000 are usual.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// What the records are made from.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Only rows whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Cargo profile of what is measured: `release` or `ship`.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Builds the measurement and runs it in one process.
pub fn run(options: &Chain) -> Result<(), String> {
    let example =
        ["run", "--profile", &options.profile, "--package", "pelton-runtime", "--example", "chain", "--"];
    let (rounds, batch, seed) =
        (options.rounds.to_string(), options.batch.to_string(), options.seed.to_string());
    let told = ["--rounds", &rounds, "--batch", &batch, "--seed", &seed, "--only", &options.only];
    shell::run(&mut shell::cargo(example.into_iter().chain(told)))
}
