//! Members of a JSON record: numbers out of one, results into others, all other bytes as they were.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, ops::Range};

/// Where a member is: `.pixels`, `.image.pixels`, `."odd name"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    steps: Vec<String>,
}

impl Path {
    pub fn parse(text: &str) -> Result<Self, String> {
        let broken = || format!("`{text}` is not a path to a member");
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').ok_or_else(broken)?;
            let (step, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(broken)?,
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            let plain = step.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '@'));
            if step.is_empty() || (!rest.starts_with('"') && !plain) || step.contains('\\') {
                return Err(broken());
            }
            steps.push(step.to_owned());
            rest = after;
        }
        if steps.is_empty() { Err(broken()) } else { Ok(Self { text: text.to_owned(), steps }) }
    }

    /// The member's name, when it is a member of the record itself.
    pub fn top_level(&self) -> Option<&str> {
        match &self.steps[..] {
            [name] => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Append the numbers at `path`, each as `number * scale + offset`. Says what is wrong with the record otherwise.
pub(crate) fn read_numbers(
    record: &[u8],
    path: &Path,
    scale: f32,
    offset: f32,
    out: &mut Vec<f32>,
) -> Result<(), String> {
    let mut here = None;
    for (depth, step) in path.steps.iter().enumerate() {
        let bytes = here.map_or(record, |raw: &RawValue| raw.get().as_bytes());
        if depth > 0 && bytes.first() != Some(&b'{') {
            return Err(format!("field {path}: {} is inside, where an object was expected", kind(bytes)));
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let found = Find(step).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        here = found.map_err(|e| format!("the record is not a JSON object: {e}"))?;
        if here.is_none() {
            return Err(format!("field {path} is missing"));
        }
    }
    let text = here.map_or("", RawValue::get);
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

fn kind(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The last member of this name, as JSON text.
struct Find<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Key(key)) = map.next_key()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        json.deserialize_str(Text)
    }
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

/// Append the record to `out` with these members set: in the place of the last member of the name, or at the end.
/// Everything else keeps its bytes.
pub(crate) fn set_members(record: &[u8], members: &[(&str, &str)], out: &mut Vec<u8>) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(record);
    let wanted = Places { record, members };
    let (places, count) =
        wanted.deserialize(&mut json).map_err(|e| format!("the record is not a JSON object: {e}"))?;
    // The text parsed as an object, so its last byte but white space is the brace.
    let brace = record.iter().rposition(|b| *b == b'}').unwrap_or(record.len());
    let mut replaced: Vec<(Range<usize>, &str)> = Vec::with_capacity(members.len());
    for (place, (_, value)) in places.iter().zip(members) {
        replaced.extend(place.clone().map(|place| (place, *value)));
    }
    replaced.sort_by_key(|(place, _)| place.start);
    let mut done = 0;
    for (place, value) in replaced {
        out.extend_from_slice(&record[done..place.start]);
        out.extend_from_slice(value.as_bytes());
        done = place.end;
    }
    out.extend_from_slice(&record[done..brace]);
    let mut first = count == 0;
    for ((name, value), _) in members.iter().zip(&places).filter(|(_, place)| place.is_none()) {
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(serde_json::Value::from(*name).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(&record[brace..]);
    Ok(())
}

/// Where each wanted member's value is, and how many members there are.
struct Places<'r, 'm> {
    record: &'r [u8],
    members: &'m [(&'m str, &'m str)],
}

impl<'de> DeserializeSeed<'de> for Places<'de, '_> {
    type Value = (Vec<Option<Range<usize>>>, usize);
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Places<'de, '_> {
    type Value = (Vec<Option<Range<usize>>>, usize);
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut places = vec![None; self.members.len()];
        let mut count = 0;
        while let Some(Key(key)) = map.next_key()? {
            count += 1;
            match self.members.iter().position(|(name, _)| *name == key) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(i) => {
                    let value: &'de RawValue = map.next_value()?;
                    // A raw value is a piece of the record, so its place is the distance of the two.
                    let start = value.get().as_ptr().addr() - self.record.as_ptr().addr();
                    places[i] = Some(start..start + value.get().len());
                }
            }
        }
        Ok((places, count))
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

    #[test]
    fn untouched_bytes_stay_as_they_are() {
        for (record, expected) in [
            (r#"{"id": 1.50, "z":[ 1 ]} "#, r#"{"id": 1.50, "z":[ 1 ],"label":7,"score":0.5} "#),
            ("{}", r#"{"label":7,"score":0.5}"#),
            ("{ }", r#"{ "label":7,"score":0.5}"#),
            (r#"{"score" : null,"a":"}","label":"x"}"#, r#"{"score" : 0.5,"a":"}","label":7}"#),
            (r#"{"label":1,"label":2}"#, r#"{"label":1,"label":7,"score":0.5}"#),
            (r#"{"l\u0061bel":1}"#, r#"{"l\u0061bel":7,"score":0.5}"#),
        ] {
            let mut out = b"before".to_vec();
            set_members(record.as_bytes(), &[("label", "7"), ("score", "0.5")], &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"));
        }
        assert!(set_members(b"[]", &[("label", "7")], &mut vec![]).is_err());
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        for text in ["", ".", "x", ".a.", ".a b", "..a", ".a[0]", ".\"a", ".\"\""] {
            assert_eq!(Path::parse(text).unwrap_err(), format!("`{text}` is not a path to a member"));
        }
    }
}
