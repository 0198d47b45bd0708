//! The operator: finds the line of each record and writes its fields.

use crate::{
    formats::Mismatch,
    options::{OnMismatch, Settings, Source},
};
use pelton_expr::{FieldError, Patch};
use pelton_sdk::{
    Collector, Operator, Verdicts,
    types::{Batch, Span},
};

/// A longer line is no line of a log.
const MAX_LINE: usize = 1 << 20;

pub(crate) struct Parse {
    settings: Settings,
    patch: Patch,
    /// The patch that puts the fields into a member of their own.
    outer: Patch,
    verdicts: Verdicts,
}

/// Why a record got no fields.
enum Trouble {
    Mismatch(String),
    /// The record itself is wrong, whatever its line says.
    Broken(String),
}

impl Parse {
    pub fn new(settings: Settings) -> Self {
        Self { settings, patch: Patch::default(), outer: Patch::default(), verdicts: Verdicts::default() }
    }

    /// The record's new value.
    fn change(&mut self, batch: &mut Batch, index: usize) -> Result<Span, Trouble> {
        let from = batch.records[index].value;
        if from.is_null() {
            return Err(Trouble::Mismatch("the record has no value".to_owned()));
        }
        batch.rewrite(from, |old, new| self.write(old, new))
    }

    fn write(&mut self, old: &[u8], new: &mut Vec<u8>) -> Result<(), Trouble> {
        self.patch.clear();
        match &self.settings.source {
            Source::Record => {
                let line = std::str::from_utf8(old)
                    .map_err(|e| Trouble::Broken(format!("invalid UTF-8 at byte {}", e.valid_up_to())))?;
                self.read(line)?;
            }
            Source::Field(path) => {
                let text = path.get(Some(old)).map_err(|e| match e {
                    FieldError::NotScalar { .. } => Trouble::Mismatch(e.to_string()),
                    FieldError::Json(_) => Trouble::Broken(e.to_string()),
                })?;
                let missing = || Trouble::Mismatch(format!("field {path} is missing or null"));
                let text = text.ok_or_else(missing)?;
                self.read(&text)?;
            }
        }
        let patch = match &self.settings.into {
            None => &mut self.patch,
            Some(name) => {
                self.outer.clear();
                self.outer.object(name, &self.patch);
                &mut self.outer
            }
        };
        match self.settings.source {
            Source::Record => patch.write(new),
            Source::Field(_) => patch.write_into(old, new).map_err(|e| Trouble::Broken(e.to_string()))?,
        }
        Ok(())
    }

    fn read(&mut self, line: &str) -> Result<(), Trouble> {
        if line.len() > MAX_LINE {
            let what = format!("the line has {} bytes, and may have 1 MiB", line.len());
            return Err(Trouble::Mismatch(what));
        }
        // A line from a file may end with the return of a Windows line end.
        let line = line.strip_suffix('\r').unwrap_or(line);
        self.settings
            .format
            .read(line, &mut self.patch)
            .map_err(|e: Mismatch| Trouble::Mismatch(e.to_string()))
    }
}

impl Operator for Parse {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        batch.seal();
        for index in 0..batch.len() {
            let verdict = match self.change(&mut batch, index) {
                Ok(value) => {
                    batch.records[index].value = value;
                    Ok(true)
                }
                Err(Trouble::Mismatch(_)) if self.settings.on_mismatch == OnMismatch::Pass => Ok(true),
                Err(Trouble::Mismatch(_)) if self.settings.on_mismatch == OnMismatch::Drop => Ok(false),
                Err(Trouble::Mismatch(cause) | Trouble::Broken(cause)) => Err(cause),
            };
            self.verdicts.note(verdict);
        }
        self.verdicts.settle(batch, out);
    }
}
