//! Every setting there is: its name, type, default and what it means.

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `host:port`; port 0 lets the system choose.
    Address,
    /// One or more `host:port`, by commas.
    Bootstrap,
    /// `http://host:port` or `https://host:port`.
    Url,
    /// A path of a directory.
    Directory,
    /// Any text.
    Text,
    /// A whole number from 1 to 65,536.
    Count,
    /// A number with a unit: `10s`.
    Duration,
    /// A number with a unit: `512MiB`.
    Size,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted name, as in the file: `worker.drainTimeout`.
    pub name: &'static str,
    /// How it is written.
    pub kind: Type,
    /// Value when nothing gives one; empty: not set, Pelton decides.
    pub default: &'static str,
    /// Never shown.
    pub secret: bool,
    /// What it is, in one line.
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Type, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, secret: false, help }
}

/// All settings, by name.
pub const KEYS: &[Key] = &[
    key(
        "broker.dataDir",
        Type::Directory,
        "pelton-data/broker",
        "where the development queue keeps its logs",
    ),
    key("broker.listen", Type::Address, "127.0.0.1:9092", "where the development queue listens"),
    key("broker.http", Type::Address, "127.0.0.1:7464", "health and metrics of the development queue"),
    key(
        "coordinator.dataDir",
        Type::Directory,
        "pelton-data/coordinator",
        "where pipelines and grants are kept",
    ),
    key(
        "coordinator.driver",
        Type::Choice(&["static", "process"]),
        "static",
        "what makes workers exist: somebody else, or the coordinator starts processes",
    ),
    key("coordinator.grpc", Type::Address, "127.0.0.1:7461", "where workers and clients connect"),
    key("coordinator.http", Type::Address, "127.0.0.1:7462", "health and metrics of the coordinator"),
    key("coordinator.kafka", Type::Bootstrap, "127.0.0.1:9092", "brokers for pipelines that name none"),
    key("coordinator.lease", Type::Duration, "3s", "how long a worker counts as alive without a heartbeat"),
    key("coordinator.modelsDir", Type::Directory, "models", "where models are looked up by name"),
    key("coordinator.workers", Type::Count, "2", "workers to start with the driver `process`"),
    key(
        "log.format",
        Type::Choice(&["auto", "human", "json"]),
        "auto",
        "`auto`: human on a terminal, otherwise JSON",
    ),
    key(
        "log.level",
        Type::Text,
        "info",
        "`error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,pelton_worker=debug`",
    ),
    key("telemetry.otlp.endpoint", Type::Url, "", "where spans are sent over OTLP/gRPC; unset: nowhere"),
    Key {
        secret: true,
        ..key("telemetry.otlp.headers", Type::Text, "", "headers for the endpoint, `name=value` by commas")
    },
    key("worker.coordinator", Type::Url, "http://127.0.0.1:7461", "where the coordinator listens"),
    key(
        "worker.dataDir",
        Type::Directory,
        "pelton-data/worker",
        "where a worker keeps positions of file sources",
    ),
    key("worker.drainTimeout", Type::Duration, "30s", "time to finish, commit and release on SIGTERM"),
    key("worker.executors", Type::Count, "", "executor threads; unset: one per core"),
    key("worker.http", Type::Address, "127.0.0.1:7463", "health and metrics of the worker"),
    key("worker.id", Type::Text, "", "name of the worker; unset: made from the host's name"),
    key("worker.kafka", Type::Bootstrap, "127.0.0.1:9092", "brokers for pipelines that name none"),
    key(
        "worker.memoryBudget",
        Type::Size,
        "",
        "bytes for records in flight; unset: from the container's limit",
    ),
    key("worker.modelsDir", Type::Directory, "models", "where models are looked up by name"),
];

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}
