//! Texts with fields of the record in them, taken apart once.

use pelton_sdk::member::{Path, find, kind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;

/// What stays as it is in a URL (RFC 3986, section 2.3); everything else of a field is encoded, so that a value can
/// neither end its place nor begin another.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Path),
}

/// `https://users/{.user.id}?full=1`: `{` before a point begins a field, every other brace stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{.") {
            let (path, behind) =
                after.split_once('}').ok_or_else(|| format!("`{{.{after}` has no closing brace"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field(Path::parse(&format!(".{path}"))?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text before the first field.
    pub fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// With `x` in the place of every field, to try whether a URL comes of it.
    pub fn sample(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(_) => "x".to_owned(),
        };
        self.0.iter().map(text).collect()
    }

    /// For this record, fields percent-encoded.
    pub fn url(&self, record: &[u8]) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(path) => {
                    let json = field(record, path)?;
                    let value: Cow<'_, str> = match json.as_bytes().first() {
                        Some(b'"') => serde_json::from_str::<String>(json)
                            .map_err(|e| format!("field {path}: {e}"))?
                            .into(),
                        Some(b'{' | b'[' | b'n') => {
                            let found = kind(json.as_bytes());
                            return Err(format!("field {path}: {found} has no place in a URL"));
                        }
                        _ => json.into(),
                    };
                    // However they are written, these leave the folder they stand in.
                    if matches!(&*value, "" | "." | "..") {
                        return Err(format!("field {path}: `{value}` has no place in a URL"));
                    }
                    out.extend(utf8_percent_encode(&value, ENCODED));
                }
            }
        }
        Ok(out)
    }

    /// For this record, fields as the JSON they are.
    pub fn json(&self, record: &[u8]) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(path) => out.push_str(field(record, path)?),
            }
        }
        Ok(out)
    }
}

fn field<'r>(record: &'r [u8], path: &Path) -> Result<&'r str, String> {
    find(record, path)?.ok_or_else(|| format!("field {path} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_in_urls_and_are_json_in_bodies() {
        let url = Template::parse("http://h/{.a}/{.b.c}?q={.n}&{x}").unwrap();
        let record = r#"{"a":"x/../ü?&","b":{"c":"\u0041 b"},"n":1.50}"#;
        assert_eq!(url.url(record.as_bytes()).unwrap(), "http://h/x%2F..%2F%C3%BC%3F%26/A%20b?q=1.50&{x}");
        assert_eq!((url.prefix(), url.sample().as_str()), ("http://h/", "http://h/x/x?q=x&{x}"));
        let body = Template::parse(r#"{"id": {.a}, "all": {.b}}"#).unwrap();
        assert_eq!(body.json(record.as_bytes()).unwrap(), r#"{"id": "x/../ü?&", "all": {"c":"\u0041 b"}}"#);
    }

    #[test]
    fn a_field_that_has_no_place_in_a_url_is_named() {
        let url = Template::parse("http://h/{.a}").unwrap();
        for (record, cause) in [
            ("{}", "field .a is missing"),
            (r#"{"a":null}"#, "field .a: null has no place in a URL"),
            (r#"{"a":[1]}"#, "field .a: an array has no place in a URL"),
            (r#"{"a":".."}"#, "field .a: `..` has no place in a URL"),
            (r#"{"a":""}"#, "field .a: `` has no place in a URL"),
            ("x", "the record is not a JSON object: expected value at line 1 column 1"),
        ] {
            assert_eq!(url.url(record.as_bytes()).unwrap_err(), cause);
        }
        assert_eq!(Template::parse("http://h/{.a").unwrap_err(), "`{.a` has no closing brace");
        assert_eq!(Template::parse("{.a b}").unwrap_err(), "`.a b` is not a path to a member");
    }
}
