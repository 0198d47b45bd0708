//! Lines as records: cutting bytes into lines, and lines out of records.

use pelton_types::{Batch, Offset, Record, Span};

/// Bytes in a line at most. Somebody who reads a file without line breaks should learn of it before memory is full.
pub const MAX_LINE: usize = 8 << 20;

/// Cuts a stream of bytes into lines. Empty lines are no records; a `\r` before the line break is no part of the line.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    done: usize,
    /// Bytes of `buffer` known to hold no line break behind `done`.
    searched: usize,
    /// Offset of `buffer[done]` in the stream.
    position: Offset,
}

/// A line is longer than [`MAX_LINE`]; it begins at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong(pub Offset);

impl Cutter {
    pub fn at(position: Offset) -> Self {
        Self { position, ..Self::default() }
    }

    /// Offset behind the last line handed out (and the empty ones after it).
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Bytes that wait for the rest of their line, or to be taken.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.done
    }

    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.searched -= self.done;
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line and its offset. At the `end` of the stream, what has no line break is a line too.
    pub fn next(&mut self, end: bool) -> Result<Option<(Offset, &[u8])>, TooLong> {
        loop {
            let found =
                self.buffer[self.searched..].iter().position(|b| *b == b'\n').map(|i| self.searched + i);
            let (stop, after) = match found {
                Some(at) => (at, at + 1),
                None if end && self.waiting() > 0 => (self.buffer.len(), self.buffer.len()),
                None => {
                    self.searched = self.buffer.len();
                    return if self.waiting() > MAX_LINE { Err(TooLong(self.position)) } else { Ok(None) };
                }
            };
            if stop - self.done > MAX_LINE {
                return Err(TooLong(self.position));
            }
            let (start, offset) = (self.done, self.position);
            self.position += (after - start) as Offset;
            self.done = after;
            self.searched = after;
            let line = &self.buffer[start..stop];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                // Borrowed anew: a borrow returned from inside a loop would last for all its turns.
                let end = start + line.len();
                return Ok(Some((offset, &self.buffer[start..end])));
            }
        }
    }
}

/// Add a record that is only a value.
pub(crate) fn add_value(batch: &mut Batch, offset: Offset, value: &[u8]) {
    let value = batch.put(Some(value));
    batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
}

/// Append a record as a line; why it is none otherwise.
pub(crate) fn put_line(value: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let value = value.ok_or("the record has no value, which no line can express")?;
    if value.contains(&b'\n') {
        return Err("the value has a line break and would become two lines");
    }
    out.extend_from_slice(value);
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(cutter: &mut Cutter, end: bool) -> Vec<(Offset, String)> {
        let mut lines = Vec::new();
        while let Some((offset, line)) = cutter.next(end).unwrap() {
            lines.push((offset, String::from_utf8(line.to_vec()).unwrap()));
        }
        lines
    }

    #[test]
    fn lines_are_the_same_however_the_stream_arrives() {
        let text = b"one\n\ntwo\r\n\r\n\nthree";
        let expected = [(0, "one"), (5, "two"), (13, "three")].map(|(at, line)| (at, line.to_owned()));
        for piece in 1..=text.len() {
            let mut cutter = Cutter::default();
            let mut lines = Vec::new();
            for bytes in text.chunks(piece) {
                cutter.push(bytes);
                lines.extend(all(&mut cutter, false));
            }
            assert_eq!(lines, expected[..2]);
            lines.extend(all(&mut cutter, true));
            assert_eq!(lines, expected, "in pieces of {piece}");
            assert_eq!(cutter.position(), text.len() as Offset);
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused_with_its_place() {
        let mut cutter = Cutter::at(40);
        cutter.push(b"a\n");
        assert!(cutter.next(false).unwrap().is_some());
        cutter.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(cutter.next(false), Ok(None));
        cutter.push(b"x");
        assert_eq!(cutter.next(false), Err(TooLong(42)));
        cutter.push(b"\n");
        assert_eq!(cutter.next(false), Err(TooLong(42)));
    }
}
