//! The operator: holds batches while a service works on their rows, and hands them on in the promised order.

use crate::{
    member,
    options::Plan,
    results::{self, Members},
};
use pelton_model::{Answer, Client, Rows, Service};
use pelton_sdk::{Collector, Operator, Order, Reorder, Ticket, Verdicts};
use pelton_types::{Batch, Offset, Partition};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// Runs' worth of rows that one operator may have at the service: one that runs, some that wait. Tensors can be a
/// thousand times bigger than records, so the rest stays as records.
pub(crate) const RUNS_IN_FLIGHT: usize = 4;

enum Outcome {
    Open,
    Failed(String),
    /// What the model gave: this row of an answer.
    Scores(Arc<Rows>, usize),
}

struct Held {
    batch: Batch,
    outcomes: Vec<Outcome>,
    /// Records from here on were not looked at yet.
    next: usize,
    /// Records without an outcome.
    open: usize,
}

/// Which records a job's rows belong to.
struct Job {
    batch: Ticket,
    records: Vec<usize>,
}

pub(crate) struct Infer {
    plan: Arc<Plan>,
    client: Client,
    /// Keeps the service alive, and lets others on this executor find it.
    pub _service: Arc<Service>,
    reorder: Reorder<Held>,
    records: u64,
    /// Batches with records that were not looked at.
    waiting: VecDeque<Ticket>,
    jobs: VecDeque<Job>,
    submitted: u64,
    flushing: bool,
}

impl Infer {
    pub fn new(plan: Plan, service: Arc<Service>, client: Client) -> Self {
        // Answers come in the order of the jobs, so keeping the order of a key means keeping that of its partition.
        let order = if plan.order == Order::None { Order::None } else { Order::Partition };
        Self {
            plan: Arc::new(plan),
            client,
            _service: service,
            reorder: Reorder::new(order, usize::MAX),
            records: 0,
            waiting: VecDeque::new(),
            jobs: VecDeque::new(),
            submitted: 0,
            flushing: false,
        }
    }

    /// Give the service as many rows as it takes.
    fn pump(&mut self) {
        let before = self.submitted;
        while let Some(ticket) = self.waiting.front().copied() {
            let Some(held) = self.reorder.get_mut(ticket) else {
                self.waiting.pop_front();
                continue;
            };
            while held.next < held.batch.len() && self.client.room() > 0 {
                let most = self.client.room().min(self.plan.limits.max_batch);
                let records = submit(&self.plan, held, &mut self.client, self.submitted, most);
                if !records.is_empty() {
                    self.submitted += 1;
                    self.jobs.push_back(Job { batch: ticket, records });
                }
            }
            let (looked_at, done) = (held.next == held.batch.len(), held.open == 0);
            if done {
                self.reorder.complete(ticket);
            }
            if !looked_at {
                break;
            }
            self.waiting.pop_front();
        }
        if self.flushing && self.submitted > before {
            self.client.hurry();
        }
    }

    /// Take what the service answered.
    fn drain(&mut self) {
        while let Some(answer) = self.client.answer() {
            let Some(job) = self.jobs.pop_front() else { continue };
            let Some(held) = self.reorder.get_mut(job.batch) else { continue };
            held.settle(&job.records, answer);
            if held.open == 0 {
                self.reorder.complete(job.batch);
            }
        }
    }

    /// Hand on what is complete.
    fn release(&mut self, out: &mut Collector) {
        while let Some(held) = self.reorder.pop() {
            self.records -= held.batch.len() as u64;
            emit(&self.plan, held, out);
        }
        self.flushing &= !self.reorder.is_empty();
    }
}

