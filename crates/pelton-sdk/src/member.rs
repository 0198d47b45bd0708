//! Members of JSON records, for operators that read and write a few of them: all other bytes stay as they are.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, ops::Range};

/// Where a member is: `.pixels`, `.image.pixels`, `."odd name"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: String,
    steps: Vec<String>,
}

impl Path {
    /// Read a path; the error says what is wrong with it.
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

    /// The names on the way to it.
    pub fn names(&self) -> Vec<&str> {
        self.steps.iter().map(String::as_str).collect()
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

/// The JSON text of the member at `path`, `None` when there is none. The last one counts where a name repeats.
///
/// # Errors
/// The record is no JSON object, or something that is none lies on the way.
pub fn find<'r>(record: &'r [u8], path: &Path) -> Result<Option<&'r str>, String> {
    let mut here: Option<&RawValue> = None;
    for (depth, step) in path.steps.iter().enumerate() {
        let bytes = here.map_or(record, |raw| raw.get().as_bytes());
        if depth > 0 && bytes.first() != Some(&b'{') {
            return Err(format!("field {path}: {} is inside, where an object was expected", kind(bytes)));
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let found = Find(step).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        here = found.map_err(|e| format!("the record is not a JSON object: {e}"))?;
        if here.is_none() {
            return Ok(None);
        }
    }
    Ok(here.map(RawValue::get))
}

/// What a JSON text is, for messages: `a string`, `null`.
pub fn kind(json: &[u8]) -> &'static str {
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

/// Append the record to `out` with these members set: in the place of the last member of the name, or at the end.
/// Everything else keeps its bytes.
pub fn set_members(record: &[u8], members: &[(&str, &str)], out: &mut Vec<u8>) -> Result<(), String> {
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

/// Append the record to `out` with the member at `path` set. Objects on the way that are missing, or null, are made;
/// everything else keeps its bytes.
///
/// # Errors
/// The record is no JSON object, or something that is none lies on the way.
pub fn set_at(record: &[u8], path: &Path, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
    set_inside(record, &path.steps, json, out).map_err(|trouble| match trouble {
        Inside::Record(why) => why,
        Inside::Way(kind) => format!("field {path}: {kind} is inside, where an object was expected"),
    })
}

/// Why a member cannot be set.
enum Inside {
    Record(String),
    /// What lies on the way.
    Way(&'static str),
}

fn set_inside(record: &[u8], steps: &[String], json: &str, out: &mut Vec<u8>) -> Result<(), Inside> {
    let (name, rest) = match steps {
        [] => return Ok(()),
        [name] => return set_members(record, &[(name, json)], out).map_err(Inside::Record),
        [name, rest @ ..] => (name, rest),
    };
    let mut reader = serde_json::Deserializer::from_slice(record);
    let found = Find(name).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
    let found = found.map_err(|e| Inside::Record(format!("the record is not a JSON object: {e}")))?;
    let inner = match found.map_or("null", RawValue::get) {
        "null" => "{}",
        object if object.starts_with('{') => object,
        other => return Err(Inside::Way(kind(other.as_bytes()))),
    };
    let mut made = Vec::with_capacity(inner.len() + json.len() + 16);
    set_inside(inner.as_bytes(), rest, json, &mut made)?;
    let made = String::from_utf8(made).map_err(|e| Inside::Record(e.to_string()))?;
    set_members(record, &[(name, &made)], out).map_err(Inside::Record)
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

    #[test]
    fn a_member_is_found_by_its_path_and_the_last_one_counts() {
        let found = |record: &'static str, path| find(record.as_bytes(), &Path::parse(path).unwrap());
        assert_eq!(found(r#"{"a":{"b":[1, 2]}}"#, ".a.b"), Ok(Some("[1, 2]")));
        assert_eq!(found(r#"{"a":1,"a":"x"}"#, ".a"), Ok(Some("\"x\"")));
        assert_eq!(found("{}", ".a.b"), Ok(None));
        assert_eq!(
            found(r#"{"a":7}"#, ".a.b").unwrap_err(),
            "field .a.b: a number is inside, where an object was expected"
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
    fn a_member_is_set_inside_objects_that_are_made_where_they_are_missing() {
        let set = |record: &str, path: &str| {
            let mut out = Vec::new();
            set_at(record.as_bytes(), &Path::parse(path).unwrap(), "7", &mut out)
                .map(|()| String::from_utf8(out).unwrap())
        };
        for (record, path, expected) in [
            (r#"{"id": 1}"#, ".a", r#"{"id": 1,"a":7}"#),
            (r#"{"id": 1}"#, ".a.b.c", r#"{"id": 1,"a":{"b":{"c":7}}}"#),
            (r#"{"a": {"x" : 1 }, "z":2}"#, ".a.b", r#"{"a": {"x" : 1 ,"b":7}, "z":2}"#),
            (r#"{"a":{"b":"old"}}"#, ".a.b", r#"{"a":{"b":7}}"#),
            (r#"{"a":null}"#, ".a.b", r#"{"a":{"b":7}}"#),
        ] {
            assert_eq!(set(record, path).unwrap(), expected);
        }
        assert_eq!(
            set(r#"{"a":[1]}"#, ".a.b").unwrap_err(),
            "field .a.b: an array is inside, where an object was expected"
        );
        assert!(set("{", ".a.b").unwrap_err().starts_with("the record is not a JSON object"));
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        for text in ["", ".", "x", ".a.", ".a b", "..a", ".a[0]", ".\"a", ".\"\""] {
            assert_eq!(Path::parse(text).unwrap_err(), format!("`{text}` is not a path to a member"));
        }
    }
}
