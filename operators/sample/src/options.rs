//! What the user wrote under `sample`.

use pelton_expr::KeyExpr;
use pelton_sdk::{BuildContext, OptionError, Options};
use serde_json::Value;

/// Which records to keep.
#[derive(Debug)]
pub(crate) enum Rule {
    /// The first of every so many.
    Every(u64),
    /// A share of them.
    Share { rate: f64, seed: u64, key: Option<KeyExpr> },
}

const KNOWN: &[&str] = &["rate", "percent", "every", "key", "seed"];
const EXAMPLE: &str = "write `sample: { percent: 10 }` or `sample: { every: 100 }`";

pub(crate) fn schema() -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Keeps a share of the records.",
        "properties": {
            "rate": {
                "type": "number", "exclusiveMinimum": 0, "maximum": 1,
                "description": "The share to keep.",
            },
            "percent": {
                "type": "number", "exclusiveMinimum": 0, "maximum": 100,
                "description": "The share to keep, in percent.",
            },
            "every": {
                "type": "integer", "minimum": 1,
                "description": "Keep the first of every so many records of a partition.",
            },
            "key": {
                "type": "string", "minLength": 1,
                "description": "All records of a key are kept, or none: a field or a VRL expression.",
            },
            "seed": { "type": "integer", "minimum": 0, "default": 0, "description": "Another number keeps others." },
        },
        "additionalProperties": false,
    })
}

pub(crate) fn parse(options: &Value, context: &BuildContext) -> Result<Rule, Vec<OptionError>> {
    let mut read = Options::of(options, KNOWN, EXAMPLE);
    let rate = read.number("rate", 0.0, 1.0);
    let percent = read.number("percent", 0.0, 100.0);
    let every = read.whole("every", 1..=u64::MAX);
    let seed = read.whole("seed", 0..=u64::MAX).unwrap_or_default();
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
    let given: Vec<_> = ["rate", "percent", "every"].into_iter().filter(|n| read.get(n).is_some()).collect();
    match given[..] {
        [] if read.exist() => {
            read.push(OptionError::at("", "`rate`, `percent` or `every` is missing").hint(EXAMPLE));
        }
        [first, second, ..] => {
            read.wrong(second, format!("there are both `{first}` and `{second}`"), "keep one of them");
        }
        _ => {}
    }
    if read.get("every").is_some() {
        for name in ["key", "seed"].into_iter().filter(|name| read.get(name).is_some()).collect::<Vec<_>>() {
            read.wrong(
                name,
                format!("`{name}` does not go with `every`"),
                "it goes with `rate` and `percent`",
            );
        }
    }
    let rate = rate.or(percent.map(|p| p / 100.0)).unwrap_or(1.0);
    read.finish(Some(match every {
        Some(every) => Rule::Every(every),
        None => Rule::Share { rate, seed, key },
    }))
}
