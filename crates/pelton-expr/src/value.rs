//! JSON text of one value to a VRL value, just as `serde_json` would decode it.

use crate::scan::JsonError;
use serde::de::DeserializeOwned;
use std::ops::Range;
use vrl::value::Value;

/// Decode the value at `range` of a record that was scanned; `escaped` as the scanner said.
#[inline]
pub(crate) fn value(bytes: &[u8], range: Range<usize>, escaped: bool) -> Result<Value, JsonError> {
    let text = &bytes[range.clone()];
    match text.first() {
        Some(b'"') if !escaped => plain_text(bytes, range.start + 1..range.end - 1).map(Value::from),
        Some(b't') => Ok(Value::Boolean(true)),
        Some(b'f') => Ok(Value::Boolean(false)),
        Some(b'n') => Ok(Value::Null),
        _ => match integer(text) {
            Some(number) => Ok(Value::Integer(number)),
            None => parse(bytes, range),
        },
    }
}

/// The text of a string or key, given with its quotes.
pub(crate) fn text(bytes: &[u8], quoted: Range<usize>) -> Result<String, JsonError> {
    parse(bytes, quoted)
}

/// Decode with `serde_json`, errors placed within the record.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], range: Range<usize>) -> Result<T, JsonError> {
    let text = &bytes[range.clone()];
    serde_json::from_slice(text).map_err(|e| {
        let line_start: usize =
            text.split_inclusive(|&c| c == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum();
        let at = range.start + (line_start + e.column().saturating_sub(1)).min(text.len());
        let what = e.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned();
        JsonError::Invalid { at, what }
    })
}

/// Bytes of a record that are shown or compared as text: only here it matters whether they are UTF-8.
#[inline]
pub(crate) fn plain_text(bytes: &[u8], range: Range<usize>) -> Result<&str, JsonError> {
    let start = range.start;
    std::str::from_utf8(&bytes[range]).map_err(|e| JsonError::Utf8 { at: start + e.valid_up_to() })
}

/// An integer of up to 18 digits, which is nearly all of them. `-0` is a float to `serde_json`.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut number = 0i64;
    for &c in digits {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    match (negative, number) {
        (true, 0) => None,
        (true, n) => Some(-n),
        (false, n) => Some(n),
    }
}
