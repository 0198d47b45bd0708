//! What was expected against what came out, field by field.

use super::bench::{Got, Letter};
use pelton_config::tests::{DEFAULT_TOLERANCE, Expected, ExpectedLetter, Order, TestRecord};
use serde_json::Value;
use std::collections::BTreeSet;

/// Stands for any value in what is expected.
const ANY: &str = "<any>";
/// Characters of a value that a difference shows.
const SHOWN: usize = 120;

/// How values are compared.
#[derive(Clone, Copy)]
struct Way {
    partial: bool,
    tolerance: Option<f64>,
}

/// Differences at one sink.
pub fn sink(name: &str, expected: &Expected, found: &[Got]) -> Vec<String> {
    let way = Way { partial: expected.partial, tolerance: expected.tolerance };
    let wanted: Vec<&TestRecord> = expected.records.iter().collect();
    let found: Vec<&Got> = found.iter().collect();
    let place = format!("sink `{name}`");
    match expected.order {
        Order::Exact => in_order(&place, &wanted, &found, way),
        Order::Any => in_any_order(&place, wanted, found, way),
        Order::Key => {
            let keys: BTreeSet<Option<&str>> = wanted
                .iter()
                .map(|record| record.key.as_deref())
                .chain(found.iter().map(|record| record.key.as_deref()))
                .collect();
            let of = |key: Option<&str>| {
                let place = format!("{place}, key {}", key.unwrap_or("null"));
                let wanted: Vec<_> = wanted.iter().copied().filter(|r| r.key.as_deref() == key).collect();
                let found: Vec<_> = found.iter().copied().filter(|r| r.key.as_deref() == key).collect();
                in_order(&place, &wanted, &found, way)
            };
            keys.into_iter().flat_map(of).collect()
        }
    }
}

fn in_order(place: &str, wanted: &[&TestRecord], found: &[&Got], way: Way) -> Vec<String> {
    let mut lines = Vec::new();
    if wanted.len() != found.len() {
        lines.push(format!("{place}: expected {}, found {}", records(wanted.len()), found.len()));
    }
    for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
        let differences = record(wanted, found, way);
        if !differences.is_empty() {
            lines.push(format!("{place}, record {index}:"));
            lines.extend(differences.into_iter().map(|line| format!("  {line}")));
        }
    }
    lines.extend(wanted.iter().skip(found.len()).map(|r| format!("  missing     {}", shown_record(r))));
    lines.extend(found.iter().skip(wanted.len()).map(|r| format!("  unexpected  {}", shown_got(r))));
    lines
}

fn in_any_order(place: &str, mut wanted: Vec<&TestRecord>, mut found: Vec<&Got>, way: Way) -> Vec<String> {
    wanted.retain(|wanted| {
        let hit = found.iter().position(|found| record(wanted, found, way).is_empty());
        hit.map(|at| found.remove(at)).is_none()
    });
    match (wanted.as_slice(), found.as_slice()) {
        ([], []) => Vec::new(),
        // One is left of each: most likely they are meant to be the same.
        ([wanted], [found]) => {
            let mut lines = vec![format!("{place}, a record:")];
            lines.extend(record(wanted, found, way).into_iter().map(|line| format!("  {line}")));
            lines
        }
        _ => {
            let mut lines = vec![format!("{place}, in any order:")];
            lines.extend(wanted.iter().map(|r| format!("  missing     {}", shown_record(r))));
            lines.extend(found.iter().map(|r| format!("  unexpected  {}", shown_got(r))));
            lines
        }
    }
}

fn records(n: usize) -> String {
    if n == 1 { "1 record".to_owned() } else { format!("{n} records") }
}

/// Differences of one record. What is not said of it is not looked at.
fn record(wanted: &TestRecord, found: &Got, way: Way) -> Vec<String> {
    let mut lines = Vec::new();
    value(wanted.value.as_ref(), found.value.as_deref(), way, &mut lines);
    if wanted.key.is_some() && wanted.key != found.key {
        let shown = |key: &Option<String>| key.clone().unwrap_or_else(|| "null".to_owned());
        lines.push(line("key", &shown(&wanted.key), &shown(&found.key)));
    }
    for (name, text) in &wanted.headers {
        let own: Vec<&str> =
            found.headers.iter().filter(|(n, _)| n == name).map(|(_, text)| text.as_str()).collect();
        if !own.contains(&text.as_str()) {
            let found = own.first().copied().unwrap_or("nothing");
            lines.push(line(&format!("header {name}"), text, found));
        }
    }
    if let Some(time) = wanted.timestamp_ms.filter(|time| *time != found.timestamp_ms) {
        lines.push(line("timestamp", &time.to_string(), &found.timestamp_ms.to_string()));
    }
    lines
}

