//! `pelton worker`

use super::Endpoints;
use crate::{
    cli::WorkerArgs,
    client,
    components::{Surroundings, registry},
    exit::Failure,
    host, lifeline, memory,
    settings::{Node, start_telemetry},
    signals,
};
use pelton_config::settings::WorkerSettings;
use pelton_runtime::Metrics as TaskMetrics;
use pelton_sdk::{Background, BuildContext};
use pelton_telemetry::{Health, Metrics, Router};
use pelton_worker::{Dial, Host, HostOptions, Worker, WorkerOptions};
use serde_json::json;
use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Instant};
use tokio::sync::watch;

/// Share of the memory budget that clients' queues may hold; the rest is for batches in flight and everything else.
const QUEUE_SHARE: u64 = 4;
/// Budget where neither a setting nor a container limits memory, bytes.
const DEFAULT_BUDGET: u64 = 512 << 20;
/// Most of a container's limit that the budget takes, in hundredths.
const LIMIT_SHARE: u64 = 60;

/// `pelton worker`
pub async fn worker(node: &Node, args: WorkerArgs) -> Result<(), Failure> {
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
    let settings = node.load(&[
        ("worker.coordinator", args.coordinator.clone()),
        ("worker.id", args.id.clone()),
        ("worker.http", args.http.clone()),
        ("worker.kafka", args.kafka.clone()),
        ("worker.executors", args.executors.map(|n| n.to_string())),
        ("worker.dataDir", path(&args.data_dir)),
        ("worker.modelsDir", path(&args.models)),
        ("worker.drainTimeout", args.drain_timeout.clone()),
    ])?;
    let own = &settings.worker;
    let id = own.id.clone().unwrap_or_else(host_name);
    let telemetry = start_telemetry(&settings, &id)?;
    if args.child.lifeline {
        lifeline::hold();
    }
    let shutdown = signals::shutdown()?;
    let metrics = Metrics::new("worker");
    let health = Health::new();
    let base_dir = args.child.base_dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let around = Surroundings {
        connections: settings.connections("worker.kafka"),
        client_id: &id,
        base_dir: &base_dir,
        data_dir: &own.data_dir,
    };
    let registry = registry(&around)?;
    let (events, received) = Worker::event_channel();
    let host =
        Host::threads(&HostOptions { registry: registry.clone(), ..host_options(own, &metrics, events)? })?;
    // HTTP stays up while the worker drains, and ends with `abort`: nothing is ever sent here.
    let (_serving, never) = watch::channel(false);
    let endpoints = Endpoints::serve(&own.http, &metrics, &health, Router::new(), never).await?;
    let options = WorkerOptions {
        id: id.clone(),
        incarnation: uuid::Uuid::new_v4().to_string(),
        capacity: args.capacity,
        labels: HashMap::new(),
        http: endpoints.address.clone(),
        drain_timeout: own.drain_timeout,
        attached: attachment(&health),
        logs: telemetry.recent().clone(),
    };
    if args.child.announce {
        lifeline::announce(&json!({ "worker": id, "http": endpoints.address }));
    }
    let context = BuildContext::detached(own.models_dir.clone());
    let worker = Worker::new(options, registry, context, host, received, dial(&own.coordinator)?);
    worker.run(shutdown).await;
    tracing::info!(worker = %id, "ended");
    endpoints.abort();
    telemetry.shutdown().await;
    Ok(())
}

/// What executors are made from, but for the components.
pub fn host_options(
    settings: &WorkerSettings,
    metrics: &Metrics,
    events: pelton_runtime::EventSink,
) -> Result<HostOptions, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(HostOptions {
        executors: settings.executors.unwrap_or(cores),
        registry: Default::default(),
        models: settings.models_dir.clone(),
        queue_bytes: usize::try_from(budget(settings.memory_budget) / QUEUE_SHARE).unwrap_or(usize::MAX),
        metrics: TaskMetrics::register(metrics).map_err(|e| Failure::unexpected(e.to_string()))?,
        events,
        origin: Instant::now(),
        background: background(),
    })
}

/// Operators' calls run on the process's own runtime, beside the executors.
fn background() -> Background {
    let runtime = tokio::runtime::Handle::current();
    Background::new(move |work| drop(runtime.spawn(work)))
}

/// The memory budget: as set, or from the container's limit.
fn budget(set: Option<u64>) -> u64 {
    let limit = || memory::container_limit().map(|limit| limit / 100 * LIMIT_SHARE);
    set.or_else(limit).unwrap_or(DEFAULT_BUDGET)
}

fn dial(address: &str) -> Result<Dial, Failure> {
    let endpoint = client::endpoint(address)?;
    Ok(Arc::new(move || {
        let endpoint = endpoint.clone();
        Box::pin(async move { endpoint.connect().await })
    }))
}

/// Readiness follows the attachment.
fn attachment(health: &Health) -> watch::Sender<bool> {
    let check = health.readiness.check("coordinator", "not attached yet");
    let (sender, mut receiver) = watch::channel(false);
    tokio::spawn(async move {
        while receiver.changed().await.is_ok() {
            if *receiver.borrow_and_update() {
                check.ready();
            } else {
                check.not_ready("not attached; tasks go on");
            }
        }
    });
    sender
}

/// The host's name, which Kubernetes makes the pod's; with the process id, so that two on one host differ.
fn host_name() -> String {
    format!("{}-{}", host::name_or("worker"), std::process::id())
}
