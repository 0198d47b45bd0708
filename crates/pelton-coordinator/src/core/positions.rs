//! Where a pipeline stands, noted and set by hand: savepoints, positions, and the audit of who did what.
//!
//! Positions are set by the coordinator itself, as the holder of a new epoch of each task concerned: so whoever held the
//! task before is fenced, and whoever is granted it next finds what was set.

use super::{Core, Now, Pipeline, Refusal, no_pipeline};
use crate::store::{AuditRecord, Document, SavepointRecord, Wanted, keys};
use pelton_proto::v1;
use pelton_types::{Epoch, Offset, Partition, PipelineName, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// Entries kept of a pipeline's audit.
const MAX_AUDIT: usize = 100;
/// Savepoints kept of a pipeline.
const MAX_SAVEPOINTS: usize = 100;

/// A partition and the next offset to read.
pub type PartitionAt = (Partition, Offset);

/// All of a pipeline's partitions, and how they are reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Everything {
    /// Any of its tasks, for the group's name.
    pub task: TaskId,
    /// The newest revision.
    pub revision: u64,
    /// Its definition.
    pub definition: String,
    /// Partitions by source.
    pub sources: Vec<v1::AssignedSource>,
}

/// Positions to be set for a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Which.
    pub task: TaskId,
    /// The epoch under which they are set.
    pub epoch: Epoch,
    /// Nobody ever ran it.
    pub virgin: bool,
    /// The newest definition.
    pub definition: String,
    /// Its partitions.
    pub sources: Vec<v1::AssignedSource>,
    /// What is known to be committed of them.
    pub heard: Vec<PartitionAt>,
    /// What is set; the others stay.
    pub positions: Vec<PartitionAt>,
}

impl Core {
    /// All partitions of a pipeline.
    ///
    /// # Errors
    /// When there is no such pipeline, or its shards are being dealt anew.
    pub fn everything(&self, name: &PipelineName) -> Result<Everything, Refusal> {
        let pipeline = self.pipelines.get(name).ok_or_else(|| no_pipeline(name))?;
        settled(name, pipeline)?;
        let mut sources: BTreeMap<String, Vec<v1::Partition>> = BTreeMap::new();
        for id in &pipeline.tasks {
            for own in sources_of(pipeline, id) {
                sources.entry(own.source).or_default().extend(own.partitions);
            }
        }
        let task = pipeline.tasks.first().cloned();
        let task = task.ok_or_else(|| Refusal::Conflict(format!("{name} has no tasks")))?;
        let sources =
            sources.into_iter().map(|(source, partitions)| v1::AssignedSource { source, partitions });
        let definition = self.definition(name, pipeline.record.revision)?;
        Ok(Everything { task, revision: pipeline.record.revision, definition, sources: sources.collect() })
    }

    /// Keep a savepoint.
    ///
    /// # Errors
    /// When there is no such pipeline, the name is taken or no name, or there are too many.
    pub fn add_savepoint(
        &mut self,
        name: &PipelineName,
        label: &str,
        savepoint: SavepointRecord,
    ) -> Result<(), Refusal> {
        let pipeline = self.pipelines.get_mut(name).ok_or_else(|| no_pipeline(name))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if label.is_empty() || label.len() > 63 || !label.chars().all(plain) {
            return Err(Refusal::Conflict(format!(
                "`{label}` is no name for a savepoint: 1 to 63 letters, digits, `-`, `_` or `.`"
            )));
        }
        if pipeline.savepoints.contains_key(label) {
            return Err(Refusal::Conflict(format!(
                "{name} has a savepoint `{label}` already; delete it first"
            )));
        }
        if pipeline.savepoints.len() >= MAX_SAVEPOINTS {
            return Err(Refusal::Conflict(format!(
                "{name} has {MAX_SAVEPOINTS} savepoints; delete one with `pelton savepoint delete`"
            )));
        }
        let key = keys::savepoint(&pipeline.record.uuid, label);
        self.effects.writes.insert(key, Some(savepoint.encode()));
        pipeline.savepoints.insert(label.to_owned(), savepoint);
        Ok(())
    }

