//! What the user wrote under `dedupe`.

use crate::MAX_WITHIN;
use pelton_expr::KeyExpr;
use pelton_sdk::{BuildContext, OptionError, Options};
use serde_json::Value;
use std::time::Duration;

/// The options, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `None`: the record's key.
    pub key: Option<KeyExpr>,
    pub within: Duration,
    pub max_keys: usize,
    pub missing: Missing,
}

/// What happens to a record without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Pass,
    Drop,
    Fail,
}

const KNOWN: &[&str] = &["key", "within", "maxKeys", "onMissing"];
const EXAMPLE: &str = "write `dedupe: { key: .id, within: 10m }`";
const WITHIN: Duration = Duration::from_secs(600);
const MAX_KEYS: u64 = 100_000;
/// 720 MB a task.
const MOST_KEYS: u64 = 10_000_000;

pub(crate) fn schema() -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Drops records whose key was seen before. It forgets when it starts.",
        "properties": {
            "key": {
                "type": "string", "minLength": 1,
                "description": "What tells records apart: a field or a VRL expression; the record's key unless given.",
                "examples": [".id", "[.user, .event]"],
            },
            "within": {
                "type": "string", "default": "10m",
                "description": "How long a key is remembered after it was first seen.",
            },
            "maxKeys": {
                "type": "integer", "minimum": 1, "maximum": MOST_KEYS, "default": MAX_KEYS,
                "description": "Keys that a task remembers at most, 72 bytes each.",
            },
            "onMissing": {
                "enum": ["pass", "drop", "fail"], "default": "fail",
                "description": "What happens to a record without a key.",
            },
        },
        "additionalProperties": false,
    })
}

pub(crate) fn parse(options: &Value, context: &BuildContext) -> Result<Settings, Vec<OptionError>> {
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let key = read.text("key").and_then(|text| match KeyExpr::compile(text, context.input.as_deref()) {
        Ok(key) => Some(key),
        Err(mistakes) => {
            for m in mistakes {
                let error = OptionError::at("/key", m.message).span(m.span);
                read.push(OptionError { hint: m.hint, ..error });
            }
            None
        }
    });
    let within = read.duration("within").unwrap_or(WITHIN);
    if within > MAX_WITHIN {
        read.wrong("within", "a key is remembered for 31 days at most", "write a shorter time");
    }
    let max_keys = read.whole("maxKeys", 1..=MOST_KEYS).unwrap_or(MAX_KEYS);
    let words = [("pass", Missing::Pass), ("drop", Missing::Drop), ("fail", Missing::Fail)];
    let missing = read.choice("onMissing", &words).unwrap_or(Missing::Fail);
    read.finish(Some(Settings { key, within, max_keys: max_keys as usize, missing }))
}
