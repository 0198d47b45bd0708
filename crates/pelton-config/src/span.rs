//! From a byte of a scalar's value to its place in the file, for mistakes inside programs.

use crate::problem::Place;

/// Where byte `at` of `value` stands in `text`, when the scalar begins at byte `offset` (`start` as a place).
///
/// Exact for plain, quoted and `|` scalars; `None` where folding hides the lines (`>`, or a flow scalar of several
/// lines), so that the caller points at the scalar as a whole.
pub(crate) fn locate(text: &str, offset: usize, start: Place, value: &str, at: usize) -> Option<Place> {
    let rest = text.get(offset..)?;
    let at = floor(value, at);
    match style(text, offset) {
        Style::Literal(header) => literal(text, header, value, at),
        Style::Folded => None,
        Style::Quoted(quote) => quoted(rest, quote, start, value, at),
        Style::Plain if !value.contains('\n') && rest.starts_with(value) => {
            Some(Place::new(start.line, start.column + value.get(..at)?.chars().count()))
        }
        Style::Plain => None,
    }
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted(char),
    /// `|`, with the index of the line of this header.
    Literal(usize),
    /// `>`.
    Folded,
}

/// How the scalar that begins at this byte is written. Of a block scalar that is the first byte of its content.
pub(crate) fn style(text: &str, offset: usize) -> Style {
    let (Some(before), Some(rest)) = (text.get(..offset), text.get(offset..)) else { return Style::Plain };
    let first = rest.chars().next();
    let mut above = before.split('\n').rev();
    let own_line = above.next().unwrap_or_default();
    if own_line.chars().all(char::is_whitespace) {
        let line = before.matches('\n').count();
        for (up, header) in above.enumerate() {
            let header = header.split(" #").next().unwrap_or_default().trim_end();
            let header = header.trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
            if header.ends_with('|') {
                return Style::Literal(line - up - 1);
            }
            if header.ends_with('>') {
                return Style::Folded;
            }
            if !header.is_empty() {
                break;
            }
        }
    }
    match first {
        Some(quote @ ('"' | '\'')) => Style::Quoted(quote),
        Some('|') => Style::Literal(before.matches('\n').count()),
        Some('>') => Style::Folded,
        _ => Style::Plain,
    }
}

/// The nearest character boundary at or before a byte.
fn floor(value: &str, at: usize) -> usize {
    let at = at.min(value.len());
    (0..=at).rev().find(|&i| value.is_char_boundary(i)).unwrap_or(0)
}

/// `|`: line n of the value is line n behind the header, without its indentation.
fn literal(text: &str, header: usize, value: &str, at: usize) -> Option<Place> {
    let before = value.get(..at)?;
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next()?.chars().count();
    let source = text.split('\n').nth(header + 1 + line)?.trim_end_matches('\r');
    let wanted = value.split('\n').nth(line)?;
    let indent = if wanted.is_empty() { source } else { source.strip_suffix(wanted)? };
    Some(Place::new(header + 2 + line, indent.chars().count() + column + 1))
}

/// `"..."` and `'...'` on one line: escapes take more room in the file than in the value.
fn quoted(rest: &str, quote: char, start: Place, value: &str, at: usize) -> Option<Place> {
    let mut source = rest.chars().skip(1);
    let mut column = start.column + 1;
    let mut done = 0;
    let mut values = value.chars();
    while done < at {
        let shown = source.next()?;
        let wanted = values.next()?;
        column += 1;
        if shown == quote {
            // `''` stands for `'`.
            source.next()?;
            column += 1;
        } else if quote == '"' && shown == '\\' {
            let digits = match source.next()? {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            column += 1 + digits;
            for _ in 0..digits {
                source.next()?;
            }
        } else if shown != wanted {
            return None;
        }
        done += wanted.len_utf8();
    }
    Some(Place::new(start.line, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, mark: &str, value: &str, find: &str) -> Option<Place> {
        let offset = text.find(mark).unwrap();
        let line = text[..offset].matches('\n').count() + 1;
        let start = Place::new(line, text[..offset].rsplit('\n').next().unwrap().chars().count() + 1);
        locate(text, offset, start, value, value.find(find).unwrap())
    }

    #[test]
    fn a_byte_of_a_program_is_found_in_the_file() {
        assert_eq!(place("map: .a = b", ".a", ".a = b", "b"), Some(Place::new(1, 11)));
        assert_eq!(place("map: 'it''s b'", "'", "it's b", "b"), Some(Place::new(1, 13)));
        assert_eq!(place("map: \"\\x41\\n é b\"", "\"", "A\n é b", "b"), Some(Place::new(1, 16)));
        let block = "map: | # why\n    .a = 1\n\n    .ü b\n";
        assert_eq!(place(block, ".a", ".a = 1\n\n.ü b\n", "b"), Some(Place::new(4, 8)));
        assert_eq!(place("map: |2-\r\n\r\n  .a b\r\n", ".a", "\n.a b", "b"), Some(Place::new(3, 6)));
    }

    #[test]
    fn folded_text_has_no_places() {
        assert_eq!(place("map: >\n  c\n  b\n", "c", "c b\n", "b"), None);
        assert_eq!(place("map: a\n  b\n", "a\n", "a b", "b"), None);
    }
}
