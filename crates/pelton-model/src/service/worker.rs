//! The thread of a service.

use super::{
    Answer, Counters, Limits,
    batcher::{Batcher, Due, Piece},
};
use crate::{
    calibrate,
    error::ModelError,
    model::{Model, Signature},
    rten_runtime::panic_text,
    tensor::Rows,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Instant,
};

/// Makes rows, and tells which it could not make.
pub(super) type Make = Box<dyn FnOnce(&mut Rows) -> Vec<(usize, String)> + Send>;

pub(super) enum Message {
    Job(Job),
    /// A job whose rows are yet to be made.
    Later(Make, Reply),
    Hurry,
}

/// Where a job's answer goes. Dropped without an answer, it says so: a client never waits in vain.
pub(super) struct Reply {
    answer: Option<Answer>,
    count: usize,
    /// Rows that could not be made, by their index among all of the job; the model is not given them.
    unmade: Vec<(usize, String)>,
    back: Sender<Answer>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Reply {
    pub fn new(
        job: u64,
        count: usize,
        width: usize,
        back: Sender<Answer>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            answer: Some(Answer { job, rows: Rows::new(width), failed: Vec::new() }),
            count,
            unmade: Vec::new(),
            back,
            wake,
        }
    }

    /// Make the job's rows.
    fn make(&mut self, make: Make, width: usize) -> Rows {
        let mut rows = Rows::new(width);
        let made = catch_unwind(AssertUnwindSafe(|| make(&mut rows)));
        self.unmade = made.unwrap_or_default();
        if rows.len() + self.unmade.len() != self.count {
            // A panic, or a maker that miscounts: no row can be told apart from the others.
            rows = Rows::new(width);
            self.unmade = (0..self.count).map(|i| (i, "its row could not be made".to_owned())).collect();
        }
        rows
    }

