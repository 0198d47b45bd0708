//! What is wrong with the YAML itself, in words that say what to do.

use super::{MAX_DEPTH, MAX_NODES, MAX_REPEATED, Part, SyntaxError};
use crate::{problem::Place, suggest};
use serde_saphyr::{Error, budget::BudgetBreach};

/// The parser's error in our words.
pub(super) fn tell(error: &Error, part: &Part<'_>, place: Place) -> SyntaxError {
    let say = |message: String, hint: Option<String>| SyntaxError { place, message, hint };
    match error {
        Error::UnknownAnchor { .. } => {
            let line = part.text.lines().nth(place.line.saturating_sub(part.line + 1)).unwrap_or_default();
            let named: String = line.chars().skip(place.column.saturating_sub(1)).collect();
            let named = anchor_at(named.trim_start_matches('*'));
            let known: Vec<&str> =
                part.text.match_indices('&').map(|(at, _)| anchor_at(&part.text[at + 1..])).collect();
            let hint = suggest::did_you_mean(named, known).unwrap_or_else(|| {
                format!("write `&{named}` in front of the value that is to stand here too")
            });
            say(format!("no anchor `&{named}` stands before this alias"), Some(hint))
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(say),
        Error::Budget { .. } => {
            let hint = "make several files of it";
            say(
                format!("the document holds too much: the limit is {MAX_NODES} values"),
                Some(hint.to_owned()),
            )
        }
        other => {
            let message = other.to_string();
            if message.starts_with("alias ") && message.contains("exceeded") {
                let hint = "write out what is meant, or make several pipelines";
                return say(
                    format!("aliases repeat too much: the limit is {MAX_REPEATED} values"),
                    Some(hint.to_owned()),
                );
            }
            if message.contains("depth") || message.contains("nesting") || message.contains("recursion") {
                return too_deep(say);
            }
            let (message, hint) = plain(&message);
            say(message.to_owned(), hint.map(str::to_owned))
        }
    }
}

fn too_deep(say: impl Fn(String, Option<String>) -> SyntaxError) -> SyntaxError {
    let hint = "a definition needs about ten levels: a bracket may be missing";
    say(
        format!("lists and mappings stand too deep in each other: the limit is {MAX_DEPTH} levels"),
        Some(hint.to_owned()),
    )
}

/// The name of an anchor at the beginning of a text.
fn anchor_at(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || ",[]{}".contains(c)).unwrap_or(text.len());
    &text[..end]
}

/// The parser's message without its place, which would count from the beginning of the document, and in our words; and
/// what to do.
fn plain(message: &str) -> (&str, Option<&'static str>) {
    const INDENT: Option<&str> = Some("entries that belong together begin in one column");
    let message = message.split_once(" at line ").map_or(message, |(head, _)| head);
    let known = [
        ("expected string scalar", "a key must be a plain text", Some("put it into quotes")),
        (
            "mapping values are not allowed in this context",
            "`:` is not allowed here",
            Some("check the indentation, or put the text into quotes"),
        ),
        ("did not find expected key", "this line does not fit the mapping it stands in", INDENT),
        ("did not find expected '-' indicator", "this line does not fit the list it stands in", INDENT),
        (
            "did not find expected ',' or '}'",
            "expected `,` or `}`: a `{` above is still open",
            Some("close it, or put a text with `}`, `,` or `:` in it into quotes"),
        ),
        (
            "did not find expected ',' or ']'",
            "expected `,` or `]`: a `[` above is still open",
            Some("close it, or put a text with `]` or `,` in it into quotes"),
        ),
        ("tabs disallowed", "indent with spaces, not with tabs", Some("two spaces for each level are usual")),
        (
            "unclosed quote",
            "unclosed quote",
            Some("close it; a quote inside is written `\\\"` in double quotes, `''` in single ones"),
        ),
        (
            "unclosed bracket",
            "",
            Some("close it with `]` or `}`, or put a text that begins with a bracket into quotes"),
        ),
        ("mismatched bracket", "", Some("close what was opened last first")),
        ("unexpected character", "", Some("in double quotes it may be written as `\\u` and its number")),
    ];
    match known.iter().find(|(theirs, ..)| message.contains(theirs)) {
        Some((_, "", hint)) => (message, *hint),
        Some((_, ours, hint)) => (ours, *hint),
        None => (message, None),
    }
}
