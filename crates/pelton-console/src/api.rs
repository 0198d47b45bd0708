//! `/api/v1`: JSON over the services. Objects look as those of `pelton ... -o json`.

use crate::{Services, Shared, graph, refusal::Refusal};
use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use futures_util::TryStreamExt;
use pelton_proto::{
    json,
    v1::{self, DeadLetterAction},
};
use pelton_types::Code;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tonic::Request;

/// Dead letters in a list when nobody says how many; the page shows the oldest of these.
const LETTERS: u32 = 200;
/// Reading a dead-letter topic takes a look at each of its partitions.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

type Answer = Result<Json<Value>, Refusal>;

/// A pipeline, as paths name it.
pub(crate) type Named = Path<(String, String)>;

pub(crate) fn routes<S: Services>() -> Router<Shared<S>> {
    Router::new()
        .route("/pipelines", get(pipelines::<S>))
        .route("/pipelines/{namespace}/{name}", get(pipeline::<S>))
        .route("/pipelines/{namespace}/{name}/revisions", get(revisions::<S>))
        .route("/pipelines/{namespace}/{name}/pause", post(pause::<S>))
        .route("/pipelines/{namespace}/{name}/resume", post(resume::<S>))
        .route("/pipelines/{namespace}/{name}/deadletters", get(letters::<S>).post(settle::<S>))
        .route("/tasks", get(tasks::<S>))
        .route("/workers", get(workers::<S>))
        .route("/incidents", get(incidents::<S>))
        .route("/incidents/{code}", get(incident_page))
}

/// Only of one namespace, where a query names one.
#[derive(Deserialize)]
struct Within {
    #[serde(default)]
    namespace: String,
    /// Of incidents: those that are over as well.
    #[serde(default)]
    resolved: bool,
}

fn list<T>(items: &[T], shown: fn(&T) -> Value) -> Json<Value> {
    Json(items.iter().map(shown).collect())
}

async fn pipelines<S: Services>(State(shared): State<Shared<S>>, Query(q): Query<Within>) -> Answer {
    let request = v1::ListPipelinesRequest { namespace: q.namespace };
    let found = shared.services.list(Request::new(request)).await?.into_inner();
    Ok(list(&found.pipelines, json::pipeline))
}

async fn pipeline<S: Services>(State(shared): State<Shared<S>>, Path((namespace, name)): Named) -> Answer {
    let found = shared.services.get(Request::new(v1::PipelineRef { namespace, name })).await?.into_inner();
    let mut shown = json::pipeline(&found);
    shown["graph"] = graph::graph(&found.definition);
    Ok(Json(shown))
}

async fn revisions<S: Services>(State(shared): State<Shared<S>>, Path((namespace, name)): Named) -> Answer {
    let request = Request::new(v1::PipelineRef { namespace, name });
    let found = shared.services.list_revisions(request).await?.into_inner();
    Ok(list(&found.revisions, |r| {
        let definition: Value = serde_json::from_str(&r.definition).unwrap_or_default();
        json!({ "revision": r.number, "createdMs": r.created_ms, "definition": definition })
    }))
}

async fn pause<S: Services>(State(shared): State<Shared<S>>, Path((namespace, name)): Named) -> Answer {
    let request = Request::new(v1::PipelineRef { namespace, name });
    Ok(Json(json::pipeline(&shared.services.pause(request).await?.into_inner())))
}

async fn resume<S: Services>(State(shared): State<Shared<S>>, Path((namespace, name)): Named) -> Answer {
    let request = Request::new(v1::PipelineRef { namespace, name });
    Ok(Json(json::pipeline(&shared.services.resume(request).await?.into_inner())))
}

async fn tasks<S: Services>(State(shared): State<Shared<S>>, Query(q): Query<Within>) -> Answer {
    let request = v1::ListTasksRequest { namespace: q.namespace, pipeline: String::new() };
    let found = shared.services.list_tasks(Request::new(request)).await?.into_inner();
    let tasks: Vec<_> = found.tasks.iter().map(json::task).collect();
    let moves: Vec<_> = found.moves.iter().map(json::task_move).collect();
    Ok(Json(json!({ "tasks": tasks, "moves": moves })))
}

