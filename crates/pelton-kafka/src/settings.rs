//! Client properties: what Pelton sets, and what a user may. Pure. Reasons and figures: `ARCHITECTURE.md`.

use crate::{
    link::Link,
    options::{Compression, brokers_fault},
};
use pelton_sdk::{
    Connection, OptionError,
    connection::{DEFAULT_CONNECTION, Sasl},
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// How a process reaches Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaOptions {
    /// First part of client names as the broker's logs and quotas see them; an executor's number is appended.
    pub client_id: String,
    /// By name; [`DEFAULT_CONNECTION`] is for ends that name none.
    pub connections: BTreeMap<String, Connection>,
    /// Take a definition's word for a connection that is not here: to check definitions without a node's settings.
    pub any_connection: bool,
}

impl KafkaOptions {
    /// A default connection without encryption and login, and no other.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        let connection = Connection { brokers: bootstrap.into(), ..Connection::default() };
        Self { client_id: "pelton".into(), connections: BTreeMap::new(), any_connection: false }
            .connection(DEFAULT_CONNECTION, connection)
    }

    /// Name the clients after a worker.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// With a connection more, or another one of that name.
    #[must_use]
    pub fn connection(mut self, name: impl Into<String>, connection: Connection) -> Self {
        self.connections.insert(name.into(), connection);
        self
    }

    /// With a further client property of the default connection.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let default = self.connections.entry(DEFAULT_CONNECTION.into()).or_default();
        default.properties.insert(name.into(), value.into());
        self
    }

    /// Every property that may not be set, and every address that cannot be one.
    pub fn check(&self) -> Result<(), Vec<OptionError>> {
        let errors: Vec<_> = self.connections.iter().flat_map(|(name, one)| faults(name, one)).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

fn faults(name: &str, connection: &Connection) -> Vec<OptionError> {
    let fault = brokers_fault(&connection.brokers);
    let brokers = fault.map(|f| OptionError::at(format!("/connections/{name}/brokers"), f));
    let refused = connection.properties.keys().filter(|property| !allowed(property)).map(|property| {
        let hint = match property.split('.').next() {
            Some("ssl" | "sasl" | "security") => "say it under `tls` and `sasl` of the connection".to_owned(),
            _ => format!("allowed: {}, {}*", ALLOWED.join(", "), ALLOWED_PREFIXES.join("*, ")),
        };
        let message = format!("connection `{name}`: client property {property} may not be set");
        OptionError::at(format!("/connections/{name}/properties/{property}"), message).hint(hint)
    });
    brokers.into_iter().chain(refused).collect()
}

/// Properties of network, identity and sizes. What commits, orders or isolates is not among them, and neither is what
/// could hold a secret.
const ALLOWED: &[&str] = &[
    "client.rack",
    "client.dns.lookup",
    "broker.address.family",
    "broker.address.ttl",
    "connections.max.idle.ms",
    "metadata.max.age.ms",
    "topic.metadata.refresh.interval.ms",
    "message.max.bytes",
    "receive.message.max.bytes",
    "fetch.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.wait.max.ms",
    "message.timeout.ms",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.crl.location",
];
const ALLOWED_PREFIXES: &[&str] = &["socket."];

fn allowed(name: &str) -> bool {
    ALLOWED.contains(&name) || ALLOWED_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// Properties in the order they are set; a later one wins.
pub(crate) type Properties = Vec<(String, String)>;

/// What every client gets: quick reconnects (the defaults cost a second on each start), TLS roots from the system.
/// Secrets are not among them: they are read when a client is made.
fn common(link: &Link, role: &str) -> Properties {
    let mut all = pairs(&[
        ("bootstrap.servers", &link.connection.brokers),
        ("client.id", &format!("{}.{role}", link.client_id)),
        ("reconnect.backoff.ms", "20"),
        ("retry.backoff.ms", "10"),
        ("socket.timeout.ms", "5000"),
        ("socket.nagle.disable", "true"),
        ("socket.keepalive.enable", "true"),
        ("log_level", "6"),
    ]);
    all.extend(security(&link.connection));
    let own = link.connection.properties.iter().filter(|(name, _)| fits(name, role));
    all.extend(own.map(|(n, v)| (n.clone(), v.clone())));
    all
}

/// Encryption and login, but for what is secret.
fn security(connection: &Connection) -> Properties {
    let protocol = match (&connection.tls, &connection.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    let mut all = pairs(&[("security.protocol", protocol)]);
    if let Some(tls) = &connection.tls {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        // The library's OpenSSL looks for authorities where no system keeps them.
        let ca = path(&tls.ca).unwrap_or_else(|| "probe".to_owned());
        all.push(("ssl.ca.location".into(), ca));
        let own =
            [("ssl.certificate.location", path(&tls.certificate)), ("ssl.key.location", path(&tls.key))];
        all.extend(own.into_iter().filter_map(|(name, path)| Some((name.to_owned(), path?))));
        if tls.insecure_skip_verify {
            all.extend(pairs(&[
                ("enable.ssl.certificate.verification", "false"),
                ("ssl.endpoint.identification.algorithm", "none"),
            ]));
        }
    }
    let mechanism = match &connection.sasl {
        None => return all,
        Some(Sasl::Password { mechanism, .. }) => mechanism.name(),
        Some(Sasl::Token(_) | Sasl::TokenEndpoint(_)) => "OAUTHBEARER",
    };
    all.extend(pairs(&[("sasl.mechanism", mechanism)]));
    all
}

/// A property of the other kind of client would only give a warning in its log.
fn fits(name: &str, role: &str) -> bool {
    let consumer_only = name.starts_with("fetch.") || name == "max.partition.fetch.bytes";
    let producer_only = name == "message.timeout.ms";
    match role.rsplit('.').next() {
        Some("consumer") => !producer_only,
        Some("producer") => !consumer_only,
        _ => !consumer_only && !producer_only,
    }
}

/// A consumer that assigns partitions itself and never decides where to go on.
pub(crate) fn consumer(link: &Link, executor: usize, group: &str, share: QueueShare) -> Properties {
    let mut all = pairs(&[
        ("group.id", group),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("check.crcs", "true"),
        // A topic that brokers do not know for this long is reported missing; the default is 30 s.
        ("topic.metadata.propagation.max.ms", "3000"),
        ("allow.auto.create.topics", "false"),
        // Its default of 1 s stalls every partition for a second when a queue fills.
        ("fetch.queue.backoff.ms", "10"),
        // One fetch is open per broker: a partition assigned meanwhile waits for it.
        ("fetch.wait.max.ms", "25"),
        ("queued.min.messages", &share.records.to_string()),
        ("queued.max.messages.kbytes", &(share.bytes / 1024).max(1).to_string()),
    ]);
    all.extend(common(link, &format!("{executor}.consumer")));
    all
}

/// What one partition's queue in the client may hold. The library counts per queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueShare {
    pub records: usize,
    pub bytes: usize,
}

impl QueueShare {
    /// Divide what an executor's clients may hold. A lone busy partition reaches (queue / `fetch.wait.max.ms`) records
    /// a second, so a share is not made smaller than a quarter of a megabyte, and more than 16 MiB gains nothing.
    pub(crate) fn of(queue_bytes: usize, partitions: usize) -> QueueShare {
        let bytes = (queue_bytes / 2 / partitions.max(1)).clamp(256 << 10, 16 << 20);
        // Records of 100 bytes and more are bounded by bytes, smaller ones by number: each costs about 150 bytes more.
        QueueShare { records: (bytes / 100).clamp(2_000, 100_000), bytes }
    }
}

/// A producer, and how its batches form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProducerKey {
    /// [`Link::label`].
    pub link: String,
    pub compression: Compression,
    pub linger: Duration,
    pub in_flight_bytes: usize,
}

/// An idempotent producer that places keys as Java clients do.
pub(crate) fn producer(link: &Link, key: &ProducerKey, executor: usize) -> Properties {
    let mut all = pairs(&[
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("compression.codec", key.compression.name()),
        ("linger.ms", &key.linger.as_millis().to_string()),
        ("queue.buffering.max.kbytes", &(key.in_flight_bytes / 1024).max(1).to_string()),
        // Bytes are the bound; the number only has to be out of the way of small records.
        ("queue.buffering.max.messages", &(key.in_flight_bytes / 64).clamp(10_000, 10_000_000).to_string()),
        ("batch.num.messages", "10000"),
        ("delivery.report.only.error", "true"),
        // As Java's delivery.timeout.ms: then the task hears of it and goes back to its last commit.
        ("message.timeout.ms", "120000"),
    ]);
    all.extend(common(link, &format!("{executor}.producer")));
    all
}

/// How a task's transactional producer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransactionSettings {
    pub id: String,
    /// The broker aborts a transaction that is open for longer.
    pub timeout: Duration,
    pub linger: Duration,
    pub in_flight_bytes: usize,
}