    fn add(&mut self, rows: &Rows, failed: impl Iterator<Item = (usize, String)>) {
        if let Some(answer) = &mut self.answer {
            let done = answer.rows.len();
            answer.rows.append(rows);
            answer.failed.extend(failed.map(|(i, why)| (done + i, why)));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else { return };
        let done = answer.rows.len();
        let made = self.count - self.unmade.len();
        if done < made {
            let missing = made - done;
            answer
                .rows
                .append(&Rows::from_values(answer.rows.width(), vec![0.0; missing * answer.rows.width()]));
            answer.failed.extend((done..made).map(|i| (i, "the inference service stopped".to_owned())));
        }
        if !self.unmade.is_empty() {
            answer = spread(&answer, std::mem::take(&mut self.unmade));
        }
        // A client that is gone needs no answer.
        if self.back.send(answer).is_ok() {
            (self.wake)();
        }
    }
}

/// An answer with the rows in it that were never made, as rows of zeros that failed.
fn spread(answer: &Answer, unmade: Vec<(usize, String)>) -> Answer {
    let width = answer.rows.width();
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let (mut unmade, mut causes) = (unmade.into_iter().peekable(), answer.failed.iter().peekable());
    let mut place = 0;
    for index in 0..=answer.rows.len() {
        while let Some(missing) = unmade.next_if(|(at, _)| *at == place) {
            rows.resize(rows.len() + width, 0.0);
            failed.push(missing);
            place += 1;
        }
        let Some(row) = answer.rows.row(index) else { break };
        rows.extend_from_slice(row);
        if let Some((_, why)) = causes.next_if(|(at, _)| *at == index) {
            failed.push((place, why.clone()));
        }
        place += 1;
    }
    Answer { job: answer.job, rows: Rows::from_values(width, rows), failed }
}

pub(super) struct Job {
    rows: Rows,
    reply: Reply,
}

impl Job {
    pub fn new(rows: Rows, reply: Reply) -> Self {
        Self { rows, reply }
    }
}

/// Results of a batch: a row for each row, and the ones that failed.
struct Outcome {
    rows: Rows,
    failed: Vec<(usize, String)>,
}

pub(super) struct Worker {
    name: String,
    model: Box<dyn Model>,
    signature: Signature,
    limits: Limits,
    batcher: Batcher<Job>,
    counters: Arc<Counters>,
}

impl Worker {
    pub fn new(
        name: &str,
        model: Box<dyn Model>,
        signature: Signature,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Self {
        Self { name: name.to_owned(), model, signature, limits, batcher: Batcher::new(limits), counters }
    }

    /// Find the batch that is worth it, before the first row is run.
    fn calibrate(&mut self) {
        let mut best = self.limits.max_batch;
        if self.limits.calibrate {
            let (model, signature, most) = (&mut *self.model, &self.signature, self.limits.max_batch);
            let measured =
                catch_unwind(AssertUnwindSafe(|| calibrate::measure(model, signature, most, Instant::now)));
            match measured {
                Ok(Ok(measured)) => {
                    best = measured.best;
                    let rates: Vec<_> =
                        measured.rates.iter().map(|(n, rate)| format!("{n}: {rate:.0}/s")).collect();
                    tracing::info!(
                        model = self.name,
                        max_batch = best,
                        rates = rates.join(", "),
                        "measured batches"
                    );
                }
                // Rows of zeros may be none that the model takes.
                _ => tracing::info!(
                    model = self.name,
                    max_batch = best,
                    "batches could not be measured on zeros"
                ),
            }
        }
        self.batcher.set_max_batch(best);
        self.counters.max_batch.store(best as u64, Ordering::Relaxed);
    }

    /// Until every handle is dropped; what was submitted before is still answered.
    pub fn serve(mut self, inbox: &Receiver<Message>) {
        self.calibrate();
        loop {
            // Making rows may take long, so no more than fill a batch.
            while !self.batcher.full()
                && let Ok(message) = inbox.try_recv()
            {
                self.accept(message);
            }
            let now = Instant::now();
            let received = match self.batcher.due(now) {
                Due::Now => {
                    self.run_batch();
                    continue;
                }
                Due::At(at) => inbox.recv_timeout(at.saturating_duration_since(now)),
                Due::Never => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(message) => self.accept(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn accept(&mut self, message: Message) {
        let arrived = Instant::now();
        let job = match message {
            Message::Hurry => return self.batcher.hurry(),
            Message::Job(job) => job,
            Message::Later(make, mut reply) => {
                let rows = reply.make(make, self.signature.input_width());
                Job::new(rows, reply)
            }
        };
        let rows = job.rows.len();
        self.batcher.push(arrived, job, rows);
        // Only a job without rows can be finished here.
        while self.batcher.finished().is_some() {}
    }

    fn run_batch(&mut self) {
        let pieces = self.batcher.take();
        let mut rows = Rows::new(self.signature.input_width());
        for Piece { entry, from, to } in &pieces {
            if let Some(job) = self.batcher.job(*entry) {
                // Rows of another width cannot be told apart any more: clients are made with the service's width.
                rows.append(&job.rows.slice(*from, *to));
            }
        }
        let outcome = self.run_bisecting(&rows);
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.counters.failed.fetch_add(outcome.failed.len() as u64, Ordering::Relaxed);
        let mut failed = outcome.failed.into_iter().peekable();
        let mut start = 0;
        for Piece { entry, from, to } in pieces {
            let end = start + (to - from);
            let mine =
                std::iter::from_fn(|| failed.next_if(|(i, _)| *i < end)).map(|(i, why)| (i - start, why));
            if let Some(job) = self.batcher.job(entry) {
                job.reply.add(&outcome.rows.slice(start, end), mine);
            }
            start = end;
        }
        while self.batcher.finished().is_some() {}
    }

    /// Run rows; where that fails, run the halves, so that one bad row does not take others with it.
    fn run_bisecting(&mut self, rows: &Rows) -> Outcome {
        let why = match self.run_guarded(rows) {
            Ok(rows) => return Outcome { rows, failed: Vec::new() },
            Err(error) => error.to_string(),
        };
        if rows.len() <= 1 {
            let width = self.signature.output_width();
            return Outcome { rows: Rows::from_values(width, vec![0.0; width]), failed: vec![(0, why)] };
        }
        let middle = rows.len() / 2;
        let mut first = self.run_bisecting(&rows.slice(0, middle));
        let second = self.run_bisecting(&rows.slice(middle, rows.len()));
        first.rows.append(&second.rows);
        first.failed.extend(second.failed.into_iter().map(|(i, why)| (middle + i, why)));
        first
    }

    fn run_guarded(&mut self, rows: &Rows) -> Result<Rows, ModelError> {
        let (model, signature) = (&mut self.model, &self.signature);
        // The trait asks models to stay usable after a panic; one that does not fails again, row by row.
        let out = catch_unwind(AssertUnwindSafe(|| model.run(signature, rows)))
            .map_err(|panic| ModelError::Run { why: format!("it panicked: {}", panic_text(&*panic)) })??;
        if out.len() == rows.len() && out.width() == signature.output_width() {
            return Ok(out);
        }
        Err(ModelError::Shape {
            tensor: "outputs".into(),
            expected: format!("[{}, {}]", rows.len(), signature.output_width()),
            given: format!("[{}, {}]", out.len(), out.width()),
        })
    }
}
