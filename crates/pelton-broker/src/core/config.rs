//! Settings of a topic: which there are, what they may be, and what they mean here.

use super::entry::TopicConfig;
use crate::codec::Codec;

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole number in this range.
    Number(i64, i64),
    /// A number between 0 and 1.
    Share,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words, separated by commas.
    SomeOf(&'static [&'static str]),
    /// Anything.
    Text,
}

use Kind::{Number, OneOf, Share, SomeOf, Switch, Text};

const MAX: i64 = i64::MAX;
const MAX_INT: i64 = i32::MAX as i64;
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// Name, default and range of every setting of a topic, as Kafka has them. Defaults that differ: nothing is
/// deleted by time, and batches may be as long as requests. Those without effect are listed in `docs/broker.md`.
const KNOWN: &[(&str, &str, Kind)] = &[
    ("cleanup.policy", "delete", SomeOf(&["delete", "compact"])),
    ("compression.gzip.level", "-1", Number(-1, 9)),
    ("compression.lz4.level", "9", Number(1, 17)),
    ("compression.type", "producer", OneOf(CODECS)),
    ("compression.zstd.level", "3", Number(-131_072, 22)),
    ("delete.retention.ms", "86400000", Number(0, MAX)),
    ("file.delete.delay.ms", "60000", Number(0, MAX)),
    ("flush.messages", "9223372036854775807", Number(1, MAX)),
    ("flush.ms", "9223372036854775807", Number(0, MAX)),
    ("follower.replication.throttled.replicas", "", Text),
    ("index.interval.bytes", "4096", Number(0, MAX_INT)),
    ("leader.replication.throttled.replicas", "", Text),
    ("local.retention.bytes", "-2", Number(-2, MAX)),
    ("local.retention.ms", "-2", Number(-2, MAX)),
    ("max.compaction.lag.ms", "9223372036854775807", Number(1, MAX)),
    ("max.message.bytes", "104857600", Number(0, MAX_INT)),
    ("message.timestamp.after.max.ms", "3600000", Number(0, MAX)),
    ("message.timestamp.before.max.ms", "9223372036854775807", Number(0, MAX)),
    ("message.timestamp.type", "CreateTime", OneOf(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", "0.5", Share),
    ("min.compaction.lag.ms", "0", Number(0, MAX)),
    ("min.insync.replicas", "1", Number(1, MAX_INT)),
    ("preallocate", "false", Switch),
    ("retention.bytes", "-1", Number(-1, MAX)),
    ("retention.ms", "-1", Number(-1, MAX)),
    ("segment.bytes", "1073741824", Number(1024 * 1024, MAX_INT)),
    ("segment.index.bytes", "10485760", Number(4, MAX_INT)),
    ("segment.jitter.ms", "0", Number(0, MAX)),
    ("segment.ms", "604800000", Number(1, MAX)),
    ("unclean.leader.election.enable", "false", Switch),
];

/// Names and defaults of all settings.
pub fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().map(|(name, default, _)| (*name, *default))
}

/// Whether a setting exists and may have this value.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    let Some((_, _, kind)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("unknown topic config {name:?}"));
    };
    let listed = |words: &[&str], text: &str| words.contains(&text.trim());
    let (fits, expected) = match kind {
        Number(min, max) => {
            let fits = value.trim().parse::<i64>().is_ok_and(|number| (*min..=*max).contains(&number));
            (fits, format!("a number from {min} to {max}"))
        }
        Share => {
            let fits = value.trim().parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number));
            (fits, "a number from 0 to 1".to_owned())
        }
        Switch => (listed(&["true", "false"], value), "true or false".to_owned()),
        OneOf(words) => (listed(words, value), format!("one of {}", words.join(", "))),
        SomeOf(words) => {
            let fits = value.split(',').all(|word| listed(words, word));
            (fits, format!("some of {}, separated by commas", words.join(", ")))
        }
        Text => (true, String::new()),
    };
    if fits { Ok(()) } else { Err(format!("{name} is {value:?}, and must be {expected}")) }
}

/// Whether settings fit to each other.
///
/// # Errors
/// Which do not.
pub fn check_together(config: &TopicConfig) -> Result<(), String> {
    let settings = TopicSettings::of(config);
    let (min, max) = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
    if min <= max {
        return Ok(());
    }
    Err(format!(
        "min.compaction.lag.ms is {min}, and must not be more than max.compaction.lag.ms, which is {max}"
    ))
}

/// The number that `DescribeConfigs` has for what a setting is: 0 if there is no such setting.
#[must_use]
pub fn type_number(name: &str) -> i8 {
    let kind = KNOWN.iter().find(|(known, ..)| *known == name).map(|(.., kind)| *kind);
    match kind {
        Some(Switch) => 1,
        Some(OneOf(_)) => 2,
        Some(Number(_, max)) if max <= MAX_INT => 3,
        Some(Number(..)) => 5,
        Some(Share) => 6,
        // The free ones are lists of replicas.
        Some(SomeOf(_) | Text) => 7,
        None => 0,
    }
}

