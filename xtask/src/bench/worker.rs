//! `cargo xtask bench worker`: what a worker takes: time to its first record, memory and CPU while idle, memory under a
//! backlog, and what it costs to be scraped. Each figure beside its bar; nothing fails by it.

mod cluster;
pub mod process;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::{image, shell};
use cluster::Cluster;
use process::Usage;

/// Idleness is watched for so long: a hundredth of a percent is two ticks of the system's clock.
const IDLE: Duration = Duration::from_secs(20);
/// After the start or a change, until what it caused is over.
const SETTLE: Duration = Duration::from_secs(5);
/// For anything that should come: far more than it takes.
const LIMIT: Duration = Duration::from_secs(300);
/// Memory of the container that drains a backlog.
const MEMORY: &str = "128m";
/// A share of that, where there is no container: what a worker takes of a container's limit.
const BUDGET: &str = "76MiB";

/// What `cargo xtask bench worker` may be told.
#[derive(Args, Clone, Debug)]
pub struct Worker {
    /// Parts to measure, by commas; all unless given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Times a start is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Records of the backlog, 200 bytes each.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Take `pelton` from this folder instead of building it.
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// Image for what is measured in containers; it is built unless given. Without an engine they are left out.
    #[arg(long)]
    image: Option<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// From the start of a process, and of a container, to the first record out.
    Start,
    /// Memory and CPU time without anything to do.
    Idle,
    /// Most memory while a backlog is drained within 128 MB.
    Backlog,
    /// CPU time of a copy that is scraped each second, beside one that is not.
    Metrics,
}

/// Measures.
pub fn run(options: &Worker) -> Result<(), String> {
    let built = match &options.built {
        Some(folder) => {
            std::path::absolute(folder).map_err(|cause| format!("{}: {cause}", folder.display()))?
        }
        None => {
            shell::run(&mut shell::cargo([
                "build",
                "--locked",
                "--workspace",
                "--release",
                "--bin",
                "pelton",
            ]))?;
            shell::target().join("release")
        }
    };
    let image = match (&options.image, image::engine_missing()) {
        (Some(tag), None) => Some(tag.clone()),
        (None, None) => {
            let fresh = image::Options::release("localhost/pelton:bench");
            println!("{}", image::build(&fresh)?);
            Some(fresh.tag().to_owned())
        }
        (_, Some(why)) => {
            println!("without containers: {why}");
            None
        }
    };
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    let cluster = Cluster::start(&built.join("pelton"))?;
    if wants(Part::Start) {
        start(&cluster, image.as_deref(), options.rounds)?;
    }
    if wants(Part::Idle) {
        idle(&cluster)?;
    }
    if wants(Part::Backlog) {
        backlog(&cluster, image.as_deref(), options.records)?;
    }
    if wants(Part::Metrics) {
        metrics(&cluster, options.rounds)?;
    }
    Ok(())
}

fn line(what: &str, figure: &str, bar: &str) {
    println!("{what:<58} {figure:>14}   bar {bar}");
}

/// The first record's way: worker process or container, attach, grant, consume, out on standard output.
fn start(cluster: &Cluster, image: Option<&str>, rounds: usize) -> Result<(), String> {
    cluster.fill("start-in", 1_000, 200)?;
    let measure = |name: &str, command: &dyn Fn() -> Command| {
        let mut times = Vec::new();
        for round in 0..rounds {
            // Each pipeline has positions of its own, so each reads from the beginning.
            let pipeline = cluster.apply(&format!("{name}-{round}"), "start-in", "stdout: {}", "")?;
            let begun = Instant::now();
            let mut worker = process::Piped::start(command())?;
            worker.until_line(LIMIT, |line| line.contains("\"id\":"))?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            worker.end();
            cluster.delete(&pipeline)?;
        }
        times.sort_by(f64::total_cmp);
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        Ok::<_, String>(format!("{median:.0}, {worst:.0} ms"))
    };
    let figure = measure("process", &|| cluster.worker("start"))?;
    line("worker process start -> first record out, median, worst", &figure, "500 ms");
    if let Some(image) = image {
        let figure = measure("container", &|| cluster.container(image, &["--rm"]))?;
        line("container start -> first record out, median, worst", &figure, "1000 ms");
    }
    Ok(())
}

