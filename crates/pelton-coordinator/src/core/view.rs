//! What people and metrics see of the state.

use super::{Core, Hold, Now, Pipeline, Task, Worker};
use crate::store::{IncidentRecord, Wanted};
use pelton_proto::v1::{self, TaskState};
use pelton_types::{Account, PipelineName, TaskId, Term};
use std::{collections::BTreeMap, time::Duration};

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When it was taken, on the core's clock.
    pub at: Duration,
    /// Term of this coordinator.
    pub term: Term,
    /// Pipelines with their tasks, by namespace and name.
    pub pipelines: Vec<v1::Pipeline>,
    /// Workers, by name; lost ones for a few minutes more.
    pub workers: Vec<v1::Worker>,
    /// Open incidents, oldest first.
    pub incidents: Vec<IncidentRecord>,
    /// Incidents that are over and since when, newest first; as far as this coordinator has seen it.
    pub resolved: Vec<(IncidentRecord, i64)>,
    /// Tasks that changed their worker of late, as [`v1::ListTasksResponse`] has them.
    pub moves: Vec<v1::Move>,
    /// Tasks that should run and that no worker holds.
    pub unassigned: usize,
}

impl Snapshot {
    /// The pipeline of this name.
    pub fn pipeline(&self, name: &PipelineName) -> Option<&v1::Pipeline> {
        self.pipelines.iter().find(|p| p.namespace == name.namespace && p.name == name.name)
    }
}

/// An incident as on the wire.
pub fn incident(record: &IncidentRecord) -> v1::Incident {
    v1::Incident {
        since_ms: record.since_ms,
        subject: record.subject.clone(),
        ..v1::Incident::from(&record.incident)
    }
}

/// An incident that is over since this moment, milliseconds since 1970.
pub fn over(record: &IncidentRecord, at_ms: i64) -> v1::Incident {
    v1::Incident { resolved_ms: at_ms, ..incident(record) }
}

impl Core {
    /// The state now.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let mut incidents: Vec<IncidentRecord> = self.incidents.values().cloned().collect();
        incidents.sort_by_key(|r| r.since_ms);
        let mut held: BTreeMap<&str, u32> = BTreeMap::new();
        for worker in self.tasks.values().filter_map(|t| t.hold.holder()) {
            *held.entry(worker).or_default() += 1;
        }
        let nobody = |id: &TaskId| self.tasks.get(id).is_some_and(|t| t.hold.holder().is_none());
        let current = self.pipelines.values().flat_map(|p| &p.tasks);
        Snapshot {
            at: now.at,
            term: self.term,
            pipelines: self
                .pipelines
                .iter()
                .map(|(name, p)| self.pipeline_view(name, p, &incidents))
                .collect(),
            workers: self
                .workers
                .iter()
                .map(|(id, w)| worker_view(id, w, held.get(id.as_str()).copied().unwrap_or(0), now))
                .collect(),
            unassigned: current.filter(|id| nobody(id) && self.wanted(id)).count(),
            moves: self.moves(now),
            resolved: self.resolved.iter().cloned().collect(),
            incidents,
        }
    }

    fn pipeline_view(
        &self,
        name: &PipelineName,
        pipeline: &Pipeline,
        incidents: &[IncidentRecord],
    ) -> v1::Pipeline {
        let record = &pipeline.record;
        let known: Vec<(&TaskId, &Task)> =
            pipeline.tasks.iter().filter_map(|id| self.tasks.get_key_value(id)).collect();
        let mut account = Account::default();
        let mut operators: Vec<(String, Account)> = Vec::new();
        for (_, task) in &known {
            account += task.past;
            add_operators(&mut operators, task.past_operators.iter().map(|(n, a)| (n.as_str(), *a)));
            if let Some(report) = &task.report {
                account += report.account.map(Account::from).unwrap_or_default();
                let of = |o: &v1::OperatorStatus| o.account.map(Account::from).unwrap_or_default();
                add_operators(&mut operators, report.operators.iter().map(|o| (o.name.as_str(), of(o))));
            }
        }
        let mine = incidents.iter().filter(|r| r.namespace == name.namespace && r.pipeline == name.name);
        v1::Pipeline {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            uuid: record.uuid.clone(),
            kind: record.kind.clone(),
            revision: record.revision,
            definition: pipeline
                .revisions
                .get(&record.revision)
                .map(|r| r.definition.clone())
                .unwrap_or_default(),
            phase: phase(record.wanted, &known).into(),
            tasks: pipeline
                .tasks
                .iter()
                .chain(&pipeline.retiring)
                .filter_map(|id| self.tasks.get(id).map(|t| task_view(id, t)))
                .collect(),
            account: Some(account.into()),
            operators: operators
                .into_iter()
                .map(|(name, account)| v1::OperatorStatus { name, account: Some(account.into()) })
                .collect(),
            incidents: mine.map(incident).collect(),
            pending: known.iter().filter_map(|(_, t)| t.report.as_ref()).map(|r| r.pending).sum(),
            lag: lag(&known).and_then(|lag| i64::try_from(lag).ok()).unwrap_or(-1),
            created_ms: record.created_ms,
            changed_ms: record.changed_ms,
            tasks_wanted: pipeline.tasks.len() as u32,
            audit: pipeline
                .audit
                .values()
                .map(|entry| v1::AuditEntry {
                    at_ms: entry.at_ms,
                    by: entry.by.clone(),
                    what: entry.what.clone(),
                    reason: entry.reason.clone(),
                })
                .collect(),
        }
    }
}

