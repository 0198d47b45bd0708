//! Lines by a regular expression with named groups.

use super::Mismatch;
use pelton_expr::{Kind, Patch};
use regex::{CaptureLocations, Regex, RegexBuilder};

/// What a pattern may compile to: above this a worker's memory and start would go into one pattern.
const SIZE_LIMIT: usize = 4 << 20;

/// A pattern and the names of its groups. The engine takes time in proportion to the line, whatever the pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    groups: Vec<Group>,
    found: CaptureLocations,
}

#[derive(Debug)]
struct Group {
    index: usize,
    name: String,
    kind: Kind,
}

impl Pattern {
    /// Compile; `field` gives a group's field and type.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn compile(pattern: &str, field: impl Fn(&str) -> (String, Kind)) -> Result<Self, String> {
        let regex = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build().map_err(|e| match e {
            regex::Error::CompiledTooBig(limit) => {
                format!("the pattern compiles to more than {} MiB", limit >> 20)
            }
            e => {
                let text = e.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.trim_start_matches("error: ").to_owned()
            }
        })?;
        let named = regex.capture_names().enumerate().filter_map(|(index, name)| Some((index, name?)));
        let groups = named.map(|(index, name)| {
            let (name, kind) = field(name);
            Group { index, name, kind }
        });
        let groups: Vec<_> = groups.collect();
        let found = regex.capture_locations();
        Ok(Self { regex, groups, found })
    }

    /// The fields it sets.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    pub fn read(&mut self, line: &str, patch: &mut Patch) -> Result<(), Mismatch> {
        if self.regex.captures_read(&mut self.found, line).is_none() {
            return Err(Mismatch::new(0, "the pattern does not match"));
        }
        for group in &self.groups {
            if let Some((start, end)) = self.found.get(group.index) {
                set(patch, &group.name, group.kind, &line[start..end], start)?;
            }
        }
        Ok(())
    }
}

/// Set a field of some type.
pub(crate) fn set(patch: &mut Patch, name: &str, kind: Kind, text: &str, at: usize) -> Result<(), Mismatch> {
    match kind {
        Kind::String => patch.text(name, text),
        kind => patch.typed(name, kind, text).map_err(|e| Mismatch::new(at, format!("{name}: {e}")))?,
    }
    Ok(())
}