/// Differences of a value: as JSON where both are, else as texts.
fn value(wanted: Option<&Value>, found: Option<&[u8]>, way: Way, lines: &mut Vec<String>) {
    let (wanted, found) = match (wanted, found) {
        (None, None) => return,
        (Some(wanted), Some(found)) => (wanted, found),
        (wanted, found) => {
            let wanted = wanted.map_or("no value".to_owned(), shown);
            let found = found.map_or("no value".to_owned(), |b| cut(&String::from_utf8_lossy(b)));
            return lines.push(line("value", &wanted, &found));
        }
    };
    let json = serde_json::from_slice::<Value>(found).ok();
    let text = String::from_utf8_lossy(found);
    match (wanted, json) {
        (Value::String(any), _) if any == ANY => {}
        (Value::String(wanted), _) if *wanted == text => {}
        (Value::String(wanted), Some(found)) => match serde_json::from_str::<Value>(wanted) {
            Ok(wanted) => fields("", &wanted, &found, way, lines),
            Err(_) => lines.push(line("value", &cut(wanted), &cut(&text))),
        },
        (wanted, Some(found)) => fields("", wanted, &found, way, lines),
        (wanted, None) => lines.push(line("value", &shown(wanted), &cut(&text))),
    }
}

fn fields(path: &str, wanted: &Value, found: &Value, way: Way, lines: &mut Vec<String>) {
    match (wanted, found) {
        (Value::String(any), _) if any == ANY => {}
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, value) in wanted {
                let path = format!("{path}.{name}");
                match found.get(name) {
                    Some(found) => fields(&path, value, found, way, lines),
                    None => lines.push(line(&path, &shown(value), "nothing")),
                }
            }
            for (name, value) in found.iter().filter(|(name, _)| !way.partial && !wanted.contains_key(*name))
            {
                lines.push(line(&format!("{path}.{name}"), "nothing", &shown(value)));
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            for (index, wanted) in wanted.iter().enumerate() {
                let path = format!("{path}[{index}]");
                match found.get(index) {
                    Some(found) => fields(&path, wanted, found, way, lines),
                    None => lines.push(line(&path, &shown(wanted), "nothing")),
                }
            }
            for (index, value) in found.iter().enumerate().skip(wanted.len()) {
                lines.push(line(&format!("{path}[{index}]"), "nothing", &shown(value)));
            }
        }
        (Value::Number(one), Value::Number(two)) if same(one, two, way.tolerance) => {}
        (wanted, found) if wanted == found => {}
        (wanted, found) => {
            let path = if path.is_empty() { "value" } else { path };
            lines.push(line(path, &shown(wanted), &shown(found)));
        }
    }
}

fn same(one: &serde_json::Number, two: &serde_json::Number, tolerance: Option<f64>) -> bool {
    if one == two {
        return true;
    }
    if tolerance.is_none() && (one.is_i64() || one.is_u64()) && (two.is_i64() || two.is_u64()) {
        return false;
    }
    let (Some(one), Some(two)) = (one.as_f64(), two.as_f64()) else { return false };
    let allowed = tolerance.unwrap_or_else(|| DEFAULT_TOLERANCE * one.abs().max(two.abs()));
    (one - two).abs() <= allowed
}

/// Differences of the dead letters.
pub fn letters(expected: &[ExpectedLetter], found: &[Letter]) -> Vec<String> {
    let mut lines = Vec::new();
    if expected.len() != found.len() {
        lines.push(format!("dead letters: expected {}, found {}", expected.len(), found.len()));
    }
    let way = Way { partial: false, tolerance: None };
    for (index, (wanted, found)) in expected.iter().zip(found).enumerate() {
        let mut differences = Vec::new();
        if !found.cause.contains(&wanted.cause) {
            differences.push(line("cause", &wanted.cause, &found.cause));
        }
        if let Some(operator) = wanted.operator.as_ref().filter(|operator| **operator != found.operator) {
            differences.push(line("operator", operator, &found.operator));
        }
        if let Some(wanted) = &wanted.value {
            value(Some(wanted), found.record.value.as_deref(), way, &mut differences);
        }
        if !differences.is_empty() {
            lines.push(format!("dead letter {index}:"));
            lines.extend(differences.into_iter().map(|line| format!("  {line}")));
        }
    }
    lines.extend(expected.iter().skip(found.len()).map(|letter| format!("  missing     {}", letter.cause)));
    for letter in found.iter().skip(expected.len()) {
        let record = shown_got(&letter.record);
        lines.push(format!("  unexpected  `{}`: {}; the record is {record}", letter.operator, letter.cause));
    }
    lines
}

