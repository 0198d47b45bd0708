//! Options read member by member, with all mistakes told together.

use crate::{OptionError, units};
use serde_json::{Map, Value};
use std::{ops::RangeInclusive, time::Duration};

/// The members of an options object. Each reading method keeps what is wrong and gives `None` for it, as for what is not
/// there; [`Options::finish`] tells all mistakes at once.
#[derive(Debug)]
pub struct Options<'v> {
    members: Option<&'v Map<String, Value>>,
    errors: Vec<OptionError>,
}

impl<'v> Options<'v> {
    /// The members of `value`, which may be those of `known`; `example` is the hint where there is no object at all.
    pub fn of(value: &'v Value, known: &[&str], example: &str) -> Self {
        let Value::Object(members) = value else {
            let error = OptionError::at("", format!("expected options, got {value}")).hint(example);
            return Self { members: None, errors: vec![error] };
        };
        let unknown = members.keys().filter(|name| !known.contains(&name.as_str()));
        let all = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let error = |name: &String| {
            OptionError::at(pointer(name), format!("unknown option `{name}`"))
                .hint(format!("the options are {all}"))
        };
        Self { members: Some(members), errors: unknown.map(error).collect() }
    }

    /// The member as it stands; `null` is none.
    pub fn get(&self, name: &str) -> Option<&'v Value> {
        self.members?.get(name).filter(|value| !value.is_null())
    }

    /// Whether there are options at all: when not, nothing more needs to be said.
    pub fn exist(&self) -> bool {
        self.members.is_some()
    }

    /// Keep a mistake of a member.
    pub fn wrong(&mut self, name: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.push(OptionError::at(pointer(name), message).hint(hint));
    }

    /// Keep a mistake.
    pub fn push(&mut self, error: OptionError) {
        self.errors.push(error);
    }

    /// Keep that a member is missing, and what to write.
    pub fn missing(&mut self, name: &str, hint: impl Into<String>) {
        if self.exist() {
            self.push(OptionError::at("", format!("`{name}` is missing")).hint(hint));
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let found = read(value);
        if found.is_none() {
            self.push(OptionError::at(pointer(name), format!("expected {expected}, got {value}")));
        }
        found
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Option<&'v str> {
        self.read(name, "a text", Value::as_str)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A whole number within a range.
    pub fn whole(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = match *range.end() {
            u64::MAX => format!("a whole number from {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        self.read(name, &expected, |value| value.as_u64().filter(|n| range.contains(n)))
    }

    /// A number above `low` and up to `high`.
    pub fn number(&mut self, name: &str, low: f64, high: f64) -> Option<f64> {
        let expected = match high.is_finite() {
            true => format!("a number above {low} and up to {high}"),
            false => format!("a number above {low}"),
        };
        self.read(name, &expected, |value| value.as_f64().filter(|n| *n > low && *n <= high))
    }

    /// A duration, such as `10s`, that is not zero.
    pub fn duration(&mut self, name: &str) -> Option<Duration> {
        let text = self.text(name)?;
        match units::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => return Some(duration),
            Ok(_) => self.wrong(name, "the duration is zero", "write at least `1ms`"),
            Err(message) => self.push(OptionError::at(pointer(name), message)),
        }
        None
    }

    /// A size in bytes, such as `16MiB`, that is not zero.
    pub fn size(&mut self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        match units::parse_size(text) {
            Ok(size) if size > 0 => return Some(size),
            Ok(_) => self.wrong(name, "the size is zero", "write at least `1B`"),
            Err(message) => self.push(OptionError::at(pointer(name), message)),
        }
        None
    }

    /// One of several words.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        self.read(name, &format!("one of {words}"), |value| {
            let word = value.as_str()?;
            choices.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice)
        })
    }

    /// A list of texts; a single text is a list of one.
    pub fn texts(&mut self, name: &str) -> Vec<&'v str> {
        let read = |value: &'v Value| match value {
            Value::String(text) => Some(vec![text.as_str()]),
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            _ => None,
        };
        self.read(name, "a text or a list of texts", read).unwrap_or_default()
    }

    /// What was made of the options, or all mistakes. `made` may be `None` only where a mistake was kept.
    ///
    /// # Errors
    /// Everything that was kept.
    pub fn finish<T>(self, made: Option<T>) -> Result<T, Vec<OptionError>> {
        match made {
            Some(made) if self.errors.is_empty() => Ok(made),
            None if self.errors.is_empty() => Err(vec![OptionError::at("", "the options cannot be used")]),
            _ => Err(self.errors),
        }
    }
}

/// A JSON pointer to a member.
pub fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_mistakes_are_told_together() {
        let value = json!({ "a/b": 1, "n": 11, "d": "5", "s": "0B", "w": "z", "f": 0, "t": [1] });
        let mut options = Options::of(&value, &["n", "d", "s", "w", "f", "t"], "write some");
        let read = (
            options.whole("n", 1..=10),
            options.duration("d"),
            options.size("s"),
            options.choice("w", &[("x", 1), ("y", 2)]),
            options.number("f", 0.0, 1.0),
            options.texts("t").is_empty(),
        );
        assert_eq!(read, (None, None, None, None, None, true));
        let errors = options.finish(Some(())).unwrap_err();
        let said: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect();
        assert_eq!(
            said,
            [
                "/a~1b: unknown option `a/b`",
                "/n: expected a whole number from 1 to 10, got 11",
                "/d: `5` is no duration: write a number and a unit, such as `200ms`, `10s` or `5m`",
                "/s: the size is zero",
                "/w: expected one of `x`, `y`, got \"z\"",
                "/f: expected a number above 0 and up to 1, got 0",
                "/t: expected a text or a list of texts, got [1]",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_no_mistake() {
        let value = json!({ "n": null, "t": "one" });
        let mut options = Options::of(&value, &["n", "t"], "");
        assert_eq!(
            (options.whole("n", 0..=9), options.texts("t"), options.texts("u")),
            (None, vec!["one"], vec![])
        );
        assert!(options.finish(Some(())).is_ok());
        let errors = Options::of(&json!(5), &[], "write some").finish(Some(())).unwrap_err();
        assert_eq!(errors, [OptionError::at("", "expected options, got 5").hint("write some")]);
    }
}
