//! Records of a pipeline and what is logged about it: answers of its workers, passed on.

use super::{
    admin::{Admin, Sent, name_of},
    hub::Answers,
};
use pelton_proto::v1::{self, DeadLetterAction, records_server::Records, serve_request::Kind};
use pelton_types::PipelineName;
use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status};

/// Log lines of a worker that can be asked for.
const MOST_LINES: u32 = 10_000;
/// Dead letters in one list, as many as an answer can carry whole.
const MOST_LETTERS: u32 = 10_000;
/// A worker that settles dead letters says so at least this often.
const SETTLE_SILENCE: Duration = Duration::from_secs(60);

/// Pipelines of which somebody settles dead letters: two at once would write a letter back twice.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashSet<PipelineName>>>);

/// Ends with the work it stands for.
struct Turn {
    turns: Turns,
    name: PipelineName,
}

impl Turns {
    fn take(&self, name: &PipelineName) -> Option<Turn> {
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        fresh.then(|| Turn { turns: self.clone(), name: name.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Where records of a pipeline can be watched: its sources, operators and sinks, by name.
fn places(definition: &str) -> Vec<String> {
    // What is stored was checked when it was applied.
    let document =
        serde_json::from_str(definition).ok().and_then(|json| pelton_config::from_json(&json).ok());
    let Some(spec) = document.map(|d| d.spec) else { return Vec::new() };
    let operators = spec.operators.iter().map(|o| o.name.clone());
    spec.sources.keys().cloned().chain(operators).chain(spec.sinks.keys().cloned()).collect()
}

/// Workers that hold tasks of a pipeline.
fn holders(pipeline: &v1::Pipeline) -> BTreeSet<String> {
    pipeline.tasks.iter().map(|t| t.worker_id.clone()).filter(|w| !w.is_empty()).collect()
}

impl Admin {
    /// Ask workers; the answer ends with the coordinator.
    fn question(
        &self,
        workers: &BTreeSet<String>,
        kind: &Kind,
        nobody: impl FnOnce() -> String,
    ) -> Result<Sent<v1::ServeReply>, Status> {
        let answers: Answers = self.hub.ask(workers, kind).ok_or_else(|| Status::unavailable(nobody()))?;
        let mut stopped = self.stopped.clone();
        let until = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        Ok(Box::pin(StreamExt::fuse(futures_util::StreamExt::take_until(answers, Box::pin(until)))))
    }

    /// Hand dead letters of a pipeline to one worker: one that runs it if there is one, otherwise any.
    async fn ask_for_letters(
        &self,
        mut request: v1::DeadLettersRequest,
    ) -> Result<Sent<v1::ServeReply>, Status> {
        let name = name_of(&request.namespace, &request.pipeline)?;
        let pipeline = self.pipeline(&name).await?;
        request.namespace.clone_from(&name.namespace);
        request.definition.clone_from(&pipeline.definition);
        let seated = self.hub.seated();
        let own = holders(&pipeline);
        let one: BTreeSet<String> = own.intersection(&seated).chain(&seated).take(1).cloned().collect();
        self.question(&one, &Kind::DeadLetters(request), || {
            "no worker is attached that could read the dead letters; start one, then ask again".into()
        })
    }
}

/// Every item of every reply.
fn each<T, I>(replies: Sent<v1::ServeReply>, items: fn(v1::ServeReply) -> I) -> Sent<T>
where
    T: Send + 'static,
    I: IntoIterator<Item = T, IntoIter: Send + 'static> + Send + 'static,
{
    let items = move |reply: Result<v1::ServeReply, Status>| {
        let (good, bad) = match reply {
            Ok(reply) => (Some(items(reply)), None),
            Err(status) => (None, Some(Err(status))),
        };
        tokio_stream::iter(good.into_iter().flatten().map(Ok).chain(bad))
    };
    Box::pin(futures_util::StreamExt::flat_map(replies, items))
}

#[tonic::async_trait]
impl Records for Admin {
    type TapStream = Sent<v1::TappedRecord>;
    type LogsStream = Sent<v1::LogLine>;
    type ListDeadLettersStream = Sent<v1::DeadLetter>;

    async fn tap(&self, request: Request<v1::TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        let mut request = request.into_inner();
        let name = name_of(&request.namespace, &request.pipeline)?;
        request.namespace.clone_from(&name.namespace);
        let pipeline = self.pipeline(&name).await?;
        let places = places(&pipeline.definition);
        if !request.at.is_empty() && !places.contains(&request.at) {
            return Err(Status::invalid_argument(format!(
                "{name} has no source, operator or sink `{}`; it has {}",
                request.at,
                places.join(", ")
            )));
        }
        let replies = self.question(&holders(&pipeline), &Kind::Tap(request), || {
            format!("no worker that runs {name} can be asked now (its phase is {})", pipeline.phase)
        })?;
        Ok(Response::new(each(replies, |reply| reply.records)))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let mut request = request.into_inner();
        let name = name_of(&request.namespace, &request.pipeline)?;
        request.namespace.clone_from(&name.namespace);
        request.tail = request.tail.min(MOST_LINES);
        let pipeline = self.pipeline(&name).await?;
        let seated = self.hub.seated();
        if !request.worker_id.is_empty() && !seated.contains(&request.worker_id) {
            return Err(Status::not_found(format!(
                "there is no worker `{}` attached; there are {}",
                request.worker_id,
                seated.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        // A task that failed or moved left its lines with a worker that holds none of them now.
        let asked = match request.worker_id.is_empty() {
            true => seated,
            false => BTreeSet::from([request.worker_id.clone()]),
        };
        let replies = self.question(&asked, &Kind::Logs(request), || {
            format!(
                "no worker is attached that could have logged about {name} (its phase is {})",
                pipeline.phase
            )
        })?;
        Ok(Response::new(each(replies, |reply| reply.lines)))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::DeadLettersRequest>,
    ) -> Result<Response<Self::ListDeadLettersStream>, Status> {
        let mut request = request.into_inner();
        request.set_action(DeadLetterAction::List);
        request.limit = if request.limit == 0 { MOST_LETTERS } else { request.limit.min(MOST_LETTERS) };
        let replies = self.ask_for_letters(request).await?;
        Ok(Response::new(each(replies, |reply| reply.letters)))
    }

    async fn settle_dead_letters(
        &self,
        request: Request<v1::DeadLettersRequest>,
    ) -> Result<Response<v1::SettleDeadLettersResponse>, Status> {
        let request = request.into_inner();
        if !matches!(request.action(), DeadLetterAction::Replay | DeadLetterAction::Discard) {
            return Err(Status::invalid_argument("say what to do with the dead letters: replay or discard"));
        }
        let name = name_of(&request.namespace, &request.pipeline)?;
        let turn = self.settling.take(&name).ok_or_else(|| {
            Status::aborted(format!(
                "somebody else settles dead letters of {name} now; list them again afterwards"
            ))
        })?;
        let replies = self.ask_for_letters(request).await?;
        let replies = replies.timeout(SETTLE_SILENCE);
        tokio::pin!(replies);
        let mut settled = 0;
        while let Some(reply) = replies.next().await {
            let reply = reply.map_err(|_| {
                Status::unavailable(format!(
                    "the worker fell silent after {settled} dead letters of {name}; list them again to see what is left"
                ))
            })?;
            settled = reply
                .map_err(|status| match settled {
                    0 => status,
                    n => Status::new(status.code(), format!("after {n} dead letters: {}", status.message())),
                })?
                .settled;
        }
        drop(turn);
        Ok(Response::new(v1::SettleDeadLettersResponse { settled }))
    }
}
