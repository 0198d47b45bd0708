//! Defaults, file, environment and flags, one over the other.

use super::{
    KEYS, Key, Origin, Settings, Type,
    connections::{self, Connections},
    find,
};
use crate::{
    problem::{Place, Problem, Report},
    suggest,
    units::{parse_duration, parse_size},
    yaml::{self, Data, Node},
};
use pelton_sdk::connection::DEFAULT_CONNECTION;
use serde_json::Value;
use std::collections::BTreeMap;

/// What settings are made from, weakest first; defaults lie below all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layers<'a> {
    /// Name and text of a file.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment; variables that do not begin with `PELTON__` are not looked at.
    pub env: &'a [(String, String)],
    /// Dotted name to value, from the command line.
    pub flags: &'a [(String, String)],
}

/// The section that has names of the user's own.
const CONNECTIONS: &str = "connections";
/// Prefix of environment variables.
const PREFIX: &str = "PELTON__";

type Values = BTreeMap<&'static str, (String, Origin)>;

/// Put the layers over each other.
///
/// # Errors
/// Every unknown key and every value of a wrong type, of all layers.
pub fn load(layers: &Layers<'_>) -> Result<Settings, Report> {
    let mut values: Values = KEYS.iter().map(|k| (k.name, (k.default.to_owned(), Origin::Default))).collect();
    let mut problems = Vec::new();
    let mut connections = Connections::new();
    if let Some((name, text)) = layers.file {
        let mut file =
            File { name, values: &mut values, connections: &mut connections, problems: Vec::new() };
        file.read(text);
        let mut found = file.problems;
        found.sort_by_key(|p| (p.line, p.column));
        problems.append(&mut found);
    }
    from_env(layers.env, &mut values, &mut problems);
    from_flags(layers.flags, &mut values, &mut problems);
    problems.extend(said_twice(&values, &connections));
    if problems.is_empty() {
        Ok(Settings::from_values(values, connections))
    } else {
        Err(Report { problems })
    }
}

/// One file that says twice where the default connection leads.
fn said_twice(values: &Values, connections: &Connections) -> Vec<Problem> {
    let Some((_, default)) = connections.get(DEFAULT_CONNECTION) else { return Vec::new() };
    let twice = |key: &&str| match values.get(key) {
        Some((_, Origin::File(file, line, column))) => Some(Problem {
            file: file.clone(),
            line: *line,
            column: *column,
            message: format!("`{key}` and `connections.default` both say where the default connection leads"),
            hint: Some(format!("remove `{key}`; the other is at {default}")),
        }),
        _ => None,
    };
    ["coordinator.kafka", "worker.kafka"].iter().filter_map(twice).collect()
}

fn from_env(env: &[(String, String)], values: &mut Values, problems: &mut Vec<Problem>) {
    for (variable, value) in env {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let dotted = rest.replace("__", ".");
        match KEYS.iter().find(|k| k.name.eq_ignore_ascii_case(&dotted)) {
            None => {
                let own =
                    dotted.split('.').next().is_some_and(|first| first.eq_ignore_ascii_case(CONNECTIONS));
                let own = own.then(|| {
                    "connections are set in the file of `--config`; their secrets may be in the environment".to_owned()
                });
                let near = || {
                    suggest::nearest(&dotted, KEYS.iter().map(|k| k.name))
                        .map(|name| format!("did you mean `{}`?", variable_of(name)))
                };
                let hint =
                    own.or_else(near).or_else(|| Some("`pelton config show` lists all settings".to_owned()));
                problems.push(unplaced(variable, format!("there is no setting `{dotted}`"), hint));
            }
            Some(key) => match check(key, value) {
                Ok(()) => {
                    values.insert(key.name, (value.clone(), Origin::Environment(variable.clone())));
                }
                Err(message) => problems.push(unplaced(variable, message, None)),
            },
        }
    }
}

fn from_flags(flags: &[(String, String)], values: &mut Values, problems: &mut Vec<Problem>) {
    for (name, value) in flags {
        let source = format!("flag for {name}");
        match find(name) {
            None => {
                let hint = suggest::did_you_mean(name, KEYS.iter().map(|k| k.name));
                problems.push(unplaced(&source, format!("there is no setting `{name}`"), hint));
            }
            Some(key) => match check(key, value) {
                Ok(()) => {
                    values.insert(key.name, (value.clone(), Origin::Flag));
                }
                Err(message) => problems.push(unplaced(&source, message, None)),
            },
        }
    }
}

/// The environment variable of a setting.
fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "__").to_uppercase())
}

fn unplaced(source: &str, message: String, hint: Option<String>) -> Problem {
    Problem { file: source.to_owned(), line: 0, column: 0, message, hint }
}

struct File<'a> {
    name: &'a str,
    values: &'a mut Values,
    connections: &'a mut Connections,
    problems: Vec<Problem>,
}

