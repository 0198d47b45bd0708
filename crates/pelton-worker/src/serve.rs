//! Answers to what the coordinator asks of a worker: live records.

use crate::host::Host;
use pelton_proto::v1;
use pelton_runtime::tap::{Tap, TappedRecord};
use pelton_types::PipelineName;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use v1::worker_session_client::WorkerSessionClient;

/// Replies that wait for a slow line; a watcher beyond that misses records.
const REPLY_QUEUE: usize = 256;
/// Records of one task in one watch, at most, whatever is asked for.
const MOST_RECORDS: u32 = 100_000;

/// Takes a request to tap; the worker's loop, which owns the host.
pub(crate) type TapSink = Arc<dyn Fn(u64, v1::TapRequest, mpsc::Sender<v1::ServeReply>) + Send + Sync>;

/// Serve one session's requests until it ends.
pub(crate) async fn run(mut client: WorkerSessionClient<Channel>, worker_id: String, taps: TapSink) {
    let (replies, outgoing) = mpsc::channel(REPLY_QUEUE);
    // Room was just made for it.
    let _ = replies.try_send(v1::ServeReply { worker_id, ..Default::default() });
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
                taps(request.id, tap, tapped);
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
            Some(v1::serve_request::Kind::Cancel(_)) => {
                if let Some(relay) = open.remove(&request.id) {
                    relay.abort();
                }
            }
            None => {}
        }
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
