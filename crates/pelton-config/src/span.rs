//! From a byte of a scalar's value to its place in the file, for mistakes inside programs.

use crate::problem::Place;

/// Where byte `at` of `value` stands in `text`, when the scalar begins at byte `offset` (`start` as a place).
///
/// The scalar is read again as YAML reads it, beside its value. `None` where the two part, so that the caller points at the
/// scalar as a whole.
pub(crate) fn locate(text: &str, offset: usize, start: Place, value: &str, at: usize) -> Option<Place> {
    let at = floor(value, at);
    match style(text, offset) {
        Style::Literal(header) => literal(text, header, value, at),
        Style::Folded(header) => folded(text, header, value, at),
        Style::Quoted(quote) => flow(text, offset + 1, Some(quote), value, at),
        Style::Plain if text.get(offset..)?.starts_with(value.get(..at)?) => {
            let before = value.get(..at)?;
            match before.contains('\n') {
                true => flow(text, offset, None, value, at),
                false => Some(Place::new(start.line, start.column + before.chars().count())),
            }
        }
        Style::Plain => flow(text, offset, None, value, at),
    }
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted(char),
    /// `|`, with the index of the line of this header.
    Literal(usize),
    /// `>`, the same.
    Folded(usize),
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
                return Style::Folded(line - up - 1);
            }
            if !header.is_empty() {
                break;
            }
        }
    }
    match first {
        Some(quote @ ('"' | '\'')) => Style::Quoted(quote),
        Some('|') => Style::Literal(before.matches('\n').count()),
        Some('>') => Style::Folded(before.matches('\n').count()),
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

/// The place of a byte of the file.
fn place_of(text: &str, at: usize) -> Option<Place> {
    let before = text.get(..at)?;
    let line = before.matches('\n').count() + 1;
    Some(Place::new(line, before.rsplit('\n').next()?.chars().count() + 1))
}

/// `>`: lines are joined by a blank where the value has one, and by line breaks where it has those.
fn folded(text: &str, header: usize, value: &str, at: usize) -> Option<Place> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut offset: usize = lines.iter().take(header + 1).map(|line| line.len()).sum();
    let content = lines.get(header + 1..)?;
    let body = |line: &str| line.trim_end_matches(['\n', '\r']).len();
    let indent = explicit_indent(lines.get(header)?).or_else(|| {
        let first = content.iter().find(|line| !line.trim().is_empty())?;
        Some(first.len() - first.trim_start_matches(' ').len())
    })?;
    let mut done = 0;
    for (number, line) in content.iter().enumerate() {
        let end = body(line);
        if number > 0 && end > indent.min(end) {
            // What the line breaks before this line became.
            let joined = value.get(done..)?;
            let breaks = joined.len() - joined.trim_start_matches('\n').len();
            done += match breaks {
                0 if done > 0 && joined.starts_with(' ') => 1,
                breaks => breaks,
            };
        }
        let own = line.get(indent.min(end)..end)?;
        if !own.is_empty() {
            if at < done + own.len() || (at == done + own.len() && at == value.trim_end().len()) {
                return place_of(text, offset + indent + at.checked_sub(done)?);
            }
            if !value.get(done..)?.starts_with(own) {
                return None;
            }
            done += own.len();
        }
        offset += line.len();
    }
    None
}

/// The digit of `>2-`: that many blanks more than the parent has; its indentation is that of the header's line.
fn explicit_indent(header: &str) -> Option<usize> {
    let marks = header.split(" #").next()?.trim_end();
    let digit = marks.rsplit('>').next()?.chars().find_map(|c| c.to_digit(10))?;
    Some(header.len() - header.trim_start_matches([' ', '-']).len() + digit as usize)
}

/// A scalar without quotes, or from behind its opening quote: escapes take more room in the file than in the value, and
/// lines are joined.
fn flow(text: &str, from: usize, quote: Option<char>, value: &str, at: usize) -> Option<Place> {
    let mut source = from;
    let mut done = 0;
    while done < at {
        let rest = text.get(source..)?;
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        let breaks = rest.get(..blanks)?.matches('\n').count();
        if breaks > 0 {
            let joined = if breaks == 1 { " ".to_owned() } else { "\n".repeat(breaks - 1) };
            if !value.get(done..)?.starts_with(&joined) {
                return None;
            }
            source += blanks;
            done += joined.len();
            continue;
        }
        let wanted = value.get(done..)?.chars().next()?;
        let shown = rest.chars().next()?;
        let taken = match (quote, shown) {
            (Some('"'), '\\') => match rest.chars().nth(1)? {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                '\n' | '\r' => {
                    let behind = rest.get(1..)?.trim_start_matches([' ', '\t', '\r', '\n']);
                    source += rest.len() - behind.len();
                    continue;
                }
                other => 1 + other.len_utf8(),
            },
            // `''` stands for `'`.
            (Some('\''), '\'') => 2,
            (_, shown) if shown == wanted => shown.len_utf8(),
            _ => return None,
        };
        source += taken;
        done += wanted.len_utf8();
    }
    // A place behind a line break is the first character of the next line.
    let rest = text.get(source..)?;
    let escaped = rest.strip_prefix('\\').filter(|rest| quote == Some('"') && rest.starts_with(['\r', '\n']));
    let behind = escaped.unwrap_or(rest).trim_start_matches([' ', '\t', '\r', '\n']);
    let skipped = rest.get(..rest.len() - behind.len())?;
    let skip = if skipped.contains('\n') && at < value.len() { skipped.len() } else { 0 };
    place_of(text, source + skip)
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
    fn a_byte_of_joined_lines_is_found_in_its_line() {
        assert_eq!(place("map: >\n  c\n  b\n", "c", "c b\n", "b"), Some(Place::new(3, 3)));
        assert_eq!(place("map: >-\n  a c\n\n  d b\n", "a c", "a c\nd b", "b"), Some(Place::new(4, 5)));
        assert_eq!(place("m:\n  map: >2\n     c\n      b\n", " c", " c\n  b\n", "b"), Some(Place::new(4, 7)));
        assert_eq!(place("map: a\n  b\n", "a\n", "a b", "b"), Some(Place::new(2, 3)));
        assert_eq!(place("map: \"a\n\n   b\"\n", "\"a", "a\nb", "b"), Some(Place::new(3, 4)));
        assert_eq!(place("map: \"a \\\n   b\"\n", "\"a", "a b", "b"), Some(Place::new(2, 4)));
        assert_eq!(place("map: 'a\r\n  it''s b'\r\n", "'a", "a it's b", "b"), Some(Place::new(2, 9)));
    }
}
