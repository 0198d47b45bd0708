//! Options of a source and a sink under the key `kafka`, and every mistake in them.

use pelton_sdk::OptionError;
use schemars::JsonSchema;
use serde_json::{Map, Value};
use std::time::Duration;

/// Where reading starts when the group has committed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum Start {
    /// With the oldest record the broker keeps.
    #[default]
    Earliest,
    /// With what is written from now on.
    Latest,
}

/// How batches of records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Snappy,
    Zstd,
    Gzip,
}

impl Compression {
    /// The name that the client library and Kafka use.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
        }
    }
}

/// What a source reads.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, rename = "KafkaSource")]
pub struct SourceOptions {
    /// Topics, co-partitioned: partition i of each is read by the same task.
    #[schemars(length(min = 1), inner(pattern(r"^[A-Za-z0-9._-]{1,249}$")))]
    pub topics: Vec<String>,
    /// Where to start when nothing was committed.
    #[schemars(default)]
    pub start: Start,
    /// A connection of the node's settings; `default` unless given.
    #[schemars(extend("minLength" = 1))]
    pub connection: Option<String>,
    /// `host:port,...` of a cluster without encryption and login, instead of a connection.
    pub brokers: Option<String>,
}

/// What a sink writes.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, rename = "KafkaSink")]
pub struct SinkOptions {
    /// Topic to write to.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    pub topic: String,
    /// How batches are compressed.
    #[schemars(default)]
    pub compression: Compression,
    /// How long a batch waits for more records, such as `5ms`.
    #[schemars(with = "Option<String>")]
    pub linger: Duration,
    /// Bytes of records sent and not yet stored, such as `64MiB`; a share of the worker's memory budget if not given.
    #[schemars(with = "Option<String>")]
    pub max_in_flight: Option<usize>,
    /// A connection of the node's settings; `default` unless given.
    #[schemars(extend("minLength" = 1))]
    pub connection: Option<String>,
    /// `host:port,...` of a cluster without encryption and login, instead of a connection.
    pub brokers: Option<String>,
}

/// Longer waits gain nothing and look like a stuck pipeline.
const LINGER_MAX: Duration = Duration::from_secs(60);
/// Default linger: batches fill at any rate worth compressing, and nobody notices the delay.
const LINGER: Duration = Duration::from_millis(5);
/// Smallest `maxInFlight`: the library's own minimum for `queue.buffering.max.kbytes` is 1 kB, one record needs more.
const IN_FLIGHT_MIN: usize = 1 << 20;
/// Largest: the library's bound is 2^31 kB; this is already all of a machine's memory.
const IN_FLIGHT_MAX: usize = 1 << 36;

impl SourceOptions {
    /// Read options, or find every mistake.
    pub fn parse(options: &Value) -> Result<Self, Vec<OptionError>> {
        let mut check = Check::new(options, &["topics", "start", "connection", "brokers"])?;
        let topics = check.topics();
        let start = check.one_of("start", &[("earliest", Start::Earliest), ("latest", Start::Latest)]);
        let (connection, brokers) = check.cluster();
        check.finish(Self { topics, start: start.unwrap_or_default(), connection, brokers })
    }
}

impl SinkOptions {
    /// Read options, or find every mistake.
    pub fn parse(options: &Value) -> Result<Self, Vec<OptionError>> {
        let mut check =
            Check::new(options, &["topic", "compression", "linger", "maxInFlight", "connection", "brokers"])?;
        let topic = check.topic();
        let codecs =
            [Compression::None, Compression::Lz4, Compression::Snappy, Compression::Zstd, Compression::Gzip]
                .map(|c| (c.name(), c));
        let compression = check.one_of("compression", &codecs).unwrap_or_default();
        let linger = check
            .parsed("linger", "a duration such as `5ms`", |text| duration(text).filter(|d| *d <= LINGER_MAX));
        let max_in_flight = check.parsed("maxInFlight", "a size from `1MiB` to `64GiB`", |text| {
            size(text).filter(|s| (IN_FLIGHT_MIN..=IN_FLIGHT_MAX).contains(s))
        });
        let (connection, brokers) = check.cluster();
        let linger = linger.unwrap_or(LINGER);
        check.finish(Self { topic, compression, linger, max_in_flight, connection, brokers })
    }
}

/// Why a name cannot be a topic's, by Kafka's rules.
pub fn topic_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a topic's name is empty".into());
    }
    if name.len() > 249 {
        return Some(format!("a topic's name has at most 249 characters, this one {}", name.len()));
    }
    if name == "." || name == ".." {
        return Some(format!("a topic cannot be named {name:?}"));
    }
    let odd = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
    Some(format!("topic {name:?} contains {odd:?}; letters, digits, `.`, `_` and `-` are allowed"))
}

