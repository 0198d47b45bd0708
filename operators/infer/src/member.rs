//! Numbers out of a record, or a member of a JSON record: arrays, bytes, images.

use crate::options::{Format, Input, Source};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use pelton_sdk::member::{find, kind};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Append the numbers of an input, each as `number * scale + offset`. Says what is wrong with the record otherwise.
pub(crate) fn read(record: &[u8], input: &Input, out: &mut Vec<f32>) -> Result<(), String> {
    let Source::Fields(paths) = &input.source else {
        let read = |out: &mut Vec<f32>| match input.format {
            Format::Numbers => read_numbers(utf8(record)?, input, out),
            Format::Bytes | Format::F32 | Format::Image => read_bytes(record, input, out),
        };
        return counted(read, input.width, out).map_err(|why| format!("the record: {why}"));
    };
    let record = utf8(record)?;
    let each = if paths.len() == 1 { input.width } else { 1 };
    for path in paths {
        let text = find(record.as_bytes(), path)?.ok_or_else(|| format!("field {path} is missing"))?;
        let read = |out: &mut Vec<f32>| match input.format {
            Format::Numbers => read_numbers(text, input, out),
            Format::Bytes | Format::F32 | Format::Image => read_bytes(&base64(text)?, input, out),
        };
        counted(read, each, out).map_err(|why| format!("field {path}: {why}"))?;
    }
    Ok(())
}

fn utf8(record: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(record).map_err(|e| format!("invalid UTF-8 at byte {}", e.valid_up_to()))
}

/// Read, and have so many numbers.
fn counted(
    read: impl FnOnce(&mut Vec<f32>) -> Result<(), String>,
    expected: usize,
    out: &mut Vec<f32>,
) -> Result<(), String> {
    let before = out.len();
    read(out)?;
    let found = out.len() - before;
    if found == expected {
        return Ok(());
    }
    let s = if expected == 1 { "" } else { "s" };
    Err(format!("expected {expected} number{s}, found {found}"))
}

fn read_numbers(text: &str, input: &Input, out: &mut Vec<f32>) -> Result<(), String> {
    if !matches!(text.trim_ascii_start().as_bytes().first(), Some(b'[' | b'-' | b'0'..=b'9')) {
        return Err(format!("expected numbers, found {}", kind(text.as_bytes())));
    }
    let (start, mut nested) = (out.len(), false);
    // Only a tensor of more than one dimension has a shape that nested arrays could miss.
    let dims = if input.dims.len() > 1 { &input.dims[..] } else { &[] };
    let (scale, offset) = (input.scale, input.offset);
    let seed = Numbers { out, start, scale, offset, dims, depth: 0, nested: &mut nested };
    let mut json = serde_json::Deserializer::from_str(text);
    seed.deserialize(&mut json).and_then(|()| json.end()).map_err(|e| {
        let message = e.to_string();
        // Positions would count from the field, not from the record.
        message.split(" at line ").next().unwrap_or_default().to_owned()
    })
}

/// The bytes that a JSON string has in base64.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.ok_or_else(|| format!("expected base64 text, found {}", kind(text.as_bytes())))?;
    // Some write every `/` as `\/`.
    let read = if inner.contains('\\') {
        Cow::Owned(serde_json::from_str(text).map_err(|e| e.to_string())?)
    } else {
        Cow::Borrowed(inner)
    };
    BASE64_STANDARD.decode(read.trim()).map_err(|e| format!("no base64: {e}"))
}

/// Bytes: a number each, or four of them a little-endian 32-bit float, or an image.
fn read_bytes(bytes: &[u8], input: &Input, out: &mut Vec<f32>) -> Result<(), String> {
    if let Some(image) = &input.image {
        return image.read(bytes, out);
    }
    let scaled = |number: f32| number * input.scale + input.offset;
    if input.format == Format::Bytes {
        out.extend(bytes.iter().map(|byte| scaled(f32::from(*byte))));
        return Ok(());
    }
    if !bytes.len().is_multiple_of(4) {
        return Err(format!("{} bytes are no whole number of 32-bit floats", bytes.len()));
    }
    let start = out.len();
    out.extend(bytes.as_chunks().0.iter().map(|four| scaled(f32::from_le_bytes(*four))));
    match out[start..].iter().position(|number| !number.is_finite()) {
        None => Ok(()),
        Some(place) => Err(format!("number {place} is not finite")),
    }
}

/// Numbers of an array, of arrays in it, or a single one.
struct Numbers<'o> {
    out: &'o mut Vec<f32>,
    start: usize,
    scale: f32,
    offset: f32,
    /// What nested arrays must have, outermost first; empty: anything.
    dims: &'o [usize],
    depth: usize,
    /// Set when this is an array.
    nested: &'o mut bool,
}

impl Numbers<'_> {
    fn push<E: Error>(self, number: f64) -> Result<(), E> {
        let value = number as f32 * self.scale + self.offset;
        if !value.is_finite() {
            let at = self.out.len() - self.start;
            return Err(E::custom(format!("number {at} is {number}, beyond what 32 bits hold")));
        }
        self.out.push(value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Numbers<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number in place {}", self.out.len() - self.start)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.push(number)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.push(number as f64)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.push(number as f64)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Numbers { out, start, scale, offset, dims, depth, nested } = self;
        *nested = true;
        let (mut count, mut arrays) = (0, false);
        loop {
            let depth = depth + 1;
            let seed = Numbers { out: &mut *out, start, scale, offset, dims, depth, nested: &mut arrays };
            if seq.next_element_seed(seed)?.is_none() {
                break;
            }
            count += 1;
        }
        // Numbers may stand flat from some dimension on; how many there are in all is checked by the caller.
        let expected = match dims.get(depth..) {
            Some([own, _, ..]) if arrays => *own,
            Some(rest @ [_, ..]) if !arrays && depth > 0 => rest.iter().product(),
            _ if dims.is_empty() || depth == 0 => return Ok(()),
            _ => return Err(A::Error::custom(format!("arrays are nested deeper than the shape {dims:?}"))),
        };
        if count != expected {
            let what = format!(
                "an array of {count} at depth {}, where the shape {dims:?} has {expected}",
                depth + 1
            );
            return Err(A::Error::custom(what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
