//! `GET /api/v1/events`: what a page shows, about once a second, as server-sent events.
//!
//! One stream for a page, of events that each replace what came before: a client that reads slowly gets fewer of them
//! and the newest, one that does not read for a while is left behind and connects again. `show` says what beside the
//! overview: `pipeline` (with `of=NAMESPACE/NAME`), `tasks` or `incidents`.

use crate::{Services, Shared, View, refusal::Refusal};
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use pelton_proto::{json, v1};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};
use tokio::{sync::OwnedSemaphorePermit, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Between two looks: workers report as often.
const EVERY: Duration = Duration::from_secs(1);
/// A client that takes nothing for so long is left behind.
const PATIENCE: Duration = Duration::from_secs(20);
/// Events that may wait for a client; each look has two at most.
const BACKLOG: usize = 2;

/// A stream of events.
pub(crate) type Events = Sse<axum::response::sse::KeepAliveStream<ReceiverStream<Result<Event, Infallible>>>>;

#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    show: Show,
    /// `NAMESPACE/NAME` of the pipeline to show.
    #[serde(default)]
    of: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Show {
    #[default]
    Overview,
    Pipeline,
    Tasks,
    Incidents,
}

pub(crate) async fn events<S: Services>(
    State(shared): State<Shared<S>>,
    Query(wanted): Query<Wanted>,
) -> Result<Events, Refusal> {
    let place = place(&shared)?;
    let (sender, stream) = open();
    tokio::spawn(async move {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = sender.closed() => break,
                _ = ticks.tick() => {}
            }
            let view = (shared.look)();
            let at = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let mut events = vec![("overview", overview(&view, at))];
            events.extend(wanted.detail(&view, at));
            for (name, value) in events {
                if !send(&sender, name, &value).await {
                    return;
                }
            }
        }
        drop(place);
    });
    Ok(stream)
}

/// A place for one more stream.
pub(crate) fn place<S>(shared: &Shared<S>) -> Result<OwnedSemaphorePermit, Refusal> {
    shared.streams.clone().try_acquire_owned().map_err(|_| {
        let message =
            format!("{} streams are open, which is the limit; close other consoles", crate::MAX_STREAMS);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })
}

/// A stream and where to put its events.
pub(crate) fn open() -> (mpsc::Sender<Result<Event, Infallible>>, Events) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default());
    (sender, stream)
}

/// False when nobody takes it.
pub(crate) async fn send(
    sender: &mpsc::Sender<Result<Event, Infallible>>,
    name: &str,
    value: &Value,
) -> bool {
    let event = Event::default().event(name).data(value.to_string());
    matches!(tokio::time::timeout(PATIENCE, sender.send(Ok(event))).await, Ok(Ok(())))
}

impl Wanted {
    fn detail(&self, view: &View, at: u64) -> Option<(&'static str, Value)> {
        match self.show {
            Show::Overview => None,
            Show::Pipeline => {
                let (namespace, name) = self.of.split_once('/')?;
                let found = view.pipelines.iter().find(|p| p.namespace == namespace && p.name == name);
                Some(("pipeline", found.map_or(Value::Null, |p| pipeline(p, at))))
            }
            Show::Tasks => {
                let tasks = view.pipelines.iter().flat_map(|p| &p.tasks).map(task).collect::<Vec<_>>();
                let moves = view.moves.iter().map(json::task_move).collect::<Vec<_>>();
                Some(("tasks", json!({ "at": at, "tasks": tasks, "moves": moves })))
            }
            Show::Incidents => Some(("incidents", view.incidents.iter().map(json::incident).collect())),
        }
    }
}

fn overview(view: &View, at: u64) -> Value {
    let pipelines = view.pipelines.iter().map(|p| {
        let running = p.tasks.iter().filter_map(|t| t.status.as_ref());
        let running = running.filter(|s| s.state() == v1::TaskState::Running).count();
        json!({
            "namespace": p.namespace, "name": p.name, "uuid": p.uuid, "kind": p.kind, "revision": p.revision,
            "phase": p.phase, "lag": (p.lag >= 0).then_some(p.lag), "account": json::account(p.account.as_ref()),
            "tasks": p.tasks_wanted, "running": running, "incidents": open_incidents(&p.incidents),
        })
    });
    json!({
        "at": at, "term": view.term, "pipelines": pipelines.collect::<Vec<_>>(),
        "workers": view.workers.iter().map(json::worker).collect::<Vec<_>>(),
        "incidents": open_incidents(&view.incidents),
    })
}

fn open_incidents(incidents: &[v1::Incident]) -> usize {
    incidents.iter().filter(|i| i.resolved_ms == 0).count()
}

fn pipeline(p: &v1::Pipeline, at: u64) -> Value {
    let mut lags: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for of in p.tasks.iter().filter_map(|t| t.status.as_ref()).flat_map(|s| &s.partitions) {
        let Some(partition) = &of.partition else { continue };
        let sum = lags.entry(&partition.topic).or_insert(Some(0));
        *sum = sum.zip(lag(of)).map(|(sum, lag)| sum + lag);
    }
    // The definition is asked for once a revision; tasks are shown in short.
    let mut shown =
        json::pipeline(&v1::Pipeline { tasks: Vec::new(), definition: String::new(), ..p.clone() });
    shown["at"] = at.into();
    shown["lags"] = json!(lags);
    shown["tasks"] = p.tasks.iter().map(task).collect();
    shown
}

/// Records that wait in a partition, while both its end and where it is read are known.
fn lag(of: &v1::PartitionStatus) -> Option<i64> {
    (of.end >= 0 && of.position >= 0).then(|| (of.end - of.position).max(0))
}

/// A row of a table: there may be a thousand.
fn task(task: &v1::Task) -> Value {
    let none = v1::TaskStatus::default();
    let status = task.status.as_ref().unwrap_or(&none);
    let lag = status.partitions.iter().map(lag);
    let account = status.account.unwrap_or_default();
    json!({
        "task": json::task_name(status.task.as_ref()), "worker": task.worker_id, "state": json::state(status.state),
        "epoch": status.epoch, "revision": task.revision, "lag": lag.sum::<Option<i64>>(), "in": account.records_in,
        "out": account.records_out, "dead": account.dead_lettered, "commits": status.commits,
        "busy": (status.busy_ratio * 100.0).round(), "blocked": status.backpressured_ratio >= 0.5,
        "incident": status.incident.as_ref().map(|i| json!({ "code": i.code_name(), "message": i.message })),
    })
}