async fn workers<S: Services>(State(shared): State<Shared<S>>) -> Answer {
    let found = shared.services.list_workers(Request::new(v1::ListWorkersRequest {})).await?.into_inner();
    Ok(list(&found.workers, json::worker))
}

async fn incidents<S: Services>(State(shared): State<Shared<S>>, Query(q): Query<Within>) -> Answer {
    let request = v1::ListIncidentsRequest { namespace: q.namespace, resolved: q.resolved };
    let found = shared.services.list_incidents(Request::new(request)).await?.into_inner();
    Ok(list(&found.incidents, json::incident))
}

/// The page of a code, as Markdown.
async fn incident_page(Path(code): Path<String>) -> Result<impl IntoResponse, Refusal> {
    let number = code.strip_prefix("PLT").and_then(|number| number.parse().ok());
    let code = number.and_then(Code::from_number).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "there is no incident of this code; they look like PLT0101")
    })?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], code.page()))
}

#[derive(Deserialize)]
struct LetterQuery {
    limit: Option<u32>,
    #[serde(default)]
    operator: String,
    #[serde(default)]
    cause: String,
}

async fn letters<S: Services>(
    State(shared): State<Shared<S>>,
    Path((namespace, pipeline)): Named,
    Query(q): Query<LetterQuery>,
) -> Answer {
    let request = v1::DeadLettersRequest {
        namespace,
        pipeline,
        limit: q.limit.unwrap_or(LETTERS),
        operator: q.operator,
        cause: q.cause,
        ..Default::default()
    };
    let listed = async {
        let stream = shared.services.list_dead_letters(Request::new(request)).await?.into_inner();
        stream.try_collect::<Vec<v1::DeadLetter>>().await
    };
    let mut letters = tokio::time::timeout(LIST_PATIENCE, listed).await.map_err(|_| {
        let message =
            format!("the dead letters were not read within {LIST_PATIENCE:?}; see that the broker answers");
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, message)
    })??;
    letters.sort_by_key(|l| (l.partition.as_ref().map_or(-1, |p| p.index), l.offset));
    Ok(list(&letters, json::letter))
}

/// What to do with which dead letters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settle {
    action: Action,
    /// `PARTITION:OFFSET`, as the list shows them.
    #[serde(default)]
    letters: Vec<String>,
    /// All that match, when none is named.
    #[serde(default)]
    all: bool,
    #[serde(default)]
    operator: String,
    #[serde(default)]
    cause: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Replay,
    Discard,
}

async fn settle<S: Services>(
    State(shared): State<Shared<S>>,
    Path((namespace, pipeline)): Named,
    body: Result<Json<Settle>, JsonRejection>,
) -> Answer {
    let Json(wanted) = body.map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    let letters: Option<Vec<_>> = wanted.letters.iter().map(|l| letter_ref(l)).collect();
    let letters = letters.filter(|letters| letters.is_empty() == wanted.all).ok_or_else(|| {
        Refusal::new(StatusCode::BAD_REQUEST, "name dead letters as PARTITION:OFFSET, or say `all: true`")
    })?;
    let mut request = v1::DeadLettersRequest {
        namespace,
        pipeline,
        letters,
        operator: wanted.operator,
        cause: wanted.cause,
        ..Default::default()
    };
    request.set_action(match wanted.action {
        Action::Replay => DeadLetterAction::Replay,
        Action::Discard => DeadLetterAction::Discard,
    });
    let settled = shared.services.settle_dead_letters(Request::new(request)).await?.into_inner().settled;
    Ok(Json(json!({ "settled": settled })))
}

fn letter_ref(text: &str) -> Option<v1::DeadLetterRef> {
    let (partition, offset) = text.split_once(':')?;
    Some(v1::DeadLetterRef { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
}
