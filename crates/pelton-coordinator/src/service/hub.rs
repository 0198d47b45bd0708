//! Questions to workers and their answers: who asked what, and who still has to answer.
//!
//! Nobody ever waits for a slow asker. What it cannot take in time of a watch (live records, log lines) is dropped; of
//! an answer that must be whole, the asker is told so.

use pelton_proto::v1::{self, serve_request::Kind};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use tonic::Status;

/// Questions that may wait for one worker.
pub(super) const SERVE_BACKLOG: usize = 256;
/// Replies that may wait for one asker.
const REPLY_BACKLOG: usize = 1024;

type Requests = mpsc::Sender<Result<v1::ServeRequest, Status>>;
type Replies = mpsc::Sender<Result<v1::ServeReply, Status>>;

#[derive(Clone, Default)]
pub(super) struct Hub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    workers: BTreeMap<String, (u64, Requests)>,
    questions: BTreeMap<u64, Question>,
}

struct Question {
    replies: Replies,
    /// Workers that have not finished.
    open: BTreeSet<String>,
    /// Live records still wanted; `None`: no end.
    left: Option<u32>,
    /// Nothing of the answer may be missing.
    whole: bool,
    /// What kept workers from answering.
    errors: Vec<Status>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker answers from now on. Returns its seat.
    pub(super) fn seat(&self, worker: &str, requests: Requests) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let seat = state.next;
        state.workers.insert(worker.to_owned(), (seat, requests));
        seat
    }

    /// It does no longer, unless it took another seat since.
    pub(super) fn leave(&self, worker: &str, seat: u64) {
        let mut state = self.state();
        if state.workers.get(worker).is_some_and(|(known, _)| *known == seat) {
            state.workers.remove(worker);
            let questions: Vec<u64> = state.questions.keys().copied().collect();
            for id in questions {
                let gone = Status::unavailable(format!("worker {worker} went away"));
                state.finish(id, worker, Some(gone));
            }
        }
    }

    /// Workers that can be asked.
    pub(super) fn seated(&self) -> BTreeSet<String> {
        self.state().workers.keys().cloned().collect()
    }

    /// Ask these workers. `None` when none of them can be asked.
    pub(super) fn ask(&self, workers: &BTreeSet<String>, kind: &Kind) -> Option<Answers> {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let mut open = BTreeSet::new();
        for worker in workers {
            let request = v1::ServeRequest { id, kind: Some(kind.clone()) };
            let asked = state.workers.get(worker).map(|(_, requests)| requests.try_send(Ok(request)).is_ok());
            if asked == Some(true) {
                open.insert(worker.clone());
            }
        }
        if open.is_empty() {
            return None;
        }
        let (replies, incoming) = mpsc::channel(REPLY_BACKLOG);
        let left = match kind {
            Kind::Tap(tap) => (tap.limit > 0).then_some(tap.limit),
            _ => None,
        };
        let whole = matches!(kind, Kind::DeadLetters(_));
        state.questions.insert(id, Question { replies, open, left, whole, errors: Vec::new() });
        Some(Answers { hub: self.clone(), id, replies: incoming })
    }

    /// A worker answers.
    pub(super) fn answer(&self, worker: &str, mut reply: v1::ServeReply) {
        let mut state = self.state();
        let Some(question) = state.questions.get_mut(&reply.id) else { return };
        let (id, done) = (reply.id, reply.done);
        let refused = (!reply.error.is_empty()).then(|| std::mem::take(&mut reply.error));
        let mut error = refused.map(Status::failed_precondition);
        if let Some(left) = question.left {
            reply.records.truncate(left as usize);
        }
        let records = reply.records.len() as u32;
        let says = records > 0 || !reply.lines.is_empty() || !reply.letters.is_empty() || reply.settled > 0;
        if says {
            match question.replies.try_send(Ok(reply)) {
                Ok(()) => question.left = question.left.map(|left| left - records),
                Err(_) if question.whole => {
                    let why = "the answer came faster than it was taken; ask for less";
                    error = error.or_else(|| Some(Status::resource_exhausted(why)));
                }
                Err(_) => {}
            }
        }
        if question.left == Some(0) {
            state.end(id);
        } else if done || error.is_some() {
            state.finish(id, worker, error);
        }
    }
}

impl State {
    /// A worker has nothing more to say; the last one ends the question.
    fn finish(&mut self, id: u64, worker: &str, error: Option<Status>) {
        let Some(question) = self.questions.get_mut(&id) else { return };
        if !question.open.remove(worker) {
            return;
        }
        question.errors.extend(error);
        if question.open.is_empty() {
            if let Some(first) = question.errors.first() {
                let all: Vec<&str> = question.errors.iter().map(Status::message).collect();
                let status = Status::new(first.code(), all.join("; "));
                let replies = question.replies.clone();
                // Behind what is waiting: an asker that is slow must still hear that the answer is not whole.
                if replies.try_send(Err(status.clone())).is_err() && question.whole {
                    tokio::spawn(async move { replies.send(Err(status)).await });
                }
            }
            self.questions.remove(&id);
        }
    }

    /// Nobody wants more.
    fn end(&mut self, id: u64) {
        let Some(question) = self.questions.remove(&id) else { return };
        for worker in question.open {
            if let Some((_, requests)) = self.workers.get(&worker) {
                // A worker that does not hear it stops at its own limit.
                let _ = requests.try_send(Ok(v1::ServeRequest { id, kind: Some(Kind::Cancel(true)) }));
            }
        }
    }
}

/// The answers to one question; dropping it tells the workers to stop.
pub(super) struct Answers {
    hub: Hub,
    id: u64,
    replies: mpsc::Receiver<Result<v1::ServeReply, Status>>,
}

impl tokio_stream::Stream for Answers {
    type Item = Result<v1::ServeReply, Status>;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.replies.poll_recv(context)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.hub.state().end(self.id);
    }
}
