//! What a node runs with: defaults < file < environment < flags, each value with its origin.
//!
//! Beside them a file has `connections:`, whose names are the user's own.
//!
//! A file has the dotted names as nested keys (`worker: { drainTimeout: 30s }`); the environment has
//! `PELTON__WORKER__DRAINTIMEOUT`, letter case of the segments not counted.

mod connections;
mod docker;
mod keys;
mod layers;

pub use docker::{DockerSettings, PullPolicy};
pub use keys::{KEYS, Key, Type, find};
pub use layers::{Layers, load};

use pelton_sdk::{Connection, connection::DEFAULT_CONNECTION};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing gave one.
    Default,
    /// `file:line:column`.
    File(String, usize, usize),
    /// The environment variable of this name.
    Environment(String),
    /// The flag for this setting.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file, line, column) => write!(f, "{file}:{line}:{column}"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// One value as `pelton config show` prints it; secrets are redacted already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Dotted name.
    pub name: String,
    /// Its text; empty when it is not set; secrets redacted.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it is.
    pub help: &'static str,
}

/// What makes worker processes exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Somebody else starts them.
    Static,
    /// The coordinator starts processes.
    Process,
    /// The coordinator starts containers of a Docker engine.
    Docker,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Settings of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorSettings {
    /// Where gRPC listens, `host:port`.
    pub grpc: String,
    /// Where HTTP listens, `host:port`.
    pub http: String,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// Bootstrap servers, `host:port` by commas.
    pub kafka: String,
    /// Where models are looked up.
    pub models_dir: PathBuf,
    /// How long a worker counts as alive without a heartbeat.
    pub lease: Duration,
    /// Take exactly-once pipelines on topics that may lose acknowledged records.
    pub allow_weak_durability: bool,
    /// What makes workers exist.
    pub driver: Driver,
    /// Workers to keep with the drivers `process` and `docker`.
    pub workers: usize,
    /// For the driver `docker`.
    pub docker: DockerSettings,
    /// Path in front of the console; empty: none.
    pub path_prefix: String,
    /// Public names of the console.
    pub console_hosts: Vec<String>,
}

/// Settings of a worker, and of `pelton run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Name; `None`: made from the host's name.
    pub id: Option<String>,
    /// URL of the coordinator.
    pub coordinator: String,
    /// Where HTTP listens, `host:port`.
    pub http: String,
    /// Bootstrap servers, `host:port` by commas.
    pub kafka: String,
    /// Executor threads; `None`: one per core.
    pub executors: Option<usize>,
    /// Where positions of sources that are no queue are kept.
    pub data_dir: PathBuf,
    /// Where models are looked up.
    pub models_dir: PathBuf,
    /// Time to finish, commit and release on SIGTERM.
    pub drain_timeout: Duration,
    /// Bytes for records in flight; `None`: from the container's limit.
    pub memory_budget: Option<u64>,
}

/// Settings of the development queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Where it listens, `host:port` or `PROTOCOL://host:port` by commas.
    pub listen: String,
    /// What clients are told to connect to, in the same form; `None`: where it listens.
    pub advertised: Option<String>,
    /// Whether it may listen beyond this machine without TLS and login.
    pub allow_unsecured: bool,
    /// `NAME=env:VARIABLE` or `NAME=file:PATH`.
    pub first_user: Option<String>,
    /// How clients may log in, by commas.
    pub sasl_mechanisms: String,
    /// How long a login counts; `None`: as long as the connection.
    pub session_lifetime: Option<Duration>,
    /// Certificate, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Authorities of clients, PEM; `None`: clients need no certificate.
    pub tls_client_ca: Option<PathBuf>,
    /// Where HTTP listens, `host:port`.
    pub http: String,
    /// Where its logs are.
    pub data_dir: PathBuf,
}

