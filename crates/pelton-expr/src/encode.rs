//! The JSON that a chain made, in the form a sink writes.

use crate::{
    csv::CsvWriter,
    decode::Converted,
    logfmt,
    path::{FieldError, Path},
    scan::{self, JsonError},
    value,
};
use pelton_types::fields::Member;
use std::borrow::Cow;

/// A record cannot be written in this form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No JSON object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field without a text.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The text that is the whole output is missing.
    #[error("field {0} is missing or null, and it is what is written")]
    Missing(String),
    /// A member whose name would break the line.
    #[error(
        "the name `{0}` cannot stand in a logfmt line: names hold no spaces, quotes, `=` or control characters"
    )]
    Name(String),
}

/// Turns JSON records into another form.
#[derive(Clone, Debug)]
pub struct Encoder(Form);

#[derive(Clone, Debug)]
enum Form {
    AsIs,
    Text(Path),
    Csv(Box<CsvWriter>),
    Logfmt,
}

impl Encoder {
    /// JSON, as it is.
    pub fn json() -> Self {
        Self(Form::AsIs)
    }

    /// Anything, as it is.
    pub fn bytes() -> Self {
        Self(Form::AsIs)
    }

    /// The text of one field: a string without quotes and escapes, a number or a boolean as it is written. The decoder
    /// `text` puts it into `.message`.
    pub fn text(field: Path) -> Self {
        Self(Form::Text(field))
    }

    /// One row: strings without quotes and escapes, objects and arrays as JSON, nothing for what is missing or null.
    pub fn csv(writer: CsvWriter) -> Self {
        Self(Form::Csv(Box::new(writer)))
    }

    /// One line: members in order, objects and arrays as quoted JSON, `null` as an empty text.
    pub fn logfmt() -> Self {
        Self(Form::Logfmt)
    }

    /// Whether records are what they become: a caller need not ask.
    pub fn passes_all(&self) -> bool {
        matches!(self.0, Form::AsIs)
    }

    /// Append the form of one record to `out`.
    ///
    /// # Errors
    /// The record has no such form; `out` is as before.
    pub fn encode(&self, record: &[u8], out: &mut Vec<u8>) -> Result<Converted, EncodeError> {
        let start = out.len();
        let done = self.append(record, out);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    fn append(&self, record: &[u8], out: &mut Vec<u8>) -> Result<Converted, EncodeError> {
        match &self.0 {
            Form::AsIs => return Ok(Converted::Unchanged),
            Form::Text(path) => match path.get(Some(record))? {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => return Err(EncodeError::Missing(path.to_string())),
            },
            Form::Csv(writer) => {
                let members = members(record)?;
                let field = |name: &String| {
                    members.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text)
                };
                writer.write(out, writer.columns.iter().map(field));
            }
            Form::Logfmt => {
                for (n, (name, text)) in members(record)?.iter().enumerate() {
                    if !logfmt::is_name(name) {
                        return Err(EncodeError::Name(name.to_string()));
                    }
                    if n > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(name.as_bytes());
                    out.push(b'=');
                    logfmt::write(out, text);
                }
            }
        }
        Ok(Converted::Written)
    }
}

/// A name and a text.
type Named<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Names and texts of the members of an object; of a name that comes twice the last counts.
fn members(record: &[u8]) -> Result<Vec<Named<'_>>, JsonError> {
    let mut members: Vec<Named<'_>> = Vec::new();
    scan::record(record, |member| {
        let name = if member.key_escaped {
            Cow::Owned(value::text(record, member.quoted_key())?)
        } else {
            Cow::Borrowed(value::plain_text(record, member.key())?)
        };
        let text = text(record, member)?;
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = text,
            None => members.push((name, text)),
        }
        Ok(())
    })?;
    Ok(members)
}

fn text(record: &[u8], member: Member) -> Result<Cow<'_, str>, JsonError> {
    let range = member.value();
    let bytes = &record[range.clone()];
    Ok(match bytes.first() {
        Some(b'"') if member.escaped => Cow::Owned(value::text(record, range)?),
        Some(b'"') => Cow::Borrowed(value::plain_text(record, range.start + 1..range.end - 1)?),
        Some(b'n') => Cow::Borrowed(""),
        _ => Cow::Borrowed(value::plain_text(record, range)?),
    })
}
