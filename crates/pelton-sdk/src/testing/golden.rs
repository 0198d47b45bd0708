//! Golden cases: what an operator makes of records, written down in YAML.
//!
//! A file holds a list of cases:
//! ```yaml
//! - name: large ones pass
//!   options: ".price > 1000"
//!   send: ['{"price":2000}', '{"price":1}', { value: x, key: a, partition: 1 }, null]
//!   out: ['{"price":2000}']
//!   filtered: 1
//!   failed: ['0: not JSON', '1: null']   # offset and cause
//! - name: options that are wrong
//!   options: 5
//!   mistakes: [': expected a condition']  # pointer and message
//! ```
//! With `steps:` a case has several, each `at` a time: `{ at: 1s, send: [..], flush: true, out: [..], held: 2 }`. What a
//! step does not name is expected to be nothing: `out`, `ports` (by name), `failed`, `filtered`, `expanded`, `merged`,
//! `held`. `wait: true` waits until what works beside the operator has finished, in real time. `ready: false` is expected only where it is said. Records are values, or members to set or compare.

use super::{Bench, Given, bench::join};
use crate::{BuildContext, OperatorFactory, units};
use pelton_types::{Batch, Partition, Record};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    options: Value,
    /// Tasks of the stage, of which this is one.
    #[serde(default = "one")]
    tasks: usize,
    #[serde(default)]
    mistakes: Vec<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

fn one() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Step {
    at: String,
    send: Vec<Value>,
    flush: bool,
    wait: bool,
    out: Vec<Value>,
    ports: BTreeMap<String, Vec<Value>>,
    failed: Vec<String>,
    filtered: u64,
    expanded: u64,
    merged: u64,
    held: u64,
    ready: bool,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            at: String::new(),
            send: Vec::new(),
            flush: false,
            wait: false,
            out: Vec::new(),
            ports: BTreeMap::new(),
            failed: Vec::new(),
            filtered: 0,
            expanded: 0,
            merged: 0,
            held: 0,
            ready: true,
        }
    }
}

