//! Programs, run over one record after the other.

use crate::{
    diagnose,
    fields::Located,
    index::{Found, Index},
    native::Change,
    program::{Layout, Program},
    record::{Lazy, Overlay},
    scan::{self, JsonError},
    splice::Renewed,
};
use bumpalo::Bump;
use std::sync::{Arc, LazyLock};
use vrl::{
    compiler::{Context, ExpressionError, TimeZone, state::RuntimeState},
    value::Value,
};

/// Times without a zone are UTC on every worker, whatever its machine is set to.
static ZONE: LazyLock<TimeZone> = LazyLock::new(|| TimeZone::parse("UTC").unwrap_or_default());

/// What a map did to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new record was appended.
    Written,
    /// The record stays as it is, byte for byte; nothing was appended.
    Unchanged,
    /// The program gave the record up with `abort`; nothing was appended.
    Aborted,
}

/// What a program needs while it runs, kept from record to record. One for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    tools: Tools,
    /// Finds members where nobody has done so before.
    index: Option<Index>,
}

#[derive(Debug, Default)]
struct Tools {
    state: RuntimeState,
    overlay: Overlay,
    arena: Bump,
    /// What `overlay` fits.
    layout: Option<Arc<Layout>>,
}

impl Tools {
    #[inline]
    fn fit(&mut self, program: &Program) {
        if !self.layout.as_ref().is_some_and(|layout| Arc::ptr_eq(layout, &program.layout)) {
            self.overlay = Overlay::of(program.layout.names.len());
            self.state.clear();
            self.layout = Some(program.layout.clone());
        }
    }

    /// The record for VRL.
    fn target<'s>(
        &'s mut self,
        record: &Located<'s>,
        found: Found<'s>,
    ) -> Result<(Lazy<'s>, &'s mut RuntimeState), JsonError> {
        let Self { state, overlay, .. } = self;
        let target = match record.object() {
            Some((bytes, _)) => Lazy::object(bytes, found, overlay),
            None => Lazy::other(record.bytes(), found, overlay)?,
        };
        Ok((target, state))
    }
}

impl Scratch {
    /// Find the members that a program names.
    #[inline]
    fn locate<'s>(
        &'s mut self,
        program: &Program,
        record: Option<&'s [u8]>,
    ) -> Result<(Located<'s>, &'s mut Tools), JsonError> {
        let Self { index, tools } = self;
        let names = &program.layout.names;
        if !index.as_ref().is_some_and(|index| std::ptr::eq(index.names(), &**names)) {
            *index = None;
        }
        let index = index.get_or_insert_with(|| Index::of(names));
        Ok((Located::scan(index, record)?, tools))
    }
}