impl Operator for Infer {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        let open = batch.len();
        let Some(lowest) = batch.records.iter().map(|r| r.offset).min() else { return };
        let outcomes = std::iter::repeat_with(|| Outcome::Open).take(open).collect();
        let partition = batch.partition.clone();
        let held = Held { batch, outcomes, next: 0, open };
        self.records += open as u64;
        let ticket = self.reorder.push(&partition, None, lowest, held);
        self.waiting.push_back(ticket);
        self.pump();
        self.drain();
        self.release(out);
    }

    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        self.drain();
        self.pump();
        self.release(out);
        // Answers come with a wake-up.
        None
    }

    fn flush(&mut self) {
        if !self.reorder.is_empty() {
            self.flushing = true;
            self.client.hurry();
        }
    }

    fn held(&self) -> u64 {
        self.records
    }

    fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.reorder.floor(partition)
    }

    fn ready(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Held {
    fn set(&mut self, record: usize, outcome: Outcome) {
        if let Some(slot @ Outcome::Open) = self.outcomes.get_mut(record) {
            *slot = outcome;
            self.open -= 1;
        }
    }

    fn fail(&mut self, records: &[usize], cause: &str) {
        for record in records {
            self.set(*record, Outcome::Failed(cause.to_owned()));
        }
    }

    fn settle(&mut self, records: &[usize], answer: Answer) {
        for (row, cause) in answer.failed {
            if let Some(record) = records.get(row) {
                self.set(*record, Outcome::Failed(cause));
            }
        }
        let rows = Arc::new(answer.rows);
        for (row, record) in records.iter().enumerate() {
            let outcome = match rows.row(row) {
                Some(scores) => match scores.iter().position(|s| !s.is_finite()) {
                    None => Outcome::Scores(rows.clone(), row),
                    Some(class) => {
                        Outcome::Failed(format!("the model gave {} for class {class}", scores[class]))
                    }
                },
                None => Outcome::Failed("the model gave no row for this record".into()),
            };
            self.set(*record, outcome);
        }
    }
}

/// Give the service rows of the next records, at most so many; which records they are. Records that give no row get their
/// outcome here.
fn submit(plan: &Arc<Plan>, held: &mut Held, client: &mut Client, job: u64, most: usize) -> Vec<usize> {
    let (records, taken) = if plan.slow {
        let records: Vec<usize> = (held.next..held.batch.len()).take(most).collect();
        held.next += records.len();
        let (plan, batch) = (plan.clone(), held.batch.subset(records.iter().copied()));
        let taken = client.submit_later(job, records.len(), move |rows| make(&plan, &batch, rows));
        (records, taken)
    } else {
        let (rows, records) = gather(plan, held, most);
        if records.is_empty() {
            return records;
        }
        (records, client.submit(job, rows).is_ok())
    };
    if taken {
        return records;
    }
    // There was room, and nobody else uses this client.
    held.fail(&records, "the inference service refused the rows");
    Vec::new()
}

/// Rows of all records, on the service's thread; which of them gave none, and why.
fn make(plan: &Plan, batch: &Batch, rows: &mut Rows) -> Vec<(usize, String)> {
    let mut failed = Vec::new();
    for (place, record) in batch.records.iter().enumerate() {
        let whole = rows.len();
        // What decodes files of strangers must not take the model's thread down.
        let read = catch_unwind(AssertUnwindSafe(|| read_row(plan, batch.value(record), rows)));
        if let Err(cause) = read.unwrap_or_else(|_| Err("its decoder panicked".to_owned())) {
            rows.truncate(whole);
            failed.push((place, cause));
        }
    }
    failed
}

/// Rows of the next records, at most so many; records that give none get their outcome here.
fn gather(plan: &Plan, held: &mut Held, most: usize) -> (Rows, Vec<usize>) {
    let mut rows = Rows::new(plan.width);
    let mut records = Vec::with_capacity(most);
    while rows.len() < most && held.next < held.batch.len() {
        let index = held.next;
        held.next += 1;
        let value = held.batch.value(&held.batch.records[index]);
        match read_row(plan, value, &mut rows) {
            Ok(()) => records.push(index),
            Err(cause) => held.set(index, Outcome::Failed(cause)),
        }
    }
    (rows, records)
}

/// Append a record's row.
fn read_row(plan: &Plan, value: Option<&[u8]>, rows: &mut Rows) -> Result<(), String> {
    let value = value.ok_or("the record has no value")?;
    let read = |out: &mut Vec<f32>| plan.inputs.iter().try_for_each(|input| member::read(value, input, out));
    rows.push_with(read).map(|_| ())
}

fn emit(plan: &Plan, mut held: Held, out: &mut Collector) {
    let (mut verdicts, mut text) = (Verdicts::default(), Members::default());
    held.batch.seal();
    for (index, outcome) in held.outcomes.into_iter().enumerate() {
        let written = match outcome {
            Outcome::Scores(rows, row) => {
                let scores = rows.row(row).unwrap_or_default();
                results::write(plan, &mut held.batch, index, scores, &mut text)
            }
            Outcome::Failed(cause) => Err(cause),
            Outcome::Open => Err("the record was not looked at".into()),
        };
        verdicts.note(written.map(|()| true));
    }
    verdicts.settle(held.batch, out);
}
