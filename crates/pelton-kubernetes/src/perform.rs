//! Carrying out one step: a call to the coordinator, a write to the API server, an event for people.

use crate::{
    decide::{Seen, Step},
    resource::{FINALIZER, Resource, Status},
    status::{DEGRADED, Standing, reflect},
};
use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
    runtime::events::{Event, EventType, Recorder},
};
use pelton_proto::v1::{self, pipelines_client::PipelinesClient};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::{Code, Request, Status as Refusal, transport::Channel};

/// Applying may create topics and load models.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Deleting waits until tasks have ended.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A note of an event has at most 1,024 bytes; more is refused.
const MOST_NOTE: usize = 1000;

/// What steps are carried out with.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) client: Client,
    pub(crate) pipelines: PipelinesClient<Channel>,
    pub(crate) recorder: Recorder,
}

/// What became of a step.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Done; the resource was written if its version is another now.
    Done { version: Option<String> },
    /// The coordinator took the definition.
    Applied { version: Option<String> },
    /// The coordinator did not take the definition. That is written down.
    Refused { version: Option<String> },
    /// Try again.
    Failed(String),
}

impl Hands {
    pub(crate) async fn perform(&self, resource: &Resource, step: Step) -> Outcome {
        let done = match step {
            Step::Hold => {
                let all = resource.finalizers.iter().map(String::as_str).chain([FINALIZER]);
                self.finalizers(resource, all.collect()).await
            }
            Step::Release => {
                let rest = resource.finalizers.iter().map(String::as_str).filter(|name| *name != FINALIZER);
                self.finalizers(resource, rest.collect()).await
            }
            Step::Report(status) => {
                self.tell_incidents(resource, &status).await;
                self.write(resource, &status).await
            }
            Step::Delete => self.delete(resource).await,
            Step::Apply => return self.apply(resource).await,
        };
        match done {
            Ok(version) => Outcome::Done { version },
            Err(why) => Outcome::Failed(why),
        }
    }

    async fn apply(&self, resource: &Resource) -> Outcome {
        let request = v1::ApplyRequest {
            definition: resource.definition(),
            file_name: format!("pipeline {}/{}", resource.namespace, resource.name),
            dry_run: false,
            namespace: resource.namespace.clone(),
        };
        let answer = self.pipelines.clone().apply(within(request, APPLY_TIMEOUT)).await;
        let applied = match answer {
            Ok(response) => response.into_inner().applied.pop(),
            Err(refusal) => return self.refused(resource, &refusal).await,
        };
        let Some(applied) = applied else { return Outcome::Failed("the coordinator applied nothing".into()) };
        let pipeline = match self.pipelines.clone().get(within(reference(resource), CALL_TIMEOUT)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Outcome::Failed(said(&status)),
        };
        if applied.outcome != "unchanged" {
            let lines = applied.changes.iter().chain(&applied.notes).map(String::as_str).collect::<Vec<_>>();
            let note = format!("revision {}: {} {}", applied.revision, applied.outcome, lines.join("; "));
            self.tell(resource, EventType::Normal, "Applied", "Apply", note.trim()).await;
        }
        let standing = Standing { revision: applied.revision, uuid: &pipeline.uuid, refusal: None };
        let status = reflect(resource, standing, Seen::Present(&pipeline), &now());
        match self.write(resource, &status).await {
            Ok(version) => Outcome::Applied { version },
            Err(why) => Outcome::Failed(why),
        }
    }

    /// Write down that the definition was not taken, and why.
    async fn refused(&self, resource: &Resource, refusal: &Refusal) -> Outcome {
        let why = said(refusal);
        if matches!(refusal.code(), Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal)
        {
            return Outcome::Failed(why);
        }
        let known = resource.status.condition(DEGRADED).is_some_and(|known| known.message == why);
        if !known {
            self.tell(resource, EventType::Warning, "Refused", "Apply", &why).await;
        }
        let standing = Standing { refusal: Some(&why), ..Standing::of(resource) };
        let found = self.pipelines.clone().get(within(reference(resource), CALL_TIMEOUT)).await;
        let found = found.map(tonic::Response::into_inner).ok();
        let seen = match &found {
            // What is there is only ours if we made it.
            Some(pipeline) if pipeline.uuid == resource.status.uuid => Seen::Present(pipeline),
            _ => Seen::Absent,
        };
        let status = reflect(resource, standing, seen, &now());
        match self.write(resource, &status).await {
            Ok(version) => Outcome::Refused { version },
            Err(why) => Outcome::Failed(why),
        }
    }

    async fn delete(&self, resource: &Resource) -> Result<Option<String>, String> {
        match self.pipelines.clone().delete(within(reference(resource), CALL_TIMEOUT)).await {
            Ok(_) => {
                let note = "the pipeline ends at a commit; its topics and offsets stay";
                self.tell(resource, EventType::Normal, "Deleted", "Delete", note).await;
                Ok(None)
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(said(&status)),
        }
    }

    async fn finalizers(&self, resource: &Resource, all: Vec<&str>) -> Result<Option<String>, String> {
        // With the version, so that a finalizer that somebody else set meanwhile is not lost.
        let patch = json!({ "metadata": { "resourceVersion": resource.version, "finalizers": all } });
        self.patched(
            self.api(resource).patch(&resource.name, &PatchParams::default(), &Patch::Merge(patch)).await,
        )
    }

    async fn write(&self, resource: &Resource, status: &Status) -> Result<Option<String>, String> {
        let status = serde_json::to_value(status).map_err(|e| e.to_string())?;
        // With the identity, so that it is not written to another resource that has the name by now.
        let patch: Value = json!({ "metadata": { "uid": resource.uid }, "status": status });
        let api = self.api(resource);
        self.patched(api.patch_status(&resource.name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    fn patched(&self, answer: Result<DynamicObject, kube::Error>) -> Result<Option<String>, String> {
        match answer {
            Ok(object) => Ok(object.metadata.resource_version),
            // Gone, or changed by somebody else: what is so now comes with the watch.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn api(&self, resource: &Resource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &resource.namespace, &Resource::kind())
    }

    /// An event for each incident that was not there before.
    async fn tell_incidents(&self, resource: &Resource, status: &Status) {
        let known = &resource.status.incidents;
        for incident in status.incidents.iter().filter(|new| !known.iter().any(|old| old.code == new.code)) {
            let note = format!("{}: {}; {}", incident.subject, incident.message, incident.remedy);
            self.tell(resource, EventType::Warning, &incident.code, "Run", &note).await;
        }
    }

    async fn tell(&self, resource: &Resource, kind: EventType, reason: &str, action: &str, note: &str) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(shortened(note).to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        let about = Resource::kind();
        let about = ObjectReference {
            api_version: Some(about.api_version),
            kind: Some(about.kind),
            name: Some(resource.name.clone()),
            namespace: Some(resource.namespace.clone()),
            uid: Some(resource.uid.clone()),
            ..ObjectReference::default()
        };
        // Events are news, not state: one that is lost changes nothing.
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::debug!(%error, "an event could not be written");
        }
    }
}

fn reference(resource: &Resource) -> v1::PipelineRef {
    v1::PipelineRef { namespace: resource.namespace.clone(), name: resource.name.clone() }
}

fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn said(status: &Refusal) -> String {
    if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() }
}

pub(crate) fn now() -> String {
    let now = Timestamp::now();
    // Conditions have whole seconds.
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// The text up to what an event may hold, whole characters.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MOST_NOTE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
