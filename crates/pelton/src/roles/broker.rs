//! `pelton broker`

use super::{Endpoints, cannot_listen};
use crate::{
    cli::BrokerArgs,
    exit::{Exit, Failure},
    lifeline,
    settings::{Node, start_telemetry},
    signals,
};
use pelton_broker::server::{Options, ServeError, serve};
use pelton_telemetry::{Health, Metrics, Router};
use serde_json::json;

/// `pelton broker`
pub async fn broker(node: &Node, args: BrokerArgs) -> Result<(), Failure> {
    let path = |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.display().to_string());
    let settings = node.load(&[
        ("broker.listen", args.listen.clone()),
        ("broker.http", args.http.clone()),
        ("broker.dataDir", path(&args.data_dir)),
    ])?;
    let telemetry = start_telemetry(&settings, "broker")?;
    if args.child.lifeline {
        lifeline::hold();
    }
    let shutdown = signals::shutdown()?;
    let metrics = Metrics::new("broker");
    let health = Health::new();
    let ready = health.readiness.check("log", "recovering");
    let mut options = Options::new(settings.broker.listen.clone(), settings.broker.data_dir.clone());
    options.advertised = args.advertised.clone();
    options.default_partitions = args.partitions.max(1);
    options.fsync = args.fsync.parse().map_err(|e: String| Failure::new(Exit::Usage, e))?;
    let running = serve(options).map_err(refused)?;
    ready.ready();
    export(&running, &metrics)?;
    let endpoints =
        Endpoints::serve(&settings.broker.http, &metrics, &health, Router::new(), shutdown.clone()).await?;
    if args.child.announce {
        lifeline::announce(&json!({ "bootstrap": running.bootstrap(), "http": endpoints.address }));
    }
    signals::requested(shutdown).await;
    tracing::info!("stopping");
    running.stop()?;
    endpoints.abort();
    telemetry.shutdown().await;
    Ok(())
}

/// Why it did not start.
fn refused(e: ServeError) -> Failure {
    match e {
        ServeError::Listen { listen, error } => cannot_listen("the queue", &listen, &error),
        ServeError::Advertised(_) => Failure::bad(e.to_string()),
        ServeError::Store { .. } | ServeError::Thread(_) => Failure::unavailable(e.to_string()),
    }
}

/// The broker's counters as metrics.
fn export(running: &pelton_broker::server::Running, metrics: &Metrics) -> Result<(), Failure> {
    let counters = running.counters();
    let gauge =
        |name: &str, help: &str| metrics.gauge(name, help).map_err(|e| Failure::unexpected(e.to_string()));
    let connections = gauge("pelton_broker_connections", "Open connections of clients.")?;
    let produced = gauge("pelton_broker_produced_records", "Records stored since the start.")?;
    let bytes = gauge("pelton_broker_produced_bytes", "Bytes of record batches stored since the start.")?;
    let fetched = gauge("pelton_broker_fetched_bytes", "Bytes of record batches sent since the start.")?;
    metrics.before_scrape(move || {
        let now = counters.snapshot();
        let set =
            |gauge: &prometheus::IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&connections, now.connections_opened.saturating_sub(now.connections_closed));
        set(&produced, now.produced_records);
        set(&bytes, now.produced_bytes);
        set(&fetched, now.fetched_bytes);
    });
    Ok(())
}
