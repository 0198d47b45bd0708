//! `tests:` of a pipeline: what goes in, and what is to come out.

use crate::{
    definition::Definition,
    problem::Place,
    reader::{Problems, named},
    suggest,
    units::parse_duration,
    yaml::{Data, Node},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// Most tests of a pipeline, and most records of one list.
const MOST: usize = 10_000;
/// Relative difference at which two numbers are the same unless the test says otherwise: what rounding leaves.
pub const DEFAULT_TOLERANCE: f64 = 1e-9;

/// One test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestDef {
    /// Its name, unique in its pipeline.
    pub name: String,
    /// Where it begins in the file.
    pub place: Place,
    /// What is done, in order.
    pub steps: Vec<TestStep>,
    /// What each sink is to get; sinks that are not named are not looked at.
    pub expect: BTreeMap<String, Expected>,
    /// What is to become a dead letter, in order; none unless given.
    pub dead_letters: Vec<ExpectedLetter>,
    /// Records dropped on purpose: by operator, or in all under an empty name.
    pub filtered: BTreeMap<String, u64>,
    /// Operators that fail on some records.
    pub failures: Vec<Failure>,
    /// Operators that are replaced by answers.
    pub stubs: Vec<Stub>,
}

/// One step of a test.
#[derive(Clone, Debug, PartialEq)]
pub enum TestStep {
    /// Records of one source.
    Send(String, Vec<TestRecord>),
    /// Time passes.
    Advance(Duration),
}

/// A record as a test writes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestRecord {
    /// The value; `None`: a tombstone. A text stands for its bytes, anything else for its JSON.
    pub value: Option<Value>,
    /// The key.
    pub key: Option<String>,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// In which order records are to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As listed.
    #[default]
    Exact,
    /// As listed among those of one key.
    Key,
    /// In any.
    Any,
}

/// What a sink is to get.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Where it stands in the file.
    pub place: Place,
    /// The records.
    pub records: Vec<TestRecord>,
    /// In which order.
    pub order: Order,
    /// Objects may have fields that are not listed.
    pub partial: bool,
    /// Absolute difference at which two numbers are the same; `None`: [`DEFAULT_TOLERANCE`], relative.
    pub tolerance: Option<f64>,
}

/// A dead letter that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedLetter {
    /// A part of the cause.
    pub cause: String,
    /// The operator that refused it.
    pub operator: Option<String>,
    /// The value, as it was read.
    pub value: Option<Value>,
}

/// An operator that fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its name.
    pub operator: String,
    /// On which of the records it is given, counted from 0; `None`: all.
    pub records: Option<Vec<u64>>,
    /// The cause it gives.
    pub cause: String,
}

/// An operator that is replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Stub {
    /// Its name.
    pub operator: String,
    /// Laid over the records it is given, one after the other: fields of an object, or the value as a whole.
    pub answers: Vec<Value>,
}

pub(crate) const TEST_KEYS: [&str; 9] =
    ["name", "send", "advance", "steps", "expect", "deadLetters", "filtered", "fail", "stub"];
pub(crate) const RECORD_KEYS: [&str; 4] = ["value", "key", "headers", "timestamp"];

/// Names that tests may use.
struct Names {
    sources: Vec<String>,
    operators: Vec<String>,
    sinks: Vec<String>,
}

impl Names {
    /// A name that must be one of `known`.
    fn check(problems: &mut Problems, place: Place, what: &str, name: &str, known: &[String]) {
        if !known.iter().any(|k| k == name) {
            let words = known.iter().map(String::as_str);
            let hint = suggest::did_you_mean(name, words.clone())
                .unwrap_or_else(|| format!("there are: {}", suggest::list(words)));
            problems.hint(place, format!("there is no {what} {}", named(name)), Some(hint));
        }
    }
}

impl Definition<'_> {
    /// The value of `tests`. Called when sources, operators and sinks were read.
    pub(crate) fn tests(&mut self, node: &Node, operators: &[String]) -> Vec<TestDef> {
        let Some(items) = list(self.problems, node, "`tests`") else { return Vec::new() };
        let names = Names {
            sources: self.places.sources.keys().cloned().collect(),
            operators: operators.to_vec(),
            sinks: self.places.sinks.keys().cloned().collect(),
        };
        let mut tests: Vec<TestDef> = Vec::new();
        for item in items {
            let Some(test) = test(self.problems, item, &names) else { continue };
            if let Some(first) = tests.iter().find(|other| other.name == test.name) {
                let hint = Some(format!("the first one is in line {}", first.place.line));
                self.problems.hint(test.place, format!("there is a test {:?} already", test.name), hint);
            }
            tests.push(test);
        }
        tests
    }
}

