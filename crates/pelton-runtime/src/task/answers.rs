//! What came of the actions that take time: the producer's init, reads and commits of positions.

use super::Task;
use crate::trouble;
use pelton_checkpoint::Event;
use std::{task::Poll, time::Instant};

impl Task {
    /// Whether the producer is initialised.
    pub(super) fn poll_producer(&mut self) -> bool {
        let Some(producer) = self.producer.as_mut().filter(|_| self.initialising) else { return false };
        let event = match producer.poll_init() {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => Event::InitDone,
            Poll::Ready(Err(e)) => {
                let incident = trouble::of_end(&e, "the producer");
                self.incident = Some(incident.clone());
                Event::InitFailed(trouble::failure(&e, incident))
            }
        };
        self.initialising = false;
        self.tell(event);
        true
    }

    /// Answers of the places where positions are kept.
    pub(super) fn poll_positions(&mut self, now: Instant) -> bool {
        let Some(event) = self.positions.poll(&mut self.sources, self.producer.as_deref_mut()) else {
            return false;
        };
        match &event {
            Event::CommitDone { .. } => {
                self.plan_repetition(now);
                self.note_commit(true);
            }
            Event::CommitFailed(_) => self.note_commit(false),
            _ => {}
        }
        if let Event::ReadFailed(_) | Event::ClaimFailed(_) | Event::CommitFailed(_) = &event {
            self.incident = self.positions.take_trouble();
        } else {
            self.incident = None;
        }
        self.tell(event);
        true
    }

    fn note_commit(&mut self, done: bool) {
        let took = self.progress.commit_started.take().map(|at| at.elapsed());
        if done {
            self.commits += 1;
            self.progress.commits += 1;
            if !self.unseen.is_empty() {
                self.progress.ages.extend(self.unseen.ages((self.options.wall_clock)()));
            }
            self.committed = self.positions.last_committed().to_vec();
            if let Some(books) = self.cut.take() {
                self.settled = books;
            }
        } else {
            self.progress.commits_failed += 1;
        }
        self.progress.commit_seconds.extend(took.map(|t| t.as_secs_f64()));
    }
}
