//! One checking pass over JSON text that gives the places of members, and builds nothing.
//!
//! The grammar is that of RFC 8259, as strict as `serde_json`: what passes here passes there, except for what only
//! decoding shows (a number out of range, half of a surrogate pair).

use crate::{
    find,
    marks::{Searched, Specials},
};
use pelton_types::fields::Member;
use std::ops::Range;

/// Containers within containers, the outermost counted: the limit `serde_json` has, so that both take the same records.
pub(crate) const MAX_DEPTH: u32 = 127;
const TOO_DEEP: &str = "nested deeper than 127 levels";

/// The bytes are not a JSON record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A byte that cannot stand there.
    #[error("invalid JSON at byte {at}: {what}")]
    Invalid {
        /// Where, counted from the record's first byte.
        at: usize,
        /// What was expected or is wrong.
        what: String,
    },
    /// The record ends too early.
    #[error("truncated JSON: the record ends at byte {at}, {what}")]
    Truncated {
        /// The record's length.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
    /// The record is no text.
    #[error("invalid UTF-8 at byte {at}")]
    Utf8 {
        /// The first byte that is not UTF-8.
        at: usize,
    },
}

/// What a scan says of bytes that are no JSON. Finding places says nothing (`()`), which keeps results in registers; who
/// needs the words scans again for a [`JsonError`].
pub(crate) trait Fault {
    /// A byte that cannot stand at `at`.
    fn invalid(at: usize, what: &'static str) -> Self;
    /// Something else at `at` than `what`, or nothing at all.
    fn expected(bytes: &[u8], at: usize, what: &'static str) -> Self;
}

impl Fault for () {
    fn invalid(_: usize, _: &'static str) {}
    fn expected(_: &[u8], _: usize, _: &'static str) {}
}

impl From<JsonError> for () {
    fn from(_: JsonError) {}
}

impl Fault for JsonError {
    #[cold]
    fn invalid(at: usize, what: &'static str) -> Self {
        JsonError::Invalid { at, what: what.to_owned() }
    }
    #[cold]
    fn expected(bytes: &[u8], at: usize, what: &'static str) -> Self {
        if at >= bytes.len() {
            JsonError::Truncated { at: bytes.len(), what }
        } else {
            JsonError::invalid(at, what)
        }
    }
}

/// Check that a record is text.
#[inline]
pub(crate) fn check_text(bytes: &[u8]) -> Result<(), JsonError> {
    simdutf8::basic::from_utf8(bytes).map(drop).map_err(|_| utf8_error(bytes))
}

/// Positions have 32 bits.
#[inline]
fn check_length<E: Fault>(bytes: &[u8]) -> Result<(), E> {
    if u32::try_from(bytes.len()).is_ok() {
        Ok(())
    } else {
        Err(E::invalid(bytes.len(), "the record is 4 GiB or longer"))
    }
}

#[cold]
fn utf8_error(bytes: &[u8]) -> JsonError {
    JsonError::Utf8 { at: std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len) }
}

/// First byte of the root value that is not white space.
#[inline]
pub(crate) fn root(bytes: &[u8]) -> usize {
    blank(bytes, 0)
}

/// Check a whole record whose root is an object, and give each of its members to `each`.
#[inline]
pub(crate) fn record<E: Fault>(bytes: &[u8], each: impl FnMut(Member) -> Result<(), E>) -> Result<(), E> {
    record_with(bytes, &Searched, each)
}

/// The same where somebody knows the special bytes.
#[inline(always)]
pub(crate) fn record_with<E: Fault>(
    bytes: &[u8],
    specials: &impl Specials,
    each: impl FnMut(Member) -> Result<(), E>,
) -> Result<(), E> {
    check_length(bytes)?;
    let end = object_with(bytes, blank(bytes, 0), specials, each)?;
    finish(bytes, end)
}

/// Check a whole record of any root.
pub(crate) fn any_record<E: Fault>(bytes: &[u8]) -> Result<Range<usize>, E> {
    check_length(bytes)?;
    let start = blank(bytes, 0);
    let (end, _) = skip_value(bytes, start, MAX_DEPTH, &Searched)?;
    finish(bytes, end)?;
    Ok(start..end)
}

#[inline]
fn finish<E: Fault>(bytes: &[u8], end: usize) -> Result<(), E> {
    let rest = blank(bytes, end);
    if rest == bytes.len() { Ok(()) } else { Err(E::expected(bytes, rest, "more text after the record")) }
}

/// Give each member of the object that begins at `start` to `each`; the index behind the object.
#[inline]
pub(crate) fn object<E: Fault>(
    bytes: &[u8],
    start: usize,
    each: impl FnMut(Member) -> Result<(), E>,
) -> Result<usize, E> {
    object_with(bytes, start, &Searched, each)
}

#[inline(always)]
fn object_with<E: Fault>(
    bytes: &[u8],
    start: usize,
    specials: &impl Specials,
    mut each: impl FnMut(Member) -> Result<(), E>,
) -> Result<usize, E> {
    if bytes.get(start) != Some(&b'{') {
        return Err(E::expected(bytes, start, "expected an object"));
    }
    let mut at = blank(bytes, start + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        let key = key(bytes, at, specials)?;
        let (end, escaped) = skip_value(bytes, key.value, MAX_DEPTH - 1, specials)?;
        each(Member {
            key: (at as u32 + 1, key.end as u32),
            value: (key.value as u32, end as u32),
            key_escaped: key.escaped,
            escaped,
        })?;
        if let Some(b",\"") = bytes.get(end..end + 2) {
            at = end + 1;
            continue;
        }
        at = blank(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = blank(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(E::expected(bytes, at, "expected ',' or '}'")),
        }
    }
}

/// Where the next member's key begins, behind a member that ends at `end` and is not the last one.
#[inline]
pub(crate) fn next_member(bytes: &[u8], end: usize) -> usize {
    let comma = blank(bytes, end);
    blank(bytes, comma + 1)
}

/// Give the range of each element of the array that begins at `start` to `each`.
pub(crate) fn array<E: Fault>(
    bytes: &[u8],
    start: usize,
    mut each: impl FnMut(Range<usize>),
) -> Result<(), E> {
    if bytes.get(start) != Some(&b'[') {
        return Err(E::expected(bytes, start, "expected an array"));
    }
    let mut at = blank(bytes, start + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(());
    }
    loop {
        let (end, _) = skip_value(bytes, at, MAX_DEPTH - 1, &Searched)?;
        each(at..end);
        at = blank(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = blank(bytes, at + 1),
            Some(b']') => return Ok(()),
            _ => return Err(E::expected(bytes, at, "expected ',' or ']'")),
        }
    }
}

struct Key {
    /// Index of the closing quote.
    end: usize,
    escaped: bool,
    /// Index of the first byte of the value.
    value: usize,
}

/// A key at `at` (its opening quote), the colon, and the blanks around it.
#[inline(always)]
fn key<E: Fault>(bytes: &[u8], at: usize, specials: &impl Specials) -> Result<Key, E> {
    if bytes.get(at) != Some(&b'"') {
        return Err(E::expected(bytes, at, "expected a key in quotes"));
    }
    let (end, escaped) = string_end(bytes, at + 1, specials)?;
    // Nearly always without blanks.
    if let Some(&[_, b':', first]) = bytes.get(end..end + 3)
        && first > b' '
    {
        return Ok(Key { end, escaped, value: end + 2 });
    }
    let colon = blank(bytes, end + 1);
    if bytes.get(colon) != Some(&b':') {
        return Err(E::expected(bytes, colon, "expected ':'"));
    }
    Ok(Key { end, escaped, value: blank(bytes, colon + 1) })
}

/// Index behind the blanks at `at`.
#[inline(always)]
fn blank(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(0..=b' ') => blanks(bytes, at),
        _ => at,
    }
}

/// The same where there may be some, which few writers put there.
#[inline(never)]
fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Index behind the value at `at`, and whether it is a string with escapes.
#[inline(always)]
fn skip_value<E: Fault>(
    bytes: &[u8],
    at: usize,
    depth: u32,
    specials: &impl Specials,
) -> Result<(usize, bool), E> {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at + 1, specials).map(|(end, escaped)| (end + 1, escaped)),
        Some(b'{' | b'[') => skip_container(bytes, at, depth, specials).map(|end| (end, false)),
        _ => skip_plain(bytes, at).map(|end| (end, false)),
    }
}

/// Index behind a number or a literal.
#[inline(always)]
fn skip_plain<E: Fault>(bytes: &[u8], at: usize) -> Result<usize, E> {
    match bytes.get(at) {
        Some(b'-' | b'0'..=b'9') => number_end(bytes, at),
        Some(b't') => literal(bytes, at, b"true"),
        Some(b'f') => literal(bytes, at, b"false"),
        Some(b'n') => literal(bytes, at, b"null"),
        _ => Err(E::expected(bytes, at, "expected a value")),
    }
}

#[inline(always)]
fn literal<E: Fault>(bytes: &[u8], at: usize, word: &'static [u8]) -> Result<usize, E> {
    let rest = &bytes[at..];
    if rest.starts_with(word) {
        return Ok(at + word.len());
    }
    let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
    Err(E::expected(bytes, at + same, "expected true, false or null"))
}

/// Index of the closing quote of a string whose first byte is at `at`, and whether it has escapes.
#[inline(always)]
fn string_end<E: Fault>(bytes: &[u8], mut at: usize, specials: &impl Specials) -> Result<(usize, bool), E> {
    let mut escaped = false;
    loop {
        at = specials.next(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                escaped = true;
                at = escape_end(bytes, at)?;
            }
            Some(_) => return Err(E::invalid(at, "a control character in a string must be escaped")),
            None => return Err(E::expected(bytes, at, "expected the closing quote of a string")),
        }
    }
}

