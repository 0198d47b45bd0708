//! Where members of a batch's records stand: found by one operator, read by those behind it.
//!
//! The index is plain data and never the truth: a record whose row is missing or stale is scanned anew. A row is good for
//! the very bytes it was made from, so an operator that changes a value has nothing to say for its row to count no more.

use crate::{
    batch::{Record, Span},
    ids::Offset,
};
use std::{ops::Range, sync::Arc};

/// A member of an object, as ranges of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// First byte of the key and the one behind its last, quotes excluded.
    pub key: (u32, u32),
    /// First byte of the value and the one behind its last, quotes of a string included.
    pub value: (u32, u32),
    /// The key has escapes, so its bytes are not its text.
    pub key_escaped: bool,
    /// The value is a string with escapes.
    pub escaped: bool,
}

impl Member {
    /// The key's bytes, quotes excluded.
    #[inline]
    pub fn key(&self) -> Range<usize> {
        self.key.0 as usize..self.key.1 as usize
    }

    /// The key with its quotes.
    #[inline]
    pub fn quoted_key(&self) -> Range<usize> {
        self.key.0 as usize - 1..self.key.1 as usize + 1
    }

    /// The value's bytes, quotes of a string included.
    #[inline]
    pub fn value(&self) -> Range<usize> {
        self.value.0 as usize..self.value.1 as usize
    }

    /// From the key's opening quote to the end of the value.
    #[inline]
    pub fn whole(&self) -> Range<usize> {
        self.key.0 as usize - 1..self.value.1 as usize
    }
}

/// What a record has under one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The member, if there is one.
    pub member: Member,
    /// Where the member before it ends; its own first byte for the first one.
    pub before: u32,
    /// There is such a member.
    pub found: bool,
    /// There is another one of this name before it: the last one counts.
    pub twice: bool,
}

/// What neighbouring operators agreed on before a batch runs: which members they find for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFields {
    /// Names of top-level members, each once.
    pub names: Arc<[String]>,
    /// No operator behind this one wants to know.
    pub last: bool,
}

/// Places in some of a batch's records, in their order. The root of each is an object and was checked as a whole.
#[derive(Clone, Debug)]
pub struct FieldIndex {
    names: Arc<[String]>,
    rows: Vec<Row>,
    /// As many for each row as there are names.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    offset: Offset,
    /// What it was made from.
    value: Span,
    members: (u32, u32),
}

/// What a [`FieldIndex`] knows of one record.
#[derive(Clone, Copy, Debug)]
pub struct FieldRow<'a> {
    /// Where the first member begins and the last one ends; equal when there is none.
    pub members: (u32, u32),
    /// By name, in the order of [`FieldIndex::names`].
    pub places: &'a [Place],
}

impl FieldIndex {
    /// An empty index of these names, with room for some records.
    pub fn new(names: Arc<[String]>, records: usize) -> Self {
        let places = Vec::with_capacity(records * names.len());
        Self { names, rows: Vec::with_capacity(records), places }
    }

    /// The members it has places of. Operators that share an index share this very list.
    pub fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// Records it knows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it knows no record.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.places.capacity() * size_of::<Place>()
    }

    /// Add what is known of a record, as it is now. Records come in their order.
    ///
    /// # Panics
    /// When there are not as many places as names.
    #[inline]
    pub fn push(&mut self, record: &Record, row: FieldRow<'_>) {
        assert_eq!(row.places.len(), self.names.len(), "a place for each name");
        self.rows.push(Row { offset: record.offset, value: record.value, members: row.members });
        self.places.extend_from_slice(row.places);
    }

    /// The row of a record, if there is one and the record's value is still what it was made from. `cursor` walks along
    /// with the records: 0 for the first, and kept for the next.
    #[inline]
    pub fn row(&self, cursor: &mut usize, record: &Record) -> Option<FieldRow<'_>> {
        while self.rows.get(*cursor).is_some_and(|row| row.offset < record.offset) {
            *cursor += 1;
        }
        // Records made of one have its offset: the row may be a few further on, and the next one is looked for from here.
        let same = self.rows.get(*cursor..)?.iter().take_while(|row| row.offset == record.offset);
        let (ahead, row) = same.enumerate().find(|(_, row)| row.value == record.value)?;
        *cursor += ahead;
        let width = self.names.len();
        Some(FieldRow { members: row.members, places: &self.places[*cursor * width..(*cursor + 1) * width] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Batch, ids::Partition};

    fn record(batch: &mut Batch, offset: Offset, value: &str) -> Record {
        let value = batch.put(Some(value.as_bytes()));
        Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset }
    }

    fn index_of(records: &[Record]) -> FieldIndex {
        let mut index = FieldIndex::new(["a".to_owned()].into(), records.len());
        for (n, record) in records.iter().enumerate() {
            let place = Place { before: n as u32, ..Place::default() };
            index.push(record, FieldRow { members: (0, 0), places: &[place] });
        }
        index
    }

    fn found(index: &FieldIndex, records: &[Record]) -> Vec<Option<u32>> {
        let mut cursor = 0;
        records.iter().map(|r| index.row(&mut cursor, r).map(|row| row.places[0].before)).collect()
    }

    #[test]
    fn rows_are_found_past_records_that_were_dropped() {
        let mut b = Batch::new(Partition::new("t", 0));
        let records: Vec<_> = (0..5).map(|n| record(&mut b, n, "{}")).collect();
        let index = index_of(&records);
        assert_eq!(found(&index, &[records[1], records[4]]), [Some(1), Some(4)]);
        assert_eq!(found(&index_of(&records[1..2]), &records), [None, Some(0), None, None, None]);
    }

    #[test]
    fn a_row_counts_no_more_when_the_value_has_changed() {
        let mut b = Batch::new(Partition::new("t", 0));
        let records: Vec<_> = (0..3).map(|n| record(&mut b, n, "{}")).collect();
        let index = index_of(&records);
        let changed = record(&mut b, 1, "{}");
        assert_eq!(found(&index, &[records[0], changed, records[2]]), [Some(0), None, Some(2)]);
    }

    #[test]
    fn records_of_one_offset_have_a_row_each() {
        let mut b = Batch::new(Partition::new("t", 0));
        let records: Vec<_> = ["{}", "{ }", "{  }"].iter().map(|v| record(&mut b, 7, v)).collect();
        let index = index_of(&records);
        assert_eq!(found(&index, &records), [Some(0), Some(1), Some(2)]);
        let changed = record(&mut b, 7, "{}");
        assert_eq!(found(&index, &[changed, records[0], records[2]]), [None, Some(0), Some(2)]);
    }
}