impl File<'_> {
    fn problem(&mut self, place: Place, message: String, hint: Option<String>) {
        let Place { line, column } = place;
        self.problems.push(Problem { file: self.name.to_owned(), line, column, message, hint });
    }

    fn read(&mut self, text: &str) {
        if text.len() > yaml::MAX_BYTES {
            let message = format!("the file has {} bytes, the limit is {}", text.len(), yaml::MAX_BYTES);
            return self.problem(Place::new(1, 1), message, None);
        }
        for (index, part) in yaml::documents(text).iter().enumerate() {
            match yaml::read(part) {
                Err(error) => self.problem(error.place, error.message, error.hint),
                Ok(node) if index > 0 => {
                    self.problem(
                        node.place,
                        "settings are one document".to_owned(),
                        Some("remove `---`".to_owned()),
                    );
                }
                Ok(node) => self.section("", &node),
            }
        }
    }

    fn section(&mut self, prefix: &str, node: &Node) {
        let Data::Mapping(entries) = &node.data else {
            if !node.is_null() {
                let what = if prefix.is_empty() { "settings".to_owned() } else { format!("`{prefix}`") };
                let message = format!("{what} must be a mapping, found {}", node.describe());
                self.problem(node.place, message, None);
            }
            return;
        };
        for (key, value) in entries {
            let name = if prefix.is_empty() { key.name.clone() } else { format!("{prefix}.{}", key.name) };
            let below = format!("{name}.");
            if name == CONNECTIONS {
                let (found, mut problems) = connections::read(self.name, value);
                *self.connections = found;
                self.problems.append(&mut problems);
            } else if let Some(found) = find(&name) {
                self.value(found, value);
            } else if KEYS.iter().any(|k| k.name.starts_with(&below)) {
                self.section(&name, value);
            } else {
                let known = siblings(prefix);
                let hint = suggest::did_you_mean(&key.name, known.iter().copied())
                    .or_else(|| Some(format!("known here: {}", suggest::list(known.iter().copied()))));
                self.problem(key.place, format!("unknown key `{name}`"), hint);
            }
        }
    }

    fn value(&mut self, key: &'static Key, node: &Node) {
        let text = match &node.data {
            Data::Scalar(Value::String(text)) => text.clone(),
            Data::Scalar(Value::Number(number)) => number.to_string(),
            // `kafka:` with nothing behind it means: as if it were not there.
            Data::Scalar(Value::Null) => return,
            _ => {
                let message =
                    format!("`{}` must be {}, found {}", key.name, expected(key.kind), node.describe());
                return self.problem(node.place, message, None);
            }
        };
        match check(key, &text) {
            Ok(()) => {
                let origin = Origin::File(self.name.to_owned(), node.place.line, node.place.column);
                self.values.insert(key.name, (text, origin));
            }
            Err(message) => self.problem(node.place, format!("`{}`: {message}", key.name), None),
        }
    }
}

/// Keys that may stand below a prefix.
fn siblings(prefix: &str) -> Vec<&'static str> {
    let sections = if prefix.is_empty() { &[CONNECTIONS][..] } else { &[] };
    let mut known: Vec<&str> = KEYS
        .iter()
        .filter_map(|k| {
            let rest =
                if prefix.is_empty() { k.name } else { k.name.strip_prefix(prefix)?.strip_prefix('.')? };
            rest.split('.').next()
        })
        .chain(sections.iter().copied())
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

fn expected(kind: Type) -> String {
    match kind {
        Type::Address => "an address such as `127.0.0.1:7461`".to_owned(),
        Type::Bootstrap => "addresses such as `kafka-1:9092,kafka-2:9092`".to_owned(),
        Type::Listeners => "listeners such as `127.0.0.1:9092,SASL_SSL://0.0.0.0:9093`".to_owned(),
        Type::Url => "a URL such as `http://127.0.0.1:7461`".to_owned(),
        Type::Directory | Type::File => "a path".to_owned(),
        Type::Text => "a text".to_owned(),
        Type::Count => "a whole number from 1 to 65536".to_owned(),
        Type::Duration => "a duration such as `10s`".to_owned(),
        Type::Size => "a size such as `512MiB`".to_owned(),
        Type::Choice(choices) => format!("one of {}", suggest::list(choices.iter().copied())),
    }
}

/// Whether a text is a value of this setting.
fn check(key: &Key, text: &str) -> Result<(), String> {
    let wrong = || {
        let shown = if key.secret { "the value".to_owned() } else { yaml::quote(text) };
        format!("{shown} is not {}", expected(key.kind))
    };
    let fine = match key.kind {
        Type::Text => true,
        Type::Directory | Type::File => !text.is_empty(),
        Type::Address => is_address(text),
        Type::Bootstrap => text.split(',').all(|one| is_address(one.trim())),
        Type::Listeners => text.split(',').all(is_listener),
        Type::Url => is_url(text),
        Type::Count => text.parse::<u32>().is_ok_and(|n| (1..=65_536).contains(&n)),
        Type::Duration => return parse_duration(text).map(|_| ()),
        Type::Size => return parse_size(text).map(|_| ()),
        Type::Choice(choices) => choices.contains(&text),
    };
    if fine { Ok(()) } else { Err(wrong()) }
}

/// An address, after a protocol or without one. Which protocols there are is the queue's to say.
fn is_listener(text: &str) -> bool {
    is_address(text.trim().split_once("://").map_or(text.trim(), |(_, address)| address))
}

/// `host:port`, `[v6]:port`.
pub(super) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    (bracketed || plain) && !port.is_empty() && port.parse::<u16>().is_ok()
}

pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(authority) = rest.and_then(|rest| rest.split('/').next()) else { return false };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    is_address(host) || is_address(&format!("{host}:80"))
}
