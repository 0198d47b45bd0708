//! The sinks of a task, each with the batches it has not taken yet.

use pelton_sdk::{EndError, Failed, Sink};
use pelton_types::Batch;
use std::{collections::VecDeque, task::Poll};

/// One sink and its queue.
pub struct OutputQueue {
    name: String,
    sink: Box<dyn Sink>,
    /// Batches with the index of the first record not taken.
    waiting: VecDeque<(Batch, usize)>,
    records: u64,
    flushed: bool,
}

/// What a push did.
#[derive(Debug, Default)]
pub struct PushReport {
    /// Records the sink took.
    pub taken: u64,
    /// Records it refused for good.
    pub refused: Vec<Failed>,
}

impl OutputQueue {
    /// A queue in front of a sink.
    pub fn new(name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        Self { name: name.into(), sink, waiting: VecDeque::new(), records: 0, flushed: true }
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records not taken yet.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether the sink has taken everything.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Queue a batch.
    pub fn add(&mut self, batch: Batch) {
        self.records += batch.len() as u64;
        self.waiting.push_back((batch, 0));
    }

    /// Give the sink what it takes.
    pub fn push(&mut self) -> Result<PushReport, EndError> {
        let mut report = PushReport::default();
        while let Some((batch, from)) = self.waiting.front_mut() {
            let pushed = self.sink.push(batch, *from)?;
            *from += pushed.taken;
            report.taken += pushed.taken as u64;
            self.records -= pushed.taken as u64;
            if let Some(cause) = pushed.rejected {
                report.refused.push(Failed { record: batch.subset([*from]), cause });
                *from += 1;
                self.records -= 1;
                continue;
            }
            if *from < batch.len() {
                break;
            }
            self.waiting.pop_front();
        }
        Ok(report)
    }

    /// Have everything taken so far stored.
    pub fn start_flush(&mut self) {
        self.flushed = false;
        self.sink.start_flush();
    }

    /// Whether everything taken before `start_flush` is stored.
    pub fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        if self.flushed {
            return Poll::Ready(Ok(()));
        }
        let polled = self.sink.poll_flush();
        self.flushed = polled.is_ready();
        polled
    }

    /// Forget what the sink has not taken: the task goes back to its last commit.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.records = 0;
        self.flushed = true;
    }
}
