//! Reading nodes with all mistakes noted.

use crate::{
    problem::{Place, Problem, Report},
    suggest,
    yaml::{Data, Key, Node, quote},
};
use std::collections::{BTreeMap, BTreeSet};

/// Most mistakes that are kept: nobody reads more, and looking for near words takes time.
const MOST: usize = 200;

/// The mistakes found so far.
#[derive(Debug)]
pub(crate) struct Problems {
    file: String,
    found: Vec<Problem>,
    silenced: BTreeSet<Place>,
}

impl Problems {
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new(), silenced: BTreeSet::new() }
    }

    pub fn len(&self) -> usize {
        self.found.len()
    }

    pub fn full(&self) -> bool {
        self.found.len() >= MOST
    }

    pub fn at(&mut self, place: Place, message: impl Into<String>) {
        self.hint(place, message, None);
    }

    pub fn hint(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) {
        if !self.full() && !self.silenced.contains(&place) {
            let Place { line, column } = place;
            self.found.push(Problem { file: self.file.clone(), line, column, message: message.into(), hint });
        }
    }

    /// Say nothing more of this place: what follows from a mistake is no second mistake.
    pub fn silence(&mut self, place: Place) {
        // Without places all nodes stand at one.
        if place.line > 0 {
            self.silenced.insert(place);
        }
    }

    /// The value when there is no mistake.
    pub fn finish<T>(mut self, value: T) -> Result<T, Report> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort_by_key(|p| (p.line, p.column));
        self.found.dedup();
        Err(Report { problems: self.found })
    }

    /// The entries of a mapping; duplicates are noted and left out.
    pub fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<(&'n Key, &'n Node)>> {
        let Data::Mapping(entries) = &node.data else {
            let message = match node.is_null() {
                true => format!("{what} is empty"),
                false => format!("{what} must be a mapping, found {}", node.describe()),
            };
            self.at(node.place, message);
            return None;
        };
        let mut seen = BTreeMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match seen.get(&key.name) {
                Some(Place { line, .. }) => {
                    let hint = Some(format!("the first one is in line {line}"));
                    self.hint(key.place, format!("`{}` stands twice in {what}", key.name), hint);
                }
                None => {
                    seen.insert(&key.name, key.place);
                    kept.push((key, value));
                }
            }
        }
        Some(kept)
    }

    /// The entries of a mapping that may have these keys only.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let mut entries = self.mapping(node, what)?;
        let mut meant = Vec::new();
        entries.retain(|(key, _)| {
            let fine = known.contains(&key.name.as_str());
            if !fine && !self.full() {
                meant.extend(suggest::nearest(&key.name, known.iter().copied()).map(str::to_owned));
                self.unknown_key(key, what, known);
            }
            fine
        });
        Some(Fields { place: node.place, entries, meant })
    }

    pub fn unknown_key(&mut self, key: &Key, what: &str, known: &[&str]) {
        let hint = suggest::did_you_mean(&key.name, known.iter().copied()).or_else(|| match known {
            [] => Some("it takes no keys".to_owned()),
            known => Some(format!("known here: {}", suggest::list(known.iter().copied()))),
        });
        self.hint(key.place, format!("unknown key {} in {what}", named(&key.name)), hint);
    }

    /// A text.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = node.as_str();
        if text.is_none() {
            let hint =
                matches!(node.data, Data::Scalar(serde_json::Value::Number(_) | serde_json::Value::Bool(_)))
                    .then(|| "put it into quotes".to_owned());
            self.hint(node.place, format!("{what} must be a text, found {}", node.describe()), hint);
        }
        text
    }

    /// One of some words.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let names = || choices.iter().map(|(name, _)| *name);
        let Some(text) = node.as_str() else {
            let message = format!("{what} must be {}, found {}", suggest::either(names()), node.describe());
            self.at(node.place, message);
            return None;
        };
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("{what} must be {}, found {}", suggest::either(names()), quote(text));
            self.hint(node.place, message, suggest::did_you_mean(text, names()));
        }
        found
    }

    /// A name by a rule; the message says the rule.
    pub fn name(&mut self, place: Place, what: &str, name: &str, rule: Rule) -> bool {
        let fine = rule.allows(name);
        if !fine {
            self.hint(place, format!("{} is not a valid {what}", quote(name)), Some(rule.text().to_owned()));
        }
        fine
    }
}

/// A name for a message, cut when it is long.
pub(crate) fn named(name: &str) -> String {
    if name.chars().count() > 60 { quote(name) } else { format!("`{name}`") }
}

/// Entries of a mapping.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    /// Of the mapping.
    pub place: Place,
    entries: Vec<(&'n Key, &'n Node)>,
    /// Known keys that unknown ones were taken for: not to be missed as well.
    pub meant: Vec<String>,
}

impl<'n> Fields<'n> {
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| *node)
    }
}

/// What a name may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// RFC 1123 label, as Kubernetes names; no dot, because names are joined with dots into group ids.
    Label,
    /// Names within a pipeline: they become metric labels, and a dot separates a port.
    Word,
    /// Kafka's rule for topics: `org.apache.kafka.common.internals.Topic`.
    Topic,
}

impl Rule {
    pub fn allows(self, name: &str) -> bool {
        let all = |allowed: fn(char) -> bool| name.chars().all(allowed);
        let first = name.chars().next();
        match self {
            Rule::Label => {
                let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
                name.len() <= 63
                    && edge(first)
                    && edge(name.chars().last())
                    && all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            }
            Rule::Word => {
                name.len() <= 63
                    && first.is_some_and(|c| c.is_ascii_alphabetic())
                    && all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            }
            Rule::Topic => {
                !name.is_empty()
                    && name.len() <= 249
                    && name != "."
                    && name != ".."
                    && all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            }
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Rule::Label => "lower-case letters, digits and `-`, at most 63, no `-` at either end",
            Rule::Word => "letters, digits, `-` and `_`, beginning with a letter, at most 63",
            Rule::Topic => "letters, digits, `.`, `_` and `-`, at most 249, not `.` or `..`",
        }
    }
}
