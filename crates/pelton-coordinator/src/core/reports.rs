//! What workers say of their tasks, compared with what was granted.

use super::{Core, Hold, Leg, Now, PartitionAt, WorkerId};
use crate::store::{Document, keys};
use pelton_proto::v1::{self, TaskState};
use pelton_types::{Account, Code, Epoch, Incident, PipelineName, TaskId};
use std::time::Duration;

/// A task that ran for this long before it failed starts its back-off anew.
const SETTLED: Duration = Duration::from_secs(60);

impl Core {
    /// A worker says that it holds a task: at its attachment, or in a report.
    pub(super) fn adopt(&mut self, worker: &WorkerId, id: &TaskId, epoch: Epoch, revision: u64, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return self.meet_stranger(worker, id, epoch, now) };
        let newest = task.record.epoch;
        if epoch < newest || task.record.completed {
            return self.revoke(worker, id, epoch);
        }
        if task.shell.as_ref() == Some(&(worker.clone(), epoch)) {
            return;
        }
        task.known = true;
        if epoch > newest {
            let before = task.hold.holder().cloned();
            task.record.epoch = epoch;
            task.record.virgin = false;
            task.revision = revision;
            task.hold = Hold::Held { worker: worker.clone(), since: now.at };
            self.write_epoch(id);
            self.unsettled = true;
            if let Some(before) = before.filter(|b| b != worker) {
                self.revoke(&before, id, newest);
            }
            let message = format!(
                "worker {worker} holds {id} at epoch {epoch}, this store remembers {newest}; went up to it"
            );
            return self.open_store_behind(&id.to_string(), Some(&id.pipeline), message, now);
        }
        match task.hold.clone() {
            Hold::Nobody { .. } => {
                task.hold = Hold::Held { worker: worker.clone(), since: now.at };
                task.revision = revision;
                self.unsettled = true;
            }
            Hold::Held { worker: holder, .. } if holder == *worker => {
                if revision != 0 {
                    task.revision = revision;
                }
            }
            Hold::Releasing { worker: holder, .. } if holder == *worker => self.revoke(worker, id, epoch),
            Hold::Held { worker: holder, .. } | Hold::Releasing { worker: holder, .. } => {
                self.separate(id, &holder, worker, epoch, now);
            }
        }
    }

    /// Two workers say the same epoch of one task: neither can be told from the other by it, so the first gets a
    /// higher one and the second must let go.
    fn separate(&mut self, id: &TaskId, first: &WorkerId, second: &WorkerId, epoch: Epoch, now: Now) {
        let incident = Incident {
            code: Code::EpochConflict,
            message: format!("workers {first} and {second} both hold {id} at epoch {epoch}"),
            remedy:
                "granted anew at a higher epoch; look for a second coordinator or a restored metadata store"
                    .into(),
            stops_task: false,
        };
        self.open(&id.to_string(), Some(&id.pipeline), incident, now);
        self.revoke(second, id, epoch);
        self.grant(id, &first.clone(), now);
    }

    /// A worker holds a task this store knows nothing of.
    fn meet_stranger(&mut self, worker: &WorkerId, id: &TaskId, epoch: Epoch, now: Now) {
        let newest = self
            .pipelines
            .get(&id.pipeline)
            .filter(|p| p.record.uuid == id.uuid)
            .and_then(|p| p.record.stages.get(id.stage as usize))
            .map(|stage| stage.generation);
        // Ours once: deleted, or of a generation that was retired.
        if self.deleted.contains_key(&id.uuid) || newest.is_some_and(|newest| id.generation <= newest) {
            return self.revoke(worker, id, epoch);
        }
        let Some(known) = self.workers.get_mut(worker) else { return };
        if known.strangers.insert(id.clone(), epoch).is_none() {
            let message =
                format!("worker {worker} runs {id} at epoch {epoch}, which this store does not know");
            self.open_store_behind(&id.to_string(), Some(&id.pipeline), message, now);
        }
    }

    /// Tasks of this name that workers hold from a past this store has forgotten.
    pub(super) fn strangers_of(&self, name: &PipelineName) -> Vec<(WorkerId, TaskId, Epoch)> {
        let all =
            self.workers.iter().flat_map(|(w, known)| known.strangers.iter().map(move |(t, e)| (w, t, e)));
        all.filter(|(_, t, _)| t.pipeline == *name).map(|(w, t, e)| (w.clone(), t.clone(), *e)).collect()
    }

    /// A worker reports the status of a task.
    pub(super) fn report(&mut self, worker: &WorkerId, id: &TaskId, status: v1::TaskStatus, now: Now) {
        let (epoch, state) = (status.epoch, status.state());
        if state == TaskState::Warm {
            return self.warm_reported(worker, id, now);
        }
        let holds = matches!(state, TaskState::Starting | TaskState::Running | TaskState::Releasing);
        if !self.tasks.contains_key(id) {
            if holds || state == TaskState::Failed {
                self.adopt(worker, id, epoch, 0, now);
            } else if let Some(known) = self.workers.get_mut(worker) {
                known.strangers.remove(id);
            }
            return;
        }
        if holds {
            let Some(task) = self.tasks.get(id) else { return };
            let known = task.hold.holder() == Some(worker) && task.record.epoch == epoch;
            // One that finishes a task by itself while nobody is recorded as its owner is left to it.
            let finishing = state == TaskState::Releasing && epoch <= task.record.epoch;
            if !known && !finishing {
                self.adopt(worker, id, epoch, 0, now);
            }
        }
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.record.epoch != epoch || task.hold.holder() != Some(worker) {
            let gone = state == TaskState::Released || state == TaskState::SteppedDown;
            if task.shell.as_ref().is_some_and(|(w, e)| w == worker && *e == epoch) {
                if gone {
                    task.shell = None;
                }
            } else if state == TaskState::Failed && epoch < task.record.epoch {
                // A failed instance that was replaced is of no use to anybody.
                self.revoke(worker, id, epoch);
            }
            return;
        }
        let incident = status.incident.as_ref().map(Incident::from);
        self.task_trouble(id, &status, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.keep(status);
        }
        match state {
            TaskState::Running => self.runs(id),
            TaskState::Releasing => self.lets_go_itself(worker, id, now),
            TaskState::Released => {
                self.lets_go_itself(worker, id, now);
                self.released(id, now);
            }
            TaskState::SteppedDown => self.stepped_down(worker, id, now),
            TaskState::Failed => self.failed(worker, id, incident, now),
            TaskState::Completed => self.completed(id, now),
            TaskState::Starting | TaskState::Warm | TaskState::Unspecified => {}
        }
    }

    fn runs(&mut self, id: &TaskId) {
        self.arrived(id);
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.record.virgin {
            task.record.virgin = false;
            self.write_epoch(id);
        }
    }

    /// A worker that lets go unasked is about to end: it gets nothing more.
    fn lets_go_itself(&mut self, worker: &WorkerId, id: &TaskId, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if matches!(task.hold, Hold::Held { .. }) {
            task.hold = Hold::Releasing { worker: worker.clone(), since: now.at, then: None };
            if let Some(worker) = self.workers.get_mut(worker) {
                worker.leaving = true;
            }
            self.unsettled = true;
        }
    }

    /// The owner let go at a commit.
    fn released(&mut self, id: &TaskId, now: Now) {
        let Some(task) = self.tasks.get(id) else { return };
        let Hold::Releasing { then, .. } = task.hold.clone() else { return };
        self.let_go(id, now);
        let to = then.filter(|to| self.workers.get(to).is_some_and(|w| w.attached() && !w.closing()));
        match to {
            Some(to) if self.wanted(id) => {
                self.grant(id, &to, now);
                self.arriving(id, &to, now);
            }
            // Whoever it was on the way to is gone, or it should not run: the planner says what becomes of it.
            _ => self.cancel_move_if(|m| m.task == *id),
        }
    }

    /// Nobody has the task any more.
    pub(super) fn let_go(&mut self, id: &TaskId, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if let Some(worker) = task.hold.holder() {
            task.left = Some((worker.clone(), "let go"));
        }
        task.hold = Hold::nobody(now.at);
        self.unsettled = true;
        // A move that has not asked the owner yet has lost its point: the task is granted at once.
        self.cancel_move_if(|m| m.task == *id && m.leg != Leg::Leaving);
    }

    fn stepped_down(&mut self, worker: &WorkerId, id: &TaskId, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let asked = matches!(task.hold, Hold::Releasing { .. });
        if !asked {
            // How far above ours the owner is cannot be known, so each time the step doubles.
            task.record.epoch += (1u64 << task.failures.min(20)) - 1;
            task.failures += 1;
            let epoch = task.record.epoch;
            self.write_epoch(id);
            let message = format!(
                "worker {worker} found a higher epoch of {id} than the newest grant; going above {epoch}"
            );
            self.open_store_behind(&id.to_string(), Some(&id.pipeline), message, now);
        }
        self.let_go(id, now);
        self.back_off(id, None, now);
    }

    fn failed(&mut self, worker: &WorkerId, id: &TaskId, incident: Option<Incident>, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let ran = match task.hold {
            Hold::Held { since, .. } => now.at.saturating_sub(since),
            _ => Duration::ZERO,
        };
        if ran >= SETTLED {
            task.failures = 0;
        }
        task.failures += 1;
        task.shell = Some((worker.clone(), task.record.epoch));
        let stops = incident.filter(|i| i.stops_task);
        if stops.is_some() {
            task.record.stopped = stops;
            self.write_epoch(id);
        }
        self.let_go(id, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.left = Some((worker.clone(), "failed"));
        }
        self.back_off(id, Some(worker.clone()), now);
    }

    fn back_off(&mut self, id: &TaskId, prefer: Option<WorkerId>, now: Now) {
        let settings = &self.settings;
        let Some(task) = self.tasks.get_mut(id) else { return };
        let not_before = now.at + settings.pause_after(task.failures);
        task.hold = Hold::Nobody { not_before, prefer };
        self.settle_no_later_than(not_before);
    }

    fn completed(&mut self, id: &TaskId, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.record.completed = true;
        task.record.virgin = false;
        self.write_epoch(id);
        self.let_go(id, now);
    }

    pub(super) fn write_epoch(&mut self, id: &TaskId) {
        if let Some(task) = self.tasks.get(id) {
            self.effects.writes.insert(keys::epoch(id), Some(task.record.encode()));
        }
    }
}

