//! Questions to workers and their answers: who asked what, and who still has to answer.
//!
//! Answers are samples. What an asker cannot take in time is dropped; nobody ever waits for it.

use pelton_proto::v1;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use tonic::Status;

/// Questions that may wait for one worker.
pub(super) const SERVE_BACKLOG: usize = 256;
/// Records that may wait for one asker.
const TAP_BACKLOG: usize = 1024;

type Requests = mpsc::Sender<Result<v1::ServeRequest, Status>>;
type Records = mpsc::Sender<Result<v1::TappedRecord, Status>>;

#[derive(Clone, Default)]
pub(super) struct Hub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    workers: BTreeMap<String, (u64, Requests)>,
    taps: BTreeMap<u64, Tap>,
}

struct Tap {
    records: Records,
    /// Workers that have not finished.
    open: BTreeSet<String>,
    /// Records still wanted; `None`: no end.
    left: Option<u32>,
    errors: Vec<String>,
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
            let taps: Vec<u64> = state.taps.keys().copied().collect();
            for id in taps {
                state.finish(id, worker, Some(format!("worker {worker} went away")));
            }
        }
    }

    /// Ask these workers. `None` when none of them can be asked.
    pub(super) fn tap(&self, workers: &BTreeSet<String>, request: &v1::TapRequest) -> Option<TapStream> {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let mut open = BTreeSet::new();
        for worker in workers {
            let kind = Some(v1::serve_request::Kind::Tap(request.clone()));
            let asked = state
                .workers
                .get(worker)
                .map(|(_, requests)| requests.try_send(Ok(v1::ServeRequest { id, kind })).is_ok());
            if asked == Some(true) {
                open.insert(worker.clone());
            }
        }
        if open.is_empty() {
            return None;
        }
        let (records, incoming) = mpsc::channel(TAP_BACKLOG);
        let left = (request.limit > 0).then_some(request.limit);
        state.taps.insert(id, Tap { records, open, left, errors: Vec::new() });
        Some(TapStream { hub: self.clone(), id, records: incoming })
    }

    /// A worker answers.
    pub(super) fn answer(&self, worker: &str, reply: v1::ServeReply) {
        let mut state = self.state();
        let Some(tap) = state.taps.get_mut(&reply.id) else { return };
        for record in reply.records {
            if tap.left == Some(0) {
                break;
            }
            if tap.records.try_send(Ok(record)).is_ok()
                && let Some(left) = &mut tap.left
            {
                *left -= 1;
            }
        }
        if tap.left == Some(0) {
            state.end(reply.id);
        } else if reply.done || !reply.error.is_empty() {
            let error = (!reply.error.is_empty()).then_some(reply.error);
            state.finish(reply.id, worker, error);
        }
    }
}

impl State {
    /// A worker has nothing more to say; the last one ends the tap.
    fn finish(&mut self, id: u64, worker: &str, error: Option<String>) {
        let Some(tap) = self.taps.get_mut(&id) else { return };
        if !tap.open.remove(worker) {
            return;
        }
        tap.errors.extend(error);
        if tap.open.is_empty() {
            if !tap.errors.is_empty() {
                let _ = tap.records.try_send(Err(Status::unavailable(tap.errors.join("; "))));
            }
            self.taps.remove(&id);
        }
    }

    /// Nobody wants more.
    fn end(&mut self, id: u64) {
        let Some(tap) = self.taps.remove(&id) else { return };
        for worker in tap.open {
            if let Some((_, requests)) = self.workers.get(&worker) {
                let kind = Some(v1::serve_request::Kind::Cancel(true));
                // A worker that does not hear it stops at its own limit.
                let _ = requests.try_send(Ok(v1::ServeRequest { id, kind }));
            }
        }
    }
}

/// The answers to one question; dropping it tells the workers to stop.
pub(super) struct TapStream {
    hub: Hub,
    id: u64,
    records: mpsc::Receiver<Result<v1::TappedRecord, Status>>,
}

impl tokio_stream::Stream for TapStream {
    type Item = Result<v1::TappedRecord, Status>;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.records.poll_recv(context)
    }
}

impl Drop for TapStream {
    fn drop(&mut self) {
        self.hub.state().end(self.id);
    }
}
