//! Every setting there is: its name, type, default and what it means.

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `host:port`; port 0 lets the system choose.
    Address,
    /// One or more `host:port`, by commas.
    Bootstrap,
    /// One or more `host:port` by commas, each with or without a protocol: `SASL_SSL://host:port`.
    Listeners,
    /// `http://host:port` or `https://host:port`.
    Url,
    /// A path of a directory.
    Directory,
    /// A path of a file.
    File,
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
    key(
        "broker.advertised",
        Type::Listeners,
        "",
        "what clients of the development queue are told to connect to; unset: where it listens",
    ),
    key(
        "broker.allowUnsecured",
        Type::Choice(&["false", "true"]),
        "false",
        "whether the development queue may listen beyond this machine without TLS and login",
    ),
    // Secret although it names a place only: somebody will put the password here.
    Key {
        secret: true,
        ..key(
            "broker.firstUser",
            Type::Text,
            "",
            "a user for the first start, `NAME=env:VARIABLE` or `NAME=file:PATH` of the password",
        )
    },
    key("broker.listen", Type::Listeners, "127.0.0.1:9092", "where the development queue listens"),
    key(
        "broker.sasl.mechanisms",
        Type::Text,
        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "how clients may log in to the development queue",
    ),
    key(
        "broker.sasl.sessionLifetime",
        Type::Duration,
        "",
        "how long a login counts; unset: as long as the connection",
    ),
    key("broker.tls.certificate", Type::File, "", "PEM of the development queue's certificate and its chain"),
    key("broker.tls.clientCa", Type::File, "", "PEM of authorities; set: clients need a certificate of one"),
    key("broker.tls.key", Type::File, "", "PEM of the certificate's private key"),
    key("broker.http", Type::Address, "127.0.0.1:7464", "health and metrics of the development queue"),
    key(
        "coordinator.allowWeakDurability",
        Type::Choice(&["false", "true"]),
        "false",
        "whether exactly-once may write to topics with fewer than 3 replicas, or of which one alone acknowledges",
    ),
    key(
        "coordinator.consoleHosts",
        Type::Text,
        "",
        "public names under which browsers may reach the console, by commas",
    ),
    key(
        "coordinator.dataDir",
        Type::Directory,
        "pelton-data/coordinator",
        "where pipelines and grants are kept",
    ),
    key(
        "coordinator.driver",
        Type::Choice(&["static", "process", "docker"]),
        "static",
        "what makes workers exist: somebody else, or the coordinator starts processes or containers",
    ),
    key(
        "coordinator.docker.arguments",
        Type::Text,
        "",
        "more arguments of `pelton worker` in a container, by blanks",
    ),
    key(
        "coordinator.docker.coordinator",
        Type::Url,
        "",
        "where containers reach this coordinator; unset: where its gRPC listens",
    ),
    key(
        "coordinator.docker.cpus",
        Type::Text,
        "",
        "processors of a worker container, such as `0.5`; unset: all",
    ),
    Key {
        secret: true,
        ..key(
            "coordinator.docker.environment",
            Type::Text,
            "",
            "`NAME=value` by commas, for worker containers",
        )
    },
    key(
        "coordinator.docker.fleet",
        Type::Text,
        "pelton",
        "name of the worker containers; others are not touched",
    ),
    key(
        "coordinator.docker.host",
        Type::Text,
        "",
        "`unix://PATH` or `http://HOST:PORT` of the engine; unset: `DOCKER_HOST`, or this machine's",
    ),
    key("coordinator.docker.image", Type::Text, "", "image of worker containers, by tag or digest"),
    key(
        "coordinator.docker.kafka",
        Type::Bootstrap,
        "",
        "brokers as containers reach them; unset: those of the coordinator",
    ),
    key("coordinator.docker.memory", Type::Size, "", "memory of a worker container; unset: no limit"),
    key(
        "coordinator.docker.network",
        Type::Text,
        "",
        "network of worker containers; unset: the engine's default",
    ),
    key(
        "coordinator.docker.pull",
        Type::Choice(&["missing", "always", "never"]),
        "missing",
        "when the image is fetched from its registry, at the start of the coordinator",
    ),
    key(
        "coordinator.docker.registryAuth",
        Type::File,
        "",
        "file that `docker login` wrote, for a private registry",
    ),
    key("coordinator.docker.volumes", Type::Text, "", "`SOURCE:PLACE[:ro]` by commas, for worker containers"),
    key("coordinator.grpc", Type::Address, "127.0.0.1:7461", "where workers and clients connect"),
    key(
        "coordinator.http",
        Type::Address,
        "127.0.0.1:7462",
        "console, health and metrics of the coordinator",
    ),
    key("coordinator.kafka", Type::Bootstrap, "127.0.0.1:9092", "brokers for pipelines that name none"),
    key("coordinator.lease", Type::Duration, "3s", "how long a worker counts as alive without a heartbeat"),
    key("coordinator.modelsDir", Type::Directory, "models", "where models are looked up by name"),
    key(
        "coordinator.pathPrefix",
        Type::Text,
        "",
        "path in front of the console, for a reverse proxy that does not take it away: `/pelton`",
    ),
    key("coordinator.workers", Type::Count, "2", "workers to keep with the drivers `process` and `docker`"),
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
    key("operator.coordinator", Type::Url, "http://127.0.0.1:7461", "where the coordinator listens"),
    key("operator.http", Type::Address, "127.0.0.1:7465", "health and metrics of the operator"),
    key("operator.lease", Type::Text, "pelton-operator", "name of the Lease that operators elect by"),
    key("operator.maxWorkers", Type::Count, "8", "most workers that the operator scales to"),
    key("operator.minWorkers", Type::Count, "1", "fewest workers that the operator scales to"),
    key(
        "operator.namespace",
        Type::Text,
        "",
        "namespace of the resources it looks after; unset: its own; `*`: all",
    ),
    key(
        "operator.scaleInAfter",
        Type::Duration,
        "60s",
        "how long fewer workers must have been enough before there are fewer",
    ),
    key("operator.tasksPerWorker", Type::Count, "2", "tasks that one worker is to have, about"),
    key(
        "operator.workers",
        Type::Text,
        "",
        "StatefulSet of workers whose replicas follow the tasks; unset: they are left alone",
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
