//! Wire messages as JSON for `-o json`: camelCase names, codes as people write them.

use pelton_proto::v1;
use pelton_types::Account;
use serde_json::{Value, json};

/// An account.
pub fn account(account: Option<&v1::Account>) -> Value {
    let account: Account = account.copied().unwrap_or_default().into();
    serde_json::to_value(account).unwrap_or_default()
}

/// What `apply` did with one document.
pub fn applied(a: &v1::Applied) -> Value {
    json!({
        "kind": a.kind, "namespace": a.namespace, "name": a.name, "revision": a.revision,
        "outcome": a.outcome, "changes": a.changes, "notes": a.notes,
    })
}

/// A pipeline.
pub fn pipeline(p: &v1::Pipeline) -> Value {
    let definition: Value = serde_json::from_str(&p.definition).unwrap_or_default();
    json!({
        "kind": p.kind, "namespace": p.namespace, "name": p.name, "uuid": p.uuid, "revision": p.revision,
        "phase": p.phase, "definition": definition,
        "lag": (p.lag >= 0).then_some(p.lag), "pending": p.pending,
        "account": account(p.account.as_ref()),
        "operators": p.operators.iter().map(operator).collect::<Vec<_>>(),
        "tasks": p.tasks.iter().map(task).collect::<Vec<_>>(),
        "tasksWanted": p.tasks_wanted,
        "incidents": p.incidents.iter().map(incident).collect::<Vec<_>>(),
        "createdMs": p.created_ms, "changedMs": p.changed_ms,
        "audit": p.audit.iter().map(audit).collect::<Vec<_>>(),
    })
}

fn audit(entry: &v1::AuditEntry) -> Value {
    json!({ "atMs": entry.at_ms, "by": entry.by, "what": entry.what, "reason": entry.reason })
}

fn operator(o: &v1::OperatorStatus) -> Value {
    json!({ "name": o.name, "account": account(o.account.as_ref()) })
}

/// A task.
pub fn task(t: &v1::Task) -> Value {
    let status = t.status.clone().unwrap_or_default();
    json!({
        "task": task_name(status.task.as_ref()), "worker": t.worker_id, "revision": t.revision,
        "epoch": status.epoch, "state": state(status.state),
        "partitions": status.partitions.iter().map(partition).collect::<Vec<_>>(),
        "account": account(status.account.as_ref()), "pending": status.pending, "commits": status.commits,
        "busyRatio": status.busy_ratio, "backpressuredRatio": status.backpressured_ratio,
        "operators": status.operators.iter().map(operator).collect::<Vec<_>>(),
        "incident": status.incident.as_ref().map(incident),
    })
}

fn partition(p: &v1::PartitionStatus) -> Value {
    let of = p.partition.clone().unwrap_or_default();
    json!({
        "topic": of.topic, "partition": of.index, "committed": p.committed, "position": p.position, "end": p.end,
    })
}

/// A worker.
pub fn worker(w: &v1::Worker) -> Value {
    json!({
        "id": w.id, "incarnation": w.incarnation, "state": w.state, "capacity": w.capacity,
        "executors": w.executors, "tasks": w.tasks, "labels": w.labels, "silentMs": w.silent_ms,
        "cpuSeconds": w.cpu_seconds, "residentBytes": w.resident_bytes, "http": w.http, "version": w.version,
    })
}

/// An incident.
pub fn incident(i: &v1::Incident) -> Value {
    json!({
        "code": format!("PLT{:04}", i.code), "message": i.message, "remedy": i.remedy,
        "stopsTask": i.stops_task, "sinceMs": i.since_ms, "subject": i.subject,
    })
}

/// `namespace/pipeline[stage.gN.tM]`, as logs write it.
pub fn task_name(task: Option<&v1::TaskId>) -> String {
    task.map_or_else(String::new, |t| {
        format!("{}/{}[{}.g{}.t{}]", t.namespace, t.pipeline, t.stage, t.generation, t.index)
    })
}

/// A task's state in a word.
pub fn state(state: i32) -> &'static str {
    match v1::TaskState::try_from(state).unwrap_or_default() {
        v1::TaskState::Unspecified => "unassigned",
        v1::TaskState::Warm => "warm",
        v1::TaskState::Starting => "starting",
        v1::TaskState::Running => "running",
        v1::TaskState::Releasing => "releasing",
        v1::TaskState::Released => "released",
        v1::TaskState::SteppedDown => "steppedDown",
        v1::TaskState::Failed => "failed",
        v1::TaskState::Completed => "completed",
    }
}
