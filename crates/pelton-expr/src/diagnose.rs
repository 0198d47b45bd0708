//! Mistakes in programs, and errors of running ones, in words and places a user can act on.

use crate::{program::LEFT_OUT, remedy};
use pelton_types::suggest::nearest;
use std::ops::Range;
use vrl::{
    diagnostic::{Diagnostic, DiagnosticList, Note},
    parser::ast::{Expr, RootExpr},
};

/// A mistake in a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// Bytes of the program that are wrong.
    pub span: Range<usize>,
    /// What is wrong: lowercase, with the words of VRL's compiler.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Codes of VRL for an error that nobody handles: of an expression, in an assignment, of an argument's type.
const UNHANDLED: [usize; 3] = [100, 103, 110];
/// Code of VRL for an argument that can never be of the type that is asked for, or only may not be.
const ARGUMENT_TYPE: usize = 110;
/// Of what the parser would accept instead, a longer list helps nobody.
const LONGEST_HINT: usize = 120;

/// Whether a mistake is only that nobody handles an error.
pub(crate) fn is_unhandled(diagnostic: &Diagnostic) -> bool {
    UNHANDLED.contains(&diagnostic.code)
}

/// Answers that a condition computes and drops: of two lines `.a > 1` and `.b > 2` only the last would count, and nobody
/// means that.
pub(crate) fn dropped_answers(source: &str) -> Vec<CompileError> {
    let Ok(ast) = vrl::parser::parse(source) else { return Vec::new() };
    let before_last = ast.0.len().saturating_sub(1);
    let dropped = ast.0.iter().take(before_last).filter_map(|root| match root.inner() {
        RootExpr::Expr(line) => match line.inner() {
            Expr::Op(_) | Expr::Unary(_) | Expr::Literal(_) | Expr::Query(_) | Expr::Variable(_) => {
                Some(line.span())
            }
            _ => None,
        },
        RootExpr::Error(_) => None,
    });
    dropped
        .map(|span| CompileError {
            span: span.range(),
            message: "the answer of this line is dropped, only the last line counts".to_owned(),
            hint: Some("join conditions with `&&` or `||`".to_owned()),
        })
        .collect()
}

/// All mistakes of a list, moved left by `shift` bytes and kept within `source`.
pub(crate) fn mistakes(source: &str, list: &DiagnosticList, shift: usize) -> Vec<CompileError> {
    list.iter().filter(|d| d.is_problem()).map(|d| mistake(source, d, shift)).collect()
}

fn mistake(source: &str, diagnostic: &Diagnostic, shift: usize) -> CompileError {
    let primary = diagnostic.labels.iter().find(|l| l.primary).or(diagnostic.labels.first());
    let span = primary.map_or(0..source.len(), |l| {
        let end = l.span.end().saturating_sub(shift).min(source.len());
        l.span.start().saturating_sub(shift).min(end)..end
    });
    let span = visible(source, span);
    let mut message = sentence(&diagnostic.message);
    if is_unhandled(diagnostic) && !is_impossible(primary.map_or("", |label| &label.message)) {
        let message = "this fails on some records, and nothing says what then".to_owned();
        let hint = Some(remedy::of(source.get(span.clone()).unwrap_or_default()));
        return CompileError { span, message, hint };
    }
    // The parser's message is only "syntax error"; what it met stands in the label.
    if let Some((message, hint)) = primary.and_then(|label| syntax(&label.message, source, &span)) {
        return CompileError { span, message, hint: Some(hint) };
    }
    if message.starts_with("call to undefined") {
        message = format!("{message} `{}`", &source.get(span.clone()).unwrap_or_default());
    } else if let Some(label) = primary.filter(|l| !l.message.is_empty() && !message.contains(&l.message)) {
        message = format!("{message}: {}", sentence(&label.message));
    }
    if diagnostic.code == ARGUMENT_TYPE
        && let Some(wanted) = diagnostic.labels.iter().find(|l| !l.primary && l.message.contains("expects"))
    {
        message = format!("{message}, {}", sentence(&wanted.message));
    }
    let hint = hint(diagnostic, source.get(span.clone()).unwrap_or_default());
    CompileError { span, message, hint }
}

