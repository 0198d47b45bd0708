//! Lines by a regular expression with named groups.

use super::Mismatch;
use pelton_expr::{Kind, Patch};
use regex::{CaptureLocations, Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};
use std::collections::HashSet;

/// What a pattern may compile to: above this a worker's memory and start would go into one pattern.
const SIZE_LIMIT: usize = 4 << 20;
/// A range of more characters is not looked through; those of digits and letters are shorter.
const CLASS: usize = 1024;

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
    /// A line may match without it.
    missing: bool,
    /// Its text may be blank, which is null where it should be a number.
    null: bool,
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
        // Whether every match has all groups; the engine knows.
        let all = regex.static_captures_len() == Some(regex.captures_len());
        let texts = never_blank(pattern);
        let groups = named.map(|(index, name)| {
            let full = texts.contains(name);
            let (name, kind) = field(name);
            Group { index, name, kind, missing: !all, null: kind != Kind::String && !full }
        });
        let groups: Vec<_> = groups.collect();
        let found = regex.capture_locations();
        Ok(Self { regex, groups, found })
    }

    /// The fields it sets.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    /// The same with their types, whether a match may lack them, and whether they may be null.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, Kind, bool, bool)> {
        self.groups.iter().map(|group| (group.name.as_str(), group.kind, group.missing, group.null))
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

/// The groups whose text has at least one character and no white space: a number there is never missing.
fn never_blank(pattern: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    if let Ok(hir) = regex_syntax::parse(pattern) {
        full_groups(&hir, &mut found);
    }
    found
}

fn full_groups(hir: &Hir, found: &mut HashSet<String>) {
    match hir.kind() {
        HirKind::Capture(group) => {
            let some = group.sub.properties().minimum_len().is_some_and(|len| len > 0);
            if let Some(name) = group.name.as_ref().filter(|_| some && !may_have_space(&group.sub)) {
                found.insert(name.to_string());
            }
            full_groups(&group.sub, found);
        }
        HirKind::Repetition(repetition) => full_groups(&repetition.sub, found),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| full_groups(part, found));
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
}

/// Whether its text may have white space. Wider than what counts as such, and that is the safe side.
fn may_have_space(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.iter().any(|byte| *byte <= b' ' || *byte > 0x7f),
        HirKind::Class(Class::Unicode(class)) => class.iter().any(|range| {
            (range.start()..=range.end()).take(CLASS).any(char::is_whitespace)
                || (range.start()..=range.end()).nth(CLASS).is_some()
        }),
        HirKind::Class(Class::Bytes(_)) => true,
        HirKind::Capture(group) => may_have_space(&group.sub),
        HirKind::Repetition(repetition) => may_have_space(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(may_have_space),
        HirKind::Empty | HirKind::Look(_) => false,
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