impl super::Task {
    /// A report came. One that only tells of a change of state leaves the figures as they were.
    fn keep(&mut self, mut status: v1::TaskStatus) {
        if let Some(last) = self.report.take_if(|last| status.account.is_none() && last.epoch == status.epoch)
        {
            status.account = last.account;
            status.operators = last.operators;
            status.pending = last.pending;
            status.commits = last.commits;
            if status.partitions.is_empty() {
                status.partitions = last.partitions;
            }
        }
        for one in status.partitions.iter().filter(|one| one.committed >= 0) {
            let Some(partition) = &one.partition else { continue };
            let known = self.heard.entry(partition.into()).or_insert(one.committed);
            *known = one.committed.max(*known);
        }
        self.report = Some(status);
    }

    /// What is known to be committed.
    pub(super) fn heard(&self) -> Vec<PartitionAt> {
        self.heard.iter().map(|(partition, at)| (partition.clone(), *at)).collect()
    }

    /// An epoch ended: add its outcomes to the past, keep where its partitions stood.
    pub(super) fn close_books(&mut self) {
        let Some(last) = self.report.take() else { return };
        self.past += settled(last.account);
        for operator in last.operators {
            *self.past_operators.entry(operator.name).or_default() += settled(operator.account);
        }
        self.report = Some(v1::TaskStatus {
            task: last.task,
            epoch: self.record.epoch,
            state: TaskState::Starting.into(),
            partitions: last.partitions,
            ..Default::default()
        });
    }
}

/// What of an ended epoch counts: records in flight were not settled and are read again.
fn settled(account: Option<v1::Account>) -> Account {
    let account = account.map(Account::from).unwrap_or_default();
    Account { records_in: account.records_in.saturating_sub(account.held), held: 0, ..account }
}