/// What to do: how errors are handled, or the context labels ("did you mean ...") and the notes that advise.
fn hint(diagnostic: &Diagnostic, culprit: &str) -> Option<String> {
    if diagnostic.code == ARGUMENT_TYPE {
        return Some(
            "the function takes another type; convert the value first, or name another field".to_owned(),
        );
    }
    if LEFT_OUT.contains(&culprit) {
        return Some(
            "this function of VRL is left out: a program must not leave its worker or write its log"
                .to_owned(),
        );
    }
    if let Some(hint) = written(&diagnostic.message, culprit, &message_of(diagnostic)) {
        return Some(hint);
    }
    if diagnostic.message.contains("read-only") {
        return Some("a condition cannot change the record; change it in a `map`".to_owned());
    }
    if diagnostic.message.starts_with("call to undefined") {
        return Some(meant(diagnostic.message.contains("variable"), culprit));
    }
    let context = diagnostic.labels.iter().filter(|l| !l.primary).map(|l| sentence(&l.message));
    let notes = diagnostic.notes.iter().filter_map(|note| match note {
        Note::Hint(text) | Note::Example(text) | Note::Basic(text) => Some(text.trim().to_owned()),
        _ => None,
    });
    let useful = |text: &String| !text.is_empty() && text.len() <= LONGEST_HINT;
    let mut parts: Vec<String> = context.chain(notes).filter(useful).collect();
    parts.dedup();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How a thing is written that was written otherwise.
fn written(message: &str, culprit: &str, label: &str) -> Option<String> {
    if message.starts_with("invalid regular expression") {
        return Some(match label.contains("size limit") {
            true => "fewer or smaller repetitions make it smaller".to_owned(),
            false => "the syntax is that of https://docs.rs/regex; a bracket that is meant as such is written `\\(`".to_owned(),
        });
    }
    if message.starts_with("invalid timestamp") {
        return Some("write it as RFC 3339 has it: `t'2024-05-01T12:00:00Z'`".to_owned());
    }
    if message.starts_with("missing function argument") {
        let name = culprit.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next()?;
        return crate::program::signature(name).map(|signature| format!("it is `{signature}`"));
    }
    None
}

fn message_of(diagnostic: &Diagnostic) -> String {
    diagnostic.labels.iter().map(|label| label.message.as_str()).collect::<Vec<_>>().join(" ")
}

/// A place that a person can see: what is missing at the end is missing behind the last character.
fn visible(source: &str, span: Range<usize>) -> Range<usize> {
    let end = source.trim_end().len();
    if span.start >= end && end > 0 { end..end } else { span }
}

/// Whether an argument can never be right, so that handling its error would be no use.
fn is_impossible(label: &str) -> bool {
    label.contains("exact type")
}

/// What an undefined name was to be.
fn meant(variable: bool, culprit: &str) -> String {
    if variable {
        return format!(
            "a field is written with a dot: `.{culprit}`; a variable must be set before: `{culprit} = ...`"
        );
    }
    match nearest(culprit, crate::program::function_names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the functions are those of VRL: https://vector.dev/docs/reference/vrl/functions/".to_owned(),
    }
}

/// Words for what the parser met, and what it should have met.
fn syntax(met: &str, source: &str, span: &Range<usize>) -> Option<(String, String)> {
    if met.contains("unexpected end of program") {
        return Some(("the program ends too early".to_owned(), missing(source)));
    }
    let token = met.strip_prefix("unexpected syntax token: ")?.trim_matches('"');
    let rest = source.get(span.start..)?;
    let shown: String = rest.chars().take_while(|c| !c.is_whitespace()).take(20).collect();
    let hint = match (token, rest.chars().next()) {
        ("InvalidToken", Some('\'')) => "a text stands in double quotes: `\"text\"`",
        ("InvalidToken", Some('$')) => {
            "nothing is put in for `${NAME}` inside a program; write the value itself"
        }
        ("InvalidToken", _) => {
            "names of fields with other characters than letters, digits and `_` stand in quotes: `.\"user id\"`"
        }
        ("Operator", _) => "a line ends an expression: let the operator stand at the end of the line before",
        ("RParen" | "RBracket" | "RBrace", _) => {
            "a value is expected before it, or no bracket of this kind is open"
        }
        ("Equals", _) => "only a field or a variable is set: `.total = ...`; `==` compares",
        _ => "an operator, a line break or `;` is expected before it",
    };
    Some((format!("`{shown}` cannot stand here"), hint.to_owned()))
}

/// What must follow a program that ends too early.
fn missing(source: &str) -> String {
    const OPERATORS: [&str; 18] =
        ["==", "!=", ">=", "<=", "&&", "||", "??", "=", "+", "-", "*", "/", "%", ">", "<", "!", "|", ","];
    let program = source.trim_end();
    if let Some(operator) = OPERATORS.iter().find(|operator| program.ends_with(**operator)) {
        return format!("a value is expected behind `{operator}`");
    }
    match open_bracket(program) {
        Some(quote @ ('"' | '\'')) => format!("a text is still open: `{quote}` is expected"),
        Some(bracket) => {
            let closing = match bracket {
                '(' => ')',
                '[' => ']',
                _ => '}',
            };
            format!("`{bracket}` is still open: `{closing}` is expected")
        }
        None => "an expression is expected behind it".to_owned(),
    }
}

/// The last bracket, or quote, that is open at the end.
fn open_bracket(program: &str) -> Option<char> {
    let mut open = Vec::new();
    let mut chars = program.chars();
    while let Some(c) = chars.next() {
        match (open.last(), c) {
            (Some('"' | '\''), '\\') => drop(chars.next()),
            (Some(quote @ ('"' | '\'')), c) if *quote == c => drop(open.pop()),
            (Some('"' | '\''), _) => {}
            (_, '#') => drop(chars.by_ref().find(|c| *c == '\n')),
            (_, '"' | '\'' | '(' | '[' | '{') => open.push(c),
            (_, ')' | ']' | '}') => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// One line, lowercase at the start, no full stop.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim_end_matches('.').to_owned()
}

/// An error of a run: VRL writes places as `(12:17)`, byte offsets of the program it was given; say line and column of
/// the program the user wrote, which begins `shift` bytes later.
pub(crate) fn placed(source: &str, message: &str, shift: usize) -> String {
    // VRL words a failed `>` like this.
    if let Some((left, right)) =
        message.strip_prefix("can't calculate remainder of type ").and_then(|types| types.split_once(" and "))
    {
        return format!("can't compare {left} with {right}");
    }
    // And like this where a text or a time stands on the left; the same of a function's argument names the function.
    for left in ["string", "timestamp"] {
        let right =
            message.strip_prefix("expected ").and_then(|m| m.strip_prefix(left)?.strip_prefix(", got "));
        if let Some(right) = right.filter(|right| right.bytes().all(|c| c.is_ascii_lowercase())) {
            return format!("can't compare {left} with {right}");
        }
    }
    let mut out = String::with_capacity(message.len() + 16);
    let mut rest = message;
    while let Some(at) = rest.find(" at (") {
        let (before, tail) = rest.split_at(at);
        let inner = &tail[" at (".len()..];
        match inner.split_once(')').and_then(|(span, after)| Some((start_of(span)?, after))) {
            Some((start, after)) => {
                let (line, column) = line_and_column(source, start.saturating_sub(shift));
                out.push_str(before);
                out.push_str(&format!(" at line {line}, column {column} of the program"));
                rest = after;
            }
            None => {
                out.push_str(before);
                out.push_str(" at (");
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out
}

fn start_of(span: &str) -> Option<usize> {
    let (start, end) = span.split_once(':')?;
    end.parse::<usize>().ok()?;
    start.parse().ok()
}

/// Line and column, from 1, columns in characters.
fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    let before = &source.as_bytes()[..at.min(source.len())];
    let line_start = before.iter().rposition(|&c| c == b'\n').map_or(0, |n| n + 1);
    let line = before.iter().filter(|&&c| c == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}
