//! `pelton broker`

use super::{Endpoints, cannot_listen};
use crate::{
    cli::BrokerArgs,
    exit::{Exit, Failure},
    lifeline,
    settings::{Node, start_telemetry},
    signals,
};
use pelton_broker::server::{FirstUser, Listener, Options, Password, ServeError, TlsFiles, serve};
use pelton_config::settings::BrokerSettings;
use pelton_telemetry::{Health, MetricError, Metrics, Router};
use prometheus::IntGauge;
use serde_json::json;

/// `pelton broker`
pub async fn broker(node: &Node, args: BrokerArgs) -> Result<(), Failure> {
    let path = |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.display().to_string());
    let settings = node.load(&[
        ("broker.listen", args.listen.clone()),
        ("broker.http", args.http.clone()),
        ("broker.dataDir", path(&args.data_dir)),
        ("broker.advertised", args.advertised.clone()),
        ("broker.allowUnsecured", args.allow_unsecured.then(|| "true".to_owned())),
        ("broker.firstUser", args.first_user.clone()),
        ("broker.sasl.mechanisms", args.sasl_mechanisms.clone()),
        ("broker.sasl.sessionLifetime", args.session_lifetime.clone()),
        ("broker.tls.certificate", path(&args.tls_certificate)),
        ("broker.tls.key", path(&args.tls_key)),
        ("broker.tls.clientCa", path(&args.tls_client_ca)),
    ])?;
    let telemetry = start_telemetry(&settings, "broker")?;
    if args.child.lifeline {
        lifeline::hold();
    }
    let shutdown = signals::shutdown()?;
    let metrics = Metrics::new("broker");
    let health = Health::new();
    let ready = health.readiness.check("log", "recovering");
    let mut options = options(&settings.broker)?;
    options.default_partitions = args.partitions.max(1);
    options.fsync = args.fsync.parse().map_err(|e: String| Failure::new(Exit::Usage, e))?;
    let running = serve(options).map_err(refused)?;
    ready.ready();
    export(&running, &metrics)?;
    let endpoints =
        Endpoints::serve(&settings.broker.http, &metrics, &health, Router::new(), shutdown.clone()).await?;
    if args.child.announce {
        let named = running.bootstraps().into_iter().map(|(protocol, at)| (protocol.to_string(), json!(at)));
        let listeners: serde_json::Map<_, _> = named.collect();
        let bootstrap = running.bootstrap();
        lifeline::announce(
            &json!({ "bootstrap": bootstrap, "listeners": listeners, "http": endpoints.address }),
        );
    }
    signals::requested(shutdown).await;
    tracing::info!("stopping");
    running.stop()?;
    endpoints.abort();
    telemetry.shutdown().await;
    Ok(())
}

/// What the settings say about listeners and logins.
fn options(settings: &BrokerSettings) -> Result<Options, Failure> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let tls = match (&settings.tls_certificate, &settings.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: settings.tls_client_ca.clone(),
        }),
        (None, None) if settings.tls_client_ca.is_none() => None,
        _ => {
            return Err(usage(
                "TLS needs both a certificate and its key (--tls-certificate, --tls-key)".into(),
            ));
        }
    };
    let listeners = Listener::parse(&settings.listen, settings.advertised.as_deref(), tls.as_ref());
    let mechanisms: Result<Vec<_>, _> =
        settings.sasl_mechanisms.split(',').map(|name| name.trim().parse()).collect();
    Ok(Options {
        listeners: listeners.map_err(usage)?,
        allow_unsecured: settings.allow_unsecured,
        mechanisms: mechanisms.map_err(usage)?,
        session_lifetime: settings.session_lifetime,
        first_user: settings.first_user.as_deref().map(first_user).transpose()?,
        ..Options::new(settings.listen.clone(), settings.data_dir.clone())
    })
}

/// The user of `NAME=env:VARIABLE` or `NAME=file:PATH`. Passwords come by reference only: command lines and settings are
/// shown to many.
fn first_user(text: &str) -> Result<FirstUser, Failure> {
    // The text may be a password that somebody put in the wrong place.
    let shape =
        || Failure::new(Exit::Usage, "the first user is NAME=env:VARIABLE or NAME=file:PATH, not a password");
    let (name, place) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(shape)?;
    let password = match place.split_once(':') {
        Some(("env", variable)) => std::env::var(variable).map_err(|_| {
            Failure::bad(format!("the password of {name}: the environment variable {variable} is not set"))
        })?,
        Some(("file", path)) => std::fs::read_to_string(path)
            .map_err(|e| Failure::bad(format!("the password of {name}: cannot read {path}: {e}")))?,
        _ => return Err(shape()),
    };
    let password = password.strip_suffix('\n').unwrap_or(&password);
    Ok(FirstUser { name: name.to_owned(), password: Password::new(password.trim_end_matches('\r')) })
}

/// Why it did not start.
fn refused(e: ServeError) -> Failure {
    match e {
        ServeError::Listen { listen, error } => cannot_listen("the queue", &listen, &error),
        ServeError::Advertised(_)
        | ServeError::NoListener
        | ServeError::Unsecured(_)
        | ServeError::NoCertificate(_)
        | ServeError::Tls(_)
        | ServeError::FirstUser(_) => Failure::bad(e.to_string()),
        ServeError::Store { .. } | ServeError::Thread(_) => Failure::unavailable(e.to_string()),
    }
}

/// The broker's counters as metrics.
fn export(running: &pelton_broker::server::Running, metrics: &Metrics) -> Result<(), Failure> {
    let counters = running.counters();
    let gauges = Gauges::new(metrics).map_err(|e| Failure::unexpected(e.to_string()))?;
    metrics.before_scrape(move || {
        let now = counters.snapshot();
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&gauges.connections, now.connections_opened.saturating_sub(now.connections_closed));
        set(&gauges.produced, now.produced_records);
        set(&gauges.bytes, now.produced_bytes);
        set(&gauges.fetched, now.fetched_bytes);
        set(&gauges.refused, now.refused_logins);
    });
    Ok(())
}

/// What a broker shows.
pub struct Gauges {
    connections: IntGauge,
    produced: IntGauge,
    bytes: IntGauge,
    fetched: IntGauge,
    refused: IntGauge,
}

impl Gauges {
    /// Register them.
    pub fn new(metrics: &Metrics) -> Result<Gauges, MetricError> {
        let gauge = |name, help| metrics.gauge(name, help);
        Ok(Gauges {
            connections: gauge("pelton_broker_connections", "Open connections of clients.")?,
            produced: gauge("pelton_broker_produced_records", "Records stored since the start.")?,
            bytes: gauge("pelton_broker_produced_bytes", "Bytes of record batches stored since the start.")?,
            fetched: gauge("pelton_broker_fetched_bytes", "Bytes of record batches sent since the start.")?,
            refused: gauge(
                "pelton_broker_refused_logins",
                "Failed TLS handshakes and logins since the start.",
            )?,
        })
    }
}