/// A transaction is open from one commit to the next, and while a broker restarts.
const LEAST_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

impl TransactionSettings {
    /// Each task has a producer of its own, so each gets a small share of what the clients may hold.
    pub(crate) fn new(id: &str, commit_interval: Duration, queue_bytes: usize) -> TransactionSettings {
        TransactionSettings {
            id: id.to_owned(),
            timeout: LEAST_TRANSACTION_TIMEOUT.max(3 * commit_interval),
            linger: Duration::from_millis(5),
            in_flight_bytes: (queue_bytes / 8).clamp(1 << 20, 16 << 20),
        }
    }
}

/// A producer whose records and offsets are committed together.
pub(crate) fn transactional(link: &Link, how: &TransactionSettings, executor: usize) -> Properties {
    let mut all = pairs(&[
        ("transactional.id", &how.id),
        ("transaction.timeout.ms", &how.timeout.as_millis().to_string()),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("linger.ms", &how.linger.as_millis().to_string()),
        ("queue.buffering.max.kbytes", &(how.in_flight_bytes / 1024).max(1).to_string()),
        ("queue.buffering.max.messages", &(how.in_flight_bytes / 64).clamp(10_000, 10_000_000).to_string()),
        ("batch.num.messages", "10000"),
    ]);
    // A record must not wait for longer than its transaction: left to the library, which takes that time.
    let common = common(link, &format!("{executor}.producer"));
    all.extend(common.into_iter().filter(|(name, _)| name != "message.timeout.ms"));
    all
}

