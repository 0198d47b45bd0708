//! The operators themselves.

use crate::{format, schema};
use pelton_expr::{Converted, Decoder, Encoder, SchemaCheck};
use pelton_sdk::{
    Collector, Operator, OptionError, Verdicts,
    types::{Batch, RecordSchema},
};
use serde_json::Value;

/// Reads values and checks them.
pub(crate) struct Decode {
    decoder: Decoder,
    pub(crate) schema: Option<RecordSchema>,
    check: Option<SchemaCheck>,
    verdicts: Verdicts,
}

impl Decode {
    /// From the options; all mistakes at once.
    pub(crate) fn parse(options: &Value) -> Result<Self, Vec<OptionError>> {
        let Value::Object(members) = options else {
            let error = OptionError::at("", format!("expected `format` or `schema`, got {options}"));
            return Err(vec![error.hint("write `decode: { format: csv }`")]);
        };
        let mut errors = format::unknown("", members.keys(), &["format", "schema"]);
        let schema = members.get("schema").map(schema::parse).transpose();
        let schema = schema.unwrap_or_else(|mut found| {
            errors.append(&mut found);
            None
        });
        let json = Value::from("json");
        match format::decoder(members.get("format").unwrap_or(&json), schema.as_ref()) {
            Ok(decoder) if errors.is_empty() => {
                let check = schema.as_ref().map(SchemaCheck::new);
                Ok(Self { decoder, schema, check, verdicts: Verdicts::default() })
            }
            Ok(_) => Err(errors),
            Err(mut found) => {
                errors.append(&mut found);
                Err(errors)
            }
        }
    }

    /// Values are JSON before and after it.
    pub(crate) fn keeps_values(&self) -> bool {
        self.decoder.passes_all()
    }

    /// Decode and check one record in place. False: it is no record.
    fn record(&mut self, batch: &mut Batch, index: usize) -> Result<bool, String> {
        let from = batch.records[index].value;
        if from.is_null() {
            return Ok(true);
        }
        if !self.decoder.passes_all() {
            let mut done = Converted::Unchanged;
            let written = batch.rewrite(from, |old, new| {
                done = self.decoder.decode(old, new).map_err(|e| e.to_string())?;
                Ok::<_, String>(())
            })?;
            match done {
                Converted::Skipped => return Ok(false),
                Converted::Written => batch.records[index].value = written,
                Converted::Unchanged => {}
            }
        }
        if let (Some(check), Some(value)) = (&mut self.check, batch.value(&batch.records[index])) {
            check.check(value).map_err(|e| e.to_string())?;
        }
        Ok(true)
    }
}

impl Operator for Decode {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        batch.seal();
        for index in 0..batch.len() {
            let done = self.record(&mut batch, index);
            self.verdicts.note(done);
        }
        self.verdicts.settle(batch, out);
    }
}

/// Writes records in their form.
pub(crate) struct Encode {
    encoder: Encoder,
    verdicts: Verdicts,
}

impl Encode {
    pub(crate) fn new(encoder: Encoder) -> Self {
        Self { encoder, verdicts: Verdicts::default() }
    }

    fn record(&self, batch: &mut Batch, index: usize) -> Result<bool, String> {
        let from = batch.records[index].value;
        if from.is_null() || self.encoder.passes_all() {
            return Ok(true);
        }
        let mut done = Converted::Unchanged;
        let written = batch.rewrite(from, |old, new| {
            done = self.encoder.encode(old, new).map_err(|e| e.to_string())?;
            Ok::<_, String>(())
        })?;
        if done == Converted::Written {
            batch.records[index].value = written;
        }
        Ok(done != Converted::Skipped)
    }
}

impl Operator for Encode {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        batch.seal();
        for index in 0..batch.len() {
            let done = self.record(&mut batch, index);
            self.verdicts.note(done);
        }
        self.verdicts.settle(batch, out);
    }
}