fn list<'n>(problems: &mut Problems, node: &'n Node, what: &str) -> Option<&'n [Node]> {
    match &node.data {
        Data::List(items) if items.len() > MOST => {
            problems.at(node.place, format!("{what} has {} entries, the limit is {MOST}", items.len()));
            None
        }
        Data::List(items) => Some(items),
        _ => {
            let message = format!("{what} must be a list, found {}", node.describe());
            problems.hint(
                node.place,
                message,
                Some("begin each entry with `- `, or write `[ ... ]`".to_owned()),
            );
            None
        }
    }
}

fn test(problems: &mut Problems, node: &Node, names: &Names) -> Option<TestDef> {
    let fields = problems.fields(node, "the test", &TEST_KEYS)?;
    let name = match fields.get("name") {
        Some(node) => problems.text(node, "`name` of the test").map(str::to_owned),
        None => {
            if !fields.meant.iter().any(|meant| meant == "name") {
                let hint = Some("add `name: ...`; reports and `--filter` go by it".to_owned());
                problems.hint(node.place, "the test has no `name`", hint);
            }
            None
        }
    };
    let place = fields.get("name").map_or(node.place, |n| n.place);
    let mut steps = Vec::new();
    if let Some(node) = fields.get("send") {
        send(problems, node, names, &mut steps);
    }
    if let Some(node) = fields.get("advance") {
        steps.extend(advance(problems, node));
    }
    if let Some(node) = fields.get("steps") {
        for item in list(problems, node, "`steps`").unwrap_or_default() {
            step(problems, item, names, &mut steps);
        }
    }
    if steps.is_empty() && fields.get("send").or(fields.get("steps")).is_none() && fields.meant.is_empty() {
        let hint = Some("add `send: { SOURCE: [ ... ] }`, or `steps:` with `send` and `advance`".to_owned());
        problems.hint(node.place, "the test sends nothing", hint);
    }
    let outcomes = ["expect", "deadLetters", "filtered"];
    if outcomes.iter().all(|key| fields.get(key).is_none()) && fields.meant.is_empty() {
        let hint = Some("add `expect: { SINK: [ ... ] }`, `deadLetters` or `filtered`".to_owned());
        problems.hint(node.place, "the test expects nothing", hint);
    }
    let filtered = fields.get("filtered").map(|node| filtered(problems, node, names)).unwrap_or_default();
    Some(TestDef {
        name: name?,
        place,
        steps,
        expect: fields.get("expect").map(|node| expect(problems, node, names)).unwrap_or_default(),
        dead_letters: fields
            .get("deadLetters")
            .map(|node| letters(problems, node, names))
            .unwrap_or_default(),
        filtered,
        failures: one_or_more(fields.get("fail"), |node| failure(problems, node, names)),
        stubs: one_or_more(fields.get("stub"), |node| stub(problems, node, names)),
    })
}

/// One mapping or a list of them.
fn one_or_more<T>(node: Option<&Node>, mut read: impl FnMut(&Node) -> Option<T>) -> Vec<T> {
    match node.map(|node| (node, &node.data)) {
        None => Vec::new(),
        Some((_, Data::List(items))) => items.iter().filter_map(read).collect(),
        Some((node, _)) => read(node).into_iter().collect(),
    }
}

fn step(problems: &mut Problems, node: &Node, names: &Names, steps: &mut Vec<TestStep>) {
    let Some(fields) = problems.fields(node, "the step", &["send", "advance"]) else { return };
    if let Some(node) = fields.get("send") {
        send(problems, node, names, steps);
    }
    if let Some(node) = fields.get("advance") {
        steps.extend(advance(problems, node));
    }
}

fn advance(problems: &mut Problems, node: &Node) -> Option<TestStep> {
    let text = problems.text(node, "`advance`")?;
    match parse_duration(text) {
        Ok(time) => Some(TestStep::Advance(time)),
        Err(message) => {
            problems.at(node.place, format!("`advance`: {message}"));
            None
        }
    }
}

