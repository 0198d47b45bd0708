//! Wire messages as JSON, the same for `-o json` and the HTTP API: camelCase names, codes as people write them.

use crate::v1;
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
        "code": i.code_name(), "title": i.title(), "message": i.message, "remedy": i.remedy,
        "stopsTask": i.stops_task, "sinceMs": i.since_ms, "subject": i.subject,
        "resolvedMs": (i.resolved_ms > 0).then_some(i.resolved_ms),
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

/// A record seen by a tap. Bytes that are no text lose what is none.
pub fn tapped(record: &v1::TappedRecord) -> Value {
    let partition = record.partition.clone().unwrap_or_default();
    json!({
        "at": record.at, "topic": partition.topic, "partition": partition.index, "offset": record.offset,
        "timestampMs": record.timestamp_ms, "key": text(&record.key), "value": text(&record.value),
    })
}

/// A dead letter.
pub fn letter(letter: &v1::DeadLetter) -> Value {
    let headers: Vec<_> =
        letter.headers.iter().map(|h| json!({ "name": h.name, "value": text(&h.value) })).collect();
    json!({
        "letter": letter_id(letter),
        "topic": letter.partition.as_ref().map(|p| &p.topic),
        "timestampMs": letter.timestamp_ms,
        "source": letter.source.as_ref().map(|s| {
            json!({ "topic": s.topic, "partition": s.index, "offset": letter.source_offset })
        }),
        "operator": letter.operator,
        "cause": letter.cause,
        "key": text(&letter.key),
        "headers": headers,
        "value": text(&letter.value),
    })
}

/// How a dead letter is named: `PARTITION:OFFSET` of where it is kept.
pub fn letter_id(letter: &v1::DeadLetter) -> String {
    format!("{}:{}", letter.partition.as_ref().map_or(-1, |p| p.index), letter.offset)
}

fn text(bytes: &Option<Vec<u8>>) -> Option<String> {
    bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned())
}

/// A task that went from one worker to another; `epoch` is null while it is on its way.
pub fn task_move(m: &v1::Move) -> Value {
    json!({
        "task": task_name(m.task.as_ref()), "from": m.from, "to": m.to, "epoch": (m.epoch > 0).then_some(m.epoch),
        "atMs": m.at_ms, "reason": m.reason,
    })
}
