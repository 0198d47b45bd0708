//! How a task stands, as the coordinator is told.

use pelton_proto::v1;
use pelton_runtime::{TaskSnapshot, TaskState};
use pelton_types::{Epoch, TaskId};

/// The wire form of a snapshot.
pub(crate) fn status(snapshot: &TaskSnapshot) -> v1::TaskStatus {
    let partitions = snapshot
        .lag
        .iter()
        .map(|lag| v1::PartitionStatus {
            partition: Some((&lag.partition).into()),
            committed: snapshot.committed.iter().find(|(p, _)| *p == lag.partition).map_or(-1, |(_, o)| *o),
            position: lag.position,
            end: lag.end.unwrap_or(-1),
        })
        .collect();
    v1::TaskStatus {
        task: Some((&snapshot.task).into()),
        epoch: snapshot.epoch,
        state: state(snapshot.state).into(),
        partitions,
        account: Some(snapshot.account.into()),
        operators: snapshot
            .operators
            .iter()
            .map(|(name, account)| v1::OperatorStatus {
                name: name.clone(),
                account: Some((*account).into()),
            })
            .collect(),
        pending: snapshot.pending,
        busy_ratio: snapshot.busy_ratio,
        backpressured_ratio: snapshot.backpressured_ratio,
        commits: snapshot.commits,
        incident: snapshot
            .incident
            .as_ref()
            .map(|incident| v1::Incident { subject: snapshot.task.to_string(), ..incident.into() }),
    }
}

/// What to say of a task that is not here.
pub(crate) fn released(task: &TaskId, epoch: Epoch) -> v1::TaskStatus {
    v1::TaskStatus {
        task: Some(task.into()),
        epoch,
        state: v1::TaskState::Released.into(),
        account: Some(v1::Account::default()),
        ..Default::default()
    }
}

fn state(state: TaskState) -> v1::TaskState {
    match state {
        TaskState::Warm => v1::TaskState::Warm,
        TaskState::Starting => v1::TaskState::Starting,
        TaskState::Running => v1::TaskState::Running,
        TaskState::Releasing => v1::TaskState::Releasing,
        TaskState::Released => v1::TaskState::Released,
        TaskState::SteppedDown => v1::TaskState::SteppedDown,
        TaskState::Failed => v1::TaskState::Failed,
        TaskState::Completed => v1::TaskState::Completed,
    }
}
