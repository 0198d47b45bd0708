//! Pipelines are applied, paused, resumed and deleted; generations of tasks follow one another.

use super::{Core, Hold, Now, Pipeline, Refusal, Restored, Task, WorkerId, no_pipeline};
use crate::store::{
    Deleted, Document, EpochRecord, PipelineRecord, RevisionRecord, StageRecord, Wanted, keys,
};
use pelton_proto::v1;
use pelton_types::{Account, Epoch, PipelineName, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// Revisions kept of a pipeline.
const MAX_REVISIONS: usize = 50;
/// Deleted objects remembered; a worker away for longer than a thousand deletions is not waited for.
const MAX_DELETED: usize = 1000;

/// How the shards of a stage are dealt to tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageLayout {
    /// Number of tasks.
    pub tasks: u32,
    /// Partitions of each topic of each source: source, topic, partitions.
    pub topics: Vec<(String, String, u32)>,
}

impl StageRecord {
    /// A task's partitions: shard i (partition i of every topic that has one) belongs to task i mod `tasks`.
    pub fn sources_of(&self, index: u32) -> Vec<v1::AssignedSource> {
        let mut sources: BTreeMap<&str, Vec<v1::Partition>> = BTreeMap::new();
        for (source, topic, partitions) in &self.topics {
            let mine = (0..*partitions).filter(|shard| shard % self.tasks.max(1) == index);
            let named = mine.map(|shard| v1::Partition { topic: topic.clone(), index: shard as i32 });
            sources.entry(source).or_default().extend(named);
        }
        let all = sources.into_iter();
        all.map(|(source, partitions)| v1::AssignedSource { source: source.to_owned(), partitions }).collect()
    }
}

/// A definition that was checked, with its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name.
    pub name: PipelineName,
    /// `Pipeline` or `Feed`.
    pub kind: String,
    /// Canonical JSON, as text.
    pub definition: String,
    /// Outputs and offsets are committed together.
    pub exactly_once: bool,
    /// Layout of each stage.
    pub stages: Vec<StageLayout>,
    /// Identity for a new object, unique.
    pub uuid: String,
}

/// What applying did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new pipeline.
    Created,
    /// A new revision, or a new layout of the same one.
    Changed,
    /// Nothing to do.
    Unchanged,
}

impl Outcome {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
        }
    }
}

/// Result of applying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What it did.
    pub outcome: Outcome,
    /// The newest revision now.
    pub revision: u64,
    /// Stages whose shards were dealt anew: stage, tasks before, tasks now.
    pub redealt: Vec<(u32, u32, u32)>,
}

impl Task {
    fn new(record: EpochRecord, known: bool, now: Now) -> Self {
        Self {
            record,
            hold: Hold::nobody(now.at),
            revision: 0,
            report: None,
            heard: BTreeMap::new(),
            past: Account::default(),
            past_operators: BTreeMap::new(),
            failures: 0,
            left: None,
            pinned: false,
            known,
            shell: None,
        }
    }
}

fn never_granted() -> EpochRecord {
    EpochRecord { epoch: 0, virgin: true, completed: false, stopped: None }
}

impl Core {
    pub(super) fn restore_pipeline(
        &mut self,
        name: &PipelineName,
        record: &PipelineRecord,
        stored: &Restored,
    ) {
        let uuid = record.uuid.as_str();
        let revisions = stored.revisions.iter().filter(|(of, _, _)| of == uuid);
        let mut pipeline = Pipeline {
            record: record.clone(),
            revisions: revisions.map(|(_, number, r)| (*number, r.clone())).collect(),
            tasks: Vec::new(),
            retiring: BTreeSet::new(),
            closing: BTreeSet::new(),
            savepoints: stored
                .savepoints
                .iter()
                .filter(|(of, _, _)| of == uuid)
                .map(|(_, name, s)| (name.clone(), s.clone()))
                .collect(),
            audit: stored
                .audit
                .iter()
                .filter(|(of, _, _)| of == uuid)
                .map(|(_, number, entry)| (*number, entry.clone()))
                .collect(),
        };
        let id = |stage, generation, index| TaskId {
            pipeline: name.clone(),
            uuid: uuid.to_owned(),
            stage,
            generation,
            index,
        };
        for (number, stage) in record.stages.iter().enumerate() {
            pipeline.tasks.extend((0..stage.tasks).map(|i| id(number as u32, stage.generation, i)));
        }
        pipeline.retiring.extend(record.retiring.iter().map(|(s, g, i)| id(*s, *g, *i)));
        let start = Now { at: self.grants_from.saturating_sub(self.settings.lease), wall_ms: 0 };
        for task in pipeline.tasks.iter().chain(&pipeline.retiring) {
            let epoch = stored.epochs.get(&keys::epoch(task)).cloned().unwrap_or_else(never_granted);
            self.tasks.insert(task.clone(), Task::new(epoch, false, start));
        }
        self.pipelines.insert(name.clone(), pipeline);
    }

