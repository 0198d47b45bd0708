//! The operator: batches wait in order until the buckets allow their records.

use crate::{
    bucket::Bucket,
    options::{Limit, Settings},
};
use pelton_sdk::{
    Collector, Operator, Verdicts,
    types::{Batch, Offset, Partition, Record},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Looking more often than this would wake the executor for a handful of records.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct Throttle {
    records: Option<Bucket>,
    bytes: Option<Bucket>,
    drop: bool,
    buffer: usize,
    waiting: VecDeque<Batch>,
    held: usize,
    verdicts: Verdicts,
}

impl Throttle {
    /// An operator of one of `tasks` tasks.
    pub fn new(settings: &Settings, tasks: usize) -> Self {
        let parts = if settings.shared { tasks.max(1) as f64 } else { 1.0 };
        let bucket = |limit: Limit| Bucket::new(limit.rate / parts, (limit.burst / parts).max(1.0));
        Self {
            records: settings.records.map(bucket),
            bytes: settings.bytes.map(bucket),
            drop: settings.drop,
            buffer: settings.buffer,
            waiting: VecDeque::new(),
            held: 0,
            verdicts: Verdicts::default(),
        }
    }

    fn fill(&mut self, now: Instant) {
        self.buckets().for_each(|bucket| bucket.fill(now));
    }

    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.records.iter_mut().chain(&mut self.bytes)
    }

    /// Let a record of so many bytes pass, if it may.
    fn admit(&mut self, bytes: f64) -> bool {
        let free = self.records.as_ref().is_none_or(|b| b.allows(1.0))
            && self.bytes.as_ref().is_none_or(|b| b.allows(bytes));
        if free {
            self.records.iter_mut().for_each(|b| b.take(1.0));
            self.bytes.iter_mut().for_each(|b| b.take(bytes));
        }
        free
    }

    /// Hand on what may pass, from the front.
    fn release(&mut self, out: &mut Collector) {
        while let Some(mut batch) = self.waiting.pop_front() {
            let mut passed = 0;
            while let Some(record) = batch.records.get(passed)
                && self.admit(size(record))
            {
                passed += 1;
            }
            self.held -= passed;
            if passed < batch.len() {
                let rest = batch.split_off(passed);
                self.waiting.push_front(rest);
                out.emit(batch);
                return;
            }
            out.emit(batch);
        }
    }

    /// When the record at the front may pass.
    fn next(&self, now: Instant) -> Option<Instant> {
        let record = self.waiting.front()?.records.first()?;
        let records = self.records.as_ref().map(|b| b.wait(1.0));
        let bytes = self.bytes.as_ref().map(|b| b.wait(size(record)));
        let wait = records.into_iter().chain(bytes).max().unwrap_or_default();
        Some(now + wait.max(SHORTEST_WAIT))
    }
}

/// What a record costs in bytes.
fn size(record: &Record) -> f64 {
    (record.key.len() + record.value.len() + record.headers.len()) as f64
}

impl Operator for Throttle {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        self.fill(out.now());
        if self.drop {
            self.verdicts.begin();
            for record in &batch.records {
                let keep = self.admit(size(record));
                self.verdicts.note(Ok(keep));
            }
            return self.verdicts.settle(batch, out);
        }
        self.held += batch.len();
        if !batch.is_empty() {
            self.waiting.push_back(batch);
        }
        self.release(out);
    }

    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        self.fill(out.now());
        self.release(out);
        self.next(out.now())
    }

    fn held(&self) -> u64 {
        self.held as u64
    }

    /// Records that several operators made of one, or one of several, need not come in order of offset.
    fn floor(&self, partition: &Partition) -> Option<Offset> {
        let own = self.waiting.iter().filter(|batch| batch.partition == *partition);
        own.flat_map(|batch| batch.records.iter().map(|record| record.offset)).min()
    }

    fn ready(&self) -> bool {
        self.held < self.buffer
    }
}