/// Run every case of `folder/*.yaml` (pass `concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases")`).
///
/// # Panics
/// When a case comes out otherwise, with all differences; when there is no case.
pub fn golden_cases(factory: &dyn OperatorFactory, folder: impl AsRef<Path>, context: &BuildContext) {
    let mut files: Vec<_> = fs::read_dir(folder.as_ref())
        .unwrap_or_else(|e| panic!("{}: {e}", folder.as_ref().display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    files.sort();
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for case in read(&name, &fs::read_to_string(file).unwrap()) {
            count += 1;
            for difference in run(factory, &case, context) {
                wrong.push(format!("{name}: {}: {difference}", case.name));
            }
        }
    }
    assert!(count > 0, "no golden cases in {}", folder.as_ref().display());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

fn read(file: &str, text: &str) -> Vec<Case> {
    let cases: Vec<BTreeMap<String, Value>> =
        serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{file}: {e}"));
    cases.into_iter().map(|members| one_case(file, members)).collect()
}

/// A case without `steps` is its own only step.
fn one_case(file: &str, mut members: BTreeMap<String, Value>) -> Case {
    if !members.contains_key("steps") && !members.contains_key("mistakes") {
        let own = |name: &String| matches!(name.as_str(), "name" | "options" | "tasks");
        let (case, step): (BTreeMap<_, _>, BTreeMap<_, _>) =
            members.into_iter().partition(|(name, _)| own(name));
        members = case;
        members.insert("steps".into(), json!([step]));
    }
    let text = json!(members);
    serde_json::from_value(text.clone()).unwrap_or_else(|e| panic!("{file}: {e} in {text}"))
}

fn run(factory: &dyn OperatorFactory, case: &Case, context: &BuildContext) -> Vec<String> {
    let context = BuildContext { tasks: case.tasks, ..context.clone() };
    let ports = match factory.check(&case.options, &context) {
        Ok(shape) => shape.ports,
        Err(errors) => {
            let found: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect();
            return differ("mistakes", &case.mistakes, &found).into_iter().collect();
        }
    };
    if !case.mistakes.is_empty() {
        return vec![format!("the options are fine, but these mistakes were expected: {:?}", case.mistakes)];
    }
    let mut bench = Bench::new(factory, &case.options, &context);
    let mut next = BTreeMap::new();
    let mut wrong = Vec::new();
    for (n, step) in case.steps.iter().enumerate() {
        let given = match step.at.as_str() {
            "" => bench.poll(),
            at => bench.advance(units::parse_duration(at).unwrap()),
        };
        wrong.extend(finish(&mut bench, step, given, &ports, &mut next, n));
    }
    wrong
}

/// The step's own part, and what differs from what it expects.
fn finish(
    bench: &mut Bench,
    step: &Step,
    mut given: Given,
    ports: &[String],
    next: &mut BTreeMap<i32, i64>,
    n: usize,
) -> Vec<String> {
    for batch in batches(&step.send, next) {
        let later = bench.send(batch);
        join(&mut given, later);
    }
    if step.flush {
        let later = bench.flush();
        join(&mut given, later);
    }
    if step.wait {
        let later = bench.wait();
        join(&mut given, later);
    }
    let failed: Vec<_> =
        given.failed.iter().map(|f| format!("{}: {}", f.record.records[0].offset, f.cause)).collect();
    let counts = [given.filtered, given.expanded, given.merged, bench.held()];
    let expected = [step.filtered, step.expanded, step.merged, step.held];
    let mut wrong: Vec<_> = differ("failed", &step.failed, &failed).into_iter().collect();
    wrong.extend(differ("[filtered, expanded, merged, held]", &expected, &counts));
    wrong.extend(differ("ready", &[step.ready], &[bench.ready()]));
    let empty = Vec::new();
    for port in 0..=ports.len() {
        let (name, records) = match port.checked_sub(1) {
            None => ("out", &step.out),
            Some(at) => (ports[at].as_str(), step.ports.get(&ports[at]).unwrap_or(&empty)),
        };
        wrong.extend(compare(name, records, &given, port));
    }
    let unknown = step.ports.keys().filter(|name| !ports.contains(name));
    wrong.extend(unknown.map(|name| format!("there is no port `{name}`, only {ports:?}")));
    wrong.into_iter().map(|difference| format!("step {n}: {difference}")).collect()
}

/// Records of the same partition that follow each other are one batch.
fn batches(send: &[Value], next: &mut BTreeMap<i32, i64>) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    for given in send {
        let member = |name: &str| given.get(name).filter(|_| given.is_object());
        let index = member("partition").and_then(Value::as_i64).unwrap_or_default() as i32;
        if all.last().is_none_or(|batch| batch.partition.index != index) {
            all.push(Batch::new(Partition::new("in", index)));
        }
        let batch = all.last_mut().unwrap();
        let offset = next.entry(index).or_default();
        *offset = member("offset").and_then(Value::as_i64).unwrap_or(*offset);
        let value = if given.is_object() { member("value") } else { Some(given) };
        let value = batch.put(value.and_then(Value::as_str).map(str::as_bytes));
        let key = batch.put(member("key").map_or(Some("k"), Value::as_str).map(str::as_bytes));
        let headers = member("headers").and_then(Value::as_object);
        let headers = headers.into_iter().flatten().map(|(n, v)| (n.as_str(), v.as_str().map(str::as_bytes)));
        let headers = batch.put_headers(headers);
        let timestamp_ms = member("timestamp").and_then(Value::as_i64).unwrap_or(7);
        batch.records.push(Record { key, value, headers, timestamp_ms, offset: *offset });
        *offset += 1;
    }
    all.iter_mut().for_each(Batch::mark_origin);
    all
}

/// What an output port gave, against the records expected there: each as far as the expectation says.
fn compare(port: &str, expected: &[Value], given: &Given, number: usize) -> Option<String> {
    let found: Vec<Value> = given
        .emitted
        .iter()
        .filter(|(port, _)| *port == number)
        .flat_map(|(_, batch)| batch.records.iter().map(|record| shown(batch, record)))
        .collect();
    let wanted = |at: usize| expected.get(at).filter(|wanted| wanted.is_object());
    let reduced: Vec<Value> = found
        .iter()
        .enumerate()
        .map(|(at, record)| match wanted(at).and_then(Value::as_object) {
            Some(wanted) => wanted.keys().map(|name| (name.clone(), record[name].clone())).collect(),
            None => record["value"].clone(),
        })
        .collect();
    differ(port, expected, &reduced)
}

fn shown(batch: &Batch, record: &Record) -> Value {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let headers: serde_json::Map<_, _> =
        batch.headers(record).map(|(name, value)| (name.to_owned(), text(value).into())).collect();
    json!({
        "value": text(batch.value(record)),
        "key": text(batch.key(record)),
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "partition": batch.partition.index,
        "rekeyed": batch.rekeyed,
        "headers": headers,
    })
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, expected: &[T], found: &[T]) -> Option<String> {
    (expected != found).then(|| format!("{what}:\n    expected {expected:?}\n    found    {found:?}"))
}