fn send(problems: &mut Problems, node: &Node, names: &Names, steps: &mut Vec<TestStep>) {
    for (key, node) in problems.mapping(node, "`send`").unwrap_or_default() {
        Names::check(problems, key.place, "source", &key.name, &names.sources);
        steps.push(TestStep::Send(key.name.clone(), records(problems, node, &key.name)));
    }
}

fn records(problems: &mut Problems, node: &Node, owner: &str) -> Vec<TestRecord> {
    let items = list(problems, node, &format!("the records of `{owner}`")).unwrap_or_default();
    items.iter().map(|item| record(problems, item)).collect()
}

/// A record: its value, or a mapping of its parts, which is one that has `value` and no other keys than theirs.
fn record(problems: &mut Problems, node: &Node) -> TestRecord {
    let whole = |value: Value| Some(value).filter(|value| !value.is_null());
    let parts = match &node.data {
        Data::Mapping(entries)
            if entries.iter().any(|(key, _)| key.name == "value")
                && entries.iter().all(|(key, _)| RECORD_KEYS.contains(&key.name.as_str())) =>
        {
            problems.fields(node, "the record", &RECORD_KEYS)
        }
        _ => None,
    };
    let Some(parts) = parts else {
        return TestRecord { value: whole(node.to_value()), ..TestRecord::default() };
    };
    let key = parts.get("key").filter(|node| !node.is_null()).and_then(|node| match &node.data {
        Data::Scalar(Value::Number(number)) => Some(number.to_string()),
        _ => problems.text(node, "`key` of the record").map(str::to_owned),
    });
    let mut headers = Vec::new();
    if let Some(node) = parts.get("headers") {
        for (name, node) in problems.mapping(node, "`headers`").unwrap_or_default() {
            let text = problems.text(node, &format!("header `{}`", name.name));
            headers.extend(text.map(|text| (name.name.clone(), text.to_owned())));
        }
    }
    let timestamp_ms = parts.get("timestamp").and_then(|node| match &node.data {
        Data::Scalar(Value::Number(number)) if number.is_i64() => number.as_i64(),
        _ => {
            let message = format!("`timestamp` must be milliseconds since 1970, found {}", node.describe());
            problems.at(node.place, message);
            None
        }
    });
    let value = parts.get("value").and_then(|node| whole(node.to_value()));
    TestRecord { value, key, headers, timestamp_ms }
}

fn expect(problems: &mut Problems, node: &Node, names: &Names) -> BTreeMap<String, Expected> {
    let mut expected = BTreeMap::new();
    for (key, node) in problems.mapping(node, "`expect`").unwrap_or_default() {
        Names::check(problems, key.place, "sink", &key.name, &names.sinks);
        let mut one = Expected {
            place: key.place,
            records: Vec::new(),
            order: Order::Exact,
            partial: false,
            tolerance: None,
        };
        if let Data::Mapping(_) = &node.data {
            let what = format!("what sink `{}` is to get", key.name);
            let known = ["records", "order", "match", "tolerance"];
            let Some(fields) = problems.fields(node, &what, &known) else { continue };
            one.records =
                fields.get("records").map(|node| records(problems, node, &key.name)).unwrap_or_default();
            let orders = [("exact", Order::Exact), ("key", Order::Key), ("any", Order::Any)];
            let order = fields.get("order").and_then(|node| problems.choice(node, "`order`", &orders));
            one.order = order.unwrap_or_default();
            let ways = [("exact", false), ("partial", true)];
            let way = fields.get("match").and_then(|node| problems.choice(node, "`match`", &ways));
            one.partial = way.unwrap_or_default();
            one.tolerance = fields.get("tolerance").and_then(|node| tolerance(problems, node));
        } else {
            one.records = records(problems, node, &key.name);
        }
        expected.insert(key.name.clone(), one);
    }
    expected
}

fn tolerance(problems: &mut Problems, node: &Node) -> Option<f64> {
    let number = match &node.data {
        Data::Scalar(Value::Number(number)) => number.as_f64().filter(|n| *n >= 0.0),
        _ => None,
    };
    if number.is_none() {
        problems.at(node.place, format!("`tolerance` must be a number from 0, found {}", node.describe()));
    }
    number
}

