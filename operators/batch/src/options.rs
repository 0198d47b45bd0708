//! What the user wrote under `batch`.

use pelton_sdk::{OptionError, Options};
use serde_json::Value;
use std::time::Duration;

/// The options, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub records: usize,
    pub bytes: usize,
    pub within: Duration,
    pub per_key: bool,
    pub format: Format,
    pub max_keys: usize,
}

/// What the new value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Array,
    Lines,
}

const KNOWN: &[&str] = &["records", "bytes", "within", "perKey", "format", "maxKeys"];
const EXAMPLE: &str = "write `batch: { records: 100, within: 5s }`";
/// What a queue takes as one record without being told to, about.
const BYTES: u64 = 1 << 20;
const MAX_BYTES: u64 = 64 << 20;
const MAX_RECORDS: u64 = 100_000;
const MAX_KEYS: u64 = 1000;

pub(crate) fn schema() -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Collects records into one.",
        "properties": {
            "records": {
                "type": "integer", "minimum": 1, "maximum": MAX_RECORDS, "default": 100,
                "description": "Records in one at most.",
            },
            "bytes": { "type": "string", "default": "1MiB", "description": "Bytes of the new value at about most." },
            "within": {
                "type": "string", "default": "1s", "description": "How long the first record waits for others.",
            },
            "perKey": {
                "type": "boolean", "default": false, "description": "Only records with the same key go together.",
            },
            "format": {
                "enum": ["array", "lines"], "default": "array",
                "description": "array: a JSON array of the values; lines: the values, one a line.",
            },
            "maxKeys": {
                "type": "integer", "minimum": 1, "maximum": 100_000, "default": MAX_KEYS,
                "description": "With perKey: keys collected at a time.",
            },
        },
        "additionalProperties": false,
    })
}

pub(crate) fn parse(options: &Value) -> Result<Settings, Vec<OptionError>> {
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let records = read.whole("records", 1..=MAX_RECORDS).unwrap_or(100);
    let bytes = read.size("bytes").unwrap_or(BYTES);
    if bytes > MAX_BYTES {
        read.wrong("bytes", "a record of more than 64MiB is none that a queue takes", "write a smaller size");
    }
    let within = read.duration("within").unwrap_or(Duration::from_secs(1));
    let per_key = read.flag("perKey").unwrap_or(false);
    let format = read.choice("format", &[("array", Format::Array), ("lines", Format::Lines)]);
    let max_keys = read.whole("maxKeys", 1..=100_000).unwrap_or(MAX_KEYS);
    if read.get("maxKeys").is_some() && !per_key {
        read.wrong(
            "maxKeys",
            "`maxKeys` belongs to `perKey: true`",
            "without it there is one for each partition",
        );
    }
    read.finish(Some(Settings {
        records: records as usize,
        bytes: bytes as usize,
        within,
        per_key,
        format: format.unwrap_or(Format::Array),
        max_keys: max_keys as usize,
    }))
}