    /// Accept a definition: a new pipeline, a new revision, or nothing new. Tasks that an incident stopped start again.
    ///
    /// # Errors
    /// When the name is taken by another kind, or the pipeline is being deleted.
    pub fn apply(&mut self, accepted: Accepted, now: Now) -> Result<Applied, Refusal> {
        self.can_apply(&accepted.name, &accepted.kind)?;
        let name = accepted.name.clone();
        let applied = match self.pipelines.contains_key(&name) {
            false => self.create(accepted, now),
            true => self.revise(accepted, now),
        };
        self.rouse(&name, applied.outcome == Outcome::Changed, now);
        self.unsettled = true;
        self.settle(now);
        Ok(applied)
    }

    /// Whether a definition of this name and kind may be applied now.
    ///
    /// # Errors
    /// As [`Core::apply`].
    pub fn can_apply(&self, name: &PipelineName, kind: &str) -> Result<(), Refusal> {
        match self.pipelines.get(name).map(|p| &p.record) {
            Some(known) if known.wanted == Wanted::Deleted => Err(Refusal::Conflict(format!(
                "{name} is being deleted and waits for its tasks; apply it again when it is gone"
            ))),
            Some(known) if known.kind != kind => Err(Refusal::Conflict(format!(
                "{name} is a {} and cannot become a {kind}; delete it first or choose another name",
                known.kind
            ))),
            _ => Ok(()),
        }
    }

    fn create(&mut self, accepted: Accepted, now: Now) -> Applied {
        let strangers = self.strangers_of(&accepted.name);
        let known = strangers.iter().max_by_key(|(_, t, _)| t.generation);
        // Workers run a pipeline of this name that the store forgot: it is the same object, its offsets are ours, and
        // its tasks are let go before new ones start.
        let (uuid, generation) =
            known.map_or((accepted.uuid, 1), |(_, t, _)| (t.uuid.clone(), t.generation + 1));
        let stages = accepted.stages.into_iter();
        let record = PipelineRecord {
            uuid,
            kind: accepted.kind,
            revision: 1,
            wanted: Wanted::Running,
            created_ms: now.wall_ms,
            changed_ms: now.wall_ms,
            exactly_once: accepted.exactly_once,
            stages: stages.map(|s| StageRecord { generation, tasks: s.tasks, topics: s.topics }).collect(),
            past: Vec::new(),
            retiring: Vec::new(),
        };
        let pipeline = Pipeline {
            record,
            revisions: BTreeMap::new(),
            tasks: Vec::new(),
            retiring: BTreeSet::new(),
            closing: BTreeSet::new(),
            savepoints: BTreeMap::new(),
            audit: BTreeMap::new(),
        };
        self.pipelines.insert(accepted.name.clone(), pipeline);
        self.add_revision(&accepted.name, 1, accepted.definition, now);
        self.take_in(&accepted.name, strangers, now);
        self.make_tasks(&accepted.name, now);
        self.write_pipeline(&accepted.name);
        Applied { outcome: Outcome::Created, revision: 1, redealt: Vec::new() }
    }

