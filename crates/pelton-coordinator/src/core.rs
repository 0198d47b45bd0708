//! The coordinator's decisions, without I/O: each public method is an event, [`Core::take`] gives what to do.
//!
//! The caller writes [`Effects::writes`] first, all of them in one transaction that also compares the leader key, and
//! only then sends. So no grant is ever heard of before its epoch is durable. If the transaction fails the caller
//! must stop: this value already believes in it.
//!
//! Rules, with their reasons:
//! * a closed connection that does not re-attach within the grace, or silence for a lease, loses a worker;
//! * after a start nothing old is granted for one lease, so that workers can say what they hold. Tasks made since the
//!   start are granted at once: nobody can hold them;
//! * what a worker holds outranks what the store remembers: a higher epoch raises ours, it is never called stale;
//! * tasks move one at a time: warm at the target, let go by the owner, granted to the target.
//!
//! Reports are kept in their wire form, because services hand them on unchanged.

mod growth;
mod incidents;
mod members;
mod moves;
mod pipelines;
mod positions;
mod reports;
mod retire;
mod settle;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;

pub use growth::{Reading, TopicSize, grown};
pub use pipelines::{Accepted, Applied, Outcome, StageLayout};
pub use positions::{Everything, PartitionAt, Setting};
pub use view::{Snapshot, incident, over};

use crate::store::{
    AuditRecord, EpochRecord, IncidentRecord, PipelineRecord, RevisionRecord, SavepointRecord,
};
use pelton_proto::v1;
use pelton_types::{Account, Epoch, Generation, Offset, Partition, PipelineName, TaskId, Term};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Names one connection of one worker; never reused.
pub type SessionId = u64;
/// A worker's name.
pub type WorkerId = String;

/// Time, as the caller measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On a clock that never goes back.
    pub at: Duration,
    /// Milliseconds since 1970; only shown to people.
    pub wall_ms: i64,
}

/// Times and bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A worker silent for this long is lost. Three missed heartbeats: fewer, and a slow disk looks like a death.
    pub lease: Duration,
    /// How often a worker reports.
    pub heartbeat: Duration,
    /// A worker whose connection closed may be away for this long.
    pub grace: Duration,
    /// What a worker has to finish and commit before it lets go.
    pub revoke_deadline: Duration,
    /// A move waits this long for its target to be warm, then goes on without.
    pub warm_deadline: Duration,
    /// Wait before a failed task is granted again; doubles with each failure.
    pub backoff: Duration,
    /// Longest such wait.
    pub backoff_cap: Duration,
}

impl Settings {
    /// Wait before the next try after so many failures.
    fn pause_after(&self, failures: u32) -> Duration {
        (self.backoff * (1 << failures.saturating_sub(1).min(16))).min(self.backoff_cap)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3),
            heartbeat: Duration::from_secs(1),
            grace: Duration::from_millis(200),
            revoke_deadline: Duration::from_secs(30),
            warm_deadline: Duration::from_secs(2),
            backoff: Duration::from_millis(250),
            backoff_cap: Duration::from_secs(30),
        }
    }
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Documents to write (`None`: delete), all together.
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
    /// Directives to send.
    pub sends: Vec<(SessionId, v1::directive::Kind)>,
    /// Sessions to end, with the reason.
    pub closes: Vec<(SessionId, String)>,
    /// Tasks of older generations to be retired; [`Core::retired`] hears of each.
    pub retirements: Vec<Retiring>,
}

/// A task of an older generation whose holder, should there be one, is to be fenced for good.
#[derive(Clone, Debug, PartialEq)]
pub struct Retiring {
    /// Which.
    pub task: TaskId,
    /// The generation that follows.
    pub next: Generation,
    /// The newest definition: how its queue is reached.
    pub definition: String,
    /// Its partitions.
    pub sources: Vec<v1::AssignedSource>,
    /// What is known to be committed of them.
    pub heard: Vec<PartitionAt>,
}

impl Effects {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.sends.is_empty()
            && self.closes.is_empty()
            && self.retirements.is_empty()
    }
}

/// Why a request was turned down; the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What it names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It does not fit the present state.
    #[error("{0}")]
    Conflict(String),
}

