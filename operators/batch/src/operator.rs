//! The operator: puts values into groups, and hands groups on when they are full or old, or the task ends.

use crate::{
    groups::{Group, Groups},
    options::{Format, Settings},
};
use pelton_expr::checked;
use pelton_sdk::{
    Collector, Operator,
    types::{Batch, Offset, Partition, Record, Span},
};
use std::time::Instant;

pub(crate) struct Collect {
    settings: Settings,
    groups: Groups,
    /// Groups on their way out.
    done: Vec<Group>,
    /// The task is about to end.
    flushing: bool,
}

impl Collect {
    pub fn new(settings: Settings) -> Self {
        Self { settings, groups: Groups::default(), done: Vec::new(), flushing: false }
    }

    /// Put a record into its group.
    fn add(&mut self, batch: &Batch, index: usize, now: Instant) -> Result<(), String> {
        let record = &batch.records[index];
        let Settings { records, bytes, per_key, format, max_keys, .. } = self.settings;
        let value = part(batch.value(record), format)?;
        let key = if per_key { batch.key(record) } else { None };
        self.groups.seek(&batch.partition, key);
        if self.groups.current().is_some_and(|group| group.body.len() + value.len() + 2 > bytes) {
            self.done.extend(self.groups.take());
        }
        if self.groups.current().is_none() {
            if per_key && self.groups.len() >= max_keys {
                self.done.extend(self.groups.take_oldest());
            }
            self.groups.begin(&batch.partition, key, record.offset, now);
        }
        let Some(group) = self.groups.current() else { return Ok(()) };
        group.add(value, format);
        // An operator before this one may hand records on in another order than that of their offsets.
        group.first = group.first.min(record.offset);
        group.timestamp_ms = record.timestamp_ms;
        let full = group.records >= records || group.body.len() + 2 >= bytes;
        self.groups.count();
        if full {
            self.done.extend(self.groups.take());
        }
        Ok(())
    }

    /// Hand on the groups that are done, those of one partition together.
    fn emit(&mut self, out: &mut Collector) {
        let mut batch: Option<Batch> = None;
        for mut group in self.done.drain(..) {
            group.finish(self.settings.format);
            out.merged(group.records - 1);
            if let Some(other) = batch.take_if(|batch| batch.partition != group.partition) {
                out.emit(other);
            }
            let made = batch.get_or_insert_with(|| Batch::new(group.partition.clone()));
            let key = made.put(group.key.as_deref());
            let value = made.put(Some(&group.body));
            made.records.push(Record {
                key,
                value,
                headers: Span::NULL,
                timestamp_ms: group.timestamp_ms,
                offset: group.first,
            });
        }
        batch.into_iter().for_each(|batch| out.emit(batch));
    }
}

/// A record's value as it stands in the new one.
fn part(value: Option<&[u8]>, format: Format) -> Result<&[u8], String> {
    match (format, value) {
        (Format::Array, None) => Ok(b"null"),
        (Format::Array, Some(value)) => checked(value).map_err(|e| e.to_string()),
        (Format::Lines, None) => Err("the record has no value, so no line".to_owned()),
        (Format::Lines, Some(value)) => match value.iter().position(|c| *c == b'\n') {
            Some(at) => Err(format!("the value has a line break at byte {at}, so it is more than one line")),
            None => Ok(value),
        },
    }
}

impl Operator for Collect {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        for index in 0..batch.len() {
            if let Err(cause) = self.add(&batch, index, out.now()) {
                out.fail(&mut batch, index, cause);
            }
        }
        self.emit(out);
    }

    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        let (now, within) = (out.now(), self.settings.within);
        while let Some(oldest) = self.groups.oldest()
            && (self.flushing || now >= oldest.since + within)
        {
            self.done.extend(self.groups.take_oldest());
        }
        self.flushing = false;
        self.emit(out);
        self.groups.oldest().map(|oldest| oldest.since + within)
    }

    fn flush(&mut self) {
        self.flushing = true;
    }

    fn held(&self) -> u64 {
        self.groups.held() as u64
    }

    fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.groups.floor(partition)
    }
}