    /// Tasks of a forgotten past become generations to be retired.
    fn take_in(&mut self, name: &PipelineName, strangers: Vec<(WorkerId, TaskId, Epoch)>, now: Now) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        for (worker, id, epoch) in strangers {
            if id.uuid == pipeline.record.uuid {
                let record = EpochRecord { epoch, virgin: false, ..never_granted() };
                let mut task = Task::new(record, true, now);
                task.hold = Hold::Held { worker: worker.clone(), since: now.at };
                self.tasks.insert(id.clone(), task);
                pipeline.retiring.insert(id.clone());
            }
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.strangers.remove(&id);
            }
        }
        let name = name.clone();
        self.resolve_incidents(now, |_, r| r.pipeline == name.name && r.namespace == name.namespace);
    }

    fn revise(&mut self, accepted: Accepted, now: Now) -> Applied {
        let name = &accepted.name;
        let Some(pipeline) = self.pipelines.get_mut(name) else {
            return Applied { outcome: Outcome::Unchanged, revision: 0, redealt: Vec::new() };
        };
        let record = &mut pipeline.record;
        let newest = pipeline.revisions.get(&record.revision).map(|r| r.definition.as_str());
        let revised = newest != Some(accepted.definition.as_str());
        let mut redealt = Vec::new();
        let mut stages = Vec::new();
        for (number, layout) in accepted.stages.into_iter().enumerate() {
            let old = record.stages.get(number);
            let same = old.is_some_and(|o| o.tasks == layout.tasks && o.topics == layout.topics);
            let generation = old.map_or(1, |o| o.generation + u32::from(!same));
            if !same {
                redealt.push((number as u32, old.map_or(0, |o| o.tasks), layout.tasks));
                record.past.extend(old.map(|o| (number as u32, o.clone())));
            }
            stages.push(StageRecord { generation, tasks: layout.tasks, topics: layout.topics });
        }
        if !revised && redealt.is_empty() && stages.len() == record.stages.len() {
            return Applied { outcome: Outcome::Unchanged, revision: record.revision, redealt };
        }
        record.revision += u64::from(revised);
        record.changed_ms = now.wall_ms;
        record.stages = stages;
        // What was at work until now is retired as it was at work.
        record.exactly_once |= accepted.exactly_once;
        let revision = record.revision;
        if revised {
            self.add_revision(name, revision, accepted.definition, now);
        }
        self.make_tasks(name, now);
        self.write_pipeline(name);
        Applied { outcome: Outcome::Changed, revision, redealt }
    }

    fn add_revision(&mut self, name: &PipelineName, number: u64, definition: String, now: Now) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let uuid = &pipeline.record.uuid;
        let document = RevisionRecord { definition, at_ms: now.wall_ms };
        self.effects.writes.insert(keys::revision(uuid, number), Some(document.encode()));
        pipeline.revisions.insert(number, document);
        while pipeline.revisions.len() > MAX_REVISIONS {
            if let Some((oldest, _)) = pipeline.revisions.pop_first() {
                self.effects.writes.insert(keys::revision(uuid, oldest), None);
            }
        }
    }

    /// Make the tasks of the newest generations; those of older ones retire.
    fn make_tasks(&mut self, name: &PipelineName, now: Now) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let mut tasks = Vec::new();
        for (stage, record) in pipeline.record.stages.iter().enumerate() {
            tasks.extend((0..record.tasks).map(|index| TaskId {
                pipeline: name.clone(),
                uuid: pipeline.record.uuid.clone(),
                stage: stage as u32,
                generation: record.generation,
                index,
            }));
        }
        for id in &tasks {
            if !self.tasks.contains_key(id) {
                self.tasks.insert(id.clone(), Task::new(never_granted(), true, now));
            }
        }
        let before = std::mem::replace(&mut pipeline.tasks, tasks);
        let newest: BTreeSet<&TaskId> = pipeline.tasks.iter().collect();
        pipeline.retiring.extend(before.into_iter().filter(|id| !newest.contains(id)));
    }

    pub(super) fn write_pipeline(&mut self, name: &PipelineName) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let retiring = pipeline.retiring.iter();
        pipeline.record.retiring = retiring.map(|t| (t.stage, t.generation, t.index)).collect();
        self.effects.writes.insert(keys::pipeline(name), Some(pipeline.record.encode()));
    }

    /// Tasks that failed or wait start again at once; after a change also those that had completed.
    fn rouse(&mut self, name: &PipelineName, again: bool, now: Now) {
        let Some(pipeline) = self.pipelines.get(name) else { return };
        for id in pipeline.tasks.clone() {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let completed = again && task.record.completed;
            let stopped = task.record.stopped.take().is_some();
            if stopped || completed {
                task.record.completed = task.record.completed && !again;
                self.write_epoch(&id);
            }
            if stopped {
                // Somebody acted. If it was of no use, the incident comes again.
                self.set_task_incident(&id, None, now);
            }
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.failures = 0;
            if matches!(task.hold, Hold::Nobody { .. }) {
                task.hold = Hold::nobody(now.at);
            }
        }
    }

    /// Stand still: tasks let go at a commit and stay where they are.
    ///
    /// # Errors
    /// When there is no such pipeline, or it is being deleted.
    pub fn pause(&mut self, name: &PipelineName, now: Now) -> Result<(), Refusal> {
        self.want(name, Wanted::Paused, now)
    }

    /// Go on; also starts tasks again that an incident stopped.
    ///
    /// # Errors
    /// When there is no such pipeline, or it is being deleted.
    pub fn resume(&mut self, name: &PipelineName, now: Now) -> Result<(), Refusal> {
        self.rouse(name, false, now);
        self.want(name, Wanted::Running, now)
    }

    /// Let go of every task, then forget the pipeline. Topics and offsets stay.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn delete(&mut self, name: &PipelineName, now: Now) -> Result<(), Refusal> {
        match self.pipelines.get(name).map(|p| p.record.wanted) {
            Some(Wanted::Deleted) => Ok(()),
            _ => self.want(name, Wanted::Deleted, now),
        }
    }

    fn want(&mut self, name: &PipelineName, wanted: Wanted, now: Now) -> Result<(), Refusal> {
        let pipeline = self.pipelines.get_mut(name).ok_or_else(|| no_pipeline(name))?;
        if pipeline.record.wanted == Wanted::Deleted {
            return Err(Refusal::Conflict(format!("{name} is being deleted")));
        }
        if pipeline.record.wanted != wanted {
            pipeline.record.wanted = wanted;
            pipeline.record.changed_ms = now.wall_ms;
            self.write_pipeline(name);
        }
        self.unsettled = true;
        self.settle(now);
        Ok(())
    }

    /// Whether nobody can hold this task any more.
    pub(super) fn surely_free(&self, id: &TaskId, now: Now) -> bool {
        let Some(task) = self.tasks.get(id) else { return true };
        matches!(task.hold, Hold::Nobody { .. }) && (task.known || now.at >= self.grants_from)
    }

    pub(super) fn forget_task(&mut self, id: &TaskId, now: Now) {
        if let Some(task) = self.tasks.remove(id) {
            if let Some((worker, epoch)) = task.shell {
                self.revoke(&worker, id, epoch);
            }
            self.effects.writes.insert(keys::epoch(id), None);
        }
        self.set_task_incident(id, None, now);
    }

    /// Forget deleted pipelines whose tasks were all let go.
    pub(super) fn finish_deleted(&mut self, now: Now) {
        let deleted = |p: &Pipeline| p.record.wanted == Wanted::Deleted;
        let names: Vec<PipelineName> =
            self.pipelines.iter().filter(|(_, p)| deleted(p)).map(|(n, _)| n.clone()).collect();
        for name in names {
            let Some(pipeline) = self.pipelines.get(&name) else { continue };
            let tasks: Vec<TaskId> = pipeline.tasks.iter().chain(&pipeline.retiring).cloned().collect();
            if !tasks.iter().all(|id| self.surely_free(id, now)) {
                if now.at < self.grants_from {
                    self.settle_no_later_than(self.grants_from);
                }
                continue;
            }
            if self.retire_all(&name, now) {
                continue;
            }
            for id in &tasks {
                self.forget_task(id, now);
            }
            self.forget_pipeline(&name, now);
        }
    }

    fn forget_pipeline(&mut self, name: &PipelineName, now: Now) {
        let Some(pipeline) = self.pipelines.remove(name) else { return };
        let uuid = pipeline.record.uuid;
        let writes = &mut self.effects.writes;
        for number in pipeline.revisions.keys() {
            writes.insert(keys::revision(&uuid, *number), None);
        }
        for savepoint in pipeline.savepoints.keys() {
            writes.insert(keys::savepoint(&uuid, savepoint), None);
        }
        for number in pipeline.audit.keys() {
            writes.insert(keys::audit(&uuid, *number), None);
        }
        writes.insert(keys::pipeline(name), None);
        writes.insert(keys::deleted(&uuid), Some(Deleted { at_ms: now.wall_ms }.encode()));
        self.deleted.insert(uuid, now.wall_ms);
        if self.deleted.len() > MAX_DELETED
            && let Some(oldest) = self.deleted.iter().min_by_key(|(_, at)| **at).map(|(uuid, _)| uuid.clone())
        {
            self.deleted.remove(&oldest);
            self.effects.writes.insert(keys::deleted(&oldest), None);
        }
        self.resolve_incidents(now, |_, r| r.pipeline == name.name && r.namespace == name.namespace);
    }
}
