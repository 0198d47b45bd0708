//! What tells records apart: a field, or a VRL expression.

use crate::{CompileError, Path, Program, Scratch};
use pelton_types::RecordSchema;
use std::str::FromStr;
use vrl::value::Value;

/// An expression whose value is a record's key: `.id`, `downcase!(.email)`, `[.user, .event]`.
#[derive(Clone, Debug)]
pub struct KeyExpr(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Field(Path),
    Program(Program),
}

impl KeyExpr {
    /// Compile, for records of which `schema` is known or nothing. A field is read from the record's bytes; all else is
    /// VRL, in which every error must be handled.
    ///
    /// # Errors
    /// All mistakes, with their place in `text`.
    pub fn compile(text: &str, schema: Option<&RecordSchema>) -> Result<Self, Vec<CompileError>> {
        match Path::from_str(text) {
            Ok(path) => Ok(Self(Kind::Field(path))),
            Err(_) => Program::compile_value(text, schema).map(|program| Self(Kind::Program(program))),
        }
    }

    /// Append a record's key to `out`: a text without quotes, a number or a boolean as it is written, an array or object
    /// as JSON. False when it has none: the value is null or missing.
    ///
    /// # Errors
    /// The record is no JSON, the field holds several values, the expression fails on it.
    pub fn write(
        &self,
        scratch: &mut Scratch,
        record: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<bool, String> {
        match &self.0 {
            Kind::Field(path) => match path.get(record).map_err(|e| e.to_string())? {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => return Ok(false),
            },
            Kind::Program(program) => match program.run_value(scratch, record)? {
                None | Some(Value::Null) => return Ok(false),
                Some(value) => match value.as_bytes() {
                    Some(text) => out.extend_from_slice(text),
                    None => serde_json::to_writer(out, &value).map_err(|e| e.to_string())?,
                },
            },
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, record: &str) -> Result<Option<String>, String> {
        let mut out = Vec::new();
        let found = KeyExpr::compile(text, None).unwrap().write(
            &mut Scratch::default(),
            Some(record.as_bytes()),
            &mut out,
        )?;
        Ok(found.then(|| String::from_utf8(out).unwrap()))
    }

    #[test]
    fn fields_and_expressions_give_keys() {
        let record = r#"{"id":1.50,"name":"Ann","tags":["x",2]}"#;
        for (text, expected) in [
            (".id", Some("1.50")),
            (".name", Some("Ann")),
            ("downcase!(.name)", Some("ann")),
            ("[.name, .tags]", Some(r#"["Ann",["x",2]]"#)),
            (".nothing", None),
            (".a || null", None),
        ] {
            assert_eq!(key(text, record), Ok(expected.map(str::to_owned)), "{text}");
        }
        assert!(key(".tags", record).unwrap_err().contains("an array"));
        assert!(key("downcase!(.id)", record).unwrap_err().contains("expected string"));
        assert!(key(".id", "{").is_err());
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        let errors = KeyExpr::compile("downcse!(.x)", None).unwrap_err();
        assert_eq!(errors[0].span, 0..7);
        assert!(KeyExpr::compile(".x = 1", None).is_err(), "a key changes no record");
        assert!(KeyExpr::compile("", None).is_err());
    }
}