/// What the store held when the coordinator started.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Pipelines by name.
    pub pipelines: Vec<(PipelineName, PipelineRecord)>,
    /// Revisions by pipeline object and number.
    pub revisions: Vec<(String, u64, RevisionRecord)>,
    /// Epochs by key.
    pub epochs: BTreeMap<String, EpochRecord>,
    /// Open incidents by key.
    pub incidents: BTreeMap<String, IncidentRecord>,
    /// Deleted pipeline objects and when.
    pub deleted: BTreeMap<String, i64>,
    /// Savepoints by pipeline object and name.
    pub savepoints: Vec<(String, String, SavepointRecord)>,
    /// What was done by hand, by pipeline object and number.
    pub audit: Vec<(String, u64, AuditRecord)>,
}

/// The state of the whole.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    term: Term,
    holder: String,
    /// Nothing that somebody may hold is granted before.
    grants_from: Duration,
    workers: BTreeMap<WorkerId, Worker>,
    sessions: BTreeMap<SessionId, WorkerId>,
    pipelines: BTreeMap<PipelineName, Pipeline>,
    tasks: BTreeMap<TaskId, Task>,
    moving: Option<Moving>,
    /// Tasks that changed their worker, newest first.
    moves: VecDeque<v1::Move>,
    incidents: BTreeMap<String, IncidentRecord>,
    /// When each open incident was last seen.
    raised: BTreeMap<String, Duration>,
    /// Incidents that are over and when, newest first.
    resolved: VecDeque<(IncidentRecord, i64)>,
    deleted: BTreeMap<String, i64>,
    /// Something changed that a plan depends on.
    unsettled: bool,
    /// When a wait ends that a plan depends on.
    settle_at: Option<Duration>,
    effects: Effects,
}

#[derive(Debug)]
struct Worker {
    hello: v1::Hello,
    /// `None` once the connection closed.
    session: Option<SessionId>,
    heard: Duration,
    /// When the connection closed.
    closed: Option<Duration>,
    /// Counted as dead; kept for a while so that people can see it.
    lost: Option<Duration>,
    /// Somebody asked that it gets nothing.
    draining: bool,
    /// It lets go of tasks by itself, so it is about to end.
    leaving: bool,
    cpu_seconds: f64,
    resident_bytes: u64,
    /// Revisions sent on this session, by pipeline object.
    specs: BTreeSet<(String, u64)>,
    /// Tasks it holds that this coordinator knows nothing of.
    strangers: BTreeMap<TaskId, Epoch>,
}

impl Worker {
    fn attached(&self) -> bool {
        self.session.is_some() && self.lost.is_none()
    }
    /// Gets no new tasks.
    fn closing(&self) -> bool {
        self.draining || self.leaving
    }
}

#[derive(Debug)]
struct Pipeline {
    record: PipelineRecord,
    revisions: BTreeMap<u64, RevisionRecord>,
    /// Tasks of the newest generations.
    tasks: Vec<TaskId>,
    /// Tasks of older generations that somebody may still hold.
    retiring: BTreeSet<TaskId>,
    /// Tasks that are being retired, or moved to other offsets, now: nobody is granted them.
    closing: BTreeSet<TaskId>,
    savepoints: BTreeMap<String, SavepointRecord>,
    /// By number.
    audit: BTreeMap<u64, AuditRecord>,
}

#[derive(Debug)]
struct Task {
    record: EpochRecord,
    hold: Hold,
    /// Revision of the newest grant.
    revision: u64,
    /// Newest report of the newest epoch.
    report: Option<v1::TaskStatus>,
    /// Highest offsets that were reported to be committed, since this coordinator started or somebody set them.
    heard: BTreeMap<Partition, Offset>,
    /// Settled outcomes of epochs before, since this coordinator started.
    past: Account,
    past_operators: BTreeMap<String, Account>,
    failures: u32,
    /// Who had it last, and why it does no longer.
    left: Option<(WorkerId, &'static str)>,
    /// Somebody moved it here by hand.
    pinned: bool,
    /// This coordinator made it, granted it or was told of it: there is nobody to wait for who may hold it.
    known: bool,
    /// A worker keeps a failed instance until it is told to let go.
    shell: Option<(WorkerId, Epoch)>,
}

/// Who has a task.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// Nobody, as far as is known.
    Nobody {
        /// Not granted before.
        not_before: Duration,
        /// Who had it, and gets it again after the wait.
        prefer: Option<WorkerId>,
    },
    /// A worker was granted it.
    Held { worker: WorkerId, since: Duration },
    /// A worker was asked to let go, or does so by itself.
    Releasing { worker: WorkerId, since: Duration, then: Option<WorkerId> },
}

