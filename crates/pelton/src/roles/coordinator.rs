//! `pelton coordinator`

use super::{Endpoints, bind, containers::Containers};
use crate::{
    cli::CoordinatorArgs,
    components::{Connections, Surroundings, registry},
    exit::{Exit, Failure},
    fleet::Workers,
    lifeline,
    settings::{Node, start_telemetry},
    signals,
};
use pelton_config::settings::{CoordinatorSettings, Driver};
use pelton_console::View;
use pelton_coordinator::{
    Coordinator, CoordinatorError, FileStore, Fleet, Options,
    core::{Snapshot, incident, over},
    metrics,
};
use pelton_sdk::BuildContext;
use pelton_telemetry::{Health, Metrics, Router, discovery};
use pelton_types::Code;
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

/// File of the metadata within the data directory.
const STORE: &str = "metadata.redb";
/// The setting that says where the default connection leads.
const KAFKA: &str = "coordinator.kafka";
/// Time between two looks at the workers of the driver `process`.
const FLEET_TICK: Duration = Duration::from_millis(250);
/// For workers of the driver `process` to finish.
const FLEET_DRAIN: Duration = Duration::from_secs(35);

/// `pelton coordinator`
pub async fn coordinator(node: &Node, args: CoordinatorArgs) -> Result<(), Failure> {
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
    let settings = node.load(&[
        ("coordinator.grpc", args.grpc.clone()),
        ("coordinator.http", args.http.clone()),
        ("coordinator.dataDir", path(&args.data_dir)),
        ("coordinator.kafka", args.kafka.clone()),
        ("coordinator.modelsDir", path(&args.models)),
        ("coordinator.lease", args.lease.clone()),
        ("coordinator.allowWeakDurability", args.allow_weak_durability.then(|| "true".to_owned())),
        ("coordinator.driver", args.driver.clone()),
        ("coordinator.workers", args.workers.map(|n| n.to_string())),
    ])?;
    let own = &settings.coordinator;
    let telemetry = start_telemetry(&settings, "coordinator")?;
    if args.child.lifeline {
        lifeline::hold();
    }
    let shutdown = signals::shutdown()?;
    let listener = bind("gRPC", &own.grpc).await?;
    let grpc = listener.local_addr()?.to_string();
    let process_metrics = Metrics::new("coordinator");
    let health = Health::new();
    let ready = health.readiness.check("lead", "taking the lead");
    let containers = match own.driver {
        Driver::Docker => {
            let own_kafka = !settings.has_default_connection(KAFKA);
            Some(Containers::connect(own, &grpc, own_kafka, args.child.lifeline).await?)
        }
        Driver::Static | Driver::Process => None,
    };
    let fleet = containers.as_ref().map(|containers| containers.number.clone() as Arc<dyn Fleet>);
    let coordinator = lead(own, settings.connections(KAFKA), &args, &grpc, fleet).await?;
    metrics::register(coordinator.handle(), &process_metrics)
        .map_err(|e| Failure::unexpected(e.to_string()))?;
    ready.ready();
    let console = console(&coordinator, own)?;
    // The console comes last: what no path has is answered as it says.
    let routes = targets(&coordinator, own.lease).merge(console);
    let endpoints = Endpoints::serve(&own.http, &process_metrics, &health, routes, shutdown.clone()).await?;
    tracing::info!(grpc, http = endpoints.address, "coordinator is ready");
    if args.child.announce {
        lifeline::announce(&json!({ "grpc": grpc, "http": endpoints.address }));
    }
    let fleet = match own.driver {
        Driver::Static | Driver::Docker => None,
        Driver::Process => Some({
            let mut arguments = node.file_arguments();
            if !settings.has_default_connection(KAFKA) {
                arguments.extend(["--kafka".to_owned(), own.kafka.clone()]);
            }
            tokio::spawn(keep_workers(own.clone(), grpc.clone(), arguments, shutdown.clone()))
        }),
    };
    if let Some(containers) = containers {
        tokio::spawn(containers.keep(signals::requested(shutdown.clone())));
    }
    let incoming = TcpListenerStream::new(listener);
    let served = if let Some(fleet) = fleet {
        // Workers hand back their tasks while somebody is there to take them.
        let done = async move {
            if let Ok(Err(failure)) = fleet.await {
                tracing::error!("{failure}");
            }
        };
        coordinator.serve(incoming, done).await
    } else {
        coordinator.serve(incoming, signals::requested(shutdown)).await
    };
    endpoints.abort();
    telemetry.shutdown().await;
    served.map_err(failure)
}

