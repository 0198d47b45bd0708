//! Tasks of older generations: let go by their holders, retired where that is needed, then forgotten.
//!
//! Under exactly-once a holder that is asleep could wake up and commit under its old transactional id, beside the tasks
//! that have its shards now. So each old task that was ever granted is retired (P8): its id is initialised once more and
//! its partitions are claimed for the generation that follows. Nothing newer is granted before.

use super::{Core, Now, Pipeline, Retiring};
use crate::store::Wanted;
use pelton_types::{Generation, Incident, PipelineName, TaskId};
use std::collections::BTreeSet;

/// A pipeline that is being deleted and cannot be retired, its topics being gone perhaps, is forgotten after so many
/// tries.
const TRIES_OF_A_DELETED: u32 = 5;

impl Core {
    /// Forget tasks of older generations that were let go, and retired where they must be.
    pub(super) fn finish_retired(&mut self, now: Now) {
        let retiring: Vec<TaskId> =
            self.pipelines.values().flat_map(|p| p.retiring.iter().cloned()).collect();
        if !retiring.is_empty() && now.at < self.grants_from {
            self.settle_no_later_than(self.grants_from);
        }
        let mut touched = BTreeSet::new();
        for id in retiring {
            if !self.surely_free(&id, now) {
                continue;
            }
            if self.must_be_retired(&id)
                && let Some(mut wish) = self.pipelines.get(&id.pipeline).and_then(|p| wish(p, &id))
            {
                wish.heard = self.tasks.get(&id).map(super::Task::heard).unwrap_or_default();
                self.retire(wish, now);
                continue;
            }
            self.drop_retired(&id, now);
            touched.insert(id.pipeline.clone());
        }
        for name in touched {
            self.write_pipeline(&name);
        }
    }

    fn drop_retired(&mut self, id: &TaskId, now: Now) {
        self.forget_task(id, now);
        if let Some(pipeline) = self.pipelines.get_mut(&id.pipeline) {
            pipeline.retiring.remove(id);
            pipeline.closing.remove(id);
            let left: BTreeSet<(u32, Generation)> =
                pipeline.retiring.iter().map(|t| (t.stage, t.generation)).collect();
            pipeline.record.past.retain(|(stage, map)| left.contains(&(*stage, map.generation)));
        }
    }

    /// Whether a holder of this task could still commit. A task that nobody was ever granted has none.
    fn must_be_retired(&self, id: &TaskId) -> bool {
        let granted = self.tasks.get(id).is_some_and(|task| task.record.epoch > 0);
        granted && self.pipelines.get(&id.pipeline).is_some_and(|p| p.record.exactly_once)
    }

    /// Ask for a task to be retired, unless that is under way or its next try is not due.
    fn retire(&mut self, wish: Retiring, now: Now) {
        let id = &wish.task;
        let Some(task) = self.tasks.get(id) else { return };
        if let super::Hold::Nobody { not_before, .. } = &task.hold
            && *not_before > now.at
        {
            let at = *not_before;
            return self.settle_no_later_than(at);
        }
        let Some(pipeline) = self.pipelines.get_mut(&id.pipeline) else { return };
        // Older generations first: each reads what the one before it left.
        let older = |t: &TaskId| t.stage == id.stage && t.generation < id.generation;
        if pipeline.retiring.iter().any(older) || !pipeline.closing.insert(id.clone()) {
            return;
        }
        tracing::debug!(task = %id, next = wish.next, "retiring");
        self.effects.retirements.push(wish);
    }

    /// What came of a retirement.
    pub fn retired(&mut self, id: &TaskId, outcome: Result<(), Incident>, now: Now) {
        let Some(pipeline) = self.pipelines.get_mut(&id.pipeline) else { return };
        if !pipeline.closing.remove(id) {
            return;
        }
        let deleted = pipeline.record.wanted == Wanted::Deleted;
        let tries = self.tasks.get(id).map_or(0, |t| t.failures);
        match outcome {
            Ok(()) => {
                self.drop_retired(id, now);
                self.write_pipeline(&id.pipeline);
            }
            Err(incident) if deleted && tries + 1 >= TRIES_OF_A_DELETED => {
                tracing::warn!(task = %id, code = %incident.code, "deleted although it could not be retired: {incident}");
                self.drop_retired(id, now);
                self.write_pipeline(&id.pipeline);
            }
            Err(incident) => {
                self.set_task_incident(id, Some(incident), now);
                let wait = self.settings.pause_after(tries + 1);
                if let Some(task) = self.tasks.get_mut(id) {
                    task.failures = tries + 1;
                    task.hold = super::Hold::nobody(now.at + wait);
                }
                self.settle_no_later_than(now.at + wait);
            }
        }
        self.unsettled = true;
        self.settle(now);
    }

    /// All tasks of a pipeline that is being deleted are to be retired too. False when there is nothing more to wait for.
    pub(super) fn retire_all(&mut self, name: &PipelineName, now: Now) -> bool {
        let Some(pipeline) = self.pipelines.get(name) else { return false };
        let wanted: Vec<TaskId> =
            pipeline.tasks.iter().filter(|id| self.must_be_retired(id)).cloned().collect();
        let Some(pipeline) = self.pipelines.get_mut(name) else { return false };
        pipeline.tasks.retain(|id| !wanted.contains(id));
        pipeline.retiring.extend(wanted.iter().cloned());
        let waits = !pipeline.retiring.is_empty();
        if !wanted.is_empty() {
            self.write_pipeline(name);
            self.finish_retired(now);
        }
        waits
    }
}

/// What retiring a task takes; `None` when its map is not known, which a store that was lost may bring about. The tasks
/// that follow then refuse to start, and say why.
fn wish(pipeline: &Pipeline, id: &TaskId) -> Option<Retiring> {
    let newest = pipeline.record.stages.get(id.stage as usize)?;
    let past = pipeline.record.past.iter().find(|(s, map)| *s == id.stage && map.generation == id.generation);
    let map = past.map(|(_, map)| map).or((newest.generation == id.generation).then_some(newest))?;
    Some(Retiring {
        task: id.clone(),
        // A pipeline that is being deleted has no next one of its own.
        next: newest.generation.max(id.generation + 1),
        definition: pipeline.revisions.get(&pipeline.record.revision)?.definition.clone(),
        sources: map.sources_of(id.index),
        heard: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
