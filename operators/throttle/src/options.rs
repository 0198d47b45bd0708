//! What the user wrote under `throttle`.

use pelton_sdk::{OptionError, Options};
use serde_json::{Value, json};
use std::time::Duration;

/// The options, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub records: Option<Limit>,
    pub bytes: Option<Limit>,
    /// The tasks share the limits.
    pub shared: bool,
    pub drop: bool,
    /// Records that may wait.
    pub buffer: usize,
}

/// A rate a second, and what may pass at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub rate: f64,
    pub burst: f64,
}

const KNOWN: &[&str] = &["records", "bytes", "per", "burst", "burstBytes", "share", "onExcess", "buffer"];
const EXAMPLE: &str = "write `throttle: { records: 500 }`";
/// Part of a second whose allowance may pass at once unless said: long enough to fill batches, short enough that a
/// second looks even.
const BURST_SECONDS: f64 = 0.1;
const BUFFER: u64 = 1000;
/// Records are kept with their batches: beyond this a worker's memory would go into one operator.
const MAX_BUFFER: u64 = 1_000_000;

pub(crate) fn schema() -> schemars::Schema {
    let size = |text: &str| json!({ "type": "string", "description": text, "examples": ["10MiB"] });
    schemars::json_schema!({
        "type": "object",
        "description": "Shapes the flow of records.",
        "properties": {
            "records": { "type": "integer", "minimum": 1, "description": "Records for each `per`." },
            "bytes": size("Bytes of keys, values and headers for each `per`."),
            "per": { "type": "string", "default": "1s", "description": "The time that the limits are for." },
            "burst": { "type": "integer", "minimum": 1, "description": "Records that may pass at once." },
            "burstBytes": size("Bytes that may pass at once."),
            "share": {
                "enum": ["task", "pipeline"],
                "default": "task",
                "description": "task: each task has the whole limit; pipeline: the tasks share it.",
            },
            "onExcess": {
                "enum": ["delay", "drop"],
                "default": "delay",
                "description": "What happens to records beyond the limit.",
            },
            "buffer": {
                "type": "integer", "minimum": 1, "maximum": MAX_BUFFER, "default": BUFFER,
                "description": "Records that may wait.",
            },
        },
        "additionalProperties": false,
    })
}

pub(crate) fn parse(options: &Value) -> Result<Settings, Vec<OptionError>> {
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let per = read.duration("per").unwrap_or(Duration::from_secs(1));
    let records = read.whole("records", 1..=u64::MAX);
    let bytes = read.size("bytes");
    let burst = read.whole("burst", 1..=u64::MAX);
    let burst_bytes = read.size("burstBytes");
    let share = read.choice("share", &[("task", false), ("pipeline", true)]);
    let drop = read.choice("onExcess", &[("delay", false), ("drop", true)]).unwrap_or(false);
    let buffer = read.whole("buffer", 1..=MAX_BUFFER);
    for (limit, burst, name) in [("records", "burst", "records"), ("bytes", "burstBytes", "bytes")] {
        if read.get(limit).is_none() && read.get(burst).is_some() {
            read.wrong(burst, format!("`{burst}` belongs to `{name}`"), format!("give `{name}` as well"));
        }
    }
    if read.get("records").is_none() && read.get("bytes").is_none() {
        read.missing("records` or `bytes", EXAMPLE);
    }
    if drop && read.get("buffer").is_some() {
        read.wrong("buffer", "`buffer` belongs to `onExcess: delay`", "nothing waits with `onExcess: drop`");
    }
    let limit = |amount: Option<u64>, burst: Option<u64>| {
        let rate = amount? as f64 / per.as_secs_f64();
        Some(Limit { rate, burst: burst.map_or((rate * BURST_SECONDS).max(1.0), |n| n as f64) })
    };
    let settings = Settings {
        records: limit(records, burst),
        bytes: limit(bytes, burst_bytes),
        shared: share.unwrap_or(false),
        drop,
        buffer: buffer.unwrap_or(BUFFER) as usize,
    };
    read.finish(Some(settings))
}