/// Why a text cannot be a list of brokers.
pub fn brokers_fault(brokers: &str) -> Option<String> {
    for broker in brokers.split(',').map(str::trim) {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        if host.is_empty() || host.contains(char::is_whitespace) || port.parse::<u16>().is_err() {
            return Some(format!("broker {broker:?} is not of the form host:port"));
        }
    }
    None
}

/// `250ms`, `5s`, `2m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
}

/// `65536`, `64KiB`, `16MiB`, `1GiB`, and the decimal `kB`, `MB`, `GB`.
fn size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// Collects mistakes over one object.
struct Check<'a> {
    map: &'a Map<String, Value>,
    errors: Vec<OptionError>,
}

impl<'a> Check<'a> {
    fn new(options: &'a Value, known: &[&str]) -> Result<Self, Vec<OptionError>> {
        let Some(map) = options.as_object() else {
            let what = format!("expected options, found {}", kind(options));
            return Err(vec![OptionError::at("", what).hint(format!("give {}", known[0]))]);
        };
        let unknown = map.keys().filter(|k| !known.contains(&k.as_str()));
        let errors = unknown
            .map(|k| {
                let pointer = format!("/{}", k.replace('~', "~0").replace('/', "~1"));
                OptionError::at(pointer, format!("unknown option `{k}`"))
                    .hint(format!("known: {}", known.join(", ")))
            })
            .collect();
        Ok(Self { map, errors })
    }

    fn fault(&mut self, key: &str, message: String) {
        self.errors.push(OptionError::at(format!("/{key}"), message));
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        match self.map.get(key)? {
            Value::String(text) => Some(text),
            other => {
                self.fault(key, format!("`{key}` must be a text, found {}", kind(other)));
                None
            }
        }
    }

