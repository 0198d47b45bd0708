//! What workers call.

use super::{
    Handle,
    actor::{Command, OUTBOX, Outbox},
    hub::{Hub, SERVE_BACKLOG},
};
use crate::discovery::reachable;
use pelton_proto::{
    task_id,
    v1::{self, worker_report, worker_session_server::WorkerSession},
};
use std::{net::SocketAddr, pin::Pin, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// A client that opens a session must say who it is within this.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Sessions {
    pub(super) handle: Handle,
    pub(super) hub: Hub,
    pub(super) stopped: watch::Receiver<bool>,
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Directives = mpsc::Sender<Result<v1::Directive, Status>>;

#[tonic::async_trait]
impl WorkerSession for Sessions {
    type AttachStream = Sent<v1::Directive>;
    type ServeStream = Sent<v1::ServeRequest>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerReport>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (directives, outgoing) = mpsc::channel(OUTBOX);
        // The answer's stream opens at once; a client may wait for it before it says hello.
        let peer = request.remote_addr();
        tokio::spawn(session(self.handle.clone(), peer, request.into_inner(), directives));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn confirm_epoch(
        &self,
        request: Request<v1::ConfirmEpochRequest>,
    ) -> Result<Response<v1::ConfirmEpochResponse>, Status> {
        let request = request.into_inner();
        let task = task_id(request.task)?;
        let (newest, epoch) = self.handle.ask(move |core, _| core.confirm(&task, request.epoch)).await?;
        Ok(Response::new(v1::ConfirmEpochResponse { newest, epoch }))
    }

    async fn serve(
        &self,
        request: Request<Streaming<v1::ServeReply>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let (requests, outgoing) = mpsc::channel(SERVE_BACKLOG);
        tokio::spawn(serve(self.hub.clone(), request.into_inner(), requests, self.stopped.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// From hello to the end of the stream.
async fn session(
    handle: Handle,
    peer: Option<SocketAddr>,
    mut reports: Streaming<v1::WorkerReport>,
    directives: Directives,
) {
    let hello = match hello(&mut reports).await {
        Ok(hello) => v1::Hello { http: reachable(&hello.http, peer), ..hello },
        Err(status) => return drop(directives.send(Err(status)).await),
    };
    let (alive, mut ended) = oneshot::channel();
    let (reply, answer) = oneshot::channel();
    // A clone of its own for the refusal; it goes away before the session starts.
    let refusals = directives.clone();
    let outbox = Outbox { directives, _alive: alive };
    let attach = Command::Attach { hello: Box::new(hello), outbox, reply };
    if handle.commands.send(attach).await.is_err() {
        return;
    }
    let session = match answer.await {
        Ok(Ok(session)) => session,
        Ok(Err(refusal)) => {
            let _ = refusals.send(Err(Status::already_exists(refusal.to_string()))).await;
            return;
        }
        Err(_) => return,
    };
    drop(refusals);
    loop {
        let report = tokio::select! {
            biased;
            _ = &mut ended => return,
            report = reports.message() => report,
        };
        // Every end counts, whatever its code: a cut line and a polite goodbye leave the same worker behind.
        let Ok(Some(report)) = report else { break };
        if handle.commands.send(Command::Report { session, report: Box::new(report) }).await.is_err() {
            return;
        }
    }
    let _ = handle.commands.send(Command::Closed { session }).await;
}

async fn hello(reports: &mut Streaming<v1::WorkerReport>) -> Result<v1::Hello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, reports.message()).await;
    match first.map_err(|_| Status::deadline_exceeded("no hello came"))?? {
        Some(v1::WorkerReport { kind: Some(worker_report::Kind::Hello(hello)) }) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message of a session must be a hello")),
    }
}

/// Questions to one worker, and its answers.
async fn serve(
    hub: Hub,
    mut replies: Streaming<v1::ServeReply>,
    requests: mpsc::Sender<Result<v1::ServeRequest, Status>>,
    mut stopped: watch::Receiver<bool>,
) {
    let first = tokio::time::timeout(HELLO_WITHIN, replies.message()).await;
    let worker = match first {
        Ok(Ok(Some(reply))) if !reply.worker_id.is_empty() => reply.worker_id,
        _ => {
            let status = Status::invalid_argument("the first message must say which worker answers");
            let _ = requests.send(Err(status)).await;
            return;
        }
    };
    let seat = hub.seat(&worker, requests);
    loop {
        let reply = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            reply = replies.message() => reply,
        };
        let Ok(Some(reply)) = reply else { break };
        hub.answer(&worker, reply);
    }
    hub.leave(&worker, seat);
}