fn idle(cluster: &Cluster) -> Result<(), String> {
    let worker = process::Silent::start(cluster.worker("idle"))?;
    std::thread::sleep(SETTLE);
    rest("idle worker without tasks", worker.pid())?;
    cluster.fill("idle-in", 1_000, 200)?;
    let pipeline = cluster.apply("idle", "idle-in", "kafka: { topic: idle-out }", ".id >= 0")?;
    cluster.until_lag(&pipeline, LIMIT, |lag| lag == Some(0))?;
    std::thread::sleep(SETTLE);
    rest("idle worker with 4 tasks between topics", worker.pid())?;
    cluster.delete(&pipeline)
}

fn rest(what: &str, pid: u32) -> Result<(), String> {
    let before = Usage::of(pid)?;
    std::thread::sleep(IDLE);
    let after = Usage::of(pid)?;
    let own = format!("{:.1} MB", after.resident_mb);
    line(&format!("{what}: resident"), &own, "30 MB");
    line("  of that its own, not the file's", &format!("{:.1} MB", after.anonymous_mb), "none");
    let share = (after.cpu_seconds - before.cpu_seconds) / IDLE.as_secs_f64() * 100.0;
    line("  CPU", &format!("{share:.2} %"), "0.5 %");
    Ok(())
}

fn backlog(cluster: &Cluster, image: Option<&str>, records: u64) -> Result<(), String> {
    println!("filling a topic with {records} records of 200 bytes ...");
    cluster.fill("backlog-in", records, 200)?;
    let pipeline = cluster.apply("backlog", "backlog-in", "kafka: { topic: backlog-out }", ".id >= 0")?;
    let what = format!("peak of a worker of 128 MB that drains {records} records");
    if let Some(image) = image {
        let container = process::Container::start(
            cluster.container(image, &["--detach", "--memory", MEMORY, "--memory-swap", MEMORY]),
        )?;
        let mut peak = 0;
        let drained = cluster.until_lag(&pipeline, LIMIT, |lag| {
            peak = peak.max(container.peak_bytes().unwrap_or_default());
            lag == Some(0) || !container.runs()
        });
        if !container.runs() {
            return Err(format!("the worker ended before the backlog did: {}", container.end()));
        }
        drained?;
        line(&what, &format!("{:.1} MB", peak as f64 / 1e6), "134.2 MB, no OOM kill");
    } else {
        let mut command = cluster.worker("backlog");
        command.env("PELTON__WORKER__MEMORYBUDGET", BUDGET);
        let worker = process::Silent::start(command)?;
        cluster.until_lag(&pipeline, LIMIT, |lag| lag == Some(0))?;
        let peak = format!("{:.1} MB", Usage::of(worker.pid())?.peak_mb);
        line(&format!("{what} (process)"), &peak, "134.2 MB");
    }
    cluster.delete(&pipeline)
}

/// The same copy with and without somebody who asks for the metrics each second, in turns.
fn metrics(cluster: &Cluster, rounds: usize) -> Result<(), String> {
    const RECORDS: u64 = 2_000_000;
    cluster.fill("metrics-in", RECORDS, 200)?;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let plain = cluster.copy(&format!("plain-{round}"), "metrics-in", RECORDS, false)?;
        let scraped = cluster.copy(&format!("scraped-{round}"), "metrics-in", RECORDS, true)?;
        ratios.push((scraped / plain - 1.0) * 100.0);
    }
    ratios.sort_by(f64::total_cmp);
    line(
        "CPU time of a copy scraped each second, median",
        &format!("{:+.1} %", ratios[ratios.len() / 2]),
        "1 %",
    );
    Ok(())
}
