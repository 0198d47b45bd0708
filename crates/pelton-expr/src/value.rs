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
        _ => match integer_in(bytes, range.clone()) {
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

/// The [`integer`] at `range` of a record: one of up to eight digits without a loop, if so many bytes stand before its end.
#[inline]
pub(crate) fn integer_in(bytes: &[u8], range: Range<usize>) -> Option<i64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    if let 1..=8 = range.len()
        && let Some(&last) = bytes.get(..range.end).and_then(|all| all.last_chunk())
    {
        // What stands before the number counts as zeros; the first byte is the lowest.
        let before = u64::MAX.unbounded_shr(8 * range.len() as u32);
        let text = u64::from_le_bytes(last) & !before | ZEROS & before;
        // `0` to `9` are 0x30 to 0x39, and six more are still below 0x40.
        if text & HIGH == ZEROS && text.wrapping_add(0x0606_0606_0606_0606) & HIGH == ZEROS {
            // Neighbours are joined three times: digits to pairs, pairs to fours, fours to eight.
            let pairs = (text & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8;
            let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 << 16 | 1) >> 16;
            let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 << 32 | 1) >> 32;
            return Some(eight.cast_signed());
        }
    }
    integer(&bytes[range])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_the_same_whatever_stands_before_them() {
        let bytes = [b'0', b'5', b'9', b'/', b':', b'-', b'.', b'e', 0, 0xff];
        for length in 1..12 {
            for n in 0..5_000_usize {
                // Every byte at every place, not with every other one.
                let text: Vec<u8> = (0..length).map(|at| bytes[n / (at * 3 + 1) % (3 + n % 8)]).collect();
                for before in ["", "9", "{\"price\":", "123456789"] {
                    let record = [before.as_bytes(), &text, b",9"].concat();
                    let range = before.len()..before.len() + length;
                    assert_eq!(integer_in(&record, range), integer(&text), "{}", record.escape_ascii());
                }
            }
        }
        assert_eq!(integer_in(b"[12345678]", 1..9), Some(12_345_678));
    }
}
