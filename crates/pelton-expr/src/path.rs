//! Where a field is, and its text straight from the bytes.

use crate::{
    scan::{self, JsonError},
    value,
};
use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

/// The place of one field: `.id`, `.customer.name`, `.tags[0]`, `."with space"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// The text is no path to a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PathError {
    /// Bytes of the text that are wrong.
    pub span: Range<usize>,
    /// What is wrong: lowercase, real values.
    pub message: String,
}

/// A field has no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The record is no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The field holds several values.
    #[error("field {path} is {kind}; only a string, a number or a boolean has a text")]
    NotScalar {
        /// The path.
        path: String,
        /// `an object` or `an array`.
        kind: &'static str,
    },
}

impl Path {
    /// The field's text in a JSON record: a string without its quotes and escapes, a number as it is written, `true` or
    /// `false`. `None` when the field is missing or null, or the record has no value. The whole record is checked.
    pub fn get<'b>(&self, record: Option<&'b [u8]>) -> Result<Option<Cow<'b, str>>, FieldError> {
        let Some(bytes) = record else { return Ok(None) };
        let Some(at) = self.locate(bytes)? else { return Ok(None) };
        let text = &bytes[at.clone()];
        match text.first() {
            Some(b'n') => Ok(None),
            Some(b'{') => Err(FieldError::NotScalar { path: self.text.clone(), kind: "an object" }),
            Some(b'[') => Err(FieldError::NotScalar { path: self.text.clone(), kind: "an array" }),
            Some(b'"') if text.contains(&b'\\') => Ok(Some(Cow::Owned(value::text(bytes, at)?))),
            Some(b'"') => Ok(Some(Cow::Borrowed(value::plain_text(bytes, at.start + 1..at.end - 1)?))),
            _ => Ok(Some(Cow::Borrowed(value::plain_text(bytes, at)?))),
        }
    }

    /// The field's value as JSON, as it is written. `None` when the field is missing. The whole record is checked.
    ///
    /// # Errors
    /// The record is no JSON.
    pub fn raw<'b>(&self, record: &'b [u8]) -> Result<Option<&'b [u8]>, JsonError> {
        Ok(self.locate(record)?.map(|at| &record[at]))
    }

    /// The member's name, when it is a member of the record itself.
    pub fn top_level(&self) -> Option<&str> {
        match &self.steps[..] {
            [Step::Field(name)] => Some(name),
            _ => None,
        }
    }

    /// The names on the way, when all steps are names: `a` and `b` of `.a.b`, nothing for `.a[0]`.
    pub fn names(&self) -> Option<Vec<&str>> {
        let names = self.steps.iter().map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Index(_) => None,
        });
        names.collect()
    }

    /// The last name in the path: `b` of `.a.b` and of `.a.b[0]`.
    pub fn name(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Index(_) => None,
        })
    }

    fn locate(&self, bytes: &[u8]) -> Result<Option<Range<usize>>, JsonError> {
        let mut at = scan::any_record::<JsonError>(bytes)?;
        for step in &self.steps {
            match find(bytes, at.start, step)? {
                Some(found) => at = found,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

/// The range of one step's value within the value at `start`.
fn find(bytes: &[u8], start: usize, step: &Step) -> Result<Option<Range<usize>>, JsonError> {
    let mut found = None;
    match (step, bytes.get(start)) {
        (Step::Field(name), Some(b'{')) => {
            scan::object(bytes, start, |member| {
                let same = if member.key_escaped {
                    value::text(bytes, member.quoted_key())? == *name
                } else {
                    &bytes[member.key()] == name.as_bytes()
                };
                if same {
                    found = Some(member.value());
                }
                Ok(())
            })?;
        }
        (Step::Index(index), Some(b'[')) => {
            let mut n = 0;
            scan::array(bytes, start, |element| {
                if n == *index {
                    found = Some(element);
                }
                n += 1;
            })?;
        }
        _ => {}
    }
    Ok(found)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let mut steps = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let (step, end) = step(text, at)?;
            steps.push(step);
            at = end;
        }
        if steps.is_empty() {
            return Err(PathError {
                span: 0..0,
                message: "the path is empty; a field is written `.name`".to_owned(),
            });
        }
        Ok(Self { text: text.to_owned(), steps })
    }
}

/// The step at `at`, and where the next one begins.
fn step(text: &str, at: usize) -> Result<(Step, usize), PathError> {
    let rest = &text[at..];
    let wrong = |len: usize, message: String| PathError { span: at..(at + len).min(text.len()), message };
    if let Some(inner) = rest.strip_prefix('[') {
        let Some(close) = inner.find(']') else {
            return Err(wrong(rest.len(), format!("`{rest}` lacks its closing bracket")));
        };
        let index = inner[..close].parse();
        let index = index
            .map_err(|_| wrong(close + 2, format!("`{}` is no index; write `[0]`", &rest[..close + 2])))?;
        return Ok((Step::Index(index), at + close + 2));
    }
    let Some(name) = rest.strip_prefix('.') else {
        return Err(wrong(rest.len(), format!("expected `.` before `{rest}`; a field is written `.name`")));
    };
    if let Some(quoted) = name.strip_prefix('"') {
        let Some(close) = quoted.find('"') else {
            return Err(wrong(rest.len(), format!("`{rest}` lacks its closing quote")));
        };
        return Ok((Step::Field(quoted[..close].to_owned()), at + 2 + close + 1));
    }
    let len = name.find(['.', '[']).unwrap_or(name.len());
    let field = &name[..len];
    if field.is_empty() {
        return Err(wrong(1, format!("`{text}` has no field name after a `.`")));
    }
    if let Some((bad, c)) =
        field.char_indices().find(|(_, c)| !(c.is_alphanumeric() || matches!(c, '_' | '@' | '-')))
    {
        let span = at + 1 + bad..at + 1 + bad + c.len_utf8();
        return Err(PathError {
            span,
            message: format!("`{c}` in a field name needs quotes: `.\"{field}\"`"),
        });
    }
    Ok((Step::Field(field.to_owned()), at + 1 + len))
}
