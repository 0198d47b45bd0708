//! Incidents: open until the cause is gone, one for each subject and code; then shown as resolved for a while.

use super::{Core, Hold, Now};
use crate::store::{Document, IncidentRecord, keys};
use pelton_proto::v1::{self, TaskState};
use pelton_types::{Code, Incident, PipelineName, TaskId};
use std::{collections::BTreeSet, time::Duration};

/// Open incidents kept at most; beyond it the oldest is dropped. A page of a thousand troubles helps nobody.
const MAX_OPEN: usize = 1000;
/// Resolved ones shown, in memory only; logs keep them all.
const MAX_RESOLVED: usize = 200;
/// A task that runs for so long without trouble is over it, if it had nothing to commit meanwhile: longer than it takes
/// to read the record at which it failed before.
const CALM: Duration = Duration::from_secs(10);
/// What is only noted (the coordinator has dealt with it) stays open for so long after it was last seen: enough for an
/// alert and a look.
const NOTED: Duration = Duration::from_secs(600);

impl Core {
    pub(super) fn open(&mut self, subject: &str, about: Option<&PipelineName>, incident: Incident, now: Now) {
        let key = keys::incident(subject, incident.code);
        self.raised.insert(key.clone(), now.at);
        if self.incidents.get(&key).is_some_and(|known| known.incident == incident) {
            return;
        }
        let since_ms = self.incidents.get(&key).map_or(now.wall_ms, |known| known.since_ms);
        if !self.incidents.contains_key(&key) {
            let pipeline = about.map(|p| p.name.as_str());
            tracing::warn!(code = %incident.code, subject, pipeline, "{incident}");
        }
        let record = IncidentRecord {
            incident,
            subject: subject.to_owned(),
            namespace: about.map(|p| p.namespace.clone()).unwrap_or_default(),
            pipeline: about.map(|p| p.name.clone()).unwrap_or_default(),
            since_ms,
        };
        self.effects.writes.insert(key.clone(), Some(record.encode()));
        self.incidents.insert(key, record);
        if self.incidents.len() > MAX_OPEN {
            let oldest = self.incidents.iter().min_by_key(|(_, r)| r.since_ms).map(|(k, _)| k.clone());
            self.resolve_incidents(now, |key, _| Some(key) == oldest.as_deref());
        }
    }

    pub(super) fn resolve(&mut self, subject: &str, code: Code, now: Now) {
        let wanted = keys::incident(subject, code);
        if self.incidents.contains_key(&wanted) {
            self.resolve_incidents(now, |key, _| key == wanted);
        }
    }

    /// A task reported how it stands. Its trouble is over once it works: one that is only started again may fail again.
    pub(super) fn task_trouble(&mut self, task: &TaskId, status: &v1::TaskStatus, now: Now) {
        let incident = status.incident.as_ref().map(Incident::from);
        let ran = match self.tasks.get(task).map(|t| &t.hold) {
            Some(Hold::Held { since, .. }) => now.at.saturating_sub(*since),
            _ => Duration::ZERO,
        };
        let works = match status.state() {
            TaskState::Running => status.commits > 0 || ran >= CALM,
            TaskState::Completed => true,
            _ => false,
        };
        if works || incident.is_some() {
            self.set_task_incident(task, incident, now);
        }
    }

    /// What was noted long ago and did not come again is over, unless a worker still runs what nobody here knows.
    pub(super) fn resolve_noted(&mut self, now: Now) {
        let noted = |r: &IncidentRecord| matches!(r.incident.code, Code::EpochConflict | Code::StoreBehind);
        if !self.incidents.values().any(noted) {
            return;
        }
        let strange: BTreeSet<String> =
            self.workers.values().flat_map(|w| w.strangers.keys()).map(TaskId::to_string).collect();
        let seen = |key: &String| self.raised.get(key).copied().unwrap_or_default();
        let over: BTreeSet<String> = self
            .incidents
            .iter()
            .filter(|(key, r)| noted(r) && now.at.saturating_sub(seen(key)) >= NOTED)
            .filter(|(_, r)| !strange.contains(&r.subject))
            .map(|(key, _)| key.clone())
            .collect();
        if !over.is_empty() {
            self.resolve_incidents(now, |key, _| over.contains(key));
        }
    }

    /// Make the open incidents of a task what its newest report says; those the coordinator opened itself stay.
    pub(super) fn set_task_incident(&mut self, task: &TaskId, incident: Option<Incident>, now: Now) {
        let subject = task.to_string();
        let code = incident.as_ref().map(|i| i.code);
        if self.incidents.values().any(|r| r.subject == subject) {
            self.resolve_incidents(now, |_, r| {
                r.subject == subject && Some(r.incident.code) != code && !of_coordinator(r.incident.code)
            });
        }
        if let Some(incident) = incident {
            self.open(&subject, Some(&task.pipeline), incident, now);
        }
    }

    pub(super) fn resolve_incidents(&mut self, now: Now, which: impl Fn(&str, &IncidentRecord) -> bool) {
        let (writes, resolved, raised) = (&mut self.effects.writes, &mut self.resolved, &mut self.raised);
        self.incidents.retain(|key, record| {
            let gone = which(key, record);
            if gone {
                writes.insert(key.clone(), None);
                raised.remove(key);
                tracing::info!(code = %record.incident.code, subject = record.subject, "resolved");
                resolved.truncate(MAX_RESOLVED - 1);
                resolved.push_front((record.clone(), now.wall_ms));
            }
            !gone
        });
    }

    pub(super) fn open_store_behind(
        &mut self,
        subject: &str,
        about: Option<&PipelineName>,
        message: String,
        now: Now,
    ) {
        let incident = Incident {
            code: Code::StoreBehind,
            message,
            remedy: "nothing was stopped; if the metadata store was restored from a copy, apply your pipelines again"
                .into(),
            stops_task: false,
        };
        self.open(subject, about, incident, now);
    }
}

/// Codes that only the coordinator can know of.
fn of_coordinator(code: Code) -> bool {
    matches!(code, Code::Unassigned | Code::EpochConflict | Code::StoreBehind | Code::WorkerLost)
}
