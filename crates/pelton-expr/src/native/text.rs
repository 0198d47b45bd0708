//! Texts made in the arena.

use super::{Op, Stop, val::Val};
use bumpalo::Bump;

/// Two texts as one.
pub(super) fn join<'a>(arena: &'a Bump, left: &str, right: &str) -> &'a str {
    let mut joined = bumpalo::collections::String::with_capacity_in(left.len() + right.len(), arena);
    joined.push_str(left);
    joined.push_str(right);
    joined.into_bump_str()
}

/// `"-" * 3` is a text in VRL; anything else with these two is an error.
pub(super) fn repeat_is_rare<'a>(op: Op) -> Result<Val<'a>, Stop> {
    Err(if op == Op::Mul { Stop::Ask } else { Stop::Fail })
}

/// Lower case, in place where it is.
pub(super) fn lower<'a>(arena: &'a Bump, text: &'a str) -> &'a str {
    if !text.is_ascii() {
        return arena.alloc_str(&text.to_lowercase());
    }
    if !text.bytes().any(|c| c.is_ascii_uppercase()) {
        return text;
    }
    let lower = arena.alloc_str(text);
    lower.make_ascii_lowercase();
    lower
}

/// Upper case, in place where it is.
pub(super) fn upper<'a>(arena: &'a Bump, text: &'a str) -> &'a str {
    if !text.is_ascii() {
        return arena.alloc_str(&text.to_uppercase());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        return text;
    }
    let upper = arena.alloc_str(text);
    upper.make_ascii_uppercase();
    upper
}

/// Anything that can be shown.
pub(super) fn shown(arena: &Bump, value: impl std::fmt::Display) -> &str {
    use std::fmt::Write;
    let mut text = bumpalo::collections::String::new_in(arena);
    // Writing into memory cannot fail.
    let written = write!(text, "{value}");
    debug_assert!(written.is_ok());
    text.into_bump_str()
}
