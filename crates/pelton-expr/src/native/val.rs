//! Values of a running program: slices of the record, or of the arena.

use super::{Step, Stop};
use crate::{json_text, scan, value};
use bumpalo::Bump;
use pelton_types::fields::Member;
use std::ops::Range;
use vrl::value::Value;

/// What was scanned before is sound; if not, it is for VRL to say.
impl scan::Fault for Stop {
    fn invalid(_: usize, _: &'static str) -> Self {
        Stop::Ask
    }
    fn expected(_: &[u8], _: usize, _: &'static str) -> Self {
        Stop::Ask
    }
}

/// A value. Texts and containers lie in the record, the program or the arena.
#[derive(Clone, Copy, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Never NaN.
    Float(f64),
    Text(&'a str),
    /// JSON text of an object or array, as it stands in the record.
    Raw(&'a [u8]),
    /// Made by the program; names rise.
    Object(&'a [(&'a str, Val<'a>)]),
    Array(&'a [Val<'a>]),
}

/// Decode the JSON value at `range`.
#[inline]
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    range: Range<usize>,
    escaped: bool,
    arena: &'a Bump,
) -> Result<Val<'a>, Stop> {
    let text = &bytes[range.clone()];
    match text.first() {
        Some(b'"') if !escaped => plain(&text[1..text.len() - 1]).map(Val::Text),
        Some(b'"') => {
            let text: String = serde_json::from_slice(text).map_err(|_| Stop::Ask)?;
            Ok(Val::Text(arena.alloc_str(&text)))
        }
        Some(b't') => Ok(Val::Bool(true)),
        Some(b'f') => Ok(Val::Bool(false)),
        Some(b'n') => Ok(Val::Null),
        Some(b'{' | b'[') if decodes(text) => Ok(Val::Raw(text)),
        Some(b'{' | b'[') | None => Err(Stop::Ask),
        Some(_) => match value::integer_in(bytes, range) {
            Some(number) => Ok(Val::Int(number)),
            None => number(text),
        },
    }
}

#[inline]
fn plain(text: &[u8]) -> Result<&str, Stop> {
    std::str::from_utf8(text).map_err(|_| Stop::Ask)
}

/// A number that is no small integer, as VRL takes it.
fn number<'a>(text: &[u8]) -> Result<Val<'a>, Stop> {
    match serde_json::from_slice(text) {
        Ok(Value::Integer(number)) => Ok(Val::Int(number)),
        Ok(Value::Float(number)) => Ok(Val::Float(number.into_inner())),
        _ => Err(Stop::Ask),
    }
}

/// Whether all in a container is sure to decode: no escapes (half a surrogate pair), no exponents and no long numbers
/// (out of range), and UTF-8. Rare in practice, and VRL decides then.
fn decodes(text: &[u8]) -> bool {
    /// Digits that a number may have and be far from the largest float.
    const SAFE_DIGITS: usize = 300;
    let exponent = |pair: &[u8]| pair[0].is_ascii_digit() && matches!(pair[1], b'e' | b'E');
    let far =
        || text.len() > SAFE_DIGITS && text.split(|c| !c.is_ascii_digit()).any(|run| run.len() > SAFE_DIGITS);
    !text.contains(&b'\\')
        && !text.windows(2).any(exponent)
        && !far()
        && simdutf8::basic::from_utf8(text).is_ok()
}

/// The value at a place within a value; `None`: there is no such place.
pub(super) fn within<'a>(from: Val<'a>, steps: &[Step], arena: &'a Bump) -> Result<Option<Val<'a>>, Stop> {
    let mut at = from;
    for (n, step) in steps.iter().enumerate() {
        at = match (at, step) {
            (Val::Raw(text), _) => return in_text(text, &steps[n..], arena),
            (Val::Object(members), Step::Field(name)) => {
                match members.iter().find(|(known, _)| known == name) {
                    Some((_, value)) => *value,
                    None => return Ok(None),
                }
            }
            (Val::Array(items), Step::Index(index)) => match place(*index, items.len()) {
                Some(index) => items[index],
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
    }
    Ok(Some(at))
}

/// The value at a place within JSON text that was scanned; only the last one is decoded.
pub(super) fn in_text<'a>(text: &'a [u8], steps: &[Step], arena: &'a Bump) -> Result<Option<Val<'a>>, Stop> {
    let mut range = 0..text.len();
    let mut escaped = false;
    for step in steps {
        let found = match (step, text[range.start]) {
            (Step::Field(name), b'{') => member(text, range.start, name)?,
            (Step::Index(index), b'[') => element(text, range.start, *index)?.map(|range| (range, false)),
            _ => None,
        };
        match found {
            Some(found) => (range, escaped) = found,
            None => return Ok(None),
        }
    }
    // Of an element nobody has said whether it has escapes.
    let escaped = escaped || (text[range.start] == b'"' && text[range.clone()].contains(&b'\\'));
    decode(text, range, escaped, arena).map(Some)
}

fn place(index: isize, len: usize) -> Option<usize> {
    let index = if index < 0 { len.checked_sub(index.unsigned_abs())? } else { index.unsigned_abs() };
    (index < len).then_some(index)
}

/// The last member of this name.
fn member(text: &[u8], start: usize, name: &str) -> Result<Option<(Range<usize>, bool)>, Stop> {
    let mut found: Option<Member> = None;
    scan::object(text, start, |member| {
        let same = if member.key_escaped {
            value::text(text, member.quoted_key()).map_err(|_| Stop::Ask)? == name
        } else {
            &text[member.key()] == name.as_bytes()
        };
        if same {
            found = Some(member);
        }
        Ok::<_, Stop>(())
    })?;
    Ok(found.map(|member| (member.value(), member.escaped)))
}

fn element(text: &[u8], start: usize, index: isize) -> Result<Option<Range<usize>>, Stop> {
    let index = if index < 0 {
        match place(index, count(text, start)?) {
            Some(index) => index,
            None => return Ok(None),
        }
    } else {
        index.unsigned_abs()
    };
    let (mut n, mut found) = (0, None);
    scan::array::<Stop>(text, start, |range| {
        if n == index {
            found = Some(range);
        }
        n += 1;
    })?;
    Ok(found)
}

/// Elements of the array at `start`.
pub(super) fn count(text: &[u8], start: usize) -> Result<usize, Stop> {
    let mut n = 0;
    scan::array::<Stop>(text, start, |_| n += 1)?;
    Ok(n)
}

/// Append a value as JSON.
pub(super) fn write(out: &mut Vec<u8>, value: Val<'_>) -> Result<(), Stop> {
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(true) => out.extend_from_slice(b"true"),
        Val::Bool(false) => out.extend_from_slice(b"false"),
        Val::Int(number) => serde_json::to_writer(out, &number).map_err(|_| Stop::Ask)?,
        Val::Float(number) => serde_json::to_writer(out, &number).map_err(|_| Stop::Ask)?,
        Val::Text(text) => json_text::write_string(out, text),
        Val::Raw(text) => out.extend_from_slice(text),
        Val::Object(members) => {
            out.push(b'{');
            for (n, (name, value)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json_text::write_string(out, name);
                out.push(b':');
                write(out, *value)?;
            }
            out.push(b'}');
        }
        Val::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(out, *item)?;
            }
            out.push(b']');
        }
    }
    Ok(())
}
