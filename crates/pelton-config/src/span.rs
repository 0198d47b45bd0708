//! From a byte of a scalar's value to its place in the file, for mistakes inside programs.

use crate::problem::Place;

/// Where byte `at` of `value` stands in `text`, when the scalar begins at byte `offset` (`start` as a place).
///
/// Exact for plain, quoted and `|` scalars; `None` where folding hides the lines (`>`, or a flow scalar of several
/// lines), so that the caller points at the scalar as a whole.
pub(crate) fn locate(text: &str, offset: usize, start: Place, value: &str, at: usize) -> Option<Place> {
    let rest = text.get(offset..)?;
    let at = floor(value, at);
    match rest.chars().next()? {
        '|' => literal(rest, start, value, at),
        '>' => None,
        quote @ ('"' | '\'') => quoted(rest, quote, start, value, at),
        _ if !value.contains('\n') && rest.starts_with(value) => {
            Some(Place::new(start.line, start.column + value.get(..at)?.chars().count()))
        }
        _ => None,
    }
}

/// The nearest character boundary at or before a byte.
fn floor(value: &str, at: usize) -> usize {
    let at = at.min(value.len());
    (0..=at).rev().find(|&i| value.is_char_boundary(i)).unwrap_or(0)
}

/// `|`: line n of the value is line n behind the header, without its indentation.
fn literal(rest: &str, start: Place, value: &str, at: usize) -> Option<Place> {
    let before = value.get(..at)?;
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next()?.chars().count();
    let source = rest.split('\n').nth(line + 1)?;
    let wanted = value.split('\n').nth(line)?;
    let indent = match wanted.is_empty() {
        true => source.trim_end_matches('\r').len(),
        false => source.trim_end_matches('\r').strip_suffix(wanted)?.chars().count(),
    };
    Some(Place::new(start.line + 1 + line, indent + column + 1))
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
        let start = Place::new(1, text[..offset].chars().count() + 1);
        locate(text, offset, start, value, value.find(find).unwrap())
    }

    #[test]
    fn a_byte_of_a_program_is_found_in_the_file() {
        assert_eq!(place("map: .a = b", ".a", ".a = b", "b"), Some(Place::new(1, 11)));
        assert_eq!(place("map: 'it''s b'", "'", "it's b", "b"), Some(Place::new(1, 13)));
        assert_eq!(place("map: \"\\x41\\n é b\"", "\"", "A\n é b", "b"), Some(Place::new(1, 16)));
        assert_eq!(
            place("map: |\n    .a = 1\n\n    .ü b\n", "|", ".a = 1\n\n.ü b\n", "b"),
            Some(Place::new(4, 8))
        );
        assert_eq!(place("map: |-\r\n  .a b\r\n", "|", ".a b", "b"), Some(Place::new(2, 6)));
    }

    #[test]
    fn folded_text_has_no_places() {
        assert_eq!(place("map: >\n  a\n  b\n", ">", "a b\n", "b"), None);
        assert_eq!(place("map: a\n  b\n", "a\n", "a b", "b"), None);
    }
}
