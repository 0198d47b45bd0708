//! A queue in memory that stalls once, to see what the measurement makes of it.

use pelton_sdk::{
    Budget, Committed, Connector, ConnectorFactory, EndError, Lag, Offsets, OptionError, Polled, Pushed,
    Scope, Sink, SinkSpec, Source, SourceShape, SourceSpec, TopicCatalog,
};
use pelton_types::{Batch, Offset, Partition, Record, Span};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

/// One partition. The sink of the latency part takes so many records and then none for a while.
#[derive(Clone)]
pub(super) struct Queue {
    pub stall_after: usize,
    pub stall: Duration,
    log: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Queue {
    pub fn new(stall_after: usize, stall: Duration) -> Self {
        Self { stall_after, stall, log: Arc::default() }
    }
}

fn partition() -> Partition {
    Partition::new("bench", 0)
}

impl ConnectorFactory for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }
    fn summary(&self) -> &'static str {
        "keeps records in memory"
    }
    fn source_schema(&self) -> Option<schemars::Schema> {
        None
    }
    fn sink_schema(&self) -> Option<schemars::Schema> {
        None
    }
    fn check_source(&self, _: &Value) -> Result<SourceShape, Vec<OptionError>> {
        Err(Vec::new())
    }
    fn check_sink(&self, _: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Err(Vec::new())
    }
    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }
    fn connect(&self, _: Scope) -> Box<dyn Connector> {
        Box::new(self.clone())
    }
}

impl Connector for Queue {
    fn source(&mut self, _: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        Ok(Box::new(Reader { queue: self.clone(), at: 0 }))
    }
    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        let left = if spec.options["linger"] == "0ms" { self.stall_after } else { usize::MAX };
        Ok(Box::new(Writer { queue: self.clone(), left, until: None }))
    }
    fn offsets(&mut self, _: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        Ok(Box::new(Reader { queue: self.clone(), at: 0 }))
    }
}

struct Writer {
    queue: Queue,
    /// Records that are taken before the stall.
    left: usize,
    until: Option<Instant>,
}

impl Sink for Writer {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        if self.left == 0 {
            let until = *self.until.get_or_insert_with(|| Instant::now() + self.queue.stall);
            if Instant::now() < until {
                return Ok(Pushed::default());
            }
            self.left = usize::MAX;
        }
        let taken = self.left.min(batch.len() - from);
        self.left -= taken;
        let values = batch.records[from..from + taken].iter().map(|r| batch.value(r).unwrap().to_vec());
        self.queue.log.lock().unwrap().extend(values);
        Ok(Pushed { taken, rejected: None })
    }
    fn start_flush(&mut self) {}
    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        Poll::Ready(Ok(()))
    }
}

struct Reader {
    queue: Queue,
    at: usize,
}

impl Source for Reader {
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        self.at = at[0].1 as usize;
        Ok(())
    }
    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        let log = self.queue.log.lock().unwrap();
        let mut batch = Batch::new(partition());
        for value in log[self.at..].iter().take(budget.records) {
            let value = batch.put(Some(value));
            let offset = self.at as Offset;
            batch.records.push(Record {
                key: Span::NULL,
                value,
                headers: Span::NULL,
                timestamp_ms: 0,
                offset,
            });
            self.at += 1;
        }
        Ok(if batch.is_empty() { Polled::Pending } else { Polled::Batch(batch) })
    }
    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        Vec::new()
    }
    fn lag(&mut self) -> Vec<Lag> {
        Vec::new()
    }
    fn stop(&mut self) {}
}

impl Offsets for Reader {
    fn start_read(&mut self, _: &[Partition]) {}
    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>> {
        let start = self.queue.log.lock().unwrap().len() as Offset;
        Poll::Ready(Ok(vec![Committed { partition: partition(), offset: None, start, metadata: None }]))
    }
    fn start_commit(&mut self, _: &[(Partition, Offset)], _: &str) {}
    fn poll_commit(&mut self) -> Poll<Result<(), EndError>> {
        Poll::Ready(Ok(()))
    }
}
