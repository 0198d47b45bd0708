#![doc = include_str!("../README.md")]

mod options;
mod shape;

use options::{Settings, Source};
use pelton_expr::{Patch, checked, elements};
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError,
    types::{Batch, Record, Span},
};
use serde_json::Value;
use std::sync::Arc;

/// Makes `split` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct SplitFactory;

impl OperatorFactory for SplitFactory {
    fn name(&self) -> &'static str {
        "split"
    }

    fn summary(&self) -> &'static str {
        "makes a record of each element of an array"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let settings = options::parse(options)?;
        let output = shape::output(&settings, context.input.as_deref()).map(Arc::new);
        Ok(OperatorShape { output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Split { settings: options::parse(options)?, patch: Patch::default(), spans: Vec::new() }))
    }
}

struct Split {
    settings: Settings,
    /// What the elements of the record in hand get.
    patch: Patch,
    /// Values of the records that the one in hand becomes.
    spans: Vec<Span>,
}

impl Operator for Split {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        // Over the same bytes, so that keys and headers need no copies.
        let mut made = batch.subset([]);
        for index in 0..batch.len() {
            let record = batch.records[index];
            self.spans.clear();
            if let Err(cause) = self.split(batch.value(&record), &mut made) {
                out.fail(&mut batch, index, cause);
                continue;
            }
            match self.spans.len() {
                0 => out.filtered(1),
                n => out.expanded(n - 1),
            }
            made.records.extend(self.spans.iter().map(|value| Record { value: *value, ..record }));
        }
        out.emit(made);
    }
}

impl Split {
    /// Write the values of a record's elements into `made`.
    fn split(&mut self, value: Option<&[u8]>, made: &mut Batch) -> Result<(), String> {
        let Some(record) = value else { return Ok(()) };
        let array = match &self.settings.source {
            Source::Record => Some(checked(record).map_err(|e| e.to_string())?),
            Source::Field(path) => path.raw(record).map_err(|e| e.to_string())?,
        };
        let array = match array {
            None | Some(b"null") => return Ok(()),
            Some(array) if array.first() == Some(&b'[') => array,
            Some(other) => {
                let shown: String = String::from_utf8_lossy(other).chars().take(40).collect();
                return Err(format!("{} is no array: {shown}", self.settings.source));
            }
        };
        self.patch.clear();
        for (name, path) in &self.settings.keep {
            if let Some(kept) = path.raw(record).map_err(|e| e.to_string())? {
                self.patch.json(name, kept);
            }
        }
        let most = self.settings.max_elements;
        let (mut count, mut wrong) = (0, None);
        elements(array, |element| {
            count += 1;
            // Beyond the limit only the count goes on, for the message.
            if count <= most && wrong.is_none() {
                match self.write(element, made) {
                    Ok(span) => self.spans.push(span),
                    Err(cause) => wrong = Some(format!("element {}: {cause}", count - 1)),
                }
            }
        })
        .map_err(|e| e.to_string())?;
        if count > most {
            return Err(format!("{} has {count} elements, and may have {most}", self.settings.source));
        }
        wrong.map_or(Ok(()), Err)
    }

    fn write(&mut self, element: &[u8], made: &mut Batch) -> Result<Span, String> {
        let patch = &mut self.patch;
        match &self.settings.into {
            None if self.settings.keep.is_empty() => Ok(made.put(Some(element))),
            None if element.first() != Some(&b'{') => {
                Err("it is no object, so nothing can be kept in it; give `into`".to_owned())
            }
            None => made.put_with(|new| patch.write_into(element, new).map_err(|e| e.to_string())),
            Some(name) => made.put_with(|new| {
                // What is kept stays for the next element.
                patch.write_with(name, element, new);
                Ok(())
            }),
        }
    }
}