/// One difference.
fn line(what: &str, expected: &str, found: &str) -> String {
    format!("{what}: expected {expected}, found {found}")
}

fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

fn shown_record(record: &TestRecord) -> String {
    match &record.value {
        None => "no value".to_owned(),
        Some(Value::String(text)) => cut(text),
        Some(value) => shown(value),
    }
}

fn shown_got(record: &Got) -> String {
    record.value.as_ref().map_or("no value".to_owned(), |bytes| cut(&String::from_utf8_lossy(bytes)))
}

fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).collect();
    if out.len() < text.len() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_config::tests::TestRecord;
    use serde_json::json;

    fn differences(wanted: Value, found: &str, partial: bool, tolerance: Option<f64>) -> Vec<String> {
        let mut lines = Vec::new();
        value(Some(&wanted), Some(found.as_bytes()), Way { partial, tolerance }, &mut lines);
        lines
    }

    #[test]
    fn values_are_compared_as_json_and_numbers_with_tolerance() {
        assert!(differences(json!({"a": 1, "b": [1.0]}), r#"{"b":[1],"a":1.0}"#, false, None).is_empty());
        assert!(differences(json!({"a": 0.3}), r#"{"a":0.30000000000000004}"#, false, None).is_empty());
        assert!(differences(json!({"a": 0.3}), r#"{"a":0.31}"#, false, Some(0.02)).is_empty());
        assert!(differences(json!({"a": "<any>"}), r#"{"a":[1,2],"b":1}"#, true, None).is_empty());
        assert!(differences(json!(r#"{"a": 1}"#), r#"{"a":1}"#, false, None).is_empty());
        assert!(differences(json!("a line"), "a line", false, None).is_empty());
        let lines = differences(json!({"a": 1, "c": 2}), r#"{"a":2,"b":"x"}"#, false, None);
        let want =
            [".a: expected 1, found 2", ".c: expected 2, found nothing", ".b: expected nothing, found \"x\""];
        assert_eq!(lines, want);
        assert_eq!(
            differences(json!({"a": 9007199254740993_i64}), r#"{"a":9007199254740992}"#, false, None).len(),
            1
        );
    }

    fn got(key: &str, value: &str) -> Got {
        Got { key: Some(key.into()), value: Some(value.into()), headers: vec![], timestamp_ms: 0 }
    }

    fn expected(order: Order, records: &[(&str, Value)]) -> Expected {
        let record = |(key, value): &(&str, Value)| TestRecord {
            value: Some(value.clone()),
            key: Some((*key).to_owned()),
            ..TestRecord::default()
        };
        let records = records.iter().map(record).collect();
        Expected { place: Default::default(), records, order, partial: false, tolerance: None }
    }

    #[test]
    fn order_counts_as_far_as_it_is_asked_for() {
        let found = [got("a", "1"), got("b", "2"), got("a", "3")];
        let wanted = [("b", json!(2)), ("a", json!(1)), ("a", json!(3))];
        assert!(sink("s", &expected(Order::Any, &wanted), &found).is_empty());
        assert!(sink("s", &expected(Order::Key, &wanted), &found).is_empty());
        assert!(!sink("s", &expected(Order::Exact, &wanted), &found).is_empty());
        let swapped = [("b", json!(2)), ("a", json!(3)), ("a", json!(1))];
        assert!(sink("s", &expected(Order::Any, &swapped), &found).is_empty());
        assert!(!sink("s", &expected(Order::Key, &swapped), &found).is_empty());
        let short = sink("s", &expected(Order::Exact, &wanted[..1]), &found[..2]);
        assert_eq!(short[0], "sink `s`: expected 1 record, found 2");
        assert_eq!(short.last().map(String::as_str), Some("  unexpected  2"));
    }
}
