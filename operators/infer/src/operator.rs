//! The operator: holds batches while a service works on their rows, and hands them on in the order they came.

use crate::{member, options::Plan};
use pelton_model::{Answer, Client, Rows, Service};
use pelton_sdk::{Collector, Operator, member::set_members};
use pelton_types::Batch;
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Runs' worth of rows that one operator may have at the service: one that runs, some that wait. Tensors can be a
/// thousand times bigger than records, so the rest stays as records.
pub(crate) const RUNS_IN_FLIGHT: usize = 4;

enum Outcome {
    Open,
    Failed(String),
    Scores(Vec<f32>),
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
    /// Number of the batch, counted since the operator was made.
    batch: u64,
    records: Vec<usize>,
}

pub(crate) struct Infer {
    plan: Plan,
    client: Client,
    /// Keeps the service alive, and lets others on this executor find it.
    pub _service: Arc<Service>,
    queue: VecDeque<Held>,
    /// Number of the first batch in `queue`.
    first: u64,
    jobs: VecDeque<Job>,
    submitted: u64,
    flushing: bool,
}

impl Infer {
    pub fn new(plan: Plan, service: Arc<Service>, client: Client) -> Self {
        Self {
            plan,
            client,
            _service: service,
            queue: VecDeque::new(),
            first: 0,
            jobs: VecDeque::new(),
            submitted: 0,
            flushing: false,
        }
    }

    /// Give the service as many rows as it takes.
    fn pump(&mut self) {
        let before = self.submitted;
        for (place, held) in self.queue.iter_mut().enumerate() {
            while held.next < held.batch.len() && self.client.room() > 0 {
                let most = self.client.room().min(self.plan.limits.max_batch);
                let (rows, records) = gather(&self.plan, held, most);
                if rows.is_empty() {
                    continue;
                }
                if self.client.submit(self.submitted, rows).is_err() {
                    // There was room, and nobody else uses this client.
                    held.fail(&records, "the inference service refused the rows");
                    continue;
                }
                self.submitted += 1;
                self.jobs.push_back(Job { batch: self.first + place as u64, records });
            }
        }
        if self.flushing && self.submitted > before {
            self.client.hurry();
        }
    }

    /// Take what the service answered.
    fn drain(&mut self) {
        while let Some(answer) = self.client.answer() {
            let Some(job) = self.jobs.pop_front() else { continue };
            let place = usize::try_from(job.batch - self.first).unwrap_or(usize::MAX);
            if let Some(held) = self.queue.get_mut(place) {
                held.settle(&job.records, answer);
            }
        }
    }

    /// Hand on the batches at the front that are complete.
    fn release(&mut self, out: &mut Collector) {
        while let Some(held) = self.queue.pop_front_if(|held| held.open == 0) {
            self.first += 1;
            emit(&self.plan, held, out);
        }
        self.flushing &= !self.queue.is_empty();
    }
}

impl Operator for Infer {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        let open = batch.len();
        let outcomes = std::iter::repeat_with(|| Outcome::Open).take(open).collect();
        self.queue.push_back(Held { batch, outcomes, next: 0, open });
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
        if !self.queue.is_empty() {
            self.flushing = true;
            self.client.hurry();
        }
    }

    fn held(&self) -> u64 {
        self.queue.iter().map(|held| held.batch.len() as u64).sum()
    }

    fn ready(&self) -> bool {
        self.queue.iter().all(|held| held.next == held.batch.len())
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
        for (row, record) in records.iter().enumerate() {
            let outcome = match answer.rows.row(row) {
                Some(scores) => checked_scores(scores),
                None => Outcome::Failed("the model gave no row for this record".into()),
            };
            self.set(*record, outcome);
        }
    }
}

fn checked_scores(scores: &[f32]) -> Outcome {
    match scores.iter().position(|s| !s.is_finite()) {
        None => Outcome::Scores(scores.to_vec()),
        Some(class) => Outcome::Failed(format!("the model gave {} for class {class}", scores[class])),
    }
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

fn read_row(plan: &Plan, value: Option<&[u8]>, rows: &mut Rows) -> Result<(), String> {
    let value = value.ok_or("the record has no value")?;
    std::str::from_utf8(value).map_err(|e| format!("invalid UTF-8 at byte {}", e.valid_up_to()))?;
    let found = rows.push_with(|out| {
        plan.fields.iter().try_for_each(|path| {
            let before = out.len();
            member::read_numbers(value, path, plan.scale, plan.offset, out)?;
            match out.len() - before {
                n if n != 1 && plan.fields.len() > 1 => {
                    Err(format!("field {path}: expected 1 number, found {n}"))
                }
                _ => Ok(()),
            }
        })
    })?;
    match &plan.fields[..] {
        [path] if found != plan.width => {
            Err(format!("field {path}: expected {} numbers, found {found}", plan.width))
        }
        _ => Ok(()),
    }
}

fn emit(plan: &Plan, mut held: Held, out: &mut Collector) {
    let mut failed = vec![false; held.batch.len()];
    held.batch.seal();
    for (index, outcome) in held.outcomes.into_iter().enumerate() {
        let written = match outcome {
            Outcome::Scores(scores) => write(plan, &mut held.batch, index, &scores),
            Outcome::Failed(cause) => Err(cause),
            Outcome::Open => Err("the record was not looked at".into()),
        };
        if let Err(cause) = written {
            out.fail(&mut held.batch, index, cause);
            failed[index] = true;
        }
    }
    let mut failed = failed.into_iter();
    held.batch.records.retain(|_| !failed.next().unwrap_or(false));
    out.emit(held.batch);
}

/// Write the results into a record.
fn write(plan: &Plan, batch: &mut Batch, index: usize, scores: &[f32]) -> Result<(), String> {
    let best = best(scores);
    let score = scores.get(best).copied().unwrap_or_default();
    let text = [
        plan.label.as_ref().map(|name| (name, plan.labels.get(best).cloned().unwrap_or_default())),
        plan.score.as_ref().map(|name| (name, number(score))),
        plan.scores.as_ref().map(|name| {
            let all: Vec<String> = scores.iter().map(|s| number(*s)).collect();
            (name, format!("[{}]", all.join(",")))
        }),
    ];
    let members: Vec<(&str, &str)> =
        text.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let from = batch.records[index].value;
    batch.records[index].value = batch.rewrite(from, |old, out| set_members(old, &members, out))?;
    Ok(())
}

/// The highest score's place; the first of equals.
fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best
}

/// The shortest decimal that reads back as the same 32-bit number, with a point so that it stays a float.
fn number(value: f32) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(best(&[0.1, 0.4, 0.4]), 1);
        assert_eq!(best(&[-2.0]), 0);
    }

    #[test]
    fn numbers_are_short_and_valid_json() {
        for value in [0.1f32, 1.0, 1e-9, 3.4e38, -0.25] {
            let text = number(value);
            let read: f64 = serde_json::from_str(&text).unwrap();
            assert_eq!(read as f32, value, "{text}");
        }
        assert_eq!((number(0.1), number(1.0)), ("0.1".into(), "1.0".into()));
    }
}
