//! A YAML text as nodes that know their place.

mod mistakes;

use crate::problem::Place;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// Largest file that is read.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting; an operator's options take about ten.
const MAX_DEPTH: usize = 64;
/// Most nodes and, apart from that, most nodes that aliases may repeat: a bomb ends here, a file of 1 MiB does not.
const MAX_NODES: usize = 300_000;
const MAX_REPEATED: usize = 20_000;

/// A key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub name: String,
    pub place: Place,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub place: Place,
    /// Where the text of a scalar begins, as a byte of the file and as a place; `None` when it is not known or not the
    /// text of the file (no longer, after substitution).
    pub source: Option<(usize, Place)>,
    pub data: Data,
}

impl Node {
    /// As JSON.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(Node::to_value).collect(),
            Data::Mapping(entries) => Value::Object(
                entries.iter().map(|(k, n)| (k.name.clone(), n.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// From JSON, without places.
    pub fn from_value(value: &Value) -> Self {
        let data = match value {
            Value::Array(items) => Data::List(items.iter().map(Node::from_value).collect()),
            Value::Object(entries) => {
                let key = |name: &String| Key { name: name.clone(), place: Place::default() };
                Data::Mapping(entries.iter().map(|(k, v)| (key(k), Node::from_value(v))).collect())
            }
            scalar => Data::Scalar(scalar.clone()),
        };
        Self { place: Place::default(), source: None, data }
    }

    /// The text of a scalar that is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Nothing was written here.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Scalar(Value::Null))
    }

    /// The node at a JSON pointer with the place of its key, or the nearest one above it.
    pub fn find(&self, pointer: &str) -> (Place, &Node) {
        let mut at = (self.place, self);
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &at.1.data {
                Data::Scalar(_) => None,
                Data::List(items) => {
                    step.parse().ok().and_then(|i: usize| items.get(i)).map(|n| (n.place, n))
                }
                Data::Mapping(entries) => {
                    entries.iter().find(|(k, _)| k.name == step).map(|(key, node)| (key.place, node))
                }
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// What it is, for messages: `a list`, `the text "x"`.
    pub fn describe(&self) -> String {
        match &self.data {
            Data::List(_) => "a list".to_owned(),
            Data::Mapping(_) => "a mapping".to_owned(),
            Data::Scalar(value) => describe(value),
        }
    }
}

/// What a JSON value is, for messages.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// A text in quotes, cut where a message would get too long.
pub(crate) fn quote(text: &str) -> String {
    if text.chars().count() <= 60 {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(57).collect();
    format!("{:?}", format!("{head}..."))
}

/// A mistake of the YAML itself.
pub(crate) struct SyntaxError {
    pub place: Place,
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A document of a file: text between markers, and where it begins.
pub(crate) struct Part<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

/// Cut a file at its `---` lines. A line that begins so is a marker even inside a block scalar, so this needs no parser,
/// and a mistake in one document does not hide those of the next. Parts of comments and directives only are left out.
pub(crate) fn documents(text: &str) -> Vec<Part<'_>> {
    let mut parts = vec![Part { text: "", offset: 0, line: 0 }];
    let (mut offset, mut start) = (0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        {
            start = offset;
            parts.push(Part { text: "", offset, line: number });
        }
        offset += line.len();
        if let Some(part) = parts.last_mut() {
            part.text = &text[start..offset];
        }
    }
    parts.retain(|part| {
        part.text.lines().any(|line| {
            let line = line.trim_start_matches("---").trim_start_matches('\u{feff}').trim();
            !(line.is_empty() || line.starts_with(['#', '%']) || line == "...")
        })
    });
    parts
}

/// Read one document.
pub(crate) fn read(part: &Part<'_>) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPEATED,
        },
        // Both entries reach the visitor, and the checks name the second one together with all other mistakes.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(part.text, options) {
        Ok(root) => Ok(place(root, part)),
        Err(error) => {
            let at = error.location().map_or(Place::new(part.line + 1, 1), |at| shifted(at, part));
            Err(mistakes::tell(error.without_snippet(), part, at))
        }
    }
}

fn shifted(at: Location, part: &Part<'_>) -> Place {
    let line = usize::try_from(at.line()).unwrap_or(1).max(1);
    Place::new(part.line + line, usize::try_from(at.column()).unwrap_or(1).max(1))
}

/// A node as serde gives it.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn place(raw: Spanned<Raw>, part: &Part<'_>) -> Node {
    let at = if raw.referenced.line() == 0 { raw.defined } else { raw.referenced };
    let source = match (&raw.value, raw.defined.span().byte_offset()) {
        (Raw::Scalar(_), Some(offset)) => {
            usize::try_from(offset).ok().map(|offset| (part.offset + offset, shifted(raw.defined, part)))
        }
        _ => None,
    };
    let data = match raw.value {
        Raw::Scalar(value) => Data::Scalar(value),
        Raw::List(items) => Data::List(items.into_iter().map(|item| place(item, part)).collect()),
        Raw::Mapping(entries) => Data::Mapping(
            entries
                .into_iter()
                .map(|(key, value)| {
                    (Key { place: shifted(key.referenced, part), name: key.value }, place(value, part))
                })
                .collect(),
        ),
    };
    Node { place: shifted(at, part), source, data }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

fn float<E>(value: f64) -> Result<Raw, E> {
    Ok(Raw::Scalar(Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)))
}

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        float(value as f64)
    }
    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        float(value as f64)
    }
    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        float(value)
    }
    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_inside_a_block_ends_the_document() {
        let parts = documents("# only a comment\n---\na: |\n  x\n---\nb: 1\n---x: 2\n");
        assert_eq!(
            parts.iter().map(|p| (p.line, p.text)).collect::<Vec<_>>(),
            [(1, "---\na: |\n  x\n"), (4, "---\nb: 1\n---x: 2\n"),]
        );
    }

    #[test]
    fn every_node_knows_its_place() {
        let text = "a: 1\n---\nb:\n  - x\n  - { c: \"é\", d: |\n";
        let node = read(&documents(&format!("{text}    p\n }}\n"))[1]).err().map(|e| e.place);
        assert!(node.is_some_and(|place| place.line > 2));
        let node = read(&documents("a: 1\n---\nb:\n  - x\n  - { c: \"é\", d: 2 }\n")[1]).ok().unwrap();
        let (key, value) = node.find("/b/1/d");
        assert_eq!((key, value.place), (Place::new(5, 15), Place::new(5, 18)));
        assert_eq!(value.source.map(|s| s.0), Some(36));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..10 {
            let many = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{many}]\n"));
        }
        assert!(read(&documents(&text)[0]).is_err());
        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(read(&documents(&deep)[0]).is_err());
    }
}
