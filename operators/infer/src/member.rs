//! Numbers out of a member of a JSON record: arrays, or bytes in base64.

use crate::options::{Format, Input};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use pelton_sdk::member::{Path, find, kind};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// Append the numbers at `path`, each as `number * scale + offset`. Says what is wrong with the record otherwise.
pub(crate) fn read(record: &[u8], path: &Path, input: &Input, out: &mut Vec<f32>) -> Result<(), String> {
    let text = find(record, path)?.ok_or_else(|| format!("field {path} is missing"))?;
    match input.format {
        Format::Numbers => read_numbers(text, path, input, out),
        Format::Bytes | Format::F32 => read_bytes(text, path, input, out),
    }
}

fn read_numbers(text: &str, path: &Path, input: &Input, out: &mut Vec<f32>) -> Result<(), String> {
    if !matches!(text.as_bytes().first(), Some(b'[' | b'-' | b'0'..=b'9')) {
        return Err(format!("field {path}: expected numbers, found {}", kind(text.as_bytes())));
    }
    let (start, mut nested) = (out.len(), false);
    // Only a tensor of more than one dimension has a shape that nested arrays could miss.
    let dims = if input.dims.len() > 1 { &input.dims[..] } else { &[] };
    let (scale, offset) = (input.scale, input.offset);
    let seed = Numbers { out, start, scale, offset, dims, depth: 0, nested: &mut nested };
    seed.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|e| {
        let message = e.to_string();
        // Positions would count from the field, not from the record.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        format!("field {path}: {message}")
    })
}

