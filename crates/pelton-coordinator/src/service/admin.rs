//! What the command line and the console call.

use super::{Handle, definitions::Definitions, fleet, hub::Hub, records::Turns, refused};
use crate::{
    core::{Applied, Outcome, Snapshot, incident, no_pipeline_text, over},
    store::IncidentRecord,
};
use pelton_proto::{
    task_id,
    v1::{self, cluster_server::Cluster, pipelines_server::Pipelines},
};
use pelton_types::PipelineName;
use std::{fmt, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// A delete answers when the pipeline is gone, or after this; it goes on in any case.
const DELETE_PATIENCE: Duration = Duration::from_secs(8);
/// A watcher that is so many changes behind waits; it then sees the newest.
const WATCH_BACKLOG: usize = 4;

/// Implements the services `Pipelines`, `Cluster` and `Records`. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    pub(super) handle: Handle,
    pub(super) definitions: Arc<Definitions>,
    pub(super) fleet: fleet::Slot,
    pub(super) hub: Hub,
    pub(super) stopped: watch::Receiver<bool>,
    /// Whose dead letters are being settled.
    pub(super) settling: Turns,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

pub(super) type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn name_of(namespace: &str, name: &str) -> Result<PipelineName, Status> {
    if name.is_empty() {
        return Err(Status::invalid_argument("say which pipeline: its name is empty"));
    }
    let namespace = if namespace.is_empty() { pelton_config::DEFAULT_NAMESPACE } else { namespace };
    Ok(PipelineName::new(namespace, name))
}

impl Admin {
    pub(super) async fn pipeline(&self, name: &PipelineName) -> Result<v1::Pipeline, Status> {
        let snapshot = self.handle.fresh().await?;
        found(&snapshot, name)
    }

    /// Prepare and apply a text: every document of it, or none.
    async fn apply_text(
        &self,
        text: &str,
        file_name: &str,
        namespace: &str,
        dry_run: bool,
    ) -> Result<Vec<v1::Applied>, Status> {
        let prepared = self.definitions.prepare(file_name, text, namespace).await?;
        let wanted: Vec<_> =
            prepared.iter().map(|p| (p.accepted.name.clone(), p.accepted.kind.clone())).collect();
        let before = self
            .handle
            .ask(move |core, _| {
                for (name, kind) in &wanted {
                    core.can_apply(name, kind)?;
                }
                Ok(wanted
                    .iter()
                    .map(|(n, _)| core.newest(n).map(|(r, d)| (r, d.to_owned())))
                    .collect::<Vec<_>>())
            })
            .await?
            .map_err(refused)?;
        let accepted: Vec<_> = prepared.iter().map(|p| p.accepted.clone()).collect();
        let results: Vec<Applied> = if dry_run {
            accepted.iter().zip(&before).map(|(a, b)| forecast(&a.definition, b.as_ref())).collect()
        } else {
            for one in &prepared {
                self.definitions.create(&one.topics).await?;
            }
            self.handle
                .ask(move |core, now| {
                    for one in &accepted {
                        core.can_apply(&one.name, &one.kind)?;
                    }
                    accepted.into_iter().map(|one| core.apply(one, now)).collect::<Result<_, _>>()
                })
                .await?
                .map_err(refused)?
        };
        let all = prepared.iter().zip(before).zip(results);
        Ok(all
            .map(|((one, before), applied)| {
                let mut notes: Vec<String> = one.topics.keys().map(|t| self.definitions.note(t)).collect();
                notes.extend(applied.redealt.iter().map(|(stage, old, new)| {
                    format!("stage {stage} is dealt anew, from {old} tasks to {new}")
                }));
                v1::Applied {
                    namespace: one.accepted.name.namespace.clone(),
                    name: one.accepted.name.name.clone(),
                    kind: one.accepted.kind.clone(),
                    revision: applied.revision,
                    outcome: applied.outcome.as_str().to_owned(),
                    changes: changes(before.as_ref().map(|(_, d)| d.as_str()), &one.document),
                    notes,
                }
            })
            .collect())
    }
}

fn found(snapshot: &Snapshot, name: &PipelineName) -> Result<v1::Pipeline, Status> {
    snapshot.pipeline(name).cloned().ok_or_else(|| Status::not_found(no_pipeline_text(name)))
}

/// What applying would do.
fn forecast(definition: &str, before: Option<&(u64, String)>) -> Applied {
    let (outcome, revision) = match before {
        None => (Outcome::Created, 1),
        Some((revision, known)) if known == definition => (Outcome::Unchanged, *revision),
        Some((revision, _)) => (Outcome::Changed, revision + 1),
    };
    Applied { outcome, revision, redealt: Vec::new() }
}

fn changes(before: Option<&str>, document: &pelton_config::Document) -> Vec<String> {
    // A definition an older version accepted and this one cannot read any more: no lines rather than wrong ones.
    let old = before.and_then(|text| serde_json::from_str(text).ok());
    let old = old.and_then(|value: serde_json::Value| pelton_config::from_json(&value).ok());
    old.map(|old| pelton_config::diff(&old, document)).unwrap_or_default()
}

#[tonic::async_trait]
impl Pipelines for Admin {
    type WatchStream = Sent<v1::Pipeline>;

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let r = request.into_inner();
        let applied = self.apply_text(&r.definition, &r.file_name, &r.namespace, r.dry_run).await?;
        Ok(Response::new(v1::ApplyResponse { applied }))
    }

    async fn get(&self, request: Request<v1::PipelineRef>) -> Result<Response<v1::Pipeline>, Status> {
        let r = request.into_inner();
        Ok(Response::new(self.pipeline(&name_of(&r.namespace, &r.name)?).await?))
    }

    async fn list(
        &self,
        request: Request<v1::ListPipelinesRequest>,
    ) -> Result<Response<v1::ListPipelinesResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let mut pipelines = self.handle.fresh().await?.pipelines;
        pipelines.retain(|p| namespace.is_empty() || p.namespace == namespace);
        Ok(Response::new(v1::ListPipelinesResponse { pipelines }))
    }

    async fn delete(
        &self,
        request: Request<v1::PipelineRef>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let wanted = name.clone();
        self.handle.ask(move |core, now| core.delete(&wanted, now)).await?.map_err(refused)?;
        let mut snapshots = self.handle.watch();
        let gone = async {
            while self.handle.fresh().await.is_ok_and(|s| s.pipeline(&name).is_some()) {
                if snapshots.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DELETE_PATIENCE, gone).await;
        Ok(Response::new(v1::DeleteResponse {}))
    }

    async fn pause(&self, request: Request<v1::PipelineRef>) -> Result<Response<v1::Pipeline>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let wanted = name.clone();
        self.handle.ask(move |core, now| core.pause(&wanted, now)).await?.map_err(refused)?;
        Ok(Response::new(self.pipeline(&name).await?))
    }

    async fn resume(&self, request: Request<v1::PipelineRef>) -> Result<Response<v1::Pipeline>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let wanted = name.clone();
        self.handle.ask(move |core, now| core.resume(&wanted, now)).await?.map_err(refused)?;
        Ok(Response::new(self.pipeline(&name).await?))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::Pipeline>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let text = if r.savepoint.is_empty() {
            let (wanted, revision) = (name.clone(), r.revision);
            self.handle.ask(move |core, _| core.definition(&wanted, revision)).await?.map_err(refused)?
        } else {
            self.back_to_savepoint(&name, &r).await?
        };
        // Through the same checks as any other definition: topics and models may have changed since.
        self.apply_text(&text, &format!("revision of {name}"), &name.namespace, false).await?;
        Ok(Response::new(self.pipeline(&name).await?))
    }

    async fn scale(&self, request: Request<v1::ScaleRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let newest = name.clone();
        let text = self
            .handle
            .ask(move |core, _| core.newest(&newest).map(|(_, text)| text.to_owned()))
            .await?
            .ok_or_else(|| Status::not_found(no_pipeline_text(&name)))?;
        let text = with_tasks(&text, r.tasks)
            .ok_or_else(|| Status::internal(format!("the definition of {name} cannot be read")))?;
        let applied = self.apply_text(&text, &format!("scale of {name}"), &name.namespace, false).await?;
        Ok(Response::new(v1::ApplyResponse { applied }))
    }

    async fn list_revisions(
        &self,
        request: Request<v1::PipelineRef>,
    ) -> Result<Response<v1::ListRevisionsResponse>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let revisions = self.handle.ask(move |core, _| core.revisions(&name)).await?.map_err(refused)?;
        Ok(Response::new(v1::ListRevisionsResponse { revisions }))
    }

    async fn create_savepoint(
        &self,
        request: Request<v1::SavepointRef>,
    ) -> Result<Response<v1::Savepoint>, Status> {
        Ok(Response::new(self.create_savepoint_of(request.into_inner()).await?))
    }

    async fn list_savepoints(
        &self,
        request: Request<v1::PipelineRef>,
    ) -> Result<Response<v1::ListSavepointsResponse>, Status> {
        let savepoints = self.savepoints_of(request.into_inner()).await?;
        Ok(Response::new(v1::ListSavepointsResponse { savepoints }))
    }

    async fn delete_savepoint(
        &self,
        request: Request<v1::SavepointRef>,
    ) -> Result<Response<v1::DeleteSavepointResponse>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.pipeline)?;
        self.handle.ask(move |core, _| core.drop_savepoint(&name, &r.name)).await?.map_err(refused)?;
        Ok(Response::new(v1::DeleteSavepointResponse {}))
    }

    async fn set_positions(
        &self,
        request: Request<v1::SetPositionsRequest>,
    ) -> Result<Response<v1::SetPositionsResponse>, Status> {
        let before = self.set_positions_of(request.into_inner()).await?;
        Ok(Response::new(v1::SetPositionsResponse { before }))
    }

    async fn watch(&self, request: Request<v1::PipelineRef>) -> Result<Response<Self::WatchStream>, Status> {
        let r = request.into_inner();
        let name = name_of(&r.namespace, &r.name)?;
        let first = self.handle.fresh().await?;
        found(&first, &name)?;
        let (sender, receiver) = mpsc::channel(WATCH_BACKLOG);
        tokio::spawn(follow(self.handle.watch(), self.stopped.clone(), name, first, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Send a pipeline now and at every change, until it is deleted or nobody listens.
async fn follow(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut stopped: watch::Receiver<bool>,
    name: PipelineName,
    first: Snapshot,
    sender: mpsc::Sender<Result<v1::Pipeline, Status>>,
) {
    let Some(mut last) = first.pipeline(&name).cloned() else { return };
    let uuid = last.uuid.clone();
    if sender.send(Ok(last.clone())).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            () = sender.closed() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
        let snapshot = snapshots.borrow_and_update().clone();
        // What was published may be older than what was asked for: a change must not seem undone.
        if snapshot.at < first.at {
            continue;
        }
        let Some(now) = snapshot.pipeline(&name).filter(|p| p.uuid == uuid).cloned() else { return };
        if now != last {
            last = now.clone();
            if sender.send(Ok(now)).await.is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Cluster for Admin {
    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let workers = self.handle.fresh().await?.workers;
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let r = request.into_inner();
        let Snapshot { pipelines, moves, .. } = self.handle.fresh().await?;
        let pipelines = pipelines.into_iter();
        let wanted = pipelines.filter(|p| {
            (r.namespace.is_empty() || p.namespace == r.namespace)
                && (r.pipeline.is_empty() || p.name == r.pipeline)
        });
        Ok(Response::new(v1::ListTasksResponse { tasks: wanted.flat_map(|p| p.tasks).collect(), moves }))
    }

    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        let v1::ListIncidentsRequest { namespace, resolved } = request.into_inner();
        let now = self.handle.fresh().await?;
        let within = |r: &&IncidentRecord| namespace.is_empty() || r.namespace == namespace;
        let mut incidents: Vec<_> = now.incidents.iter().filter(within).map(incident).collect();
        if resolved {
            incidents.extend(now.resolved.iter().filter(|(r, _)| within(&r)).map(|(r, at)| over(r, *at)));
        }
        Ok(Response::new(v1::ListIncidentsResponse { incidents }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let id = request.into_inner().worker_id;
        let tasks = self.handle.ask(move |core, now| core.drain(&id, now)).await?.map_err(refused)?;
        Ok(Response::new(v1::DrainWorkerResponse { tasks }))
    }

    async fn move_task(
        &self,
        request: Request<v1::MoveTaskRequest>,
    ) -> Result<Response<v1::MoveTaskResponse>, Status> {
        let r = request.into_inner();
        let task = task_id(r.task)?;
        self.handle.ask(move |core, now| core.move_task(&task, &r.worker_id, now)).await?.map_err(refused)?;
        Ok(Response::new(v1::MoveTaskResponse {}))
    }

    async fn scale_workers(
        &self,
        request: Request<v1::ScaleWorkersRequest>,
    ) -> Result<Response<v1::ScaleWorkersResponse>, Status> {
        let scaled = self.fleet.scale(request.into_inner().workers)?;
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(v1::ScaleWorkersResponse {
            before: count(scaled.before),
            existing: count(scaled.existing),
        }))
    }
}

/// A definition with another number of tasks; `None` when it is none.
fn with_tasks(definition: &str, tasks: u32) -> Option<String> {
    let mut value: serde_json::Value = serde_json::from_str(definition).ok()?;
    value.get_mut("spec")?.as_object_mut()?.insert("tasks".into(), tasks.into());
    Some(value.to_string())
}