impl Hold {
    fn nobody(not_before: Duration) -> Self {
        Hold::Nobody { not_before, prefer: None }
    }
    fn holder(&self) -> Option<&WorkerId> {
        match self {
            Hold::Nobody { .. } => None,
            Hold::Held { worker, .. } | Hold::Releasing { worker, .. } => Some(worker),
        }
    }
}

/// The move in progress; there is one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moving {
    task: TaskId,
    to: WorkerId,
    since: Duration,
    leg: Leg,
    /// For people.
    reason: &'static str,
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    /// The target makes the task's parts; the owner works on.
    Warming,
    /// The owner was asked to let go.
    Leaving,
    /// The target was granted the task and does not run it yet.
    Arriving,
}

impl Core {
    /// The state after a start: what the store remembers, and nobody attached yet. `term` was raised in the store.
    pub fn new(settings: Settings, term: Term, holder: String, stored: Restored, now: Now) -> Self {
        let mut core = Self {
            grants_from: now.at + settings.lease,
            settings,
            term,
            holder,
            workers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            tasks: BTreeMap::new(),
            moving: None,
            moves: VecDeque::new(),
            incidents: stored.incidents.clone(),
            raised: stored.incidents.keys().map(|key| (key.clone(), now.at)).collect(),
            resolved: VecDeque::new(),
            deleted: stored.deleted.clone(),
            unsettled: true,
            settle_at: None,
            effects: Effects::default(),
        };
        for (name, record) in &stored.pipelines {
            core.restore_pipeline(name, record, &stored);
        }
        core
    }

    /// The term of this leadership.
    pub fn term(&self) -> Term {
        self.term
    }

    /// What to do since the last call.
    pub fn take(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Is this grant the newest of its task?
    pub fn confirm(&self, task: &TaskId, epoch: Epoch) -> (bool, Epoch) {
        match self.tasks.get(task) {
            Some(known) => (known.record.epoch == epoch, known.record.epoch),
            None => (false, 0),
        }
    }

    /// The definition of a revision; 0 is the one before the newest.
    ///
    /// # Errors
    /// When there is no such pipeline or revision.
    pub fn definition(&self, name: &PipelineName, revision: u64) -> Result<String, Refusal> {
        let pipeline = self.pipelines.get(name).ok_or_else(|| no_pipeline(name))?;
        let found = match revision {
            0 => pipeline.revisions.range(..pipeline.record.revision).next_back(),
            number => pipeline.revisions.get_key_value(&number),
        };
        found.map(|(_, r)| r.definition.clone()).ok_or_else(|| {
            let known: Vec<String> = pipeline.revisions.keys().map(u64::to_string).collect();
            let known = known.join(", ");
            Refusal::NotFound(match revision {
                0 => {
                    format!("pipeline {name} has no revision before its newest to go back to; it has {known}")
                }
                number => format!("pipeline {name} has no revision {number}; it has {known}"),
            })
        })
    }

    /// The revisions kept of a pipeline, oldest first.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn revisions(&self, name: &PipelineName) -> Result<Vec<v1::Revision>, Refusal> {
        let pipeline = self.pipelines.get(name).ok_or_else(|| no_pipeline(name))?;
        let all = pipeline.revisions.iter();
        Ok(all
            .map(|(number, r)| v1::Revision {
                number: *number,
                created_ms: r.at_ms,
                definition: r.definition.clone(),
            })
            .collect())
    }

    /// The newest definition of a pipeline and its revision.
    pub fn newest(&self, name: &PipelineName) -> Option<(u64, &str)> {
        let pipeline = self.pipelines.get(name)?;
        let revision = pipeline.record.revision;
        Some((revision, &pipeline.revisions.get(&revision)?.definition))
    }

    fn send(&mut self, worker: &str, directive: v1::directive::Kind) {
        if let Some(session) = self.workers.get(worker).and_then(|w| w.session) {
            self.effects.sends.push((session, directive));
        }
    }

    fn revoke(&mut self, worker: &str, task: &TaskId, epoch: Epoch) {
        let deadline_ms = self.settings.revoke_deadline.as_millis() as u32;
        let revoke = v1::Revoke { task: Some(task.into()), epoch, deadline_ms };
        self.send(worker, v1::directive::Kind::Revoke(revoke));
    }
}

fn no_pipeline(name: &PipelineName) -> Refusal {
    Refusal::NotFound(no_pipeline_text(name))
}

/// That there is no such pipeline, and how to find those that there are.
pub(crate) fn no_pipeline_text(name: &PipelineName) -> String {
    format!("there is no pipeline {name}; `pelton get pipelines -A` lists them")
}
