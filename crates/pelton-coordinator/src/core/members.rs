//! Workers come, report, fall silent and go.

use super::{Core, Hold, Now, Refusal, SessionId, Worker, WorkerId};
use crate::store::{Document, Leader, keys};
use pelton_proto::{task_id, v1};
use pelton_types::{Code, Incident, TaskId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long a lost worker stays in lists.
const LOST_SHOWN: Duration = Duration::from_secs(300);

/// What an incident of a worker concerns.
fn subject_of(worker: &str) -> String {
    format!("worker {worker}")
}

impl Core {
    /// A worker opened a session and said who it is and what it holds.
    ///
    /// # Errors
    /// When another live process uses its name, or it has none.
    pub fn attach(&mut self, session: SessionId, hello: v1::Hello, now: Now) -> Result<(), Refusal> {
        let id = hello.worker_id.clone();
        if id.is_empty() {
            return Err(Refusal::Conflict("a worker must have a name; set its worker id".into()));
        }
        if let Some(known) = self.workers.get(&id) {
            let other = known.hello.incarnation != hello.incarnation;
            let alive = known.attached() && now.at.saturating_sub(known.heard) <= 2 * self.settings.heartbeat;
            if other && alive {
                return Err(Refusal::Conflict(format!(
                    "another process is attached as worker {id} (incarnation {}); give each worker a name of its own",
                    known.hello.incarnation
                )));
            }
            if other {
                self.lose(&id, "a new process took its name", now);
            }
        }
        self.rise_above(hello.term, &id, now);
        let held = hello.held.clone();
        self.seat(session, hello, now);
        let welcome = v1::Welcome {
            term: self.term,
            lease_ms: self.settings.lease.as_millis() as u32,
            heartbeat_ms: self.settings.heartbeat.as_millis() as u32,
        };
        self.send(&id, v1::directive::Kind::Welcome(welcome));
        self.take_stock(&id, held, now);
        self.unsettled = true;
        self.settle(now);
        Ok(())
    }

    fn seat(&mut self, session: SessionId, hello: v1::Hello, now: Now) {
        let id = hello.worker_id.clone();
        let before = self.workers.remove(&id);
        let same = before.as_ref().filter(|b| b.hello.incarnation == hello.incarnation);
        let worker = Worker {
            session: Some(session),
            heard: now.at,
            closed: None,
            lost: None,
            // A drain ends when a new process attaches, not when a connection is made anew.
            draining: same.is_some_and(|b| b.draining),
            leaving: same.is_some_and(|b| b.leaving),
            cpu_seconds: same.map_or(0.0, |b| b.cpu_seconds),
            resident_bytes: same.map_or(0, |b| b.resident_bytes),
            specs: BTreeSet::new(),
            strangers: BTreeMap::new(),
            hello,
        };
        if let Some(old) = before.and_then(|b| b.session) {
            self.sessions.remove(&old);
            self.effects.closes.push((old, "the worker attached anew".into()));
        }
        self.sessions.insert(session, id.clone());
        self.resolve(&subject_of(&id), Code::WorkerLost, now);
        self.workers.insert(id, worker);
    }

    /// Compare what a worker says it holds with what we believe.
    fn take_stock(&mut self, id: &WorkerId, held: Vec<v1::HeldTask>, now: Now) {
        let mut named = BTreeSet::new();
        for held in held {
            // A task without a name cannot be spoken of.
            let Ok(task) = task_id(held.task) else { continue };
            self.adopt(id, &task, held.epoch, held.revision, now);
            named.insert(task);
        }
        for task in self.held_by(id) {
            if !named.contains(&task) {
                self.let_go(&task, now);
            }
        }
        for (task, known) in &mut self.tasks {
            if known.shell.as_ref().is_some_and(|(w, _)| w == id) && !named.contains(task) {
                known.shell = None;
            }
        }
    }

    /// A worker obeyed a higher term than ours: our store is older than the world. Go above it.
    fn rise_above(&mut self, seen: u64, worker: &str, now: Now) {
        if seen <= self.term {
            return;
        }
        let message = format!("worker {worker} has obeyed term {seen}, this store says {}", self.term);
        self.open_store_behind("coordinator", None, message, now);
        self.term = seen + 1;
        let leader = Leader { term: self.term, holder: self.holder.clone() };
        self.effects.writes.insert(keys::LEADER.into(), Some(leader.encode()));
        let welcome = v1::Welcome {
            term: self.term,
            lease_ms: self.settings.lease.as_millis() as u32,
            heartbeat_ms: self.settings.heartbeat.as_millis() as u32,
        };
        for &session in self.sessions.keys() {
            self.effects.sends.push((session, v1::directive::Kind::Welcome(welcome)));
        }
    }

    /// A heartbeat arrived.
    pub fn heartbeat(&mut self, session: SessionId, beat: v1::Heartbeat, now: Now) {
        let Some(id) = self.sessions.get(&session).cloned() else { return };
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.heard = now.at;
        worker.cpu_seconds = beat.cpu_seconds;
        worker.resident_bytes = beat.resident_bytes;
        // What was concluded from a task that it let go of, it knows better: orders can cross on the way.
        if let Some(leaving) = beat.draining.filter(|leaving| worker.leaving != *leaving) {
            worker.leaving = leaving;
            self.unsettled = true;
        }
        let mut named = BTreeSet::new();
        for status in beat.tasks {
            let Ok(task) = task_id(status.task.clone()) else { continue };
            self.report(&id, &task, status, now);
            named.insert(task);
        }
        // A grant can be on its way while a heartbeat comes; after a lease it cannot.
        for task in self.held_by(&id) {
            let since = match &self.tasks[&task].hold {
                Hold::Held { since, .. } | Hold::Releasing { since, .. } => *since,
                Hold::Nobody { .. } => continue,
            };
            if !named.contains(&task) && now.at.saturating_sub(since) > self.settings.lease {
                self.let_go(&task, now);
            }
        }
        let ack = v1::HeartbeatAck { sequence: beat.sequence };
        self.effects.sends.push((session, v1::directive::Kind::HeartbeatAck(ack)));
        self.settle(now);
    }

    /// A task of a worker changed.
    pub fn task_change(&mut self, session: SessionId, change: v1::TaskChange, now: Now) {
        let Some(id) = self.sessions.get(&session).cloned() else { return };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard = now.at;
        }
        let Some(status) = change.status else { return };
        let Ok(task) = task_id(status.task.clone()) else { return };
        self.report(&id, &task, status, now);
        self.settle(now);
    }

    /// A session's connection closed. Every end of a stream counts, whatever its code.
    pub fn closed(&mut self, session: SessionId, now: Now) {
        let Some(id) = self.sessions.remove(&session) else { return };
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.session == Some(session)
        {
            worker.session = None;
            worker.closed = Some(now.at);
            // One that lets go of everything and hangs up has ended; nobody need wait for it.
            if worker.leaving && self.held_by(&id).is_empty() {
                self.lose(&id, "it ended", now);
                self.settle(now);
            }
        }
    }

    /// Time passed. To be called several times in the shortest of the settings.
    pub fn tick(&mut self, now: Now) {
        let mut lost = Vec::new();
        for (id, worker) in &self.workers {
            if worker.lost.is_some() {
                continue;
            }
            if worker.closed.is_some_and(|at| now.at.saturating_sub(at) >= self.settings.grace) {
                lost.push((id.clone(), "its connection closed"));
            } else if now.at.saturating_sub(worker.heard) >= self.settings.lease {
                lost.push((id.clone(), "it fell silent"));
            }
        }
        for (id, why) in lost {
            self.lose(&id, why, now);
        }
        self.forget_lost(now);
        self.hurry_move(now);
        self.resolve_noted(now);
        if self.settle_at.is_some_and(|at| now.at >= at) {
            self.settle_at = None;
            self.unsettled = true;
        }
        self.settle(now);
    }

    /// Workers that were lost long ago leave the lists.
    fn forget_lost(&mut self, now: Now) {
        let old = |w: &Worker| w.lost.is_some_and(|at| now.at.saturating_sub(at) >= LOST_SHOWN);
        let gone: Vec<WorkerId> =
            self.workers.iter().filter(|(_, w)| old(w)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.workers.remove(&id);
            self.resolve(&subject_of(&id), Code::WorkerLost, now);
        }
    }

    /// A worker is dead as far as we are concerned: its tasks are free.
    fn lose(&mut self, id: &WorkerId, why: &str, now: Now) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.lost = Some(now.at);
        worker.strangers.clear();
        if let Some(session) = worker.session.take() {
            self.sessions.remove(&session);
            self.effects.closes.push((session, format!("worker {id} counts as lost: {why}")));
        }
        let held = self.held_by(id);
        // One with nothing to let go of cannot say that it ends.
        if held.is_empty() {
            tracing::info!(worker = %id, why, "worker gone");
        } else {
            let incident = Incident {
                code: Code::WorkerLost,
                message: format!(
                    "worker {id} counts as lost: {why}; {} tasks go to other workers",
                    held.len()
                ),
                remedy: "see why it ended or does not answer, and whether something starts it again".into(),
                stops_task: false,
            };
            self.open(&subject_of(id), None, incident, now);
        }
        for task in held {
            self.let_go(&task, now);
            if let Some(task) = self.tasks.get_mut(&task) {
                task.pinned = false;
                task.left = Some((id.clone(), "worker lost"));
            }
        }
        for task in self.tasks.values_mut() {
            if task.shell.as_ref().is_some_and(|(w, _)| w == id) {
                task.shell = None;
            }
        }
        self.cancel_move_if(|m| m.to == *id);
        self.unsettled = true;
    }

    /// Tasks a worker was granted or is letting go of.
    pub(super) fn held_by(&self, id: &str) -> Vec<TaskId> {
        let mine = self.tasks.iter().filter(|(_, t)| t.hold.holder().is_some_and(|w| w == id));
        mine.map(|(task, _)| task.clone()).collect()
    }

    /// Give a worker's tasks to others, and none to it until a new process attaches under its name. Returns how many
    /// tasks it has to give away.
    ///
    /// # Errors
    /// When no such worker is attached.
    pub fn drain(&mut self, id: &str, now: Now) -> Result<u32, Refusal> {
        let tasks = self.held_by(id).len() as u32;
        self.live_worker(id)?.draining = true;
        self.unsettled = true;
        self.settle(now);
        Ok(tasks)
    }

    pub(super) fn live_worker(&mut self, id: &str) -> Result<&mut Worker, Refusal> {
        self.workers.get_mut(id).filter(|w| w.lost.is_none()).ok_or_else(|| {
            Refusal::NotFound(format!("no worker {id} is attached; `pelton get workers` lists them"))
        })
    }
}
