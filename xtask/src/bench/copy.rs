//! `cargo xtask bench copy`: records per CPU-second of a bare client loop and of pipelines that copy a topic.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::{chaos, shell};

/// For a run of the pipeline: far more than it takes.
const LIMIT: Duration = Duration::from_secs(600);
/// How long nothing must have come before a run ends. Shorter than a commit interval could end it before the last commit.
const IDLE: &str = "1500ms";

/// What `cargo xtask bench copy` may be told.
#[derive(Args, Clone, Debug)]
pub struct Copy {
    /// Records of the topic that is copied.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Times each is measured, in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Cargo profile of all that is measured: `release` or `ship`.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take `pelton` and `examples/copy` from this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// A real Kafka that runs already, instead of starting one.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
}

/// Measures.
pub fn run(options: &Copy) -> Result<(), String> {
    let built = match &options.built {
        Some(folder) => {
            std::path::absolute(folder).map_err(|cause| format!("{}: {cause}", folder.display()))?
        }
        None => build(&options.profile)?,
    };
    let own = if options.kafka.is_none() { Some(chaos::started()?) } else { None };
    let kafka = options.kafka.as_ref().or(own.as_ref().map(|kafka| &kafka.bootstrap)).cloned();
    let bench = Bench {
        kafka: kafka.unwrap_or_default(),
        built,
        work: shell::target().join("bench"),
        records: options.records,
        source: unique("bench-copy"),
    };
    fs::create_dir_all(&bench.work).map_err(|cause| format!("{}: {cause}", bench.work.display()))?;
    bench.example(&["fill", &bench.source, &options.records.to_string()])?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let figures = bench.round()?;
        println!("round {round}: {figures:?}");
        rounds.push(figures);
    }
    print!("{}", table(&rounds));
    Ok(())
}

/// Both at once: built one by one, each would ask other features of the dependencies they share.
pub fn build(profile: &str) -> Result<PathBuf, String> {
    let packages = ["--package", "pelton", "--package", "pelton-kafka", "--features", "pelton-kafka/bench"];
    let targets = ["--bin", "pelton", "--example", "copy"];
    let common = ["build", "--locked", "--profile", profile];
    shell::run(&mut shell::cargo(common.into_iter().chain(packages).chain(targets)))?;
    Ok(shell::target().join(profile))
}

/// One figure of a round.
type Figure = fn(&Round) -> f64;

/// Records per CPU-second of one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    bare: f64,
    pass: f64,
    filter: f64,
    /// The pipelines' CPU time without the start and the wait at the end.
    filter_net: f64,
    pass_net: f64,
    /// No operator, dealt to [`TASKS`] tasks, under each delivery.
    dealt_net: f64,
    exactly_once_net: f64,
}

/// Tasks of the pipelines that compare deliveries: under exactly-once each has a producer of its own.
const TASKS: u32 = 4;
const AT_LEAST_ONCE: &str = "at-least-once";
const EXACTLY_ONCE: &str = "exactly-once";

/// A pipeline that copies.
#[derive(Clone, Copy)]
struct Kind {
    filter: Option<&'static str>,
    delivery: &'static str,
    tasks: Option<u32>,
}

const FILTER: Kind = Kind { filter: Some(".price >= 0"), delivery: AT_LEAST_ONCE, tasks: None };
const PASS: Kind = Kind { filter: None, delivery: AT_LEAST_ONCE, tasks: None };
const DEALT: Kind = Kind { filter: None, delivery: AT_LEAST_ONCE, tasks: Some(TASKS) };
const TRANSACTIONAL: Kind = Kind { filter: None, delivery: EXACTLY_ONCE, tasks: Some(TASKS) };

struct Bench {
    kafka: String,
    built: PathBuf,
    work: PathBuf,
    records: u64,
    source: String,
}

impl Bench {
    /// All in turns, so that what a busy machine does to one it does to the others.
    fn round(&self) -> Result<Round, String> {
        let bare = self.bare()?;
        let filter = self.pipeline(FILTER, &self.source)?;
        let pass = self.pipeline(PASS, &self.source)?;
        let dealt = self.pipeline(DEALT, &self.source)?;
        let exactly_once = self.pipeline(TRANSACTIONAL, &self.source)?;
        // The same program on a topic without records: start, connections, and the wait for idleness.
        let rest = self.pipeline(FILTER, &unique("bench-empty"))?;
        let transactional_rest = self.pipeline(TRANSACTIONAL, &unique("bench-empty"))?;
        let rate = |cpu: f64| self.records as f64 / cpu;
        Ok(Round {
            bare: rate(bare),
            pass: rate(pass),
            filter: rate(filter),
            filter_net: rate(filter - rest),
            pass_net: rate(pass - rest),
            dealt_net: rate(dealt - rest),
            exactly_once_net: rate(exactly_once - transactional_rest),
        })
    }

    /// CPU-seconds of the bare loop; its own start is not counted.
    fn bare(&self) -> Result<f64, String> {
        let to = unique("bench-bare");
        let printed = self.example(&["bare", &self.source, &to, &self.records.to_string()])?;
        printed.trim().parse().map_err(|_| format!("the bare loop printed `{printed}`"))
    }

