//! Lines of `key=value`, as Go services write them.

use std::borrow::Cow;

/// A line is no logfmt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid logfmt at byte {at}: {what}")]
pub struct LogfmtError {
    /// Where, counted from the first byte of the line.
    pub at: usize,
    /// What was expected or is wrong.
    pub what: &'static str,
}

/// A name, and its text if it has one.
pub(crate) type Field<'a> = (&'a str, Option<Cow<'a, str>>);

/// The fields of a line in order, a name alone without a text. Of a name that comes twice the last counts.
pub(crate) fn read(line: &str) -> Result<Vec<Field<'_>>, LogfmtError> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].len() - line[at..].trim_ascii_start().len();
        let rest = &line[at..];
        if rest.is_empty() {
            return Ok(fields);
        }
        let len = rest.find(|c: char| c == '=' || c == '"' || c.is_ascii_whitespace()).unwrap_or(rest.len());
        if len == 0 {
            return Err(LogfmtError { at, what: "expected a name before `=`" });
        }
        let name = &rest[..len];
        at += len;
        let text = match line[at..].strip_prefix('=') {
            None if line[at..].starts_with('"') => {
                return Err(LogfmtError { at, what: "a quote cannot stand in a name" });
            }
            None => None,
            Some(value) => {
                let (text, len) = value_of(value, at + 1)?;
                at += 1 + len;
                Some(text)
            }
        };
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = text,
            None => fields.push((name, text)),
        }
    }
}

/// The text behind `=` and how many bytes of the line it takes.
fn value_of(rest: &str, at: usize) -> Result<(Cow<'_, str>, usize), LogfmtError> {
    let Some(inner) = rest.strip_prefix('"') else {
        let len = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        return match rest[..len].find('"') {
            None => Ok((Cow::Borrowed(&rest[..len]), len)),
            Some(quote) => {
                Err(LogfmtError { at: at + quote, what: "a value with a quote in it must be quoted" })
            }
        };
    };
    let (mut text, mut escaped) = (Cow::Borrowed(""), false);
    for (n, c) in inner.char_indices() {
        let plain = match (escaped, c) {
            (false, '"') => {
                let end = n + 2;
                if rest[end..].starts_with(|c: char| !c.is_ascii_whitespace()) {
                    return Err(LogfmtError {
                        at: at + end,
                        what: "expected a space behind the closing quote",
                    });
                }
                return Ok((text, end));
            }
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (true, 'n') => '\n',
            (true, 'r') => '\r',
            (true, 't') => '\t',
            (_, c) => c,
        };
        match &mut text {
            Cow::Borrowed(_) if !escaped => text = Cow::Borrowed(&inner[..n + c.len_utf8()]),
            // Owned from the first escape on.
            text => text.to_mut().push(plain),
        }
        if escaped {
            escaped = false;
            text = Cow::Owned(text.into_owned());
        }
    }
    Err(LogfmtError { at: at + rest.len(), what: "the closing quote is missing" })
}

/// Whether a text can be a name.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c == '=' || c == '"' || c.is_ascii_whitespace() || c.is_control())
}

/// Append the text behind `=`, quoted where it must be.
pub(crate) fn write(out: &mut Vec<u8>, text: &str) {
    let plain = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'));
    if !text.is_empty() && text.chars().all(plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for &c in text.as_bytes() {
        match c {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', c]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.push(c),
        }
    }
    out.push(b'"');
}
