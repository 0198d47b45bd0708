//! The sinks of a task, each with the batches it has not taken yet.

use crate::ages::Stamps;
use pelton_sdk::{EndError, Failed, Sink};
use pelton_types::{Batch, Offset, Partition};
use std::{collections::VecDeque, task::Poll};

/// One sink and its queue.
pub struct OutputQueue {
    name: String,
    sink: Box<dyn Sink>,
    /// Batches with the index of the first record not taken.
    waiting: VecDeque<(Batch, usize)>,
    records: u64,
    /// Results that may not go out yet, in the order they came.
    back: Vec<Batch>,
    held_back: u64,
    flushed: bool,
}

/// What a push did.
#[derive(Debug, Default)]
pub struct PushReport {
    /// Records the sink took.
    pub taken: u64,
    /// Their timestamps.
    pub(crate) stamps: Stamps,
    /// Records it refused for good.
    pub refused: Vec<Failed>,
}

impl OutputQueue {
    /// A queue in front of a sink.
    pub fn new(name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        Self {
            name: name.into(),
            sink,
            waiting: VecDeque::new(),
            records: 0,
            back: Vec::new(),
            held_back: 0,
            flushed: true,
        }
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records not taken yet, those held back among them.
    pub fn len(&self) -> u64 {
        self.records + self.held_back
    }

    /// Records that may not go out yet.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }

    /// Whether the sink has taken everything that may go out.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Queue a batch.
    pub fn add(&mut self, batch: Batch) {
        self.records += batch.len() as u64;
        self.waiting.push_back((batch, 0));
    }

    /// Keep a batch until [`OutputQueue::let_out`] says that its offsets may go out.
    pub fn hold_back(&mut self, batch: Batch) {
        self.held_back += batch.len() as u64;
        self.back.push(batch);
    }

    /// Queue what lies below these offsets, in the order it came. A partition that is not named stays.
    pub fn let_out(&mut self, below: &[(Partition, Offset)]) {
        for mut batch in std::mem::take(&mut self.back) {
            let limit = below.iter().find(|(p, _)| *p == batch.partition).map_or(Offset::MIN, |(_, at)| *at);
            let out = batch.records.iter().filter(|r| r.offset < limit).count();
            if out == batch.len() {
                self.held_back -= out as u64;
                self.add(batch);
                continue;
            }
            if out > 0 {
                let places = 0..batch.len();
                let (free, kept): (Vec<_>, Vec<_>) = places.partition(|i| batch.records[*i].offset < limit);
                let freed = batch.subset(free);
                batch = batch.subset(kept);
                self.held_back -= out as u64;
                self.add(freed);
            }
            self.back.push(batch);
        }
    }

    /// The lowest offset of a partition that the sink has not taken.
    pub fn floor(&self, partition: &Partition) -> Option<Offset> {
        let waiting = self.waiting.iter().map(|(batch, from)| (batch, *from));
        let own = waiting.chain(self.back.iter().map(|b| (b, 0))).filter(|(b, _)| b.partition == *partition);
        own.flat_map(|(batch, from)| batch.records[from..].iter().map(|r| r.offset)).min()
    }

    /// Give the sink what it takes.
    pub fn push(&mut self) -> Result<PushReport, EndError> {
        let mut report = PushReport::default();
        while let Some((batch, from)) = self.waiting.front_mut() {
            let pushed = self.sink.push(batch, *from)?;
            report.stamps.note(&batch.records[*from..*from + pushed.taken]);
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
        self.back.clear();
        self.held_back = 0;
        self.flushed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::Pushed;
    use pelton_types::{Record, Span};

    struct Nothing;
    impl Sink for Nothing {
        fn push(&mut self, _: &Batch, _: usize) -> Result<Pushed, EndError> {
            Ok(Pushed::default())
        }
        fn start_flush(&mut self) {}
        fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
            Poll::Ready(Ok(()))
        }
    }

    fn batch(partition: i32, offsets: &[Offset]) -> Batch {
        let mut batch = Batch::new(Partition::new("in", partition));
        let (key, value, headers) = (Span::NULL, Span::NULL, Span::NULL);
        batch.records.extend(offsets.iter().map(|o| Record {
            key,
            value,
            headers,
            timestamp_ms: 0,
            offset: *o,
        }));
        batch
    }

    fn waiting(queue: &OutputQueue) -> Vec<Offset> {
        queue.waiting.iter().flat_map(|(b, _)| b.records.iter().map(|r| r.offset)).collect()
    }

    #[test]
    fn what_is_held_back_goes_out_below_the_offset_of_its_partition_and_in_its_order() {
        let mut queue = OutputQueue::new("out", Box::new(Nothing));
        queue.hold_back(batch(0, &[7, 3, 9]));
        queue.hold_back(batch(1, &[4]));
        queue.hold_back(batch(0, &[2, 5]));
        let (zero, one) = (Partition::new("in", 0), Partition::new("in", 1));
        queue.let_out(&[(zero.clone(), 3)]);
        assert_eq!((waiting(&queue), queue.len(), queue.held_back()), (vec![2], 6, 5));
        assert_eq!((queue.floor(&zero), queue.floor(&one)), (Some(2), Some(4)));
        queue.let_out(&[(zero.clone(), 9), (one, 9)]);
        assert_eq!((waiting(&queue), queue.len(), queue.held_back()), (vec![2, 7, 3, 4, 5], 6, 1));
        queue.clear();
        assert_eq!((queue.len(), queue.floor(&zero)), (0, None));
    }
}