    /// A pipeline's savepoints by name.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn savepoints(&self, name: &PipelineName) -> Result<BTreeMap<String, SavepointRecord>, Refusal> {
        self.pipelines.get(name).map(|p| p.savepoints.clone()).ok_or_else(|| no_pipeline(name))
    }

    /// One savepoint, with the definition of its revision.
    ///
    /// # Errors
    /// When there is no such pipeline or savepoint, or the revision is not kept any more.
    pub fn savepoint(&self, name: &PipelineName, label: &str) -> Result<(SavepointRecord, String), Refusal> {
        let pipeline = self.pipelines.get(name).ok_or_else(|| no_pipeline(name))?;
        let savepoint = pipeline.savepoints.get(label).ok_or_else(|| no_savepoint(name, label, pipeline))?;
        Ok((savepoint.clone(), self.definition(name, savepoint.revision)?))
    }

    /// Forget a savepoint.
    ///
    /// # Errors
    /// When there is no such pipeline or savepoint.
    pub fn drop_savepoint(&mut self, name: &PipelineName, label: &str) -> Result<(), Refusal> {
        let pipeline = self.pipelines.get_mut(name).ok_or_else(|| no_pipeline(name))?;
        if pipeline.savepoints.remove(label).is_none() {
            return Err(no_savepoint(name, label, pipeline));
        }
        self.effects.writes.insert(keys::savepoint(&pipeline.record.uuid, label), None);
        Ok(())
    }

    /// Take the tasks of these partitions, to set where they go on; without any, take all tasks as they stand.
    /// [`Core::positions_set`] gives them back.
    ///
    /// # Errors
    /// When the pipeline runs, a worker may still hold one of the tasks, or a partition is none of its own.
    pub fn take_positions(
        &mut self,
        name: &PipelineName,
        positions: &[PartitionAt],
        now: Now,
    ) -> Result<Vec<Setting>, Refusal> {
        let pipeline = self.pipelines.get(name).ok_or_else(|| no_pipeline(name))?;
        settled(name, pipeline)?;
        if pipeline.record.wanted != Wanted::Paused {
            return Err(Refusal::Conflict(format!(
                "{name} is not paused; `pelton pause {}` first, so that no task commits meanwhile",
                name.name
            )));
        }
        let definition = self.definition(name, pipeline.record.revision)?;
        let mut settings = settings(name, pipeline, &definition, positions)?;
        for setting in &settings {
            if !self.surely_free(&setting.task, now) || pipeline.closing.contains(&setting.task) {
                let text = format!("task {} is still held; try again in a moment", setting.task);
                return Err(Refusal::Conflict(text));
            }
        }
        for setting in &mut settings {
            let Some(task) = self.tasks.get_mut(&setting.task) else { continue };
            setting.virgin = task.record.virgin && task.record.epoch == 0;
            task.record.epoch += 1;
            task.record.virgin = false;
            task.record.completed = false;
            setting.epoch = task.record.epoch;
            setting.heard = task.heard();
            self.write_epoch(&setting.task);
        }
        if let Some(pipeline) = self.pipelines.get_mut(name) {
            pipeline.closing.extend(settings.iter().map(|s| s.task.clone()));
        }
        Ok(settings)
    }

    /// The tasks may be granted again. `done` goes into the audit.
    pub fn positions_set(
        &mut self,
        name: &PipelineName,
        tasks: &[TaskId],
        done: Option<AuditRecord>,
        now: Now,
    ) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        pipeline.closing.retain(|id| !tasks.contains(id));
        if let Some(entry) = done {
            for id in tasks {
                self.tasks.entry(id.clone()).and_modify(|task| task.heard.clear());
            }
            tracing::info!(pipeline = %name, by = entry.by, reason = entry.reason, "{}", entry.what);
            let number = pipeline.audit.keys().next_back().map_or(1, |n| n + 1);
            let uuid = &pipeline.record.uuid;
            self.effects.writes.insert(keys::audit(uuid, number), Some(entry.encode()));
            pipeline.audit.insert(number, entry);
            while pipeline.audit.len() > MAX_AUDIT {
                if let Some((oldest, _)) = pipeline.audit.pop_first() {
                    self.effects.writes.insert(keys::audit(uuid, oldest), None);
                }
            }
        }
        self.unsettled = true;
        self.settle(now);
    }
}

/// Refuse while the map from shards to tasks changes.
fn settled(name: &PipelineName, pipeline: &Pipeline) -> Result<(), Refusal> {
    if pipeline.retiring.is_empty() {
        return Ok(());
    }
    Err(Refusal::Conflict(format!("the shards of {name} are being dealt anew; try again in a moment")))
}

fn no_savepoint(name: &PipelineName, label: &str, pipeline: &Pipeline) -> Refusal {
    let known: Vec<&str> = pipeline.savepoints.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Refusal::NotFound(format!("{name} has no savepoint `{label}`; it has {known}"))
}

fn sources_of(pipeline: &Pipeline, id: &TaskId) -> Vec<v1::AssignedSource> {
    let stage = pipeline.record.stages.get(id.stage as usize);
    stage.map(|stage| stage.sources_of(id.index)).unwrap_or_default()
}

/// Positions by the task that has their partition; all tasks when there are none. Pure.
fn settings(
    name: &PipelineName,
    pipeline: &Pipeline,
    definition: &str,
    positions: &[PartitionAt],
) -> Result<Vec<Setting>, Refusal> {
    let mut left: BTreeSet<&Partition> = positions.iter().map(|(p, _)| p).collect();
    let mut all = Vec::new();
    for id in &pipeline.tasks {
        let sources = sources_of(pipeline, id);
        let own: BTreeSet<Partition> =
            sources.iter().flat_map(|s| &s.partitions).map(Partition::from).collect();
        let mine: Vec<PartitionAt> = positions.iter().filter(|(p, _)| own.contains(p)).cloned().collect();
        left.retain(|partition| !own.contains(partition));
        if positions.is_empty() || !mine.is_empty() {
            all.push(Setting {
                task: id.clone(),
                epoch: 0,
                virgin: false,
                definition: definition.to_owned(),
                sources,
                heard: Vec::new(),
                positions: mine,
            });
        }
    }
    if left.is_empty() {
        return Ok(all);
    }
    let left: Vec<String> = left.into_iter().map(ToString::to_string).collect();
    Err(Refusal::NotFound(format!("{name} does not read {}", left.join(", "))))
}

#[cfg(test)]
mod tests;
