//! `cargo xtask bench commit`: how long a commit of 1,000 records over 8 partitions takes, on the embedded broker and on a
//! real Kafka, in turns.

use std::path::{Path, PathBuf};

use clap::Args;

use super::worker::process::{Piped, role};
use crate::{chaos, shell};

/// What `cargo xtask bench commit` may be told.
#[derive(Args, Clone, Debug)]
pub struct Commit {
    /// Records of a transaction.
    #[arg(long, default_value_t = 1_000)]
    records: usize,
    /// Partitions they are written to.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Times each broker has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Transactions in a turn.
    #[arg(long, default_value_t = 100)]
    commits: usize,
    /// Take `pelton` and `examples/copy` from this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// A real Kafka that runs already, instead of starting one.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
}

/// Measures.
pub fn run(options: &Commit) -> Result<(), String> {
    let built = match &options.built {
        Some(folder) => {
            std::path::absolute(folder).map_err(|cause| format!("{}: {cause}", folder.display()))?
        }
        None => super::copy::build("release")?,
    };
    let own = if options.kafka.is_none() { Some(chaos::started()?) } else { None };
    let kafka = options.kafka.as_ref().or(own.as_ref().map(|kafka| &kafka.bootstrap)).cloned();
    let (_broker, embedded) = embedded(&built)?;
    let brokers = [("embedded", embedded, 5.0), ("real", kafka.unwrap_or_default(), 10.0)];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        for ((_, bootstrap, _), times) in brokers.iter().zip(&mut times) {
            times.extend(commits(&built, bootstrap, options)?);
        }
    }
    for ((name, _, bar), mut times) in brokers.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "commit of {} records over {} partitions, {name:<8} p50 {:5.1} ms, p99 {:5.1} ms   bar p50 {bar} ms",
            options.records,
            options.partitions,
            at(0.5),
            at(0.99)
        );
    }
    Ok(())
}

fn commits(built: &Path, bootstrap: &str, options: &Commit) -> Result<Vec<f64>, String> {
    let numbers = [options.records, options.partitions as usize, options.commits].map(|n| n.to_string());
    let mut example = shell::program(built.join("examples/copy"));
    let said = shell::output(example.args([bootstrap, "commits"]).args(numbers))?;
    let read = |text: &str| text.parse().map_err(|_| format!("`{text}` is no time"));
    said.split_whitespace().map(read).collect()
}

/// An embedded broker as a process of its own; it ends with the first value.
fn embedded(built: &Path) -> Result<(Piped, String), String> {
    let data = shell::target().join("bench-commit");
    // An earlier run's data is of no use; there may be none.
    drop(std::fs::remove_dir_all(&data));
    let (broker, said) = role(&built.join("pelton"), "broker", &data, &["--listen", "127.0.0.1:0"])?;
    Ok((broker, said["bootstrap"].as_str().unwrap_or_default().to_owned()))
}
