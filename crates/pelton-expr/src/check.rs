//! Records against the schema of their source: one pass over the bytes, nothing decoded.

use crate::{
    scan::{self, JsonError},
    value,
};
use pelton_types::{
    fields::Member,
    schema::{Field, FieldKind, RecordSchema},
};
use std::{borrow::Cow, fmt, ops::Range};

/// Characters of a value that an error repeats.
const REPEATED: usize = 40;

/// A record does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but no object.
    #[error("the record must be an object, found {0}")]
    NoObject(String),
    /// A field that is not there.
    #[error("field `{path}` is missing, expected {expected}")]
    Missing {
        /// The field: `.shipping.zip`.
        path: String,
        /// What the schema says.
        expected: String,
    },
    /// A field of another type.
    #[error("field `{path}` must be {expected}, found {found}")]
    Type {
        /// The field: `.lines[2].sku`.
        path: String,
        /// What the schema says.
        expected: String,
        /// What is there, its beginning if it is long.
        found: String,
    },
}

/// A schema made ready; one for each thread.
#[derive(Clone, Debug)]
pub struct SchemaCheck {
    fields: Vec<(String, Check)>,
    /// Which fields the record in hand has.
    seen: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Check {
    kind: Kind,
    optional: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain(FieldKind),
    Array(Box<Check>),
    Object(SchemaCheck),
}

impl SchemaCheck {
    /// A check of this schema.
    pub fn new(schema: &RecordSchema) -> Self {
        let fields: Vec<_> =
            schema.fields.iter().map(|(name, field)| (name.clone(), Check::new(field))).collect();
        Self { seen: vec![false; fields.len()], fields }
    }

    /// Whether a JSON record fits: every field of the schema is there, unless it is optional, and has its type. Other
    /// fields may be there too.
    ///
    /// # Errors
    /// The first field that does not fit, or what is no JSON.
    pub fn check(&mut self, record: &[u8]) -> Result<(), SchemaError> {
        scan::check_text(record)?;
        let start = scan::root(record);
        if !matches!(record.get(start), None | Some(b'{')) {
            let range = scan::any_record::<JsonError>(record)?;
            return Err(SchemaError::NoObject(found(&record[range])));
        }
        let mut wrong = None;
        self.begin();
        let mut next = 0;
        scan::record(record, |member| {
            if wrong.is_none() {
                wrong = self.member(record, member, &mut next)?.err();
            }
            Ok::<_, JsonError>(())
        })?;
        wrong.map_or_else(|| self.complete(), Err)
    }

    fn begin(&mut self) {
        self.seen.iter_mut().for_each(|seen| *seen = false);
    }

    /// Check one member; fields mostly come in the order of the record before, so `next` is looked at first.
    fn member(
        &mut self,
        record: &[u8],
        member: Member,
        next: &mut usize,
    ) -> Result<Result<(), SchemaError>, JsonError> {
        let key = if member.key_escaped {
            Cow::Owned(value::text(record, member.quoted_key())?.into_bytes())
        } else {
            Cow::Borrowed(&record[member.key()])
        };
        let hit = |(name, _): &(String, Check)| name.as_bytes() == &*key;
        let at = match self.fields.get(*next).filter(|field| hit(field)) {
            Some(_) => Some(*next),
            None => self.fields.iter().position(hit),
        };
        let Some(at) = at else { return Ok(Ok(())) };
        *next = at + 1;
        self.seen[at] = true;
        let (name, check) = &mut self.fields[at];
        Ok(check.value(record, member.value(), member.escaped).map_err(|error| error.under(&step(name))))
    }

    fn object(&mut self, record: &[u8], start: usize) -> Result<(), SchemaError> {
        let mut wrong = None;
        self.begin();
        let mut next = 0;
        scan::object(record, start, |member| {
            if wrong.is_none() {
                wrong = self.member(record, member, &mut next)?.err();
            }
            Ok::<_, JsonError>(())
        })?;
        wrong.map_or_else(|| self.complete(), Err)
    }

    fn complete(&self) -> Result<(), SchemaError> {
        let missing =
            self.fields.iter().zip(&self.seen).find(|((_, check), seen)| !**seen && !check.optional);
        match missing {
            None => Ok(()),
            Some(((name, check), _)) => {
                Err(SchemaError::Missing { path: step(name), expected: check.kind.to_string() })
            }
        }
    }
}

impl Check {
    fn new(field: &Field) -> Self {
        let kind = match &field.kind {
            FieldKind::Array(items) => Kind::Array(Box::new(Check::new(items))),
            FieldKind::Object(schema) => Kind::Object(SchemaCheck::new(schema)),
            plain => Kind::Plain(plain.clone()),
        };
        Self { kind, optional: field.optional }
    }

