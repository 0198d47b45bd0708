//! `pelton`: one binary, every role.

mod bench;
mod cli;
mod client;
mod components;
mod dev;
mod exit;
mod fleet;
mod host;
mod idle;
mod input;
mod lifeline;
mod memory;
mod output;
mod page;
mod redraw;
mod roles;
mod run;
mod settings;
mod signals;
mod testing;
mod verbs;

use clap::Parser;
use cli::{Cli, Command};
use exit::Failure;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::be_frugal();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start threads: {e}");
            return ExitCode::from(exit::Exit::Unexpected as u8);
        }
    };
    let outcome = runtime.block_on(dispatch(cli));
    // Blocking calls into a client library may hang in a broker that is gone; they end with the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("error: {failure}");
            }
            failure.code()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let node = settings::Node::new(&cli);
    match cli.command {
        Command::Dev(args) => dev::dev(&node, args).await,
        Command::Run(args) => run::run(&node, args).await,
        Command::Validate(args) => verbs::validate::validate(&node, &args),
        Command::Test(args) => testing::test(args).await,
        Command::Schema => verbs::validate::schema(),
        Command::Operators(args) => verbs::operators::operators(&args),
        Command::Broker(args) => roles::broker::broker(&node, args).await,
        Command::Coordinator(args) => roles::coordinator::coordinator(&node, args).await,
        Command::Worker(args) => roles::worker::worker(&node, args).await,
        Command::Operator(args) => roles::operator::operator(&node, args).await,
        Command::Apply(args) => verbs::apply::apply(args).await,
        Command::Get(args) => verbs::get::get(args).await,
        Command::Describe(args) => verbs::describe::describe(args).await,
        Command::Delete(args) => verbs::pipelines::delete(args).await,
        Command::Pause(args) => verbs::pipelines::pause(args).await,
        Command::Resume(args) => verbs::pipelines::resume(args).await,
        Command::Rollback(args) => verbs::pipelines::rollback(args).await,
        Command::Savepoint(command) => verbs::positions::savepoint(command).await,
        Command::Task(command) => verbs::positions::task(command).await,
        Command::Drain(args) => verbs::pipelines::drain(args).await,
        Command::Tap(args) => verbs::tap::tap(args).await,
        Command::Diff(args) => verbs::apply::diff(args).await,
        Command::Logs(args) => verbs::logs::logs(args).await,
        Command::Top(args) => verbs::top::top(args).await,
        Command::Scale(args) => verbs::rollout::scale(args).await,
        Command::Rollout(command) => verbs::rollout::rollout(command).await,
        Command::Dlq(command) => verbs::dlq::dlq(command).await,
        Command::Bench(args) => bench::bench(args).await,
        Command::Health(args) => verbs::health::health(&args).await,
        Command::Completion { shell } => {
            verbs::shell::completion(shell);
            Ok(())
        }
        Command::Man { dir } => verbs::shell::man(dir.as_deref()),
        Command::Config(cli::ConfigCommand::Show { origin, output }) => node.show(origin, output),
    }
}
