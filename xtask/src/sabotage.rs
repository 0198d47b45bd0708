//! `cargo xtask sabotage`: would the tests of exactly-once notice a defect? A build that breaks one rule of the commit
//! protocol at a time is given to them, and each defect must fail one.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::Args;
use pelton_sabotage::Defect;

use crate::shell;

/// A defect that is not noticed within this time is missed.
const LIMIT: Duration = Duration::from_secs(300);
/// The tests that are run: requests of one producer that arrive again, then the failure windows with whole processes.
const TESTS: [&str; 2] = ["stray", "faults"];

/// What `cargo xtask sabotage` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only this defect.
    #[arg(long)]
    only: Option<Defect>,
    /// Only tests with this in their names.
    #[arg(long)]
    test: Option<String>,
    /// A real Kafka that runs, beside the embedded broker.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Do not first see that the tests pass without a defect.
    #[arg(long)]
    no_control: bool,
}

/// What came of the tests under a defect.
enum Verdict {
    Caught(String),
    /// They all passed.
    Missed,
    OutOfTime,
}

/// Builds, and runs the tests against each defect.
pub fn run(options: &Options) -> Result<(), String> {
    let tests = built()?;
    // The next build without the feature takes the place of this binary.
    let binary = shell::target().join("sabotage/pelton");
    let copied = std::fs::create_dir_all(shell::target().join("sabotage"))
        .and_then(|()| std::fs::copy(shell::target().join("debug/pelton"), &binary));
    copied.map_err(|cause| format!("{}: {cause}", binary.display()))?;
    if !options.no_control {
        let begun = Instant::now();
        if let Verdict::Caught(by) = tried(&tests, &binary, None, options)? {
            return Err(format!("without any defect {by} fails: nothing is shown"));
        }
        println!("{:<22} passes, {:.0} s", "no defect", begun.elapsed().as_secs_f64());
    }
    let mut missed = Vec::new();
    for defect in Defect::ALL.into_iter().filter(|d| options.only.is_none_or(|only| only == *d)) {
        let begun = Instant::now();
        let verdict = tried(&tests, &binary, Some(defect), options)?;
        let seconds = begun.elapsed().as_secs_f64();
        let came = match &verdict {
            Verdict::Caught(by) => format!("caught by {by}"),
            Verdict::Missed => "MISSED: all tests passed".into(),
            Verdict::OutOfTime => "MISSED: no test failed in time".into(),
        };
        println!("{defect:<22} {came}, {seconds:.0} s");
        if !matches!(verdict, Verdict::Caught(_)) {
            missed.push(defect.name());
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", "))) }
}

/// The test programs.
fn built() -> Result<Vec<PathBuf>, String> {
    let mut cargo = shell::cargo(["build", "--workspace", "--locked", "--features", "pelton/sabotage"]);
    cargo.args(["--bin", "pelton", "--message-format", "json-render-diagnostics"]);
    cargo.args(TESTS.iter().flat_map(|test| ["--test", test]));
    let mut programs = Vec::new();
    println!("$ {}", shell::shown(&cargo));
    let mut child = cargo.stdout(Stdio::piped()).spawn().map_err(|cause| format!("cargo: {cause}"))?;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.map_err(|cause| format!("cargo's output: {cause}"))?;
        let message: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let (true, Some(program)) = (TESTS.contains(&name), message["executable"].as_str()) {
            programs.push((TESTS.iter().position(|test| *test == name), PathBuf::from(program)));
        }
    }
    let status = child.wait().map_err(|cause| format!("cargo: {cause}"))?;
    if !status.success() || programs.len() != TESTS.len() {
        return Err(format!("the build: {status}, {} of {} test programs", programs.len(), TESTS.len()));
    }
    programs.sort();
    Ok(programs.into_iter().map(|(_, program)| program).collect())
}

/// Run the tests until one fails.
fn tried(
    tests: &[PathBuf],
    binary: &Path,
    defect: Option<Defect>,
    options: &Options,
) -> Result<Verdict, String> {
    // Without a defect they may take as long as they like.
    let deadline = defect.map(|_| Instant::now() + LIMIT);
    for test in tests {
        let mut program = shell::program(test);
        program.args(&options.test).env("PELTON_TEST_BINARY", binary).env_remove("PELTON_TEST_REQUIRE_ALL");
        match &options.kafka {
            Some(kafka) => program.env("PELTON_TEST_KAFKA", kafka),
            None => program.env_remove("PELTON_TEST_KAFKA"),
        };
        if let Some(defect) = defect {
            program.env("PELTON_SABOTAGE", defect.name());
        }
        let verdict = first_failure(&mut program, deadline)?;
        if !matches!(verdict, Verdict::Missed) {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Missed)
}

/// Run one test program until a test of it fails; then end it with all processes of its own.
fn first_failure(program: &mut Command, deadline: Option<Instant>) -> Result<Verdict, String> {
    let shown = shell::shown(program);
    let failed = |cause| format!("`{shown}`: {cause}");
    // A group of its own, so that workers it has stopped do not stay behind.
    let program = program.process_group(0).stdin(Stdio::null()).stderr(Stdio::null());
    let spawned = program.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(failed)?;
    let (lines, heard) = channel();
    let reader = child.stdout.take().map(|stdout| std::thread::spawn(move || told(stdout, &lines)));
    let verdict = loop {
        let left = deadline.map_or(LIMIT, |at| at.saturating_duration_since(Instant::now()));
        match heard.recv_timeout(left) {
            Ok(line) => {
                if let Some(name) =
                    line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
                {
                    break Verdict::Caught(name.to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) if deadline.is_some() => break Verdict::OutOfTime,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Verdict::Missed,
        }
    };
    if !matches!(verdict, Verdict::Missed) {
        let group = format!("-{}", child.id());
        shell::succeeds(shell::program("kill").args(["-s", "KILL", "--", &group]));
    }
    let status = child.wait().map_err(failed)?;
    drop(reader.map(std::thread::JoinHandle::join));
    match verdict {
        Verdict::Missed if !status.success() => Ok(Verdict::Caught(format!("its end: {status}"))),
        verdict => Ok(verdict),
    }
}

fn told(output: impl Read, lines: &std::sync::mpsc::Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}
