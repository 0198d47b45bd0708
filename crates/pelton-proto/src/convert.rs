//! Between wire structs and `pelton-types`.

use crate::v1;
use pelton_types::{Account, Code, Incident, Partition, PipelineName, TaskId};

/// A message from the other side lacks something it must have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side sent {message} without {field}")]
pub struct WireError {
    /// The message.
    pub message: &'static str,
    /// What it lacks.
    pub field: &'static str,
}

impl From<WireError> for tonic::Status {
    fn from(e: WireError) -> Self {
        tonic::Status::invalid_argument(e.to_string())
    }
}

impl From<&TaskId> for v1::TaskId {
    fn from(t: &TaskId) -> Self {
        v1::TaskId {
            namespace: t.pipeline.namespace.clone(),
            pipeline: t.pipeline.name.clone(),
            uuid: t.uuid.clone(),
            stage: t.stage,
            generation: t.generation,
            index: t.index,
        }
    }
}

/// The task id of a message that must have one.
pub fn task_id(t: Option<v1::TaskId>) -> Result<TaskId, WireError> {
    let t = t.ok_or(WireError { message: "a message", field: "its task" })?;
    if t.pipeline.is_empty() || t.uuid.is_empty() {
        return Err(WireError { message: "a task id", field: "pipeline or uuid" });
    }
    Ok(TaskId {
        pipeline: PipelineName::new(t.namespace, t.pipeline),
        uuid: t.uuid,
        stage: t.stage,
        generation: t.generation,
        index: t.index,
    })
}

impl From<&Partition> for v1::Partition {
    fn from(p: &Partition) -> Self {
        v1::Partition { topic: p.topic.to_string(), index: p.index }
    }
}

impl From<&v1::Partition> for Partition {
    fn from(p: &v1::Partition) -> Self {
        Partition::new(p.topic.as_str(), p.index)
    }
}

impl From<Account> for v1::Account {
    fn from(a: Account) -> Self {
        v1::Account {
            records_in: a.records_in,
            records_out: a.records_out,
            filtered: a.filtered,
            held: a.held,
            expanded: a.expanded,
            dead_lettered: a.dead_lettered,
            merged: a.merged,
        }
    }
}

impl From<v1::Account> for Account {
    fn from(a: v1::Account) -> Self {
        Account {
            records_in: a.records_in,
            records_out: a.records_out,
            filtered: a.filtered,
            held: a.held,
            expanded: a.expanded,
            dead_lettered: a.dead_lettered,
            merged: a.merged,
        }
    }
}

impl From<&Incident> for v1::Incident {
    fn from(i: &Incident) -> Self {
        v1::Incident {
            code: i.code.number().into(),
            message: i.message.clone(),
            remedy: i.remedy.clone(),
            stops_task: i.stops_task,
            since_ms: 0,
            subject: String::new(),
            resolved_ms: 0,
        }
    }
}

impl v1::Incident {
    /// The code as people write it, `PLT0101`; also that of a newer version.
    pub fn code_name(&self) -> String {
        format!("PLT{:04}", self.code)
    }

    /// What the code stands for; `None` for one of a newer version.
    pub fn title(&self) -> Option<&'static str> {
        self.known_code().map(Code::title)
    }

    fn known_code(&self) -> Option<Code> {
        u16::try_from(self.code).ok().and_then(Code::from_number)
    }
}

impl From<&v1::Incident> for Incident {
    fn from(i: &v1::Incident) -> Self {
        Incident {
            // A code of a newer version reads as the most general one.
            code: i.known_code().unwrap_or(Code::BadPipeline),
            message: i.message.clone(),
            remedy: i.remedy.clone(),
            stops_task: i.stops_task,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_survives_the_wire() {
        let task = TaskId {
            pipeline: PipelineName::new("default", "digits"),
            uuid: "u".into(),
            stage: 1,
            generation: 2,
            index: 3,
        };
        assert_eq!(task_id(Some((&task).into())), Ok(task));
        assert!(task_id(None).is_err());
        assert!(task_id(Some(v1::TaskId::default())).is_err());
    }
}