/// Index behind the escape whose backslash is at `at`.
fn escape_end<E: Fault>(bytes: &[u8], at: usize) -> Result<usize, E> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match (at + 2..at + 6).find(|&i| !bytes.get(i).is_some_and(u8::is_ascii_hexdigit)) {
            None => Ok(at + 6),
            Some(bad) => Err(E::expected(bytes, bad, "expected four hexadecimal digits after \\u")),
        },
        _ => Err(E::expected(bytes, at + 1, "expected one of \"\\/bfnrtu after a backslash")),
    }
}

/// Index behind the number at `at`.
#[inline(always)]
fn number_end<E: Fault>(bytes: &[u8], mut at: usize) -> Result<usize, E> {
    if bytes[at] == b'-' {
        at += 1;
    }
    match bytes.get(at) {
        Some(b'0') => {
            at += 1;
            if let Some(b'0'..=b'9') = bytes.get(at) {
                return Err(E::invalid(at, "a number must not begin with 0"));
            }
        }
        _ => at = digits(bytes, at)?,
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// Index behind one digit or more.
#[inline(always)]
fn digits<E: Fault>(bytes: &[u8], start: usize) -> Result<usize, E> {
    let at = find::digits(bytes, start);
    if at == start { Err(E::expected(bytes, at, "expected a digit")) } else { Ok(at) }
}

/// Index behind the object or array at `at`, of at most `limit` levels. Keeps no stack but a bit per level.
fn skip_container<E: Fault>(
    bytes: &[u8],
    mut at: usize,
    limit: u32,
    specials: &impl Specials,
) -> Result<usize, E> {
    let mut depth = 0u32;
    let mut objects = 0u128; // the lowest bit: the innermost container is an object
    loop {
        // A value begins here.
        match bytes.get(at) {
            Some(open @ (b'{' | b'[')) => {
                if depth == limit {
                    return Err(E::invalid(at, TOO_DEEP));
                }
                let is_object = *open == b'{';
                depth += 1;
                objects = objects << 1 | u128::from(is_object);
                at = blank(bytes, at + 1);
                match (bytes.get(at), is_object) {
                    (Some(b'}'), true) | (Some(b']'), false) => {}
                    (_, true) => {
                        at = key(bytes, at, specials)?.value;
                        continue;
                    }
                    (_, false) => continue,
                }
            }
            Some(b'"') => at = string_end(bytes, at + 1, specials)?.0 + 1,
            _ => at = skip_plain(bytes, at)?,
        }
        // And ended here: what follows closes containers, or goes on with the next value.
        loop {
            let is_object = objects & 1 == 1;
            if is_object && let Some(b",\"") = bytes.get(at..at + 2) {
                at = key(bytes, at + 1, specials)?.value;
                break;
            }
            at = blank(bytes, at);
            match (bytes.get(at), is_object) {
                (Some(b','), true) => {
                    at = key(bytes, blank(bytes, at + 1), specials)?.value;
                    break;
                }
                (Some(b','), false) => {
                    at = blank(bytes, at + 1);
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    at += 1;
                    depth -= 1;
                    objects >>= 1;
                    if depth == 0 {
                        return Ok(at);
                    }
                }
                (_, true) => return Err(E::expected(bytes, at, "expected ',' or '}'")),
                (_, false) => return Err(E::expected(bytes, at, "expected ',' or ']'")),
            }
        }
    }
}