/// Settings of the operator on Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSettings {
    /// URL of the coordinator.
    pub coordinator: String,
    /// Where HTTP listens, `host:port`.
    pub http: String,
    /// Namespace of the resources it looks after; `None`: its own.
    pub namespace: Option<String>,
    /// Name of the Lease.
    pub lease: String,
    /// StatefulSet of workers that it scales.
    pub workers: Option<String>,
    /// Fewest workers.
    pub min_workers: u32,
    /// Most workers.
    pub max_workers: u32,
    /// Tasks that one worker is to have, about.
    pub tasks_per_worker: u32,
    /// How long fewer workers must have been enough.
    pub scale_in_after: Duration,
}

/// How a node logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// Level or directives, as `tracing-subscriber`'s `EnvFilter` reads them.
    pub level: String,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// OTLP/gRPC endpoint; `None`: nowhere.
    pub otlp_endpoint: Option<String>,
    /// Headers for it, secret.
    pub otlp_headers: Vec<(String, String)>,
}

/// Everything a node runs with.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// For `pelton coordinator`.
    pub coordinator: CoordinatorSettings,
    /// For `pelton worker` and `pelton run`.
    pub worker: WorkerSettings,
    /// For `pelton broker`.
    pub broker: BrokerSettings,
    /// For `pelton operator`.
    pub operator: OperatorSettings,
    /// For every role.
    pub log: LogSettings,
    /// For every role.
    pub telemetry: TelemetrySettings,
    values: BTreeMap<&'static str, (String, Origin)>,
    connections: connections::Connections,
}

impl fmt::Debug for Settings {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.show().iter().map(|s| (&s.name, &s.value))).finish()
    }
}

impl Default for Settings {
    fn default() -> Self {
        let defaults = KEYS.iter().map(|k| (k.name, (k.default.to_owned(), Origin::Default))).collect();
        Self::from_values(defaults, connections::Connections::new())
    }
}

