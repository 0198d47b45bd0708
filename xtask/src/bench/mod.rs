//! `cargo xtask bench`: measures and prints; nothing here passes or fails by a time.

mod broker;
mod chain;
mod commit;
mod copy;
mod infer;
mod recovery;
mod scale;
mod worker;

use clap::Subcommand;

use crate::shell;

/// What can be measured.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// The embedded broker beside a real Kafka: records per CPU-second, latency, start, memory, idleness, kill -9.
    Broker(broker::Broker),
    /// Records per second and core of filters and maps, beside plain VRL and serde_json.
    Chain(chain::Chain),
    /// Time of a commit of 1,000 records over 8 partitions, embedded and on a real Kafka.
    Commit(commit::Commit),
    /// Records per CPU-second of a bare client loop and of pipelines that copy a topic.
    Copy(copy::Copy),
    /// Records per second through `infer`, beside the rows per second of its model alone.
    Infer(infer::Infer),
    /// Time of the planner for 1,000 workers and 10,000 tasks.
    Planner,
    /// Time for each line that `parse` reads, beside VRL's functions.
    Parse,
    /// How long work stands still when tasks move, a worker dies or stops, or the coordinator is away.
    Recovery(recovery::Recovery),
    /// A coordinator whose worker containers change in number a hundred times under load.
    Scale(scale::Scale),
    /// What a worker takes: start, idle, under a backlog, scraped.
    Worker(worker::Worker),
}

/// Measures.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Broker(options) => broker::run(options),
        Command::Chain(options) => chain::run(options),
        Command::Commit(options) => commit::run(options),
        Command::Copy(options) => copy::run(options),
        Command::Infer(options) => infer::run(options),
        Command::Recovery(options) => recovery::run(options),
        Command::Scale(options) => scale::run(options),
        Command::Worker(options) => worker::run(options),
        Command::Parse => {
            let example = ["run", "--release", "--package", "pelton-parse", "--example", "lines"];
            shell::run(&mut shell::cargo(example))
        }
        Command::Planner => {
            let example = ["run", "--release", "--package", "pelton-coordinator", "--example", "planner"];
            shell::run(&mut shell::cargo(example))
        }
    }
}
