//! Mistakes in programs, and errors of running ones, in words and places a user can act on.

use std::ops::Range;
use vrl::diagnostic::{Diagnostic, DiagnosticList, Note};

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

/// Codes of VRL for an error that nobody handles.
const UNHANDLED: [usize; 3] = [100, 103, 110];
const HANDLE: &str = "handle the error: `!` after a function's name fails the record (`int!(.a)`), `?? VALUE` goes on \
                      with a default; a `schema:` of the source makes the types of fields known";

/// All mistakes of a list, moved left by `shift` bytes and kept within `source`.
pub(crate) fn mistakes(source: &str, list: DiagnosticList, shift: usize) -> Vec<CompileError> {
    list.into_iter().filter(Diagnostic::is_problem).map(|d| mistake(source, &d, shift)).collect()
}

fn mistake(source: &str, diagnostic: &Diagnostic, shift: usize) -> CompileError {
    let primary = diagnostic.labels.iter().find(|l| l.primary).or(diagnostic.labels.first());
    let span = primary.map_or(0..source.len(), |l| {
        let end = l.span.end().saturating_sub(shift).min(source.len());
        l.span.start().saturating_sub(shift).min(end)..end
    });
    let mut message = sentence(&diagnostic.message);
    if let Some(label) = primary.filter(|l| !l.message.is_empty() && !message.contains(&l.message)) {
        message = format!("{message}: {}", sentence(&label.message));
    }
    CompileError { span, message, hint: hint(diagnostic) }
}

/// What to do: the context labels ("did you mean ..."), the notes that advise, and how errors are handled.
fn hint(diagnostic: &Diagnostic) -> Option<String> {
    let context = diagnostic.labels.iter().filter(|l| !l.primary).map(|l| sentence(&l.message));
    let notes = diagnostic.notes.iter().filter_map(|note| match note {
        Note::Hint(text) | Note::Example(text) | Note::Basic(text) => Some(text.trim().to_owned()),
        _ => None,
    });
    let mut parts: Vec<String> = context.chain(notes).filter(|text| !text.is_empty()).collect();
    if UNHANDLED.contains(&diagnostic.code) {
        parts.push(HANDLE.to_owned());
    }
    parts.dedup();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// One line, lowercase at the start, no full stop.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim_end_matches('.').to_owned()
}

/// An error of a run: VRL writes places as `(12:17)`, byte offsets of the program it was given; say line and column of
/// the program the user wrote, which begins `shift` bytes later.
pub(crate) fn placed(source: &str, message: &str, shift: usize) -> String {
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