    /// Check the value at a range of a record that was scanned.
    fn value(&mut self, record: &[u8], range: Range<usize>, escaped: bool) -> Result<(), SchemaError> {
        let text = &record[range.clone()];
        let first = text.first().copied().unwrap_or_default();
        if first == b'n' && self.optional {
            return Ok(());
        }
        let fits = match &mut self.kind {
            Kind::Plain(kind) => plain(kind, text, first, escaped),
            Kind::Array(items) if first == b'[' => return items.elements(record, range.start),
            Kind::Object(schema) if first == b'{' => return schema.object(record, range.start),
            Kind::Array(_) | Kind::Object(_) => false,
        };
        if fits {
            return Ok(());
        }
        Err(SchemaError::Type { path: String::new(), expected: self.kind.to_string(), found: found(text) })
    }

    fn elements(&mut self, record: &[u8], start: usize) -> Result<(), SchemaError> {
        let (mut index, mut wrong) = (0, None);
        scan::array::<JsonError>(record, start, |range| {
            if wrong.is_none() {
                let escaped = record[range.clone()].contains(&b'\\');
                wrong = self.value(record, range, escaped).err().map(|e| e.under(&format!("[{index}]")));
            }
            index += 1;
        })?;
        wrong.map_or(Ok(()), Err)
    }
}

/// Whether the JSON text of a value is of a type that has no parts.
fn plain(kind: &FieldKind, text: &[u8], first: u8, escaped: bool) -> bool {
    let number = first == b'-' || first.is_ascii_digit();
    match kind {
        FieldKind::Any => true,
        FieldKind::Boolean => matches!(first, b't' | b'f'),
        FieldKind::Float => number,
        FieldKind::Integer => {
            number && (value::integer(text).is_some() || text == b"-0" || is_long_integer(text))
        }
        FieldKind::String => first == b'"',
        // RFC 3339 has no character that needs an escape.
        FieldKind::Timestamp => first == b'"' && !escaped && is_time(&text[1..text.len() - 1]),
        FieldKind::Array(_) | FieldKind::Object(_) => false,
    }
}

#[cold]
fn is_long_integer(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// Whether a text is a time by RFC 3339: `2024-05-01T12:00:00.5+02:00`.
pub(crate) fn is_time(text: &[u8]) -> bool {
    let number = |at: Range<usize>| -> Option<u32> {
        text.get(at)?.iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + u32::from(c - b'0')))
    };
    let mark = |at: usize, allowed: &[u8]| text.get(at).is_some_and(|c| allowed.contains(c));
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let (Some(hour), Some(minute), Some(second)) = (number(11..13), number(14..16), number(17..19)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    let marks = mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":");
    if !marks || day == 0 || day > days || hour > 23 || minute > 59 || second > 60 {
        return false;
    }
    let mut zone = 19;
    if mark(zone, b".") {
        zone += 1 + text[20..].iter().take_while(|c| c.is_ascii_digit()).count();
        if zone == 20 {
            return false;
        }
    }
    let offset = || {
        let hours = number(zone + 1..zone + 3).is_some_and(|h| h < 24);
        let minutes = number(zone + 4..zone + 6).is_some_and(|m| m < 60);
        mark(zone, b"+-") && hours && mark(zone + 3, b":") && minutes && text.len() == zone + 6
    };
    (mark(zone, b"Zz") && text.len() == zone + 1) || offset()
}

impl SchemaError {
    /// The same, said of a field within another.
    fn under(mut self, parent: &str) -> Self {
        if let SchemaError::Missing { path, .. } | SchemaError::Type { path, .. } = &mut self {
            path.insert_str(0, parent);
        }
        self
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Array(_) => "a list",
            Kind::Object(_) => "an object",
            Kind::Plain(FieldKind::Boolean) => "a boolean",
            Kind::Plain(FieldKind::Integer) => "an integer",
            Kind::Plain(FieldKind::Float) => "a float",
            Kind::Plain(FieldKind::String) => "a string",
            Kind::Plain(FieldKind::Timestamp) => "a timestamp (RFC 3339)",
            Kind::Plain(_) => "anything",
        })
    }
}

/// One step of a path.
fn step(name: &str) -> String {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@') {
        format!(".{name}")
    } else {
        format!(".{name:?}")
    }
}

/// What a value is.
fn found(text: &[u8]) -> String {
    let what = match text.first() {
        Some(b'{') => return "an object".to_owned(),
        Some(b'[') => return "a list".to_owned(),
        Some(b'n') => return "null".to_owned(),
        Some(b't' | b'f') => "the boolean",
        Some(b'"') => "the string",
        _ => "the number",
    };
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(REPEATED).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{what} {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        for time in [
            "2024-02-29T23:59:60Z",
            "2024-05-01T12:00:00.123456789+02:00",
            "2024-05-01 12:00:00z",
            "1999-12-31t00:00:00-23:59",
        ] {
            assert!(is_time(time.as_bytes()), "{time}");
        }
        for text in [
            "",
            "2024-05-01",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T12:00:00",
            "2024-05-01T12:00:00.Z",
            "2024-05-01T12:00:00+0200",
            "2024-05-01T12:00:00Zx",
            "2024-05-0éT12:00:00Z",
        ] {
            assert!(!is_time(text.as_bytes()), "{text}");
        }
    }
}
