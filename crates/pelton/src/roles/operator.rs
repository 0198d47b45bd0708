//! `pelton operator`

use super::Endpoints;
use crate::{
    cli::{Format, OperatorArgs, OperatorCommand},
    client, components,
    exit::{Exit, Failure},
    host, output,
    settings::{Node, start_telemetry},
    signals,
};
use pelton_config::settings::OperatorSettings;
use pelton_kubernetes::{
    crd,
    operator::{self, End, Options},
    workers::Bounds,
};
use pelton_telemetry::{Health, MetricError, Metrics, Router};
use prometheus::IntGauge;
use std::path::Path;

/// `pelton operator`
pub async fn operator(node: &Node, args: OperatorArgs) -> Result<(), Failure> {
    if let Some(OperatorCommand::Crd) = args.command {
        let registry = components::for_checks(Path::new("."), None)?;
        return output::value(&crd::definition(&pelton_config::schema(&registry)), Format::Yaml);
    }
    let count = |number: Option<u32>| number.map(|n| n.to_string());
    let settings = node.load(&[
        ("operator.coordinator", args.coordinator),
        ("operator.http", args.http),
        ("operator.namespace", args.namespace),
        ("operator.workers", args.workers),
        ("operator.minWorkers", count(args.min_workers)),
        ("operator.maxWorkers", count(args.max_workers)),
        ("operator.tasksPerWorker", count(args.tasks_per_worker)),
        ("operator.scaleInAfter", args.scale_in_after),
    ])?;
    let own = &settings.operator;
    let telemetry = start_telemetry(&settings, "operator")?;
    let shutdown = signals::shutdown()?;
    let endpoint = client::endpoint(&own.coordinator)?;
    let client = operator::connect().await.map_err(Failure::unavailable)?;
    let metrics = Metrics::new("operator");
    let leads = leads(&metrics).map_err(|e| Failure::unexpected(e.to_string()))?;
    // One that waits for its turn is as ready as can be.
    let health = Health::new();
    let endpoints = Endpoints::serve(&own.http, &metrics, &health, Router::new(), shutdown.clone()).await?;
    let options = options(own, operator::home(&client));
    let leading = move |is: bool| leads.set(i64::from(is));
    let end = operator::run(client, endpoint.connect_lazy(), options, leading, shutdown).await;
    endpoints.abort();
    telemetry.shutdown().await;
    match end {
        End::Asked => Ok(()),
        End::LeaseLost => Err(Failure::new(Exit::Fenced, "another operator works by now")),
    }
}

/// What an operator shows.
pub fn leads(metrics: &Metrics) -> Result<IntGauge, MetricError> {
    metrics.gauge("pelton_operator_leads", "1 while this operator is the one that works.")
}

fn options(own: &OperatorSettings, home: String) -> Options {
    let namespace = match own.namespace.as_deref() {
        None => Some(home.clone()),
        Some("*") => None,
        Some(other) => Some(other.to_owned()),
    };
    let bounds = Bounds {
        min: own.min_workers,
        max: own.max_workers,
        tasks_each: own.tasks_per_worker,
        patience: own.scale_in_after,
    };
    Options {
        namespace,
        home,
        lease: own.lease.clone(),
        identity: format!("{}-{}", host::name_or("operator"), uuid::Uuid::new_v4()),
        workers: own.workers.clone().map(|name| (name, bounds)),
    }
}