impl Settings {
    /// Every setting by name, with its origin, secrets redacted.
    pub fn show(&self) -> Vec<Shown> {
        let shown = |key: &'static Key| {
            let (value, origin) = self.values.get(key.name)?;
            Some(Shown {
                name: key.name.to_owned(),
                value: redact(key, value),
                origin: origin.clone(),
                help: key.help,
            })
        };
        let own = self.connections.iter().flat_map(|(name, (connection, origin))| {
            let row = |(name, value)| Shown { name, value, origin: origin.clone(), help: "a connection" };
            connections::show(name, connection).into_iter().map(row)
        });
        own.chain(KEYS.iter().filter_map(shown)).collect()
    }

    /// Whether `connections.default` is what counts for a role; see [`Settings::connections`].
    pub fn has_default_connection(&self, kafka: &str) -> bool {
        self.connections.contains_key(DEFAULT_CONNECTION) && self.origin(kafka) == Some(&Origin::Default)
    }

    /// The connections of a role, by name. `kafka` is the setting that says where its default connection leads:
    /// `worker.kafka` or `coordinator.kafka`. Given by a flag or the environment it replaces `connections.default` as a
    /// whole, without TLS and login; otherwise `connections.default` counts, where there is one.
    pub fn connections(&self, kafka: &str) -> BTreeMap<String, Connection> {
        let mut all: BTreeMap<_, _> = self
            .connections
            .iter()
            .map(|(name, (connection, _))| (name.clone(), connection.clone()))
            .collect();
        let plain = || Connection {
            brokers: self.values.get(kafka).map(|(value, _)| value.clone()).unwrap_or_default(),
            ..Connection::default()
        };
        if !self.has_default_connection(kafka) {
            all.insert(DEFAULT_CONNECTION.to_owned(), plain());
        }
        all
    }

    /// Where the value of a setting came from; `None` when there is no such setting.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.values.get(name).map(|(_, origin)| origin)
    }

    /// From texts that were checked against [`KEYS`].
    fn from_values(
        values: BTreeMap<&'static str, (String, Origin)>,
        connections: connections::Connections,
    ) -> Self {
        let text = |name: &str| values.get(name).map(|(value, _)| value.clone()).unwrap_or_default();
        let some = |name: &str| Some(text(name)).filter(|value| !value.is_empty());
        let path = |name: &str| PathBuf::from(text(name));
        let count = |name: &str| text(name).parse().ok();
        let duration = |name: &str| crate::units::parse_duration(&text(name)).unwrap_or_default();
        Self {
            coordinator: CoordinatorSettings {
                grpc: text("coordinator.grpc"),
                http: text("coordinator.http"),
                data_dir: path("coordinator.dataDir"),
                kafka: text("coordinator.kafka"),
                models_dir: path("coordinator.modelsDir"),
                lease: duration("coordinator.lease"),
                allow_weak_durability: text("coordinator.allowWeakDurability") == "true",
                driver: match text("coordinator.driver").as_str() {
                    "process" => Driver::Process,
                    "docker" => Driver::Docker,
                    _ => Driver::Static,
                },
                workers: count("coordinator.workers").unwrap_or(1),
                docker: docker::settings(&values),
                path_prefix: text("coordinator.pathPrefix"),
                console_hosts: text("coordinator.consoleHosts")
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .filter(|name| !name.is_empty())
                    .collect(),
            },
            worker: WorkerSettings {
                id: some("worker.id"),
                coordinator: text("worker.coordinator"),
                http: text("worker.http"),
                kafka: text("worker.kafka"),
                executors: count("worker.executors"),
                data_dir: path("worker.dataDir"),
                models_dir: path("worker.modelsDir"),
                drain_timeout: duration("worker.drainTimeout"),
                memory_budget: crate::units::parse_size(&text("worker.memoryBudget")).ok(),
            },
            broker: broker(&values),
            operator: OperatorSettings {
                coordinator: text("operator.coordinator"),
                http: text("operator.http"),
                namespace: some("operator.namespace"),
                lease: text("operator.lease"),
                workers: some("operator.workers"),
                min_workers: text("operator.minWorkers").parse().unwrap_or(1),
                max_workers: text("operator.maxWorkers").parse().unwrap_or(1),
                tasks_per_worker: text("operator.tasksPerWorker").parse().unwrap_or(1),
                scale_in_after: duration("operator.scaleInAfter"),
            },
            log: LogSettings {
                format: match text("log.format").as_str() {
                    "human" => LogFormat::Human,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
                level: text("log.level"),
            },
            telemetry: TelemetrySettings {
                otlp_endpoint: some("telemetry.otlp.endpoint"),
                otlp_headers: text("telemetry.otlp.headers")
                    .split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                    .collect(),
            },
            values,
            connections,
        }
    }
}

/// Of the development queue.
fn broker(values: &BTreeMap<&'static str, (String, Origin)>) -> BrokerSettings {
    let text = |name: &str| values.get(name).map(|(value, _)| value.clone()).unwrap_or_default();
    let some = |name: &str| Some(text(name)).filter(|value| !value.is_empty());
    let path = |name: &str| PathBuf::from(text(name));
    BrokerSettings {
        listen: text("broker.listen"),
        advertised: some("broker.advertised"),
        allow_unsecured: text("broker.allowUnsecured") == "true",
        first_user: some("broker.firstUser"),
        sasl_mechanisms: text("broker.sasl.mechanisms"),
        session_lifetime: some("broker.sasl.sessionLifetime")
            .and_then(|text| crate::units::parse_duration(&text).ok()),
        tls_certificate: some("broker.tls.certificate").map(PathBuf::from),
        tls_key: some("broker.tls.key").map(PathBuf::from),
        tls_client_ca: some("broker.tls.clientCa").map(PathBuf::from),
        http: text("broker.http"),
        data_dir: path("broker.dataDir"),
    }
}

/// The text of a value as it may be shown: secrets, and passwords inside URLs, are hidden.
fn redact(key: &Key, value: &str) -> String {
    if key.secret && !value.is_empty() {
        return "<redacted>".to_owned();
    }
    if let (Type::Url, Some((scheme, rest))) = (key.kind, value.split_once("://"))
        && let Some((_, host)) = rest.rsplit_once('@')
    {
        return format!("{scheme}://<redacted>@{host}");
    }
    value.to_owned()
}
