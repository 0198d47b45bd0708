//! The status of a resource, from what the coordinator says of its pipeline.

use crate::{
    decide::Seen,
    resource::{Condition, MOST_INCIDENTS, OpenIncident, Resource, Status},
};
use pelton_proto::v1::{self, TaskState};

/// Runs as it is defined.
pub const READY: &str = "Ready";
/// On the way there.
pub const PROGRESSING: &str = "Progressing";
/// Something is wrong.
pub const DEGRADED: &str = "Degraded";
/// Why it is degraded when the coordinator did not take the definition.
pub const REFUSED: &str = "Refused";

/// What is accepted of a resource, and what was refused.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Newest revision made from it; 0: none.
    pub revision: u64,
    /// Its pipeline's identity; empty: none.
    pub uuid: &'a str,
    /// Why the present generation was not taken.
    pub refusal: Option<&'a str>,
}

impl<'a> Standing<'a> {
    /// As the status says.
    pub fn of(resource: &'a Resource) -> Standing<'a> {
        let status = &resource.status;
        Standing { revision: status.revision, uuid: &status.uuid, refusal: refusal(resource) }
    }
}

/// Why the present generation was refused, if it was.
pub fn refusal(resource: &Resource) -> Option<&str> {
    let status = &resource.status;
    let degraded = status.condition(DEGRADED).filter(|c| c.reason == REFUSED && c.status == "True")?;
    (status.observed_generation == resource.generation).then_some(degraded.message.as_str())
}

/// The status at `now`, RFC 3339.
pub fn reflect(resource: &Resource, standing: Standing<'_>, seen: Seen<'_>, now: &str) -> Status {
    let old = &resource.status;
    let mut status = Status {
        observed_generation: resource.generation,
        revision: standing.revision,
        uuid: standing.uuid.to_owned(),
        ..old.clone()
    };
    match seen {
        // What was last known is better than nothing.
        Seen::Unreachable => {}
        Seen::Absent => {
            status = Status { phase: "pending".into(), conditions: old.conditions.clone(), ..empty(&status) };
        }
        Seen::Present(pipeline) => {
            status.phase.clone_from(&pipeline.phase);
            status.tasks = pipeline.tasks_wanted;
            status.running = running(pipeline, standing.revision);
            status.lag = (pipeline.lag >= 0).then_some(pipeline.lag);
            status.incidents = pipeline.incidents.iter().take(MOST_INCIDENTS).map(open_incident).collect();
        }
    }
    if standing.refusal.is_some() && standing.uuid.is_empty() {
        status.phase = "refused".into();
    }
    let unreachable = matches!(seen, Seen::Unreachable);
    let judged = [
        ready(&status, standing.refusal, unreachable),
        progressing(&status, standing.refusal, unreachable),
        degraded(&status, standing.refusal),
    ];
    status.conditions =
        judged.into_iter().map(|judged| stamped(judged, old, resource.generation, now)).collect();
    status
}

fn empty(of: &Status) -> Status {
    Status {
        observed_generation: of.observed_generation,
        revision: of.revision,
        uuid: of.uuid.clone(),
        ..Status::default()
    }
}

fn running(pipeline: &v1::Pipeline, revision: u64) -> u32 {
    let on_it = pipeline.tasks.iter().filter(|task| {
        let state = task.status.as_ref().map_or(TaskState::Unspecified, v1::TaskStatus::state);
        task.revision == revision && matches!(state, TaskState::Running | TaskState::Completed)
    });
    u32::try_from(on_it.count()).unwrap_or(u32::MAX)
}

fn open_incident(incident: &v1::Incident) -> OpenIncident {
    OpenIncident {
        code: incident.code_name(),
        subject: incident.subject.clone(),
        message: incident.message.clone(),
        remedy: incident.remedy.clone(),
    }
}

/// Kind, status, reason, message.
type Judged = (&'static str, &'static str, &'static str, String);

fn ready(status: &Status, refusal: Option<&str>, unreachable: bool) -> Judged {
    let (tasks, running) = (status.tasks, status.running);
    if unreachable {
        let message = "the coordinator does not answer; tasks go on without it".to_owned();
        return (READY, "Unknown", "CoordinatorUnreachable", message);
    }
    if refusal.is_some() {
        return (READY, "False", REFUSED, "the newest definition was not accepted".into());
    }
    match status.phase.as_str() {
        "completed" => (READY, "True", "Completed", "every source came to its end".into()),
        "running" if running >= tasks && tasks > 0 => {
            (READY, "True", "Running", format!("{running} of {tasks} tasks run"))
        }
        "paused" => (READY, "False", "Paused", "`pelton resume` goes on".into()),
        "failed" => (READY, "False", "Failed", "an incident stopped it".into()),
        "deleting" => (READY, "False", "Deleting", "its tasks commit and end".into()),
        _ => (READY, "False", "Starting", format!("{running} of {tasks} tasks run")),
    }
}

fn progressing(status: &Status, refusal: Option<&str>, unreachable: bool) -> Judged {
    let on_its_way = matches!(status.phase.as_str(), "running" | "pending" | "deleting");
    let there = status.phase == "running" && status.running >= status.tasks && status.tasks > 0;
    if !on_its_way || there || (refusal.is_some() && status.uuid.is_empty()) || unreachable {
        return (PROGRESSING, "False", "Settled", "nothing is under way".into());
    }
    let message = format!("{} of {} tasks run revision {}", status.running, status.tasks, status.revision);
    (PROGRESSING, "True", "Rollout", message)
}

fn degraded(status: &Status, refusal: Option<&str>) -> Judged {
    if let Some(why) = refusal {
        return (DEGRADED, "True", REFUSED, why.to_owned());
    }
    match status.incidents.first() {
        Some(first) => {
            let message = format!("[{}] {}: {}; {}", first.code, first.subject, first.message, first.remedy);
            (DEGRADED, "True", "Incident", message)
        }
        None => (DEGRADED, "False", "NoIncident", "nothing is wrong".into()),
    }
}

/// With the time of the last change: that of before while the status is the same.
fn stamped(judged: Judged, old: &Status, generation: i64, now: &str) -> Condition {
    let (kind, status, reason, message) = judged;
    let since = old.condition(kind).filter(|before| before.status == status);
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        observed_generation: generation,
        last_transition_time: since
            .map_or_else(|| now.to_owned(), |before| before.last_transition_time.clone()),
        reason: reason.to_owned(),
        message,
    }
}
