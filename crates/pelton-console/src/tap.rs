//! `GET .../tap`: a sample of the records at a place of a pipeline, as server-sent events.
//!
//! At a busy place workers are asked for a handful of records each second, at a quiet one for the next ones, however
//! long they take: so it costs the same wherever one looks.

use crate::{
    Services, Shared,
    api::Named,
    events::{Events, open, place, send},
    refusal::Refusal,
};
use axum::extract::{Path, Query, State};
use futures_util::StreamExt;
use pelton_proto::{json, v1};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{pin::pin, time::Duration};
use tokio::time::Instant;
use tonic::{Request, Status};

/// Records of one look.
const SAMPLE: u32 = 20;
/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Records that come within this are shown together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Bytes of a key or a value that are shown; nobody reads more on a page that moves.
const SHOWN: usize = 16 << 10;

#[derive(Deserialize)]
pub(crate) struct Wanted {
    /// Source, operator or sink; empty: what goes into the sinks.
    #[serde(default)]
    at: String,
}

pub(crate) async fn tap<S: Services>(
    State(shared): State<Shared<S>>,
    Path((namespace, pipeline)): Named,
    Query(wanted): Query<Wanted>,
) -> Result<Events, Refusal> {
    let request = v1::TapRequest { namespace, pipeline, at: wanted.at, limit: SAMPLE };
    let place = place(&shared)?;
    // A wrong name is an answer of its own and no stream.
    let mut first = Some(shared.services.tap(Request::new(request.clone())).await?.into_inner());
    let (sender, stream) = open();
    tokio::spawn(async move {
        loop {
            let began = Instant::now();
            let looked = match first.take() {
                Some(records) => Ok(records),
                None => {
                    shared.services.tap(Request::new(request.clone())).await.map(tonic::Response::into_inner)
                }
            };
            let ended = match looked {
                Ok(records) => pass_on(records, &sender).await,
                Err(status) => Some(status),
            };
            if sender.is_closed() {
                break;
            }
            // Nobody to ask now: tasks on the move, or a pipeline that is paused. It may go on.
            if let Some(status) = ended
                && !send(&sender, "trouble", &json!({ "error": status.message() })).await
            {
                break;
            }
            tokio::select! {
                () = sender.closed() => break,
                () = tokio::time::sleep_until(began + EVERY) => {}
            }
        }
        drop(place);
    });
    Ok(stream)
}

type Sender = tokio::sync::mpsc::Sender<Result<axum::response::sse::Event, std::convert::Infallible>>;

/// Send the records of one look in bunches. Returns what kept it from going on.
async fn pass_on(
    records: impl futures_util::Stream<Item = Result<v1::TappedRecord, Status>>,
    sender: &Sender,
) -> Option<Status> {
    let mut records = pin!(records.fuse());
    loop {
        let first = tokio::select! {
            () = sender.closed() => return None,
            next = records.next() => next?,
        };
        let mut bunch = Vec::new();
        let mut next = Some(first);
        let together = Instant::now() + TOGETHER;
        let mut ended = None;
        while let Some(record) = next {
            match record {
                Ok(record) => bunch.push(shown(record)),
                Err(status) => ended = Some(status),
            }
            next = tokio::time::timeout_at(together, records.next()).await.ok().flatten();
        }
        if !bunch.is_empty() && !send(sender, "records", &Value::Array(bunch)).await {
            return None;
        }
        if ended.is_some() {
            return ended;
        }
    }
}

fn shown(mut record: v1::TappedRecord) -> Value {
    let mut cut = false;
    for bytes in [&mut record.key, &mut record.value].into_iter().flatten() {
        cut |= bytes.len() > SHOWN;
        bytes.truncate(SHOWN);
    }
    let mut shown = json::tapped(&record);
    shown["cut"] = cut.into();
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_value_is_cut_and_says_so() {
        let record = v1::TappedRecord {
            value: Some(vec![b'x'; SHOWN + 1]),
            key: Some(b"k".to_vec()),
            ..Default::default()
        };
        let shown = shown(record);
        assert_eq!(shown["value"].as_str().map(str::len), Some(SHOWN));
        assert_eq!((&shown["cut"], &shown["key"]), (&json!(true), &json!("k")));
    }
}
