//! From facts to grants and moves: asks the planner, then says who gets what.

use super::{Core, Hold, Leg, Moving, Now, Refusal, WorkerId};
use crate::{
    planner::{self, TaskFacts, WorkerFacts},
    store::Wanted,
};
use pelton_proto::v1;
use pelton_types::{Code, Incident, PipelineName, TaskId};
use std::time::Duration;

/// A move whose owner does not let go is given up after its deadline and this.
const MOVE_SLACK: Duration = Duration::from_secs(5);

impl Core {
    /// Do what is due. Called at the end of every event; does nothing when nothing changed.
    pub(super) fn settle(&mut self, now: Now) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        self.call_back(now);
        self.finish_retired(now);
        self.finish_deleted(now);
        let plan = planner::plan(&self.worker_facts(), &self.task_facts(now));
        for (task, worker) in plan.grants {
            self.grant(&task, &worker, now);
        }
        self.note_unplaced(&plan.unplaced, now);
        if plan.moves.is_empty() || self.moving.is_some() {
            return;
        }
        if now.at < self.grants_from {
            self.settle_no_later_than(self.grants_from);
        }
        if self.calm(now) {
            let movable = |m: &&planner::Move<TaskId, WorkerId>| {
                self.tasks.get(&m.task).is_some_and(|t| matches!(t.hold, Hold::Held { .. }))
            };
            if let Some(next) = plan.moves.iter().find(movable).cloned() {
                self.start_move(&next.task, next.to, "rebalanced", now);
            }
        }
    }

    pub(super) fn settle_no_later_than(&mut self, at: Duration) {
        self.settle_at = Some(self.settle_at.map_or(at, |known| known.min(at)));
    }

    /// Whether workers may be about to come back: then nothing is moved.
    fn calm(&self, now: Now) -> bool {
        now.at >= self.grants_from && self.workers.values().all(|w| w.lost.is_some() || w.session.is_some())
    }

    /// Whether the task should run.
    pub(super) fn wanted(&self, id: &TaskId) -> bool {
        let Some(task) = self.tasks.get(id) else { return false };
        let Some(pipeline) = self.pipelines.get(&id.pipeline) else { return false };
        pipeline.record.wanted == Wanted::Running
            && !pipeline.retiring.contains(id)
            && !task.record.completed
            && task.record.stopped.is_none()
    }

    /// Ask back what should not run, or should run another revision.
    fn call_back(&mut self, now: Now) {
        let mut asked = Vec::new();
        for (id, task) in &self.tasks {
            let Some(pipeline) = self.pipelines.get(&id.pipeline) else { continue };
            let wanted = self.wanted(id);
            if let Hold::Held { worker, .. } = &task.hold
                && (!wanted || task.revision != pipeline.record.revision)
            {
                let then = wanted.then(|| worker.clone());
                asked.push((id.clone(), worker.clone(), task.record.epoch, then));
            }
        }
        for (id, worker, epoch, then) in asked {
            self.cancel_move_if(|m| m.task == id);
            self.ask_back(&id, &worker, epoch, then, now);
        }
    }

    fn ask_back(&mut self, id: &TaskId, worker: &WorkerId, epoch: u64, then: Option<WorkerId>, now: Now) {
        self.revoke(worker, id, epoch);
        if let Some(task) = self.tasks.get_mut(id) {
            task.hold = Hold::Releasing { worker: worker.clone(), since: now.at, then };
        }
    }

    fn worker_facts(&self) -> Vec<WorkerFacts<WorkerId>> {
        let here = self.workers.iter().filter(|(_, w)| w.attached());
        here.map(|(id, w)| WorkerFacts { id: id.clone(), capacity: w.hello.capacity, draining: w.closing() })
            .collect()
    }

    fn task_facts(&mut self, now: Now) -> Vec<TaskFacts<TaskId, PipelineName, WorkerId>> {
        let mut facts = Vec::new();
        let mut next_wait: Option<Duration> = None;
        for (id, task) in &self.tasks {
            if !self.wanted(id) {
                continue;
            }
            let held_by = match &task.hold {
                Hold::Held { worker, .. } => match self.moving.as_ref().filter(|m| m.task == *id) {
                    Some(moving) => Some(moving.to.clone()),
                    None => Some(worker.clone()),
                },
                Hold::Releasing { worker, then, .. } => Some(then.clone().unwrap_or_else(|| worker.clone())),
                Hold::Nobody { not_before, prefer } => {
                    let from = if task.known { *not_before } else { (*not_before).max(self.grants_from) };
                    let retiring = self
                        .pipelines
                        .get(&id.pipeline)
                        .is_some_and(|p| !p.retiring.is_empty() || p.closing.contains(id));
                    if from > now.at {
                        next_wait = Some(next_wait.map_or(from, |w| w.min(from)));
                    }
                    if retiring {
                        continue;
                    }
                    if from > now.at {
                        // It keeps its place, or the others would move twice.
                        match prefer {
                            Some(worker) => Some(worker.clone()),
                            None => continue,
                        }
                    } else {
                        None
                    }
                }
            };
            let away =
                held_by.as_ref().is_some_and(|w| !self.workers.get(w).is_some_and(super::Worker::attached));
            let waits = matches!(&task.hold, Hold::Nobody { not_before, .. } if *not_before > now.at);
            // Held by one that may come back within its grace, or waiting for one that is gone: not to be placed now.
            if away && (task.hold.holder().is_some() || waits) {
                continue;
            }
            let load = task.report.as_ref().map_or(0.0, |r| r.busy_ratio);
            facts.push(TaskFacts {
                id: id.clone(),
                group: id.pipeline.clone(),
                held_by,
                load: if load.is_finite() { load } else { 0.0 },
                pinned: task.pinned,
            });
        }
        if let Some(at) = next_wait {
            self.settle_no_later_than(at);
        }
        facts
    }

    fn note_unplaced(&mut self, unplaced: &[TaskId], now: Now) {
        const SUBJECT: &str = "cluster";
        if unplaced.is_empty() {
            return self.resolve(SUBJECT, Code::Unassigned, now);
        }
        let (attached, room) = self
            .workers
            .values()
            .filter(|w| w.attached() && !w.closing())
            .fold((0, 0), |(n, room), w| (n + 1, room + u64::from(w.hello.capacity)));
        let incident = Incident {
            code: Code::Unassigned,
            message: format!(
                "{} tasks wait for a worker, the first is {}; {attached} workers with room for {room} tasks take part",
                unplaced.len(),
                unplaced[0]
            ),
            remedy: "start more workers, or raise the capacity of those there are".into(),
            stops_task: false,
        };
        self.open(SUBJECT, None, incident, now);
    }

    /// Give a task to a worker, at a new epoch.
    pub(super) fn grant(&mut self, id: &TaskId, worker: &WorkerId, now: Now) {
        let Some(pipeline) = self.pipelines.get(&id.pipeline) else { return };
        let revision = pipeline.record.revision;
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.record.epoch += 1;
        task.close_books();
        task.revision = revision;
        task.known = true;
        task.hold = Hold::Held { worker: worker.clone(), since: now.at };
        // The same worker replaces its failed instance by itself.
        let shell = task.shell.take().filter(|(w, _)| w != worker);
        if let Some((holder, epoch)) = shell {
            self.revoke(&holder, id, epoch);
        }
        self.write_epoch(id);
        self.note_move(id, worker, now);
        let grant = self.grant_message(id, 0);
        tracing::debug!(task = %id, %worker, epoch = grant.epoch, "granted");
        self.send_spec(id, worker);
        self.send(worker, v1::directive::Kind::Grant(grant));
    }

    /// The grant of a task at its epoch, or `ahead` of it.
    fn grant_message(&self, id: &TaskId, ahead: u64) -> v1::Grant {
        let task = &self.tasks[id];
        let stage = self.pipelines.get(&id.pipeline).and_then(|p| p.record.stages.get(id.stage as usize));
        v1::Grant {
            task: Some(id.into()),
            epoch: task.record.epoch + ahead,
            term: self.term,
            revision: self.pipelines.get(&id.pipeline).map_or(0, |p| p.record.revision),
            virgin: task.record.virgin,
            sources: stage.map(|s| s.sources_of(id.index)).unwrap_or_default(),
            tasks: stage.map_or(0, |s| s.tasks),
            heard: task
                .heard()
                .iter()
                .map(|(p, at)| v1::PartitionOffset { partition: Some(p.into()), offset: *at })
                .collect(),
        }
    }

    fn send_spec(&mut self, id: &TaskId, worker: &WorkerId) {
        let Some(pipeline) = self.pipelines.get(&id.pipeline) else { return };
        let revision = pipeline.record.revision;
        let Some(document) = pipeline.revisions.get(&revision) else { return };
        let spec = v1::PipelineSpec {
            namespace: id.pipeline.namespace.clone(),
            name: id.pipeline.name.clone(),
            uuid: id.uuid.clone(),
            revision,
            definition: document.definition.clone(),
        };
        let Some(known) = self.workers.get_mut(worker) else { return };
        if known.specs.insert((id.uuid.clone(), revision)) {
            self.send(worker, v1::directive::Kind::Pipeline(spec));
        }
    }

    fn start_move(&mut self, id: &TaskId, to: WorkerId, reason: &'static str, now: Now) {
        tracing::debug!(task = %id, %to, "moving");
        // The epoch of a warm grant is a forecast: only the real grant, written first, gives ownership.
        let warm = self.grant_message(id, 1);
        self.send_spec(id, &to);
        self.send(&to, v1::directive::Kind::Warm(warm));
        self.moving = Some(Moving { task: id.clone(), to, since: now.at, leg: Leg::Warming, reason });
    }

    /// The target of a move is ready.
    pub(super) fn warm_reported(&mut self, worker: &WorkerId, id: &TaskId, now: Now) {
        if self.moving.as_ref().is_some_and(|m| m.task == *id && m.to == *worker && m.leg == Leg::Warming) {
            self.revoke_for_move(now);
        }
    }

    fn revoke_for_move(&mut self, now: Now) {
        let Some(moving) = self.moving.clone() else { return };
        let Some(task) = self.tasks.get(&moving.task) else { return };
        let Hold::Held { worker, .. } = task.hold.clone() else { return };
        let epoch = task.record.epoch;
        self.ask_back(&moving.task, &worker, epoch, Some(moving.to.clone()), now);
        self.moving = Some(Moving { since: now.at, leg: Leg::Leaving, ..moving });
    }

    /// The moved task was granted to its target. The next move waits until it runs there: two tasks on the way would be
    /// two that stand still.
    pub(super) fn arriving(&mut self, id: &TaskId, to: &WorkerId, now: Now) {
        if let Some(moving) = self.moving.as_mut().filter(|m| m.task == *id && m.to == *to) {
            moving.leg = Leg::Arriving;
            moving.since = now.at;
        }
    }

    /// The task runs where it was moved to.
    pub(super) fn arrived(&mut self, id: &TaskId) {
        if self.moving.take_if(|m| m.task == *id && m.leg == Leg::Arriving).is_some() {
            self.unsettled = true;
        }
    }

    /// A target that does not get warm is no reason to wait; an owner that does not let go is one to give up; a target
    /// that is long in starting has the task all the same.
    pub(super) fn hurry_move(&mut self, now: Now) {
        let Some(moving) = &self.moving else { return };
        let waited = now.at.saturating_sub(moving.since);
        match moving.leg {
            Leg::Warming if waited >= self.settings.warm_deadline => self.revoke_for_move(now),
            Leg::Leaving if waited >= self.settings.revoke_deadline + MOVE_SLACK => {
                self.cancel_move_if(|_| true)
            }
            Leg::Arriving if waited >= self.settings.lease => self.cancel_move_if(|_| true),
            _ => {}
        }
    }

    /// Forget the move in progress; its task, if it is on the way, goes wherever the planner says.
    pub(super) fn cancel_move_if(&mut self, which: impl Fn(&Moving) -> bool) {
        let Some(moving) = self.moving.take_if(|m| which(m)) else { return };
        self.unsettled = true;
        if let Some(task) = self.tasks.get_mut(&moving.task) {
            if let Hold::Releasing { then, .. } = &mut task.hold
                && then.as_ref() == Some(&moving.to)
            {
                *then = None;
            }
            let epoch = task.record.epoch + 1;
            if moving.leg == Leg::Warming {
                // What was warmed up is of no use.
                self.revoke(&moving.to, &moving.task, epoch);
            }
        }
    }

    /// Move one task to a worker, because somebody asked.
    ///
    /// # Errors
    /// When the task does not run, the worker takes no tasks or has no room, or another move goes on.
    pub fn move_task(&mut self, id: &TaskId, to: &str, now: Now) -> Result<(), Refusal> {
        let task = self.tasks.get(id).ok_or_else(|| Refusal::NotFound(format!("there is no task {id}")))?;
        let Hold::Held { worker, .. } = &task.hold else {
            return Err(Refusal::Conflict(format!("no worker holds {id} now, so it cannot be moved")));
        };
        if worker == to {
            return Ok(());
        }
        if let Some(moving) = &self.moving {
            return Err(Refusal::Conflict(format!(
                "{} is being moved; tasks move one at a time",
                moving.task
            )));
        }
        let held = self.held_by(to).len();
        let target = self.live_worker(to)?;
        if target.closing() {
            return Err(Refusal::Conflict(format!("worker {to} is draining and takes no tasks")));
        }
        if held >= target.hello.capacity as usize {
            return Err(Refusal::Conflict(format!(
                "worker {to} holds {held} tasks and has room for no more"
            )));
        }
        if let Some(task) = self.tasks.get_mut(id) {
            task.pinned = true;
        }
        self.start_move(id, to.to_owned(), "asked for", now);
        Ok(())
    }
}
