//! Client properties: what Pelton sets, and what a user may. Pure. Reasons and figures: `ARCHITECTURE.md`.

use crate::options::{Compression, brokers_fault};
use pelton_sdk::OptionError;
use std::{collections::BTreeMap, time::Duration};

/// How a process reaches Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaOptions {
    /// `host:port,...` of the default connection.
    pub bootstrap: String,
    /// First part of client names as the broker's logs and quotas see them; an executor's number is appended.
    pub client_id: String,
    /// Further properties of the client library, such as `security.protocol`. Only those that cannot break what
    /// delivery rests on; see [`KafkaOptions::check`].
    pub properties: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// A connection without encryption and login.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into(), client_id: "pelton".into(), properties: BTreeMap::new() }
    }

    /// Name the clients after a worker.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// With a further client property.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Every property that may not be set, and a bootstrap address that cannot be one.
    pub fn check(&self) -> Result<(), Vec<OptionError>> {
        let mut errors: Vec<_> =
            brokers_fault(&self.bootstrap).map(|f| OptionError::at("/bootstrap", f)).into_iter().collect();
        for name in self.properties.keys().filter(|n| !allowed(n)) {
            let hint = format!("allowed: {}, {}*", ALLOWED.join(", "), ALLOWED_PREFIXES.join("*, "));
            errors.push(
                OptionError::at(
                    format!("/properties/{name}"),
                    format!("client property {name} may not be set"),
                )
                .hint(hint),
            );
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// Properties of network, identity and sizes. What commits, orders or isolates is not among them.
const ALLOWED: &[&str] = &[
    "security.protocol",
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
    "debug",
];
const ALLOWED_PREFIXES: &[&str] = &["ssl.", "sasl.", "socket."];

fn allowed(name: &str) -> bool {
    ALLOWED.contains(&name) || ALLOWED_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// Properties in the order they are set; a later one wins.
pub(crate) type Properties = Vec<(String, String)>;

/// What every client gets: quick reconnects (the defaults cost a second on each start), TLS roots from the system.
fn common(options: &KafkaOptions, bootstrap: &str, role: &str) -> Properties {
    let mut all = pairs(&[
        ("bootstrap.servers", bootstrap),
        ("client.id", &format!("{}.{role}", options.client_id)),
        ("reconnect.backoff.ms", "20"),
        ("retry.backoff.ms", "10"),
        ("socket.timeout.ms", "5000"),
        ("socket.nagle.disable", "true"),
        ("socket.keepalive.enable", "true"),
        ("ssl.ca.location", "probe"),
        ("log_level", "6"),
    ]);
    all.extend(
        options.properties.iter().filter(|(name, _)| fits(name, role)).map(|(n, v)| (n.clone(), v.clone())),
    );
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
pub(crate) fn consumer(
    options: &KafkaOptions,
    bootstrap: &str,
    executor: usize,
    group: &str,
    share: QueueShare,
) -> Properties {
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
    all.extend(common(options, bootstrap, &format!("{executor}.consumer")));
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
    pub bootstrap: String,
    pub compression: Compression,
    pub linger: Duration,
    pub in_flight_bytes: usize,
}

/// An idempotent producer that places keys as Java clients do.
pub(crate) fn producer(options: &KafkaOptions, key: &ProducerKey, executor: usize) -> Properties {
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
    all.extend(common(options, &key.bootstrap, &format!("{executor}.producer")));
    all
}

/// A client for questions about topics.
pub(crate) fn admin(options: &KafkaOptions) -> Properties {
    common(options, &options.bootstrap, "admin")
}

fn pairs(all: &[(&str, &str)]) -> Properties {
    all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(all: &'a Properties, name: &str) -> Option<&'a str> {
        all.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn a_user_may_set_how_to_connect_but_not_what_delivery_rests_on() {
        let good =
            KafkaOptions::new("b:9092").property("sasl.username", "u").property("ssl.ca.location", "/ca.pem");
        assert_eq!(good.check(), Ok(()));
        let bad = good.property("isolation.level", "read_uncommitted").property("acks", "1");
        let refused: Vec<_> = bad.check().unwrap_err().into_iter().map(|e| e.message).collect();
        assert_eq!(
            refused,
            ["client property acks may not be set", "client property isolation.level may not be set"]
        );
        assert!(KafkaOptions::new("nowhere").check().is_err());
    }

    #[test]
    fn a_user_s_value_wins_over_ours_and_reaches_only_the_clients_it_means() {
        let options = KafkaOptions::new("b:9092")
            .client_id("worker-1")
            .property("socket.timeout.ms", "900")
            .property("fetch.wait.max.ms", "100");
        let c = consumer(&options, "b:9092", 2, "g", QueueShare::of(64 << 20, 8));
        assert_eq!(value(&c, "socket.timeout.ms"), Some("900"));
        assert_eq!(value(&c, "fetch.wait.max.ms"), Some("100"));
        assert_eq!(value(&c, "client.id"), Some("worker-1.2.consumer"));
        assert_eq!(value(&c, "auto.offset.reset"), Some("error"));
        let key = ProducerKey {
            bootstrap: "b:9092".into(),
            compression: Compression::Zstd,
            linger: Duration::from_millis(7),
            in_flight_bytes: 8 << 20,
        };
        let p = producer(&options, &key, 2);
        assert_eq!(value(&p, "fetch.wait.max.ms"), None);
        assert_eq!(value(&p, "queue.buffering.max.kbytes"), Some("8192"));
        assert_eq!(value(&p, "compression.codec"), Some("zstd"));
        assert_eq!(value(&p, "linger.ms"), Some("7"));
    }

    #[test]
    fn queues_share_the_budget_within_bounds() {
        assert_eq!(QueueShare::of(64 << 20, 8), QueueShare { records: 41_943, bytes: 4 << 20 });
        assert_eq!(QueueShare::of(1 << 20, 64), QueueShare { records: 2_621, bytes: 256 << 10 });
        assert_eq!(QueueShare::of(usize::MAX, 1).bytes, 16 << 20);
    }
}