/// Operators keep the order of the chain, which is that of the first report.
fn add_operators<'a>(all: &mut Vec<(String, Account)>, more: impl Iterator<Item = (&'a str, Account)>) {
    for (name, account) in more {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += account,
            None => all.push((name.to_owned(), account)),
        }
    }
}

fn state_of(task: &Task) -> TaskState {
    match &task.hold {
        Hold::Releasing { .. } => TaskState::Releasing,
        Hold::Held { .. } => match task.report.as_ref().filter(|r| r.epoch == task.record.epoch) {
            Some(report) => report.state(),
            None => TaskState::Starting,
        },
        Hold::Nobody { .. } if task.record.completed => TaskState::Completed,
        Hold::Nobody { .. } if task.record.stopped.is_some() || task.shell.is_some() => TaskState::Failed,
        Hold::Nobody { .. } => TaskState::Unspecified,
    }
}

fn task_view(id: &TaskId, task: &Task) -> v1::Task {
    let mut status = task.report.clone().unwrap_or_default();
    status.task = Some(id.into());
    status.epoch = task.record.epoch;
    status.state = state_of(task).into();
    if let Some(stopped) = &task.record.stopped {
        status.incident = Some(stopped.into());
    }
    v1::Task {
        status: Some(status),
        worker_id: task.hold.holder().cloned().unwrap_or_default(),
        revision: task.revision,
    }
}

fn phase(wanted: Wanted, tasks: &[(&TaskId, &Task)]) -> &'static str {
    let all = |wanted: TaskState| tasks.iter().all(|(_, t)| state_of(t) == wanted);
    match wanted {
        Wanted::Deleted => "deleting",
        Wanted::Paused => "paused",
        Wanted::Running if tasks.iter().any(|(_, t)| t.record.stopped.is_some()) => "failed",
        Wanted::Running if !tasks.is_empty() && all(TaskState::Completed) => "completed",
        Wanted::Running
            if tasks
                .iter()
                .all(|(_, t)| matches!(state_of(t), TaskState::Running | TaskState::Completed)) =>
        {
            "running"
        }
        Wanted::Running => "pending",
    }
}

/// Records between positions and ends; unknown while any partition of a task that still runs is.
fn lag(tasks: &[(&TaskId, &Task)]) -> Option<u64> {
    let mut lag = 0;
    for (_, task) in tasks.iter().filter(|(_, t)| !t.record.completed) {
        for partition in &task.report.as_ref()?.partitions {
            if partition.end < 0 || partition.position < 0 {
                return None;
            }
            lag += u64::try_from(partition.end - partition.position).unwrap_or(0);
        }
    }
    Some(lag)
}

fn worker_view(id: &str, worker: &Worker, tasks: u32, now: Now) -> v1::Worker {
    let state = match worker {
        w if w.lost.is_some() => "lost",
        w if w.closing() => "draining",
        _ => "attached",
    };
    v1::Worker {
        id: id.to_owned(),
        incarnation: worker.hello.incarnation.clone(),
        state: state.into(),
        capacity: worker.hello.capacity,
        executors: worker.hello.executors,
        tasks,
        labels: worker.hello.labels.clone(),
        silent_ms: i64::try_from(now.at.saturating_sub(worker.heard).as_millis()).unwrap_or(i64::MAX),
        cpu_seconds: worker.cpu_seconds,
        resident_bytes: worker.resident_bytes,
        http: worker.hello.http.clone(),
        version: worker.hello.version.clone(),
    }
}
