//! Members to set in a record, spliced into its bytes.

use crate::{
    json_text::{self, Kind, KindError},
    scan::{self, JsonError},
    value,
};
use std::ops::Range;

/// Members to set: collected, then written into a record, or as an object of their own. Kept from record to record, so
/// that nothing is allocated anew.
#[derive(Debug, Default)]
pub struct Patch {
    names: Vec<u8>,
    /// Each member as JSON: `"name":value`.
    text: Vec<u8>,
    parts: Vec<Part>,
    /// Where members of the record are replaced, and by which part.
    places: Vec<(Range<usize>, usize)>,
}

#[derive(Clone, Debug)]
struct Part {
    name: Range<usize>,
    text: Range<usize>,
    /// The record has a member of this name.
    found: bool,
}

impl Patch {
    /// Start anew.
    pub fn clear(&mut self) {
        self.names.clear();
        self.text.clear();
        self.parts.clear();
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Set a member to a text.
    #[inline]
    pub fn text(&mut self, name: &str, text: &str) {
        self.begin(name);
        json_text::write_string(&mut self.text, text);
        self.end();
    }

    /// Set a member to a text as a value of some type.
    ///
    /// # Errors
    /// The text is not of that type; the member is not set.
    pub fn typed(&mut self, name: &str, kind: Kind, text: &str) -> Result<(), KindError> {
        let (names, start) = (self.names.len(), self.text.len());
        self.begin(name);
        let written = json_text::write_as(&mut self.text, kind, text);
        if written.is_ok() {
            self.end();
        } else {
            self.parts.pop();
            self.names.truncate(names);
            self.text.truncate(start);
        }
        written
    }

    /// Set a member to a value that is JSON already.
    #[inline]
    pub fn json(&mut self, name: &str, json: &[u8]) {
        self.begin(name);
        self.text.extend_from_slice(json);
        self.end();
    }

    /// Set a member to the object that another patch makes.
    pub fn object(&mut self, name: &str, inner: &Patch) {
        self.begin(name);
        inner.write(&mut self.text);
        self.end();
    }

    fn begin(&mut self, name: &str) {
        let names = self.names.len();
        self.names.extend_from_slice(name.as_bytes());
        let start = self.text.len();
        json_text::write_string(&mut self.text, name);
        self.text.push(b':');
        self.parts.push(Part { name: names..self.names.len(), text: start..start, found: false });
    }

    fn end(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.text.end = self.text.len();
        }
    }

    /// Append an object of just these members.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (n, part) in self.parts.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&self.text[part.text.clone()]);
        }
        out.push(b'}');
    }

    /// The same with one member more, which the patch does not keep.
    pub fn write_with(&self, name: &str, json: &[u8], out: &mut Vec<u8>) {
        self.write(out);
        out.pop();
        if !self.parts.is_empty() {
            out.push(b',');
        }
        json_text::write_string(out, name);
        out.push(b':');
        out.extend_from_slice(json);
        out.push(b'}');
    }

    /// Append a record with these members set: where the last member of the name stands, or at the end. All other
    /// bytes stay as they are.
    ///
    /// # Errors
    /// The record is no JSON object; `out` is as before.
    pub fn write_into(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
        let members = self.locate(record)?;
        // Scanned as an object, so its last byte but blanks is the brace.
        let brace = record.iter().rposition(|b| *b == b'}').unwrap_or(record.len());
        let mut done = 0;
        for (place, part) in &self.places {
            out.extend_from_slice(&record[done..place.start]);
            out.extend_from_slice(&self.text[self.parts[*part].text.clone()]);
            done = place.end;
        }
        out.extend_from_slice(&record[done..brace]);
        let mut first = members == 0;
        for part in self.parts.iter().filter(|part| !part.found) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend_from_slice(&self.text[part.text.clone()]);
        }
        out.extend_from_slice(&record[brace..]);
        Ok(())
    }

    /// Find the members to replace, in order of place; how many members the record has.
    fn locate(&mut self, record: &[u8]) -> Result<usize, JsonError> {
        let Self { names, parts, places, .. } = self;
        places.clear();
        parts.iter_mut().for_each(|part| part.found = false);
        let mut count = 0;
        scan::record::<JsonError>(record, |member| {
            count += 1;
            let key = if member.key_escaped {
                value::text(record, member.quoted_key())?.into_bytes()
            } else {
                Vec::new()
            };
            let key = if member.key_escaped { &key[..] } else { &record[member.key()] };
            if let Some(at) = parts.iter().position(|part| names[part.name.clone()] == *key) {
                parts[at].found = true;
                places.retain(|(_, other)| *other != at);
                places.push((member.whole(), at));
            }
            Ok(())
        })?;
        Ok(count)
    }
}

/// Give the JSON text of each element of an array, in order. The array must be checked: by [`crate::Path::raw`], say.
///
/// # Errors
/// No array.
pub fn elements<'j>(json: &'j [u8], mut each: impl FnMut(&'j [u8])) -> Result<(), JsonError> {
    scan::array(json, 0, |range| each(&json[range]))
}

/// The JSON value of a record without the blanks around it.
///
/// # Errors
/// The record is no JSON.
pub fn checked(record: &[u8]) -> Result<&[u8], JsonError> {
    scan::check_text(record)?;
    Ok(&record[scan::any_record::<JsonError>(record)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(record: &str) -> String {
        let mut patch = Patch::default();
        patch.text("a", "x\"y");
        patch.typed("n", Kind::Integer, "7").unwrap();
        assert!(patch.typed("wrong", Kind::Integer, "x").is_err());
        let mut out = b">".to_vec();
        patch.write_into(record.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_are_replaced_in_their_place_or_added_at_the_end() {
        assert_eq!(patched("{}"), r#">{"a":"x\"y","n":7}"#);
        assert_eq!(patched(r#"{ "z": [1] } "#), ">{ \"z\": [1] ,\"a\":\"x\\\"y\",\"n\":7} ");
        assert_eq!(patched(r#"{"n":1,"z":2,"a" : null}"#), r#">{"n":7,"z":2,"a":"x\"y"}"#);
        assert_eq!(patched(r#"{"n":1,"n":2}"#), r#">{"n":1,"n":7,"a":"x\"y"}"#);
        assert_eq!(patched(r#"{"\u0061":1}"#), r#">{"a":"x\"y","n":7}"#);
    }

    #[test]
    fn a_record_that_is_no_object_is_an_error_and_writes_nothing() {
        let mut out = Vec::new();
        assert!(Patch::default().write_into(b"[1]", &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn elements_of_an_array_are_given_as_they_stand() {
        let mut found = Vec::new();
        elements(b"[1, {\"a\": [2]},\"x\"]", |e| found.push(std::str::from_utf8(e).unwrap())).unwrap();
        assert_eq!(found, ["1", "{\"a\": [2]}", "\"x\""]);
        assert!(elements(b"{}", |_| ()).is_err());
        assert_eq!(checked(b" [1] ").unwrap(), b"[1]");
    }
}