    fn example(&self, arguments: &[&str]) -> Result<String, String> {
        let mut copy = shell::program(self.built.join("examples/copy"));
        shell::output(copy.args([self.kafka.as_str()].iter().chain(arguments)).stderr(Stdio::inherit()))
    }

    /// CPU-seconds of a process that runs a pipeline over a topic from start to end.
    fn pipeline(&self, kind: Kind, from: &str) -> Result<f64, String> {
        let to = unique("bench-out");
        for topic in [from, &to] {
            self.example(&["create", topic])?;
        }
        let file = self.work.join("copy.yaml");
        let text = definition(&to, from, &to, kind);
        fs::write(&file, text).map_err(|cause| format!("{}: {cause}", file.display()))?;
        let account = self.pelton(&file)?;
        let expected = if from == self.source { self.records } else { 0 };
        if account["emitted"].as_u64() != Some(expected) {
            return Err(format!("{expected} records should have been copied: {account}"));
        }
        account["cpuSeconds"].as_f64().ok_or_else(|| format!("no cpuSeconds in {account}"))
    }

    fn pelton(&self, file: &Path) -> Result<Value, String> {
        let mut pelton = shell::program(self.built.join("pelton"));
        pelton.arg("run").arg(file).args(["--kafka", &self.kafka, "--executors", "1"]);
        pelton.args(["--until-idle", IDLE, "-o", "json", "--log-level", "warn"]);
        let printed = shell::within(&mut pelton, LIMIT)?;
        let account = printed.lines().last().unwrap_or_default();
        serde_json::from_str(account).map_err(|cause| format!("last line `{account}`: {cause}"))
    }
}

fn definition(name: &str, from: &str, to: &str, Kind { filter, delivery, tasks }: Kind) -> String {
    let mut text =
        format!("apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n");
    // Writing to a string does not fail.
    let _ = writeln!(text, "  delivery: {delivery}\n  commitInterval: 1s");
    if let Some(tasks) = tasks {
        let _ = writeln!(text, "  tasks: {tasks}");
    }
    let _ = writeln!(text, "  sources:");
    let _ = writeln!(text, "    in: {{ kafka: {{ topics: [{from}], start: earliest }}, decode: json }}");
    if let Some(filter) = filter {
        let _ = writeln!(text, "  operators:\n    - {{ name: all, filter: \"{filter}\" }}");
    }
    let _ = writeln!(text, "  sinks:\n    out: {{ kafka: {{ topic: {to} }} }}");
    text
}

fn table(rounds: &[Round]) -> String {
    let figures = |of: Figure| median(rounds.iter().map(of).collect());
    // A ratio is taken within a round, where both sides had the same machine.
    let ratio = |of: Figure| median(rounds.iter().map(|r| of(r) / r.bare).collect());
    let rows: [(&str, Figure); 7] = [
        ("bare client loop", |r| r.bare),
        ("pipeline, filter that keeps all", |r| r.filter_net),
        ("pipeline, no operator", |r| r.pass_net),
        ("pipeline, no operator, 4 tasks", |r| r.dealt_net),
        ("  the same, exactly-once", |r| r.exactly_once_net),
        ("pipelines as above with start and idle time: filter", |r| r.filter),
        ("  no operator", |r| r.pass),
    ];
    let mut text = format!("{:<46} {:>18} {:>7}\n", "median of the rounds", "records/CPU-second", "ratio");
    for (name, of) in rows {
        let _ = writeln!(text, "{name:<46} {:>18.0} {:>7.3}", figures(of), ratio(of));
    }
    let deliveries = median(rounds.iter().map(|r| r.exactly_once_net / r.dealt_net).collect());
    let _ = writeln!(
        text,
        "exactly-once at a commit interval of 1 s, of at-least-once: {deliveries:.3} (bar 0.9)"
    );
    text
}

/// The middle one; of an even number the higher of the two.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A name that no earlier run used.
fn unique(prefix: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{prefix}-{}", since.map_or(0, |d| d.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_and_ratios_within_rounds() {
        let round = |bare: f64, filter: f64| Round {
            bare,
            filter,
            pass: filter,
            filter_net: filter,
            pass_net: filter,
            dealt_net: filter,
            exactly_once_net: filter * 0.95,
        };
        let shown = table(&[round(100.0, 90.0), round(200.0, 160.0), round(50.0, 20.0)]);
        let filter = shown.lines().find(|line| line.contains("keeps all")).unwrap();
        assert!(filter.contains(" 90 ") && filter.ends_with("0.800"), "{shown}");
        assert!(shown.ends_with("of at-least-once: 0.950 (bar 0.9)\n"), "{shown}");
    }

    #[test]
    fn the_definition_without_an_operator_has_none() {
        assert!(!definition("n", "a", "b", PASS).contains("operators"));
        assert!(definition("n", "a", "b", FILTER).contains("filter: \".price >= 0\""));
        let dealt = definition("n", "a", "b", TRANSACTIONAL);
        assert!(dealt.contains("delivery: exactly-once\n") && dealt.contains("tasks: 4\n"), "{dealt}");
    }
}