/// The workers, for Prometheus. A coordinator that started less than a lease ago has not heard of all of them.
fn targets(coordinator: &Coordinator, lease: Duration) -> Router {
    let (handle, started) = (coordinator.handle(), Instant::now());
    discovery::router(move || {
        (started.elapsed() >= lease).then(|| pelton_coordinator::discovery::targets(&handle.snapshot()))
    })
}

/// The web console on what this coordinator knows.
fn console(coordinator: &Coordinator, own: &CoordinatorSettings) -> Result<Router, Failure> {
    let handle = coordinator.handle();
    // One view for all pages that are open, until there is news.
    let last: Mutex<Option<(Arc<Snapshot>, Arc<View>)>> = Mutex::default();
    let look = move || {
        let now = handle.snapshot();
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = last.as_ref().filter(|(of, _)| Arc::ptr_eq(of, &now)) {
            return known.clone();
        }
        let made = Arc::new(view(&now));
        *last = Some((now, made.clone()));
        made
    };
    let options = pelton_console::Options::new(&own.path_prefix, &own.console_hosts)
        .map_err(|why| Failure::bad(format!("coordinator.pathPrefix: {why}")))?;
    Ok(pelton_console::router(coordinator.admin(), Arc::new(look), &options))
}

fn view(now: &Snapshot) -> View {
    let resolved = now.resolved.iter().map(|(r, at)| over(r, *at));
    View {
        term: now.term,
        pipelines: now.pipelines.clone(),
        workers: now.workers.clone(),
        incidents: now.incidents.iter().map(incident).chain(resolved).collect(),
        moves: now.moves.clone(),
    }
}

async fn lead(
    own: &CoordinatorSettings,
    connections: Connections,
    args: &CoordinatorArgs,
    grpc: &str,
    fleet: Option<Arc<dyn Fleet>>,
) -> Result<Coordinator, Failure> {
    std::fs::create_dir_all(&own.data_dir).map_err(|e| {
        Failure::bad(format!("cannot create the data directory {}: {e}", own.data_dir.display()))
    })?;
    let file = own.data_dir.join(STORE);
    let store = FileStore::open(&file).map_err(|e| {
        Failure::unavailable(format!("[{}] cannot open the store {}: {e}", Code::StoreFailed, file.display()))
    })?;
    let base_dir = args.child.base_dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let around = Surroundings {
        connections,
        client_id: "pelton-coordinator",
        base_dir: &base_dir,
        data_dir: &own.data_dir,
    };
    let mut options = Options {
        create_topics: args.create_topics.is_some(),
        allow_weak_durability: own.allow_weak_durability,
        default_partitions: args.create_topics.unwrap_or(8).max(1),
        holder: grpc.to_owned(),
        fleet,
        ..Options::default()
    };
    options.settings.lease = own.lease;
    let context = BuildContext::detached(own.models_dir.clone());
    Coordinator::new(options, registry(&around)?, context, Arc::new(store)).await.map_err(failure)
}

/// The driver `process`: this coordinator's own workers.
async fn keep_workers(
    own: CoordinatorSettings,
    grpc: String,
    more: Vec<String>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let path = |p: PathBuf| p.display().to_string();
    let arguments = [
        "worker".to_owned(),
        "--coordinator".into(),
        format!("http://{grpc}"),
        "--http".into(),
        "127.0.0.1:0".into(),
        "--models".into(),
        path(own.models_dir.clone()),
        "--data-dir".into(),
        path(own.data_dir.join("worker")),
    ];
    let arguments = arguments.into_iter().chain(more).collect();
    let mut workers = Workers::new(own.workers.max(1), own.data_dir.join("logs"), arguments);
    while !*shutdown.borrow() {
        for line in workers.keep().await? {
            tracing::warn!("{line}");
        }
        tokio::time::sleep(FLEET_TICK).await;
    }
    for name in workers.stop(FLEET_DRAIN).await {
        tracing::warn!(worker = name, "did not finish in time and was killed");
    }
    Ok(())
}

fn failure(e: CoordinatorError) -> Failure {
    let exit = match &e {
        CoordinatorError::Fenced(_) => Exit::Fenced,
        CoordinatorError::Store(_) => Exit::Unavailable,
        CoordinatorError::Server(_) => Exit::Unexpected,
    };
    Failure::new(exit, e.to_string())
}