    fn one_of<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.fault(key, format!("`{key}` is {text:?}; it must be one of {}", names.join(", ")));
        }
        found
    }

    fn parsed<T>(&mut self, key: &str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = match self.map.get(key)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => {
                self.fault(key, format!("`{key}` must be {what}, found {}", kind(other)));
                return None;
            }
        };
        let parsed = parse(&text);
        if parsed.is_none() {
            self.fault(key, format!("`{key}` is {text:?}; it must be {what}"));
        }
        parsed
    }

    /// The connection, or the brokers.
    fn cluster(&mut self) -> (Option<String>, Option<String>) {
        let connection = self.text("connection").map(str::to_owned);
        let brokers = self.text("brokers").map(str::to_owned);
        if let Some(fault) = brokers.as_deref().and_then(brokers_fault) {
            self.fault("brokers", fault);
        }
        if connection.is_some() && brokers.is_some() {
            self.fault(
                "brokers",
                "`connection` and `brokers` exclude each other; a connection has brokers".into(),
            );
        }
        (connection, brokers)
    }

    fn topic(&mut self) -> String {
        if !self.map.contains_key("topic") {
            self.errors.push(OptionError::at("", "`topic` is missing").hint("name the topic to write to"));
            return String::new();
        }
        let text = self.text("topic").unwrap_or_default();
        if let Some(fault) = topic_fault(text).filter(|_| self.map["topic"].is_string()) {
            self.fault("topic", fault);
        }
        text.to_owned()
    }

    fn topics(&mut self) -> Vec<String> {
        let list = match self.map.get("topics") {
            Some(Value::Array(list)) if !list.is_empty() => list,
            Some(Value::Array(_)) => {
                self.fault("topics", "`topics` is empty; name the topics to read".into());
                return Vec::new();
            }
            Some(other) => {
                self.fault("topics", format!("`topics` must be a list of names, found {}", kind(other)));
                return Vec::new();
            }
            None => {
                let e = OptionError::at("", "`topics` is missing")
                    .hint("name the topics to read: topics: [orders]");
                self.errors.push(e);
                return Vec::new();
            }
        };
        let mut topics: Vec<String> = Vec::new();
        for (i, item) in list.iter().enumerate() {
            let fault = match item.as_str() {
                None => Some(format!("a topic's name is a text, found {}", kind(item))),
                Some(name) if topics.iter().any(|t| t == name) => {
                    Some(format!("topic {name} is named twice"))
                }
                Some(name) => topic_fault(name),
            };
            match fault {
                Some(fault) => self.errors.push(OptionError::at(format!("/topics/{i}"), fault)),
                None => topics.extend(item.as_str().map(str::to_owned)),
            }
        }
        topics
    }

    fn finish<T>(self, options: T) -> Result<T, Vec<OptionError>> {
        if self.errors.is_empty() { Ok(options) } else { Err(self.errors) }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(errors: Vec<OptionError>) -> Vec<String> {
        errors.into_iter().map(|e| format!("{} {}", e.pointer, e.message)).collect()
    }

    #[test]
    fn a_short_definition_gets_the_defaults() {
        let source = SourceOptions::parse(&json!({ "topics": ["orders"] })).unwrap();
        assert_eq!((source.start, source.brokers), (Start::Earliest, None));
        let sink = SinkOptions::parse(&json!({ "topic": "totals" })).unwrap();
        assert_eq!((sink.compression, sink.linger), (Compression::Lz4, Duration::from_millis(5)));
    }

    #[test]
    fn everything_can_be_said() {
        let source = SourceOptions::parse(
            &json!({ "topics": ["a", "b.c"], "start": "latest", "brokers": "h:9092, i:1" }),
        );
        assert_eq!(source.unwrap().start, Start::Latest);
        let sink = SinkOptions::parse(&json!(
            { "topic": "t", "compression": "zstd", "linger": "20ms", "maxInFlight": "16MiB", "brokers": "h:9092" }
        ))
        .unwrap();
        assert_eq!((sink.linger, sink.max_in_flight), (Duration::from_millis(20), Some(16 << 20)));
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let errors = SourceOptions::parse(&json!(
            { "topics": ["or ders", "ok", "ok", 7], "start": "middle", "brokers": "nowhere", "topic": "x", "connection": "c" }
        ))
        .unwrap_err();
        assert_eq!(
            messages(errors),
            [
                "/topic unknown option `topic`",
                "/topics/0 topic \"or ders\" contains ' '; letters, digits, `.`, `_` and `-` are allowed",
                "/topics/2 topic ok is named twice",
                "/topics/3 a topic's name is a text, found a number",
                "/start `start` is \"middle\"; it must be one of earliest, latest",
                "/brokers broker \"nowhere\" is not of the form host:port",
                "/brokers `connection` and `brokers` exclude each other; a connection has brokers",
            ]
        );
        let errors = SinkOptions::parse(&json!(
            { "topic": "..", "compression": "brotli", "linger": "1d", "maxInFlight": "7" }
        ))
        .unwrap_err();
        assert_eq!(
            messages(errors),
            [
                "/topic a topic cannot be named \"..\"",
                "/compression `compression` is \"brotli\"; it must be one of none, lz4, snappy, zstd, gzip",
                "/linger `linger` is \"1d\"; it must be a duration such as `5ms`",
                "/maxInFlight `maxInFlight` is \"7\"; it must be a size from `1MiB` to `64GiB`",
            ]
        );
    }

    #[test]
    fn what_is_no_object_or_lacks_a_topic_is_said_plainly() {
        assert_eq!(
            messages(SinkOptions::parse(&json!("t")).unwrap_err()),
            [" expected options, found a text"]
        );
        assert_eq!(messages(SinkOptions::parse(&json!({})).unwrap_err()), [" `topic` is missing"]);
        assert_eq!(messages(SourceOptions::parse(&json!({})).unwrap_err()), [" `topics` is missing"]);
        let empty = SourceOptions::parse(&json!({ "topics": [] })).unwrap_err();
        assert_eq!(messages(empty), ["/topics `topics` is empty; name the topics to read"]);
    }

    #[test]
    fn schemas_know_the_options_and_nothing_else() {
        let schema = schemars::schema_for!(SinkOptions);
        let text = schema.as_value().to_string();
        for key in ["topic", "compression", "linger", "maxInFlight", "connection", "brokers", "zstd"] {
            assert!(text.contains(&format!("\"{key}\"")), "{key} is missing in {text}");
        }
        assert_eq!(schema.as_value()["additionalProperties"], json!(false));
        assert_eq!(schema.as_value()["required"], json!(["topic"]));
        let schema = schemars::schema_for!(SourceOptions);
        assert_eq!(schema.as_value()["required"], json!(["topics"]));
    }

    #[test]
    fn names_at_the_limits() {
        assert_eq!(topic_fault(&"x".repeat(249)), None);
        assert!(topic_fault(&"x".repeat(250)).is_some());
        assert!(topic_fault("").is_some());
        assert_eq!(brokers_fault("[::1]:9092"), None);
        assert!(brokers_fault("host:99999").is_some());
    }
}
