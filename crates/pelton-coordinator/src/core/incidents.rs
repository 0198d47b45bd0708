//! Open incidents. One for each subject and code; closed ones are forgotten, logs keep them.

use super::{Core, Now};
use crate::store::{Document, IncidentRecord, keys};
use pelton_types::{Code, Incident, PipelineName, TaskId};

/// Open incidents kept at most; beyond it the oldest is dropped. A page of a thousand troubles helps nobody.
const MAX_OPEN: usize = 1000;

impl Core {
    pub(super) fn open(&mut self, subject: &str, about: Option<&PipelineName>, incident: Incident, now: Now) {
        let key = keys::incident(subject, incident.code);
        if self.incidents.get(&key).is_some_and(|known| known.incident == incident) {
            return;
        }
        let since_ms = self.incidents.get(&key).map_or(now.wall_ms, |known| known.since_ms);
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
            self.forget_incidents(|key, _| Some(key) == oldest.as_deref());
        }
    }

    pub(super) fn resolve(&mut self, subject: &str, code: Code) {
        let wanted = keys::incident(subject, code);
        if self.incidents.contains_key(&wanted) {
            self.forget_incidents(|key, _| key == wanted);
        }
    }

    /// Make the open incidents of a task what its newest report says; those the coordinator opened itself stay.
    pub(super) fn set_task_incident(&mut self, task: &TaskId, incident: Option<Incident>, now: Now) {
        let subject = task.to_string();
        let code = incident.as_ref().map(|i| i.code);
        if self.incidents.values().any(|r| r.subject == subject) {
            self.forget_incidents(|_, r| {
                r.subject == subject && Some(r.incident.code) != code && !of_coordinator(r.incident.code)
            });
        }
        if let Some(incident) = incident {
            self.open(&subject, Some(&task.pipeline), incident, now);
        }
    }

    pub(super) fn forget_incidents(&mut self, which: impl Fn(&str, &IncidentRecord) -> bool) {
        let writes = &mut self.effects.writes;
        self.incidents.retain(|key, record| {
            let gone = which(key, record);
            if gone {
                writes.insert(key.clone(), None);
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
    matches!(code, Code::Unassigned | Code::EpochConflict | Code::StoreBehind)
}
