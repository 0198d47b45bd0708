//! Micro-batches across tasks: one thread runs one model for everybody on an executor.
//!
//! A [`Client`] submits jobs of a few rows and gets an [`Answer`] for each, in the order it submitted them. The thread
//! puts the rows of all clients into one run until there are `max_batch` of them or the oldest has waited `max_delay`.
//! A client may have only so many rows in flight, and that bounds the queue. The thread ends when the service and all
//! its clients are dropped.

mod batcher;
mod worker;

use crate::{
    model::{Model, Signature},
    tensor::Rows,
};
use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};
use worker::{Job, Message, Reply};

/// How a service fills its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows in one run at most; at least 1.
    pub max_batch: usize,
    /// How long the first row of a batch waits for others.
    pub max_delay: Duration,
    /// Measure at the start whether fewer rows in a run do as well, and take the fewest that do.
    pub calibrate: bool,
}

/// What a service did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches put together. A batch that failed and was run again in pieces counts once.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows that the model failed on.
    pub failed: u64,
    /// Rows in one run at most, as given or as measured; 0 while it is measured.
    pub max_batch: u64,
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    rows: AtomicU64,
    failed: AtomicU64,
    max_batch: AtomicU64,
}

/// What became of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The job's number, as given to [`Client::submit`].
    pub job: u64,
    /// A row for each row of the job; zeros where the model failed.
    pub rows: Rows,
    /// Rows the model failed on, by index within the job, rising, and why.
    pub failed: Vec<(usize, String)>,
}

/// A thread that runs one model.
pub struct Service {
    jobs: Sender<Message>,
    counters: Arc<Counters>,
    input_width: usize,
    output_width: usize,
}

impl Service {
    /// Start the thread. Fails only when the system gives no thread.
    pub fn start(
        name: &str,
        model: Box<dyn Model>,
        signature: Signature,
        limits: Limits,
    ) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let (input_width, output_width) = (signature.input_width(), signature.output_width());
        let limits = Limits { max_batch: limits.max_batch.max(1), ..limits };
        let worker = worker::Worker::new(name, model, signature, limits, counters.clone());
        thread::Builder::new().name(format!("infer {name}")).spawn(move || worker.serve(&inbox))?;
        Ok(Self { jobs, counters, input_width, output_width })
    }

    /// Numbers in a row that goes in.
    pub fn input_width(&self) -> usize {
        self.input_width
    }

    /// Numbers in a row that comes out.
    pub fn output_width(&self) -> usize {
        self.output_width
    }

    /// Somebody who submits jobs, at most `rows` rows at a time; `wake` is called on the service's thread when an
    /// answer is there, and must return at once.
    pub fn client(&self, rows: usize, wake: impl Fn() + Send + Sync + 'static) -> Client {
        let (back, answers) = mpsc::channel();
        Client {
            jobs: self.jobs.clone(),
            back,
            answers,
            wake: Arc::new(wake),
            in_flight: 0,
            limit: rows.max(1),
            output_width: self.output_width,
        }
    }

    /// What it did so far.
    pub fn stats(&self) -> Stats {
        Stats {
            batches: self.counters.batches.load(Ordering::Relaxed),
            rows: self.counters.rows.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            max_batch: self.counters.max_batch.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Submits jobs to a service. Nothing here blocks.
pub struct Client {
    jobs: Sender<Message>,
    back: Sender<Answer>,
    answers: Receiver<Answer>,
    wake: Arc<dyn Fn() + Send + Sync>,
    in_flight: usize,
    limit: usize,
    output_width: usize,
}

impl Client {
    /// Rows that may be submitted now.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.in_flight)
    }

    /// Rows submitted and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Have these rows run; exactly one [`Answer`] with this number will come. Whoever has no [`Client::room`] for
    /// them gets them back.
    pub fn submit(&mut self, job: u64, rows: Rows) -> Result<(), Rows> {
        if rows.len() > self.room() {
            return Err(rows);
        }
        self.in_flight += rows.len();
        let reply = Reply::new(job, rows.len(), self.output_width, self.back.clone(), self.wake.clone());
        // Without a thread the job is dropped here, and a dropped job answers that the service stopped.
        drop(self.jobs.send(Message::Job(Job::new(rows, reply))));
        Ok(())
    }

    /// The same for `count` rows that are made on the service's thread, when it comes to them: for rows that take long to
    /// make, or far more memory than what they are made of. `make` appends a row for each that it can make and tells
    /// which it cannot, by index, rising, and why. Returns whether there was room.
    pub fn submit_later(
        &mut self,
        job: u64,
        count: usize,
        make: impl FnOnce(&mut Rows) -> Vec<(usize, String)> + Send + 'static,
    ) -> bool {
        if count > self.room() {
            return false;
        }
        self.in_flight += count;
        let reply = Reply::new(job, count, self.output_width, self.back.clone(), self.wake.clone());
        drop(self.jobs.send(Message::Later(Box::new(make), reply)));
        true
    }

    /// Do not wait for batches to fill with what was submitted so far.
    pub fn hurry(&mut self) {
        drop(self.jobs.send(Message::Hurry));
    }

    /// The next answer, if it is there.
    pub fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.in_flight = self.in_flight.saturating_sub(answer.rows.len());
        Some(answer)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}