/// A client for questions about topics.
pub(crate) fn admin(link: &Link) -> Properties {
    common(link, "admin")
}

fn pairs(all: &[(&str, &str)]) -> Properties {
    all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::{
        Secret,
        connection::{Given, Mechanism, Tls},
    };

    fn value<'a>(all: &'a Properties, name: &str) -> Option<&'a str> {
        all.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn linked(options: &KafkaOptions) -> std::sync::Arc<Link> {
        crate::link::Links::new(options).of(None, None).unwrap()
    }

    #[test]
    fn a_user_may_set_sizes_but_not_what_delivery_rests_on_nor_what_holds_secrets() {
        let good = KafkaOptions::new("b:9092").property("message.max.bytes", "2000000");
        assert_eq!(good.check(), Ok(()));
        let bad = good.property("isolation.level", "read_uncommitted").property("sasl.password", "hunter2");
        let refused = bad.check().unwrap_err();
        let messages: Vec<_> = refused.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "connection `default`: client property isolation.level may not be set",
                "connection `default`: client property sasl.password may not be set"
            ]
        );
        assert!(!format!("{refused:?}").contains("hunter2"));
        assert!(KafkaOptions::new("nowhere").check().is_err());
    }

    #[test]
    fn a_user_s_value_wins_over_ours_and_reaches_only_the_clients_it_means() {
        let options = KafkaOptions::new("b:9092")
            .client_id("worker-1")
            .property("socket.timeout.ms", "900")
            .property("fetch.wait.max.ms", "100");
        let link = linked(&options);
        let c = consumer(&link, 2, "g", QueueShare::of(64 << 20, 8));
        assert_eq!(value(&c, "socket.timeout.ms"), Some("900"));
        assert_eq!(value(&c, "fetch.wait.max.ms"), Some("100"));
        assert_eq!(value(&c, "client.id"), Some("worker-1.2.consumer"));
        assert_eq!(value(&c, "auto.offset.reset"), Some("error"));
        assert_eq!(value(&c, "security.protocol"), Some("plaintext"));
        let key = ProducerKey {
            link: link.label.clone(),
            compression: Compression::Zstd,
            linger: Duration::from_millis(7),
            in_flight_bytes: 8 << 20,
        };
        let p = producer(&link, &key, 2);
        assert_eq!(value(&p, "fetch.wait.max.ms"), None);
        assert_eq!(value(&p, "queue.buffering.max.kbytes"), Some("8192"));
        assert_eq!(value(&p, "compression.codec"), Some("zstd"));
        assert_eq!(value(&p, "linger.ms"), Some("7"));
    }

    #[test]
    fn encryption_and_login_become_properties_without_their_secrets() {
        let connection = Connection {
            brokers: "b:9093".into(),
            tls: Some(Tls::default()),
            sasl: Some(Sasl::Password {
                mechanism: Mechanism::ScramSha512,
                username: Given::Text("orders".into()),
                password: Secret::Env("PASSWORD".into()),
            }),
            ..Connection::default()
        };
        let p = security(&connection);
        assert_eq!(value(&p, "security.protocol"), Some("sasl_ssl"));
        assert_eq!(value(&p, "ssl.ca.location"), Some("probe"), "the system's authorities");
        assert_eq!(value(&p, "sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(value(&p, "sasl.password"), None);
        assert_eq!(value(&p, "enable.ssl.certificate.verification"), None);
        let tls = Tls { ca: Some("/ca.pem".into()), insecure_skip_verify: true, ..Tls::default() };
        let p = security(&Connection { tls: Some(tls), sasl: None, ..connection });
        assert_eq!(value(&p, "security.protocol"), Some("ssl"));
        assert_eq!(value(&p, "ssl.ca.location"), Some("/ca.pem"));
        assert_eq!(value(&p, "enable.ssl.certificate.verification"), Some("false"));
    }

    #[test]
    fn queues_share_the_budget_within_bounds() {
        assert_eq!(QueueShare::of(64 << 20, 8), QueueShare { records: 41_943, bytes: 4 << 20 });
        assert_eq!(QueueShare::of(1 << 20, 64), QueueShare { records: 2_621, bytes: 256 << 10 });
        assert_eq!(QueueShare::of(usize::MAX, 1).bytes, 16 << 20);
    }
}
