//! Records as spans of shared buffers.
//!
//! A [`Batch`] owns its backing and is `Send + 'static`: it can wait in a queue, go to another thread or outlive the
//! fetch it came from. A record is a few spans; an operator that drops records moves no bytes, one that changes a
//! value appends the new value to a fresh buffer. Forking a batch copies spans and counts references, never bytes:
//! this is what lets the runtime run an operator again after a panic.

use crate::{
    fields::FieldIndex,
    ids::{Offset, Partition},
};
use std::sync::Arc;

/// A range of one of a batch's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    buffer: u32,
    start: u32,
    len: u32,
}

impl Span {
    /// No value at all: a null key, a tombstone, no headers. Not the same as an empty value.
    pub const NULL: Span = Span { buffer: u32::MAX, start: 0, len: 0 };

    /// Whether this is no value at all.
    #[inline]
    pub fn is_null(self) -> bool {
        self.buffer == u32::MAX
    }

    /// Bytes it covers.
    #[inline]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether it covers no byte (null or empty).
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// One record of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, possibly null.
    pub key: Span,
    /// The value, null for a tombstone.
    pub value: Span,
    /// Headers as [`Batch::headers`] reads them; null when there are none.
    pub headers: Span,
    /// Milliseconds since 1970, as the queue gave it; -1 when it gave none.
    pub timestamp_ms: i64,
    /// Where it was read, in the batch's partition.
    pub offset: Offset,
}

/// One header: a name, and a value that may be null. Names may repeat and their order counts.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Records of one partition, in order of offset.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where the records come from.
    pub partition: Partition,
    /// The records. Operators remove and change them in place; order is kept.
    pub records: Vec<Record>,
    /// A record's key differs from the one it was read with: a sink must place it anew.
    pub rekeyed: bool,
    /// Where members of the records stand, as far as an operator found them for those behind it.
    pub fields: Option<Arc<FieldIndex>>,
    sealed: Vec<Arc<Vec<u8>>>,
    open: Vec<u8>,
    origin: Arc<Vec<Record>>,
}

impl Batch {
    /// An empty batch.
    pub fn new(partition: Partition) -> Self {
        Self::with_capacity(partition, 0, 0)
    }

    /// An empty batch with room for `records` records of `bytes` bytes in all.
    pub fn with_capacity(partition: Partition, records: usize, bytes: usize) -> Self {
        Self {
            partition,
            records: Vec::with_capacity(records),
            rekeyed: false,
            fields: None,
            sealed: Vec::with_capacity(2),
            open: Vec::with_capacity(bytes),
            origin: Arc::default(),
        }
    }

    /// Remember the records as they are now, for [`Batch::original`]. A source calls it once, when the batch is full.
    pub fn mark_origin(&mut self) {
        self.seal();
        self.origin = Arc::new(self.records.clone());
    }