impl Program {
    /// Judge a record; `None` is a record without a value, read as `null`. `abort` counts as no.
    ///
    /// # Errors
    /// The record is no JSON, or the condition fails on it: lowercase, with the place in the program.
    #[inline]
    pub fn run_filter<'b>(
        &self,
        scratch: &mut Scratch,
        record: impl Into<Option<&'b [u8]>>,
    ) -> Result<bool, String> {
        let (record, tools) = scratch.locate(self, record.into()).map_err(|e| e.to_string())?;
        self.judge_with(tools, &record)
    }

    /// The same for a record whose members were found with the others of its batch.
    ///
    /// # Errors
    /// As [`Program::run_filter`].
    #[inline]
    pub fn judge(&self, scratch: &mut Scratch, record: &Located<'_>) -> Result<bool, String> {
        if !record.fits(self) {
            return self.run_filter(scratch, record.bytes());
        }
        self.judge_with(&mut scratch.tools, record)
    }

    #[inline]
    fn judge_with(&self, tools: &mut Tools, record: &Located<'_>) -> Result<bool, String> {
        if let Some(native) = self.native()
            && let Some((bytes, row)) = record.object()
            && let Some(answer) = native.judge(bytes, self.found(row), &mut tools.arena)
        {
            return Ok(answer);
        }
        self.judge_with_vrl(tools, record)
    }

    #[cold]
    fn judge_with_vrl(&self, tools: &mut Tools, record: &Located<'_>) -> Result<bool, String> {
        tools.fit(self);
        let (mut target, state) =
            tools.target(record, self.found(record.row())).map_err(|e| e.to_string())?;
        let value = self.resolve(&mut target, state)?;
        match value {
            Some(Value::Boolean(answer)) => Ok(answer),
            None => Ok(false),
            Some(other) => Err(match other.to_str_lossy() {
                Some(error) if self.inner.wrapped => {
                    diagnose::placed(&self.inner.source, &error, self.inner.shift)
                }
                _ => format!("the condition gives {} instead of a boolean", other.kind_str()),
            }),
        }
    }

    /// The value that an expression gives for a record, `None` when it aborted; `None` as the record is one without a
    /// value, read as `null`.
    ///
    /// # Errors
    /// The record is no JSON, or the expression fails on it: lowercase, with the place in the program.
    pub fn run_value<'b>(
        &self,
        scratch: &mut Scratch,
        record: impl Into<Option<&'b [u8]>>,
    ) -> Result<Option<Value>, String> {
        let (record, tools) = scratch.locate(self, record.into()).map_err(|e| e.to_string())?;
        self.evaluate_with(tools, &record)
    }

    /// The same for a record whose members were found with the others of its batch.
    ///
    /// # Errors
    /// As [`Program::run_value`].
    pub fn evaluate(&self, scratch: &mut Scratch, record: &Located<'_>) -> Result<Option<Value>, String> {
        if !record.fits(self) {
            return self.run_value(scratch, record.bytes());
        }
        self.evaluate_with(&mut scratch.tools, record)
    }

    fn evaluate_with(&self, tools: &mut Tools, record: &Located<'_>) -> Result<Option<Value>, String> {
        tools.fit(self);
        let (mut target, state) =
            tools.target(record, self.found(record.row())).map_err(|e| e.to_string())?;
        self.resolve(&mut target, state)
    }

    /// Change a record: the new one is appended to `out`. `None` is a record without a value, read as `null`.
    ///
    /// # Errors
    /// The record is no JSON, or the program fails on it: lowercase, with the place in the program. `out` is as before.
    #[inline]
    pub fn run_map<'b>(
        &self,
        scratch: &mut Scratch,
        record: impl Into<Option<&'b [u8]>>,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, String> {
        let (record, tools) = scratch.locate(self, record.into()).map_err(|e| e.to_string())?;
        self.change_with(tools, &record, out, None)
    }

    /// The same for a record whose members were found with the others of its batch.
    ///
    /// # Errors
    /// As [`Program::run_map`].
    #[inline]
    pub fn change(
        &self,
        scratch: &mut Scratch,
        record: &mut Located<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, String> {
        if !record.fits(self) {
            return self.run_map(scratch, record.bytes(), out);
        }
        let renewed = record.renewed.take();
        self.change_with(&mut scratch.tools, record, out, renewed)
    }

    #[inline]
    fn change_with(
        &self,
        tools: &mut Tools,
        record: &Located<'_>,
        out: &mut Vec<u8>,
        mut renewed: Option<&mut Renewed>,
    ) -> Result<Outcome, String> {
        if let Some(native) = self.native()
            && let Some((bytes, row)) = record.object()
            && let Some(change) =
                native.change(bytes, self.found(row), &mut tools.arena, out, renewed.as_deref_mut())
        {
            return Ok(match change {
                Change::Written => Outcome::Written,
                Change::Unchanged => Outcome::Unchanged,
                Change::Aborted => Outcome::Aborted,
            });
        }
        self.change_with_vrl(tools, record, out, renewed)
    }

    #[cold]
    fn change_with_vrl(
        &self,
        tools: &mut Tools,
        record: &Located<'_>,
        out: &mut Vec<u8>,
        mut renewed: Option<&mut Renewed>,
    ) -> Result<Outcome, String> {
        if let Some(renewed) = &mut renewed {
            renewed.forget();
        }
        tools.fit(self);
        let (mut target, state) =
            tools.target(record, self.found(record.row())).map_err(|e| e.to_string())?;
        let loaded = target.loaded_root();
        if self.resolve(&mut target, state)?.is_none() {
            return Ok(Outcome::Aborted);
        }
        if target.is_unchanged(loaded.as_ref()) {
            return Ok(Outcome::Unchanged);
        }
        let start = out.len();
        target.write(out, renewed).map_err(|e| {
            out.truncate(start);
            format!("the new record cannot be written as JSON: {e}")
        })?;
        Ok(Outcome::Written)
    }

    #[inline]
    fn found<'a>(&'a self, row: pelton_types::FieldRow<'a>) -> Found<'a> {
        Found { names: &self.layout.names, row, own: &self.layout.own }
    }

    /// The program's value, `None` when it aborted.
    #[inline]
    fn resolve(&self, target: &mut Lazy<'_>, state: &mut RuntimeState) -> Result<Option<Value>, String> {
        if self.inner.variables {
            state.clear();
        }
        let result = self.inner.program.resolve(&mut Context::new(target, state, &ZONE));
        if let Some(error) = target.take_error() {
            return Err(error.to_string());
        }
        match result {
            Ok(value) | Err(ExpressionError::Return { value, .. }) => Ok(Some(value)),
            Err(ExpressionError::Abort { .. }) => Ok(None),
            Err(error) => Err(diagnose::placed(&self.inner.source, &error.to_string(), self.inner.shift)),
        }
    }
}

/// The record, if its root is an object or it ends too early to tell.
#[inline]
pub(crate) fn as_object(record: Option<&[u8]>) -> Option<&[u8]> {
    record.filter(|bytes| matches!(bytes.get(scan::root(bytes)), None | Some(b'{')))
}
