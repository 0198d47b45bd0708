//! Answers to what the coordinator asks of a worker: live records, log lines, dead letters.

use crate::{host::Host, letters};
use pelton_proto::v1;
use pelton_runtime::tap::{Tap, TappedRecord};
use pelton_sdk::Registry;
use pelton_telemetry::RecentLines;
use pelton_types::PipelineName;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use v1::worker_session_client::WorkerSessionClient;

/// Replies that wait for a slow line; a watcher beyond that misses records.
const REPLY_QUEUE: usize = 256;
/// Records of one task in one watch, at most, whatever is asked for.
const MOST_RECORDS: u32 = 100_000;
/// Log lines in one reply.
const LINES: usize = 200;

/// Takes a request to tap; the worker's loop, which owns the host.
pub(crate) type TapSink = Arc<dyn Fn(u64, v1::TapRequest, mpsc::Sender<v1::ServeReply>) + Send + Sync>;

/// What answers come from.
#[derive(Clone)]
pub(crate) struct Server {
    pub worker_id: String,
    pub taps: TapSink,
    pub logs: RecentLines,
    pub registry: Registry,
}

/// Serve one session's requests until it ends.
pub(crate) async fn run(mut client: WorkerSessionClient<Channel>, server: Server) {
    let (replies, outgoing) = mpsc::channel(REPLY_QUEUE);
    // Room was just made for it.
    let hello = v1::ServeReply { worker_id: server.worker_id.clone(), ..Default::default() };
    let _ = replies.try_send(hello);
    let mut requests = match client.serve(ReceiverStream::new(outgoing)).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            tracing::debug!("the coordinator takes no answers: {}", status.message());
            return;
        }
    };
    let mut open: HashMap<u64, tokio::task::JoinHandle<()>> = HashMap::new();
    while let Ok(Some(request)) = requests.message().await {
        open.retain(|_, relay| !relay.is_finished());
        match request.kind {
            Some(v1::serve_request::Kind::Tap(tap)) => {
                // One channel per request: dropping its receiver ends the tap on the executors.
                let (tapped, mut records) = mpsc::channel(REPLY_QUEUE);
                (server.taps)(request.id, tap, tapped);
                let replies = replies.clone();
                let relay = tokio::spawn(async move {
                    while let Some(reply) = records.recv().await {
                        if replies.send(reply).await.is_err() {
                            return;
                        }
                    }
                });
                open.insert(request.id, relay);
            }
            Some(v1::serve_request::Kind::Logs(wanted)) => {
                let lines = logs(server.clone(), request.id, wanted, replies.clone());
                open.insert(request.id, tokio::spawn(lines));
            }
            Some(v1::serve_request::Kind::DeadLetters(wanted)) => {
                let settled = letters::answer(server.registry.clone(), request.id, wanted, replies.clone());
                open.insert(request.id, tokio::spawn(settled));
            }
            Some(v1::serve_request::Kind::Cancel(_)) => {
                if let Some(relay) = open.remove(&request.id) {
                    relay.abort();
                }
            }
            None => {}
        }
    }
}

/// Send what was logged about a pipeline, and go on if asked to.
async fn logs(server: Server, id: u64, wanted: v1::LogsRequest, replies: mpsc::Sender<v1::ServeReply>) {
    let (kept, mut fresh) = server.logs.read();
    let about = |line: &str| concerns(line, &wanted.namespace, &wanted.pipeline);
    let line = |json: &str| v1::LogLine { worker_id: server.worker_id.clone(), json: json.to_owned() };
    let kept: Vec<_> = kept.iter().filter(|l| about(l)).map(|l| line(l)).collect();
    let newest = &kept[kept.len().saturating_sub(wanted.tail as usize)..];
    for lines in newest.chunks(LINES) {
        let reply = v1::ServeReply { id, lines: lines.to_vec(), ..Default::default() };
        if replies.send(reply).await.is_err() {
            return;
        }
    }
    if wanted.follow {
        while let Some(lines) = next_line(&mut fresh, about, line).await {
            if replies.send(v1::ServeReply { id, lines, ..Default::default() }).await.is_err() {
                return;
            }
        }
    }
    // The asker's stream ends; a session that has ended needs no such word.
    let _ = replies.send(v1::ServeReply { id, done: true, ..Default::default() }).await;
}

/// The next line that is wanted, or word of lines that were missed; `None` when there will be none.
async fn next_line(
    fresh: &mut broadcast::Receiver<Arc<str>>,
    about: impl Fn(&str) -> bool,
    line: impl Fn(&str) -> v1::LogLine,
) -> Option<Vec<v1::LogLine>> {
    loop {
        match fresh.recv().await {
            Ok(text) if about(&text) => return Some(vec![line(&text)]),
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                let text =
                    serde_json::json!({ "level": "warn", "msg": format!("{missed} log lines were missed") });
                return Some(vec![line(&text.to_string())]);
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Whether a log line is about a pipeline: it names it, or one of its tasks (`namespace/name[..]`).
fn concerns(line: &str, namespace: &str, name: &str) -> bool {
    // Cheap first: most lines of a busy worker are about others.
    if !line.contains(name) {
        return false;
    }
    let Ok(fields) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line) else {
        return false;
    };
    let text = |field: &str| fields.get(field).and_then(serde_json::Value::as_str);
    let task = text("task").and_then(|t| t.strip_prefix(namespace)?.strip_prefix('/')?.strip_prefix(name));
    match task {
        Some(rest) => rest.starts_with('['),
        None => text("task").is_none() && text("pipeline") == Some(name),
    }
}

/// Put a tap on a pipeline's tasks here.
pub(crate) fn tap(host: &Host, id: u64, request: v1::TapRequest, replies: mpsc::Sender<v1::ServeReply>) {
    let pipeline = PipelineName::new(&request.namespace, &request.pipeline);
    let remaining = if request.limit == 0 { MOST_RECORDS } else { request.limit.min(MOST_RECORDS) };
    host.tap(&pipeline, move || {
        let replies = replies.clone();
        Tap {
            at: request.at.clone(),
            remaining,
            send: Box::new(move |record| {
                let reply = v1::ServeReply { id, records: vec![wire(record)], ..Default::default() };
                !matches!(replies.try_send(reply), Err(mpsc::error::TrySendError::Closed(_)))
            }),
        }
    });
}

fn wire(record: TappedRecord) -> v1::TappedRecord {
    v1::TappedRecord {
        at: record.at,
        task: None,
        partition: Some((&record.partition).into()),
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_the_pipeline_it_names_and_about_no_namesake() {
        let about = |line: &str| concerns(line, "default", "orders");
        assert!(about(r#"{"msg":"m","task":"default/orders[0.g1.t2]"}"#));
        assert!(about(r#"{"msg":"m","pipeline":"orders"}"#));
        assert!(!about(r#"{"msg":"m","task":"default/orders-eu[0.g1.t2]"}"#));
        assert!(!about(r#"{"msg":"m","task":"other/orders[0.g1.t2]","pipeline":"orders"}"#));
        assert!(!about(r#"{"msg":"orders are late"}"#));
    }
}