/// Bytes in base64: a number each, or four of them a little-endian 32-bit float.
fn read_bytes(text: &str, path: &Path, input: &Input, out: &mut Vec<f32>) -> Result<(), String> {
    if !text.starts_with('"') {
        return Err(format!("field {path}: expected base64 text, found {}", kind(text.as_bytes())));
    }
    let text: String = serde_json::from_str(text).map_err(|e| format!("field {path}: {e}"))?;
    let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|e| format!("field {path}: no base64: {e}"))?;
    let scaled = |number: f32| number * input.scale + input.offset;
    if input.format == Format::Bytes {
        out.extend(bytes.into_iter().map(|byte| scaled(f32::from(byte))));
        return Ok(());
    }
    if bytes.len() % 4 != 0 {
        return Err(format!("field {path}: {} bytes are no whole number of 32-bit floats", bytes.len()));
    }
    for (place, four) in bytes.chunks_exact(4).enumerate() {
        let number = scaled(f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        if !number.is_finite() {
            return Err(format!("field {path}: number {place} is not finite"));
        }
        out.push(number);
    }
    Ok(())
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
mod tests {
    use super::*;

    fn input(format: Format, dims: &[usize]) -> Input {
        let width = dims.iter().product();
        Input { fields: vec![], scale: 0.5, offset: 1.0, format, dims: dims.to_vec(), width }
    }

    fn read_as(input: &Input, record: &str, path: &str) -> Result<Vec<f32>, String> {
        let mut out = vec![9.0];
        read(record.as_bytes(), &Path::parse(path).unwrap(), input, &mut out)?;
        Ok(out.split_off(1))
    }

    fn numbers(record: &str, path: &str) -> Result<Vec<f32>, String> {
        read_as(&input(Format::Numbers, &[3]), record, path)
    }

    #[test]
    fn nested_arrays_have_the_shape_of_the_tensor() {
        let input = input(Format::Numbers, &[2, 2, 3]);
        let read = |json: &str| read_as(&input, &format!(r#"{{"x":{json}}}"#), ".x").map(|n| n.len());
        for good in [
            "[[[1,2,3],[4,5,6]],[[1,2,3],[4,5,6]]]",
            "[[1,2,3,4,5,6],[1,2,3,4,5,6]]",
            "[1,2,3,4,5,6,7,8,9,10,11,12]",
        ] {
            assert_eq!(read(good), Ok(12), "{good}");
        }
        for (bad, cause) in [
            (
                "[[[1,2],[3,4],[5,6]],[[1,2],[3,4],[5,6]]]",
                "an array of 2 at depth 3, where the shape [2, 2, 3] has 3",
            ),
            ("[[[1,2,3],[4,5,6]]]", "an array of 1 at depth 1, where the shape [2, 2, 3] has 2"),
            ("[[1,2,3],[4,5,6]]", "an array of 3 at depth 2, where the shape [2, 2, 3] has 6"),
            ("[[[[1,2,3],[4,5,6]]]]", "arrays are nested deeper than the shape [2, 2, 3]"),
        ] {
            assert_eq!(read(bad).unwrap_err(), format!("field .x: {cause}"), "{bad}");
        }
    }

    #[test]
    fn bytes_are_numbers_or_floats() {
        let bytes = input(Format::Bytes, &[3]);
        assert_eq!(read_as(&bytes, r#"{"x":"AAL/"}"#, ".x").unwrap(), [1.0, 2.0, 128.5]);
        let floats = input(Format::F32, &[1]);
        assert_eq!(read_as(&floats, r#"{"x":"AAAAQA=="}"#, ".x").unwrap(), [2.0]);
        for (record, cause) in [
            (r#"{"x":"AAL/"}"#, "field .x: 3 bytes are no whole number of 32-bit floats"),
            (r#"{"x":"AADAfw=="}"#, "field .x: number 0 is not finite"),
            (r#"{"x":[1]}"#, "field .x: expected base64 text, found an array"),
            (r#"{"x":"*"}"#, "field .x: no base64: Invalid symbol 42, offset 0."),
        ] {
            assert_eq!(read_as(&floats, record, ".x").unwrap_err(), cause);
        }
    }

    #[test]
    fn numbers_are_found_flat_nested_single_and_behind_escapes() {
        assert_eq!(numbers(r#"{"a":1,"x":[2, 4.0,-2e0]}"#, ".x").unwrap(), [2.0, 3.0, 0.0]);
        assert_eq!(numbers(r#"{"i":{"x":[[2],[4,6]]}}"#, ".i.x").unwrap(), [2.0, 3.0, 4.0]);
        assert_eq!(numbers(r#"{"x":8}"#, ".x").unwrap(), [5.0]);
        assert_eq!(numbers(r#"{"x y":[2]}"#, r#"."x y""#).unwrap(), [2.0]);
        assert_eq!(numbers(r#"{"x":[0],"x":[2]}"#, ".x").unwrap(), [2.0], "the last one counts");
    }

    #[test]
    fn what_is_wrong_with_a_record_is_said() {
        for (record, cause) in [
            (r#"{"y":1}"#, "field .i.x is missing"),
            (r#"{"i":{"y":1}}"#, "field .i.x is missing"),
            (r#"{"i":7}"#, "field .i.x: a number is inside, where an object was expected"),
            (r#"{"i":{"x":"7"}}"#, "field .i.x: expected numbers, found a string"),
            (r#"{"i":{"x":null}}"#, "field .i.x: expected numbers, found null"),
            (
                r#"{"i":{"x":[1,"7"]}}"#,
                r#"field .i.x: invalid type: string "7", expected a number in place 1"#,
            ),
            (r#"{"i":{"x":[1,null]}}"#, "field .i.x: invalid type: null, expected a number in place 1"),
            (
                r#"{"i":{"x":[1e300]}}"#,
                &format!("field .i.x: number 0 is {}, beyond what 32 bits hold", 1e300),
            ),
            (r#"{"i":{"x":[NaN]}}"#, "the record is not a JSON object: expected value at line 1 column 12"),
            (
                "[1]",
                "the record is not a JSON object: invalid type: sequence, expected an object at line 1 column 0",
            ),
            ("{\"i\":", "the record is not a JSON object: EOF while parsing a value at line 1 column 5"),
            ("{} {}", "the record is not a JSON object: trailing characters at line 1 column 4"),
        ] {
            assert_eq!(numbers(record, ".i.x").unwrap_err(), cause, "{record}");
        }
        let path = Path::parse(".x").unwrap();
        let read = read(b"{\"x\xff\":1}", &path, &input(Format::Numbers, &[1]), &mut vec![]);
        assert!(read.unwrap_err().contains("unicode"));
    }
}