/// Whether a setting is a list that can be added to.
#[must_use]
pub fn is_list(name: &str) -> bool {
    KNOWN.iter().any(|(known, _, kind)| *known == name && matches!(kind, SomeOf(_)))
}

/// The settings of a topic this broker acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Records are given the broker's time.
    pub stamps_append_time: bool,
    /// Old segments go.
    pub deletes: bool,
    /// Older records of the same key go.
    pub compacts: bool,
    /// A segment goes when its newest record is older than this, milliseconds.
    pub retention_ms: Option<i64>,
    /// The oldest segment goes when the others have more bytes than this.
    pub retention_bytes: Option<u64>,
    /// The segment in use is left when it would grow beyond this.
    pub segment_bytes: u64,
    /// The segment in use is left when its first record is older than this, milliseconds.
    pub segment_ms: i64,
    /// Longest batch.
    pub max_message_bytes: usize,
    /// How far a record's time may be ahead of the broker's, milliseconds.
    pub ahead_max_ms: i64,
    /// How far a record's time may be behind the broker's, milliseconds.
    pub behind_max_ms: i64,
    /// How long a tombstone can be seen after compaction, milliseconds.
    pub delete_retention_ms: i64,
    /// A record younger than this is not compacted, milliseconds.
    pub min_compaction_lag_ms: i64,
    /// A record older than this is compacted although little else is new, milliseconds.
    pub max_compaction_lag_ms: i64,
    /// Batches are stored in this codec; `None`: as they come.
    pub codec: Option<Codec>,
    /// Its level, if it has some and one is set.
    pub level: Option<i32>,
    /// Compaction is worth it when this much of the log has not been compacted, percent.
    pub min_dirty_percent: u8,
}

impl TopicSettings {
    /// From what is set, and the defaults for the rest.
    #[must_use]
    pub fn of(config: &TopicConfig) -> Self {
        let text = |name: &str| -> &str {
            let default =
                || KNOWN.iter().find(|(known, ..)| *known == name).map_or("", |(_, value, _)| value);
            config.get(name).map_or_else(default, String::as_str).trim()
        };
        // What is stored was checked; a journal edited by hand falls back to "no limit".
        let number = |name: &str, otherwise: i64| text(name).parse().unwrap_or(otherwise);
        let has_policy = |policy: &str| text("cleanup.policy").split(',').any(|word| word.trim() == policy);
        Self {
            stamps_append_time: text("message.timestamp.type") == "LogAppendTime",
            deletes: has_policy("delete"),
            compacts: has_policy("compact"),
            retention_ms: Some(number("retention.ms", -1)).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(number("retention.bytes", -1)).ok(),
            segment_bytes: u64::try_from(number("segment.bytes", MAX)).unwrap_or(u64::MAX),
            segment_ms: number("segment.ms", MAX),
            max_message_bytes: usize::try_from(number("max.message.bytes", MAX)).unwrap_or(usize::MAX),
            ahead_max_ms: number("message.timestamp.after.max.ms", MAX),
            behind_max_ms: number("message.timestamp.before.max.ms", MAX),
            delete_retention_ms: number("delete.retention.ms", MAX),
            min_compaction_lag_ms: number("min.compaction.lag.ms", 0),
            max_compaction_lag_ms: number("max.compaction.lag.ms", MAX),
            codec: Codec::of_setting(text("compression.type")),
            level: match text("compression.type") {
                "gzip" => text("compression.gzip.level").parse().ok().filter(|level| *level >= 0),
                "zstd" => text("compression.zstd.level").parse().ok(),
                _ => None,
            },
            min_dirty_percent: percent(text("min.cleanable.dirty.ratio")),
        }
    }
}

/// Out of a checked share between 0 and 1.
fn percent(share: &str) -> u8 {
    let share: f64 = share.parse().unwrap_or(0.5);
    (share * 100.0).round().clamp(0.0, 100.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_legal_value() {
        for (name, value) in defaults() {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        assert_eq!(check("retention.mss", "1"), Err("unknown topic config \"retention.mss\"".to_owned()));
        let error = check("retention.ms", "soon").unwrap_err();
        assert_eq!(error, format!("retention.ms is \"soon\", and must be a number from -1 to {MAX}"));
        assert!(check("retention.bytes", "-2").is_err());
        assert!(check("cleanup.policy", "compact,delete").is_ok());
        assert!(check("cleanup.policy", "compact,shred").is_err());
        assert!(check("min.cleanable.dirty.ratio", "1.1").is_err());
    }
}
