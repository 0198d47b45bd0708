//! What a source reads, as the JSON that a chain works on.

use crate::{
    csv::{Csv, CsvError},
    json_text::{self, Kind, KindError},
    logfmt::{self, LogfmtError},
    scan::{self, JsonError},
    value,
};

/// How much of a JSON record is checked where it enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Utf8 {
    /// Only what a program reads is checked; bytes that are no UTF-8 pass elsewhere as they came.
    #[default]
    Lazy,
    /// A record that is no UTF-8 fails at the source.
    Strict,
}

/// What decoding or encoding made of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converted {
    /// The value serves as it is; nothing was appended.
    Unchanged,
    /// The new value was appended.
    Written,
    /// The value is no record (a CSV header line); nothing was appended.
    Skipped,
}

/// A value does not have the form its source says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No text, or no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// No row of this table.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// No logfmt line.
    #[error(transparent)]
    Logfmt(#[from] LogfmtError),
    /// The text does not have the type its field is declared with.
    #[error("field {name}: {error}")]
    Kind {
        /// The field.
        name: String,
        /// What it holds instead.
        error: KindError,
    },
}

/// Types of fields that would be strings otherwise, by name.
pub type Kinds = Vec<(String, Kind)>;

/// Turns values into JSON. Values without bytes (tombstones) have no form and are not given to it.
#[derive(Clone, Debug)]
pub struct Decoder(Form);

#[derive(Clone, Debug)]
enum Form {
    Json(Utf8),
    Text,
    Bytes,
    Csv(Box<Csv>, Kinds),
    Logfmt(Kinds),
}

impl Decoder {
    /// JSON, as it is. Its structure is checked by whoever reads it first.
    pub fn json(utf8: Utf8) -> Self {
        Self(Form::Json(utf8))
    }

    /// Any UTF-8 text: it becomes `{"message": TEXT}`.
    pub fn text() -> Self {
        Self(Form::Text)
    }

    /// Anything, as it is: operators that read JSON will refuse what is none.
    pub fn bytes() -> Self {
        Self(Form::Bytes)
    }

    /// One row of CSV; fields are strings except those in `kinds`.
    pub fn csv(csv: Csv, kinds: Kinds) -> Self {
        Self(Form::Csv(Box::new(csv), kinds))
    }

    /// One logfmt line (`level=info msg="a text" ready`); fields are strings except those in `kinds`, a name alone is
    /// `true`.
    pub fn logfmt(kinds: Kinds) -> Self {
        Self(Form::Logfmt(kinds))
    }

    /// Whether values are the JSON they become, and nothing is checked: a caller need not ask.
    pub fn passes_all(&self) -> bool {
        matches!(self.0, Form::Bytes | Form::Json(Utf8::Lazy))
    }

    /// Append the JSON of one value to `out`.
    ///
    /// # Errors
    /// The value does not have this form; `out` is as before.
    pub fn decode(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<Converted, DecodeError> {
        let start = out.len();
        let done = self.append(value, out);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    fn append(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<Converted, DecodeError> {
        match &mut self.0 {
            Form::Bytes | Form::Json(Utf8::Lazy) => Ok(Converted::Unchanged),
            Form::Json(Utf8::Strict) => {
                scan::check_text(value)?;
                Ok(Converted::Unchanged)
            }
            Form::Text => {
                out.extend_from_slice(br#"{"message":"#);
                json_text::write_string(out, text(value)?);
                out.push(b'}');
                Ok(Converted::Written)
            }
            Form::Csv(csv, kinds) => {
                text(value)?;
                let Some(row) = csv.read(value)? else { return Ok(Converted::Skipped) };
                write_fields(out, kinds, row.map(|(name, text)| (name, Some(text))))?;
                Ok(Converted::Written)
            }
            Form::Logfmt(kinds) => {
                let fields = logfmt::read(text(value)?)?;
                write_fields(out, kinds, fields.iter().map(|(name, text)| (*name, text.as_deref())))?;
                Ok(Converted::Written)
            }
        }
    }
}

fn text(value: &[u8]) -> Result<&str, JsonError> {
    scan::check_text(value)?;
    value::plain_text(value, 0..value.len())
}

/// An object of fields; a field without a text is `true`.
fn write_fields<'a>(
    out: &mut Vec<u8>,
    kinds: &Kinds,
    fields: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<(), DecodeError> {
    out.push(b'{');
    for (n, (name, text)) in fields.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json_text::write_string(out, name);
        out.push(b':');
        match text {
            None => out.extend_from_slice(b"true"),
            Some(text) => {
                let kind = kinds.iter().find(|(of, _)| of == name).map_or(Kind::String, |(_, kind)| *kind);
                json_text::write_as(out, kind, text)
                    .map_err(|error| DecodeError::Kind { name: name.to_owned(), error })?;
            }
        }
    }
    out.push(b'}');
    Ok(())
}