    /// The record at this offset as its source delivered it, whatever operators did since: what a dead letter keeps.
    pub fn original(&self, offset: Offset) -> Option<&Record> {
        let at = self.origin.binary_search_by_key(&offset, |r| r.offset).ok()?;
        self.origin.get(at)
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of backing it keeps alive, for the memory budget: whole buffers, however little of them is used.
    pub fn backing_bytes(&self) -> usize {
        self.open.capacity()
            + self.sealed.iter().map(|b| b.capacity()).sum::<usize>()
            + self.records.capacity() * size_of::<Record>()
            + self.fields.as_ref().map_or(0, |fields| fields.bytes())
    }

    /// Copy bytes in; `None` gives [`Span::NULL`].
    ///
    /// # Panics
    /// When one buffer would exceed 4 GiB; budgets keep batches a thousand times smaller.
    #[inline]
    pub fn put(&mut self, bytes: Option<&[u8]>) -> Span {
        match bytes {
            None => Span::NULL,
            Some(bytes) => {
                let start = self.open.len();
                self.open.extend_from_slice(bytes);
                self.span_from(start)
            }
        }
    }

    /// Write bytes in with a closure that appends to the open buffer (it must not touch what is there already).
    #[inline]
    pub fn put_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Span, E> {
        let start = self.open.len();
        match write(&mut self.open) {
            Ok(()) => Ok(self.span_from(start)),
            Err(e) => {
                self.open.truncate(start);
                Err(e)
            }
        }
    }

    /// Rewrite from bytes that are already in this batch: `write` gets the old bytes of `from` and appends new ones.
    /// Needs `from` to be in a sealed buffer (see [`Batch::seal`]); otherwise the old bytes are copied first.
    #[inline]
    pub fn rewrite<E>(
        &mut self,
        from: Span,
        write: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Span, E> {
        if !from.is_null() && from.buffer as usize == self.sealed.len() {
            self.seal();
        }
        let start = self.open.len();
        let old: &[u8] = if from.is_null() {
            &[]
        } else {
            let at = from.start as usize;
            &self.sealed[from.buffer as usize][at..at + from.len()]
        };
        match write(old, &mut self.open) {
            Ok(()) => Ok(self.span_from(start)),
            Err(e) => {
                self.open.truncate(start);
                Err(e)
            }
        }
    }

    #[inline]
    fn span_from(&self, start: usize) -> Span {
        let end = u32::try_from(self.open.len()).expect("a batch buffer stays below 4 GiB");
        Span { buffer: self.sealed.len() as u32, start: start as u32, len: end - start as u32 }
    }

    /// The bytes of a span, `None` for null.
    #[inline]
    pub fn get(&self, span: Span) -> Option<&[u8]> {
        if span.is_null() {
            return None;
        }
        let buffer: &[u8] = match self.sealed.get(span.buffer as usize) {
            Some(sealed) => sealed,
            None => &self.open,
        };
        Some(&buffer[span.start as usize..span.start as usize + span.len()])
    }

    /// A record's key.
    #[inline]
    pub fn key(&self, record: &Record) -> Option<&[u8]> {
        self.get(record.key)
    }

    /// A record's value.
    #[inline]
    pub fn value(&self, record: &Record) -> Option<&[u8]> {
        self.get(record.value)
    }

    /// Make what was written so far shareable: forks count a reference instead of copying it.
    pub fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(Arc::new(std::mem::take(&mut self.open)));
        }
    }

    /// A second batch over the same bytes. Call [`Batch::seal`] first, or what is not sealed is copied.
    pub fn fork(&self) -> Batch {
        self.clone()
    }

    /// A batch of some of the records (indices rising), over the same bytes.
    pub fn subset(&mut self, indices: impl IntoIterator<Item = usize>) -> Batch {
        self.seal();
        Batch {
            partition: self.partition.clone(),
            records: indices.into_iter().map(|i| self.records[i]).collect(),
            rekeyed: self.rekeyed,
            fields: self.fields.clone(),
            sealed: self.sealed.clone(),
            open: Vec::new(),
            origin: self.origin.clone(),
        }
    }

    /// Split off the records from `at` on, over the same bytes.
    pub fn split_off(&mut self, at: usize) -> Batch {
        self.seal();
        Batch {
            partition: self.partition.clone(),
            records: self.records.split_off(at),
            rekeyed: self.rekeyed,
            fields: self.fields.clone(),
            sealed: self.sealed.clone(),
            open: Vec::new(),
            origin: self.origin.clone(),
        }
    }

