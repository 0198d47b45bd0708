//! A `Pipeline` of Kubernetes as the operator sees it, and the status it writes there.

use crate::crd::{GROUP, KIND, PLURAL, VERSION};
use kube::core::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Keeps the resource until its pipeline is gone at the coordinator.
pub const FINALIZER: &str = "pelton.dev/pipeline";
/// Most incidents in a status.
pub const MOST_INCIDENTS: usize = 10;

/// What decisions need of a resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Namespace, the same as Pelton's.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity; another one of the same name has another.
    pub uid: String,
    /// Changes with every write.
    pub version: String,
    /// Changes with every write of the definition.
    pub generation: i64,
    /// Somebody asked for its deletion.
    pub deleting: bool,
    /// All finalizers, ours among them or not.
    pub finalizers: Vec<String>,
    /// The definition's `spec`.
    pub spec: Value,
    /// What was last written about it.
    pub status: Status,
}

/// Its status.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Generation of the definition that this is about.
    pub observed_generation: i64,
    /// The coordinator's word, or `refused`.
    pub phase: String,
    /// Newest revision that was made from this resource; 0: none.
    pub revision: u64,
    /// Identity of the pipeline at the coordinator; empty: none was accepted.
    pub uuid: String,
    /// Tasks it is divided into.
    pub tasks: u32,
    /// Tasks that run that revision.
    pub running: u32,
    /// Records that wait, where known.
    pub lag: Option<i64>,
    /// Open incidents.
    pub incidents: Vec<OpenIncident>,
    /// Ready, Progressing, Degraded.
    pub conditions: Vec<Condition>,
}

/// An incident in a status.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenIncident {
    /// `PLTnnnn`.
    pub code: String,
    /// What it concerns.
    pub subject: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// A condition as Kubernetes has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// Generation it was set for.
    pub observed_generation: i64,
    /// When `status` last changed.
    pub last_transition_time: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl Status {
    /// The condition of this kind.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

impl Resource {
    /// From what the API server sent.
    pub fn read(object: &DynamicObject) -> Resource {
        let meta = &object.metadata;
        let status = object.data.get("status").cloned();
        Resource {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            spec: object.data.get("spec").cloned().unwrap_or_default(),
            // What nobody can read is as good as nothing: it is written anew.
            status: status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default(),
        }
    }

    /// Whether it waits for us before it goes.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|name| name == FINALIZER)
    }

    /// The definition for the coordinator.
    pub fn definition(&self) -> String {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": KIND,
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": self.spec
        })
        .to_string()
    }

    /// What the resource is to the client library.
    pub fn kind() -> ApiResource {
        ApiResource {
            group: GROUP.into(),
            version: VERSION.into(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.into(),
            plural: PLURAL.into(),
        }
    }
}
