//! `pelton run`: pipelines in this process, without a coordinator.

use crate::{
    cli::{Format, RunArgs},
    components::{Surroundings, registry},
    dev::Totals,
    exit::{Exit, Failure},
    idle::IdleTimer,
    output,
    roles::{Endpoints, worker::host_options},
    settings::{Node, start_telemetry},
    signals,
    verbs::validate,
};
use pelton_runtime::{TaskSnapshot, TaskState};
use pelton_sdk::BuildContext;
use pelton_telemetry::{Health, Metrics, Router};
use pelton_types::{Account, PipelineName};
use pelton_worker::{
    Host, HostOptions, Worker,
    local::{Local, LocalError},
    usage::CpuMeter,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Time between two looks.
const TICK: Duration = Duration::from_millis(100);
/// Beyond the drain timeout tasks release without a further commit; this is for that.
const DRAIN_SLACK: Duration = Duration::from_secs(5);

/// `pelton run`
pub async fn run(node: &Node, args: RunArgs) -> Result<(), Failure> {
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
    let settings = node.load(&[
        ("worker.kafka", args.kafka.clone()),
        ("worker.executors", args.executors.map(|n| n.to_string())),
        ("worker.dataDir", path(&args.data_dir)),
        ("worker.modelsDir", path(&args.models)),
    ])?;
    let telemetry = start_telemetry(&settings, "run")?;
    let definitions =
        validate::read(&args.file, args.models.as_deref(), Some(settings.connections("worker.kafka")))?;
    let shutdown = signals::shutdown()?;
    let (started, cpu) = (Instant::now(), CpuMeter::of_process());
    let metrics = Metrics::new("run");
    let health = Health::new();
    let own = &settings.worker;
    let models = args.models.clone().unwrap_or_else(|| definitions.folder.clone());
    let around = Surroundings {
        connections: settings.connections("worker.kafka"),
        client_id: "pelton-run",
        base_dir: &definitions.folder,
        data_dir: &own.data_dir,
    };
    let registry = registry(&around)?;
    let (events, received) = Worker::event_channel();
    let base = host_options(own, &metrics, events)?;
    let host = Host::threads(&HostOptions { registry: registry.clone(), models: models.clone(), ..base })?;
    let endpoints = match &args.http {
        Some(address) => {
            Some(Endpoints::serve(address, &metrics, &health, Router::new(), shutdown.clone()).await?)
        }
        None => None,
    };
    let mut local = Local::new(host, received);
    let context = BuildContext::detached(models);
    for document in &definitions.documents {
        local.start(document, &registry, &context).await.map_err(refused)?;
    }
    attend(&mut local, args.until_idle, own.drain_timeout, &shutdown).await;
    let (failures, taken) = (local.failures(), local.stepped_down());
    let feeds: Vec<PipelineName> = definitions
        .documents
        .iter()
        .filter(|d| d.kind == pelton_config::Kind::Feed)
        .map(pelton_config::Document::name)
        .collect();
    let totals = totals(&local.snapshots(), &feeds, started.elapsed(), cpu.seconds());
    local.stop();
    if let Some(endpoints) = endpoints {
        endpoints.abort();
    }
    telemetry.shutdown().await;
    match args.output {
        Format::Json => output::print(&totals.to_json().to_string()),
        Format::Yaml => output::value(&totals.to_json(), Format::Yaml)?,
        Format::Table | Format::Wide => eprintln!("{}", totals.to_text()),
    }
    if let Some((task, incident)) = failures.first() {
        return Err(Failure::new(Exit::Invariant, format!("task {task} stopped: {incident}")));
    }
    if let Some(task) = taken.first() {
        let why = format!("task {task} belongs to a run that was started later; this one stepped down");
        return Err(Failure::new(Exit::Fenced, why));
    }
    totals.verdict()
}

/// Until the pipelines have ended, failed or been idle for long enough, or somebody asks for an end; then finish.
async fn attend(
    local: &mut Local,
    until_idle: Option<Duration>,
    drain_timeout: Duration,
    shutdown: &tokio::sync::watch::Receiver<bool>,
) {
    let mut idle = until_idle.map(IdleTimer::new);
    loop {
        local.attend(TICK).await;
        let done = local.ended() || !local.failures().is_empty() || *shutdown.borrow();
        if done || idle.as_mut().is_some_and(|timer| is_idle(timer, &local.snapshots())) {
            break;
        }
    }
    local.drain(drain_timeout);
    let deadline = Instant::now() + drain_timeout + DRAIN_SLACK;
    while !local.ended() && Instant::now() < deadline {
        local.attend(TICK).await;
    }
}

fn refused(e: LocalError) -> Failure {
    match e {
        LocalError::Unavailable(message) => Failure::unavailable(message),
        LocalError::Refused(message) => Failure::bad(message),
        LocalError::NotPermitted(message) => Failure::new(Exit::NotPermitted, message),
    }
}

/// Look at the tasks; true once they have been idle long enough.
fn is_idle(timer: &mut IdleTimer, tasks: &[TaskSnapshot]) -> bool {
    let counts = tasks.iter().map(|t| t.account.records_in).collect();
    timer.observe(counts, tasks.iter().all(TaskSnapshot::drained), tokio::time::Instant::now())
}

fn totals(tasks: &[TaskSnapshot], feeds: &[PipelineName], elapsed: Duration, cpu_seconds: f64) -> Totals {
    let mut totals = Totals { elapsed, cpu_seconds, ..Totals::default() };
    let mut by_pipeline: BTreeMap<String, Account> = BTreeMap::new();
    for task in tasks {
        *by_pipeline.entry(task.task.pipeline.to_string()).or_default() += task.account;
        if !feeds.contains(&task.task.pipeline) {
            totals.account += task.account;
            totals.pending += if task.state == TaskState::Completed { 0 } else { task.pending };
        }
    }
    totals.pipelines = by_pipeline.into_iter().collect();
    totals
}