    /// Copy headers in. No headers give [`Span::NULL`].
    pub fn put_headers<'a>(&mut self, headers: impl IntoIterator<Item = Header<'a>>) -> Span {
        let start = self.open.len();
        for (name, value) in headers {
            self.open.extend_from_slice(&(name.len() as u32).to_le_bytes());
            self.open.extend_from_slice(name.as_bytes());
            let len = value.map_or(u32::MAX, |v| v.len() as u32);
            self.open.extend_from_slice(&len.to_le_bytes());
            self.open.extend_from_slice(value.unwrap_or_default());
        }
        if self.open.len() == start { Span::NULL } else { self.span_from(start) }
    }

    /// A record's headers, in order.
    pub fn headers(&self, record: &Record) -> impl Iterator<Item = Header<'_>> {
        Headers { rest: self.get(record.headers).unwrap_or_default() }
    }
}

struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(head)
    }
    fn length(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;
    fn next(&mut self) -> Option<Header<'a>> {
        let n = self.length()?;
        // Written by `put_headers` from a `&str`, so always UTF-8.
        let name = std::str::from_utf8(self.take(n as usize)?).ok()?;
        match self.length()? {
            u32::MAX => Some((name, None)),
            n => Some((name, Some(self.take(n as usize)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(values: &[&str]) -> Batch {
        let mut b = Batch::new(Partition::new("t", 0));
        for (i, v) in values.iter().enumerate() {
            let value = b.put(Some(v.as_bytes()));
            b.records.push(Record {
                key: Span::NULL,
                value,
                headers: Span::NULL,
                timestamp_ms: -1,
                offset: i as i64,
            });
        }
        b
    }

    #[test]
    fn a_fork_keeps_what_the_original_rewrites() {
        let mut b = batch(&["one", "two"]);
        b.seal();
        let kept = b.fork();
        for i in 0..b.len() {
            let from = b.records[i].value;
            b.records[i].value = b
                .rewrite(from, |old, out| {
                    out.extend(old.iter().map(u8::to_ascii_uppercase));
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        assert_eq!(b.value(&b.records[1]), Some(&b"TWO"[..]));
        assert_eq!(kept.value(&kept.records[1]), Some(&b"two"[..]));
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let mut b = batch(&["one"]);
        let r: Result<Span, &str> = b.put_with(|out| {
            out.extend_from_slice(b"half");
            Err("no")
        });
        assert!(r.is_err());
        let next = b.put(Some(b"x"));
        assert_eq!(b.get(next), Some(&b"x"[..]));
        assert_eq!(b.value(&b.records[0]), Some(&b"one"[..]));
    }

    #[test]
    fn the_original_survives_every_change() {
        let mut b = batch(&["one", "two"]);
        b.mark_origin();
        b.records[1].value = b.put(Some(b"changed"));
        b.records.remove(0);
        let kept = b.subset([0]);
        let original = *kept.original(1).unwrap();
        assert_eq!(kept.value(&original), Some(&b"two"[..]));
        assert!(kept.original(7).is_none());
    }

    #[test]
    fn null_and_empty_are_two_things() {
        let mut b = batch(&[]);
        let empty = b.put(Some(b""));
        assert_eq!(b.get(empty), Some(&b""[..]));
        assert_eq!(b.get(Span::NULL), None);
    }

    #[test]
    fn headers_keep_order_duplicates_and_nulls() {
        let mut b = batch(&["v"]);
        let h = b.put_headers([("a", Some(&b"1"[..])), ("a", None), ("", Some(&b""[..]))]);
        b.records[0].headers = h;
        let r = b.records[0];
        let seen: Vec<_> = b.headers(&r).collect();
        assert_eq!(seen, vec![("a", Some(&b"1"[..])), ("a", None), ("", Some(&b""[..]))]);
    }

    #[test]
    fn splitting_shares_the_bytes() {
        let mut b = batch(&["one", "two", "three"]);
        let tail = b.split_off(1);
        assert_eq!((b.len(), tail.len()), (1, 2));
        assert_eq!(tail.value(&tail.records[1]), Some(&b"three"[..]));
        let mut b = batch(&["one", "two", "three"]);
        let picked = b.subset([0, 2]);
        assert_eq!(picked.value(&picked.records[1]), Some(&b"three"[..]));
    }
}
