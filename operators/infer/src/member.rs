//! Numbers out of a member of a JSON record.

use pelton_sdk::member::{Path, find, kind};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// Append the numbers at `path`, each as `number * scale + offset`. Says what is wrong with the record otherwise.
pub(crate) fn read_numbers(
    record: &[u8],
    path: &Path,
    scale: f32,
    offset: f32,
    out: &mut Vec<f32>,
) -> Result<(), String> {
    let text = find(record, path)?.ok_or_else(|| format!("field {path} is missing"))?;
    if !matches!(text.as_bytes().first(), Some(b'[' | b'-' | b'0'..=b'9')) {
        return Err(format!("field {path}: expected numbers, found {}", kind(text.as_bytes())));
    }
    let start = out.len();
    let seed = Numbers { out, start, scale, offset };
    seed.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|e| {
        let message = e.to_string();
        // Positions would count from the field, not from the record.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        format!("field {path}: {message}")
    })
}

/// Numbers of an array, of arrays in it, or a single one.
struct Numbers<'o> {
    out: &'o mut Vec<f32>,
    start: usize,
    scale: f32,
    offset: f32,
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
        let Numbers { out, start, scale, offset } = self;
        while seq.next_element_seed(Numbers { out: &mut *out, start, scale, offset })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(record: &str, path: &str) -> Result<Vec<f32>, String> {
        let mut out = vec![9.0];
        read_numbers(record.as_bytes(), &Path::parse(path).unwrap(), 0.5, 1.0, &mut out)?;
        Ok(out.split_off(1))
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
        assert!(
            read_numbers(b"{\"x\xff\":1}", &path, 1.0, 0.0, &mut vec![]).unwrap_err().contains("unicode")
        );
    }
}
