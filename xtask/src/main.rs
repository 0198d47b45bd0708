//! The commands of this repository, one module each: `cargo xtask --help`.

mod bench;
mod chaos;
mod ci;
mod deny;
mod faults;
mod first_run;
mod fuzz;
mod image;
mod infra;
mod kubernetes;
mod report;
mod sabotage;
mod schema;
mod shell;
mod totals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks, images and test infrastructure of Pelton.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures and prints.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Kills workers and the coordinator under load on a real Kafka, and checks what is in the topics.
    Chaos(chaos::Options),
    /// All checks and tests that this machine has the parts for.
    Ci(ci::Options),
    /// Checks licences, bans and sources of the dependencies against deny.toml.
    Deny,
    /// Plays every failure window of exactly-once with every shape of a pipeline, embedded and on a real Kafka.
    Faults(faults::Options),
    /// Gives the embedded broker's decoders, or the language, any bytes, guided by coverage.
    Fuzz(fuzz::Options),
    /// Builds the static binary and the container image.
    Image(image::Options),
    /// Starts and stops real parts for tests.
    #[command(subcommand)]
    Infra(infra::Command),
    /// Installs the chart on a real Kubernetes cluster and goes through what can happen to it.
    K8s(kubernetes::Options),
    /// Breaks one rule of the commit protocol at a time, and sees that the tests notice.
    Sabotage(sabotage::Options),
}

fn main() -> ExitCode {
    if let Some(compiled) = fuzz::compile() {
        return compiled;
    }
    let done = match Arguments::parse().command {
        Command::Ci(options) => return ci::run(&options),
        Command::Bench(command) => bench::run(&command),
        Command::Chaos(options) => chaos::run(&options),
        Command::Deny => deny::check().map(|outcome| println!("{outcome}")),
        Command::Faults(options) => faults::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Image(options) => image::build(&options).map(|image| println!("{image}")),
        Command::Infra(command) => infra::run(&command),
        Command::K8s(options) => kubernetes::run(&options),
        Command::Sabotage(options) => sabotage::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