fn letters(problems: &mut Problems, node: &Node, names: &Names) -> Vec<ExpectedLetter> {
    let mut letters = Vec::new();
    for item in list(problems, node, "`deadLetters`").unwrap_or_default() {
        if let Some(cause) = item.as_str() {
            letters.push(ExpectedLetter { cause: cause.to_owned(), operator: None, value: None });
            continue;
        }
        let Some(fields) = problems.fields(item, "the dead letter", &["cause", "operator", "value"]) else {
            continue;
        };
        let text = |problems: &mut Problems, key: &str| {
            fields.get(key).and_then(|n| problems.text(n, &format!("`{key}`"))).map(str::to_owned)
        };
        let operator = text(problems, "operator");
        if let (Some(name), Some(node)) = (&operator, fields.get("operator")) {
            let own: Vec<String> = names.sources.iter().map(|source| format!("{source}.decode")).collect();
            if !own.contains(name) {
                Names::check(problems, node.place, "operator", name, &names.operators);
            }
        }
        letters.push(ExpectedLetter {
            cause: text(problems, "cause").unwrap_or_default(),
            operator,
            value: fields.get("value").map(Node::to_value),
        });
    }
    letters
}

fn filtered(problems: &mut Problems, node: &Node, names: &Names) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut count = |problems: &mut Problems, name: &str, node: &Node| match &node.data {
        Data::Scalar(Value::Number(number)) if number.is_u64() => {
            counts.insert(name.to_owned(), number.as_u64().unwrap_or_default());
        }
        _ => {
            let message = format!("`filtered` must be a number of records, found {}", node.describe());
            problems.at(node.place, message);
        }
    };
    if let Data::Mapping(_) = &node.data {
        for (key, node) in problems.mapping(node, "`filtered`").unwrap_or_default() {
            Names::check(problems, key.place, "operator", &key.name, &names.operators);
            count(problems, &key.name, node);
        }
    } else {
        count(problems, "", node);
    }
    counts
}

fn operator(problems: &mut Problems, node: Option<&Node>, place: Place, names: &Names) -> Option<String> {
    let Some(node) = node else {
        problems.hint(place, "it names no `operator`", Some("add `operator: NAME`".to_owned()));
        return None;
    };
    let name = problems.text(node, "`operator`")?;
    Names::check(problems, node.place, "operator", name, &names.operators);
    Some(name.to_owned())
}

fn failure(problems: &mut Problems, node: &Node, names: &Names) -> Option<Failure> {
    let fields = problems.fields(node, "`fail`", &["operator", "records", "cause"])?;
    let operator = operator(problems, fields.get("operator"), node.place, names);
    let records = match fields.get("records") {
        None => None,
        Some(node) if node.as_str() == Some("all") => None,
        Some(node) => {
            let index = |item: &Node| match &item.data {
                Data::Scalar(Value::Number(number)) => number.as_u64(),
                _ => None,
            };
            let indices = match &node.data {
                Data::List(items) => items.iter().map(index).collect::<Option<Vec<u64>>>(),
                _ => None,
            };
            if indices.is_none() {
                let message =
                    format!("`records` must be `all` or a list of numbers, found {}", node.describe());
                let hint = "records are counted from 0 as the operator is given them: `records: [0, 2]`";
                problems.hint(node.place, message, Some(hint.to_owned()));
            }
            indices
        }
    };
    let cause = fields.get("cause").and_then(|node| problems.text(node, "`cause`"));
    let cause = cause.unwrap_or("the test lets it fail").to_owned();
    Some(Failure { operator: operator?, records, cause })
}

fn stub(problems: &mut Problems, node: &Node, names: &Names) -> Option<Stub> {
    let fields = problems.fields(node, "`stub`", &["operator", "answers"])?;
    let operator = operator(problems, fields.get("operator"), node.place, names);
    let answers = match fields.get("answers") {
        None => {
            let hint = Some("add `answers: [ { label: 3 } ]`, one for each record".to_owned());
            problems.hint(node.place, "the stub has no `answers`", hint);
            return None;
        }
        Some(node) => list(problems, node, "`answers`")?.iter().map(Node::to_value).collect(),
    };
    Some(Stub { operator: operator?, answers })
}
