//! Members of a batch's records, found by the first of several operators and known to those behind it.

use crate::{index::Index, program::Program, run::as_object, scan::JsonError, splice::Renewed};
use pelton_types::{Batch, FieldIndex, FieldRow, Record, fields::SharedFields};
use std::{ptr, sync::Arc};
use vrl::value::KeyString;

/// A record and where the members stand that programs of one operator name.
#[derive(Debug)]
pub struct Located<'a> {
    record: Option<&'a [u8]>,
    names: &'a [KeyString],
    row: FieldRow<'a>,
    is_object: bool,
    pub(crate) renewed: Option<&'a mut Renewed>,
}

impl<'a> Located<'a> {
    /// Look for the members in the record's bytes.
    #[inline]
    pub(crate) fn scan(index: &'a mut Index, record: Option<&'a [u8]>) -> Result<Self, JsonError> {
        let object = as_object(record);
        if let Some(bytes) = object {
            index.load(bytes)?;
        }
        let (names, row) = (index.names(), index.row());
        Ok(Self { record, names, row, is_object: object.is_some(), renewed: None })
    }

    /// Whether it was looked through for this program's members.
    #[inline]
    pub(crate) fn fits(&self, program: &Program) -> bool {
        ptr::eq(self.names, &*program.layout.names)
    }

    /// The record as it came.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        self.record
    }

    /// The record and its places, if its root is an object.
    #[inline]
    pub(crate) fn object(&self) -> Option<(&'a [u8], FieldRow<'a>)> {
        self.record.filter(|_| self.is_object).map(|bytes| (bytes, self.row))
    }

    /// Its places, which say nothing where the root is no object.
    #[inline]
    pub(crate) fn row(&self) -> FieldRow<'a> {
        self.row
    }
}

/// Finds members for the programs of one operator, record by record. What an operator before it has found is not looked
/// for again, and what it finds itself is left in the batch where an operator behind it wants it.
#[derive(Debug)]
pub struct Fields {
    index: Index,
    shared: Option<SharedFields>,
    /// What was found before, and how far the records in hand have come in it.
    known: Option<Arc<FieldIndex>>,
    cursor: usize,
    /// For those behind.
    made: Option<FieldIndex>,
    renewed: Renewed,
    last: Last,
}

/// Where the places of the record last looked at are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Known,
    Scanned,
    /// Its root is no object.
    Nowhere,
}

impl Fields {
    /// For these programs, which are fitted to each other: each record is looked through once for all of them. `shared` is
    /// what the operators around agreed on.
    pub fn of(programs: &mut [&mut Program], shared: Option<&SharedFields>) -> Self {
        let shared = shared.and_then(|shared| {
            let names: Arc<[KeyString]> = shared.names.iter().map(|n| n.as_str().into()).collect();
            let laid_out = programs.iter().map(|p| p.laid_out(&names)).collect::<Option<Vec<_>>>()?;
            Some((shared.clone(), names, laid_out))
        });
        let (shared, names, laid_out) = match shared {
            Some((shared, names, laid_out)) => (Some(shared), names, laid_out),
            None => {
                let names = union(programs.iter().map(|program| &**program));
                let laid_out = programs.iter().filter_map(|p| p.laid_out(&names)).collect();
                (None, names, laid_out)
            }
        };
        for (program, laid_out) in programs.iter_mut().zip(laid_out) {
            **program = laid_out;
        }
        let (index, renewed) = (Index::of(&names), Renewed::default());
        Self { index, shared, known: None, cursor: 0, made: None, renewed, last: Last::Nowhere }
    }

    /// Take up a batch.
    pub fn begin(&mut self, batch: &mut Batch) {
        self.start(batch, false);
    }

    /// Take up a batch whose values may be changed.
    pub fn begin_change(&mut self, batch: &mut Batch) {
        self.start(batch, true);
    }

    fn start(&mut self, batch: &mut Batch, changes: bool) {
        self.cursor = 0;
        self.made = None;
        self.known = batch.fields.take();
        let Some(shared) = &self.shared else {
            self.known = None;
            return;
        };
        // One that knows few of them is made anew.
        let useful = |known: &Arc<FieldIndex>| {
            Arc::ptr_eq(known.names(), &shared.names) && known.len() * 2 >= batch.len()
        };
        self.known = self.known.take().filter(useful);
        if !shared.last && (changes || self.known.is_none()) {
            self.made = Some(FieldIndex::new(shared.names.clone(), batch.len()));
        }
    }

    /// Find the members of the batch's next record, whose value is `value`.
    ///
    /// # Errors
    /// It is no JSON.
    #[inline]
    pub fn locate<'a>(&'a mut self, record: &Record, value: Option<&'a [u8]>) -> Result<Located<'a>, String> {
        let renewed = if self.made.is_some() { Some(&mut self.renewed) } else { None };
        if let Some(row) = self.known.as_deref().and_then(|known| known.row(&mut self.cursor, record)) {
            self.last = Last::Known;
            let names = self.index.names();
            return Ok(Located { record: value, names, row, is_object: true, renewed });
        }
        let located = Located::scan(&mut self.index, value).map_err(|e| e.to_string())?;
        self.last = if located.is_object { Last::Scanned } else { Last::Nowhere };
        Ok(Located { renewed, ..located })
    }

    /// The record last located goes on as it came.
    #[inline]
    pub fn keep(&mut self, record: &Record) {
        let Some(made) = &mut self.made else { return };
        let row = match self.last {
            Last::Scanned => Some(self.index.row()),
            Last::Known => self.known.as_deref().and_then(|known| known.row(&mut self.cursor, record)),
            Last::Nowhere => None,
        };
        if let Some(row) = row {
            made.push(record, row);
        }
    }

    /// The record last located goes on changed: `record` has the new value.
    #[inline]
    pub fn keep_changed(&mut self, record: &Record) {
        if let Some(made) = &mut self.made
            && let Some(row) = self.renewed.row()
        {
            made.push(record, row);
        }
    }

    /// Leave what is known in the batch, for the operators behind.
    pub fn end(&mut self, batch: &mut Batch) {
        let known = self.known.take();
        let wanted = self.shared.as_ref().is_some_and(|shared| !shared.last);
        batch.fields = self.made.take().map(Arc::new).or(known).filter(|_| wanted);
    }
}

/// Names of the members of all, each once.
fn union<'p>(programs: impl Iterator<Item = &'p Program>) -> Arc<[KeyString]> {
    let mut names: Vec<KeyString> = Vec::new();
    for member in programs.flat_map(Program::members) {
        if !names.iter().any(|name| name.as_str() == member) {
            names.push(member.into());
        }
    }
    names.into()
}
