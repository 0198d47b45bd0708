//! Bytes and times of records, as people read them.

/// Text without control characters: a record must not drive the terminal.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// A cell of a table: printable, and cut after `most` characters.
pub fn cell(bytes: Option<&[u8]>, most: usize) -> String {
    let Some(bytes) = bytes else { return "null".into() };
    let text = printable(bytes);
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC, to the second; `?` when not known.
pub fn time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).ok().filter(|_| ms >= 0);
    time.map_or_else(|| "?".into(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_between_characters() {
        assert_eq!(cell(Some("ééé".as_bytes()), 2), "éé...");
        assert_eq!(cell(Some(b"a\tb"), 10), r"a\tb");
        assert_eq!(cell(None, 3), "null");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(time(-1), "?");
    }
}
