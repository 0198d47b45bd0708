//! Over real sockets: a coordinator on port 0, and workers that speak nothing but gRPC.

use super::*;
use crate::store::MemoryStore;
use pelton_proto::v1::{
    self, TaskState, cluster_client::ClusterClient, directive::Kind, pipelines_client::PipelinesClient,
    records_client::RecordsClient, worker_report, worker_session_client::WorkerSessionClient,
};
use pelton_sdk::{
    BoxFuture, Connector, ConnectorFactory, Durability, EndError, OptionError, Scope, SourceShape,
    TopicCatalog,
};
use pelton_types::Code;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, atomic::AtomicBool, atomic::Ordering},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code as Rpc, transport::Channel};

/// A queue that exists only in its catalog.
#[derive(Clone, Default)]
struct FakeQueue {
    topics: Arc<Mutex<BTreeMap<String, u32>>>,
    down: Arc<AtomicBool>,
}

impl ConnectorFactory for FakeQueue {
    fn name(&self) -> &'static str {
        "queue"
    }
    fn summary(&self) -> &'static str {
        "for tests"
    }
    fn source_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::json_schema!({ "type": "object", "properties": { "topics": { "type": "array" } } }))
    }
    fn sink_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::json_schema!({ "type": "object", "properties": { "topic": { "type": "string" } } }))
    }
    fn check_source(&self, options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        let topics =
            options["topics"].as_array().ok_or_else(|| vec![OptionError::at("/topics", "no topics")])?;
        let topics = topics.iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        Ok(SourceShape { topics, partitions: None, bounded: false })
    }
    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Ok(vec![options["topic"].as_str().unwrap().to_owned()])
    }
    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        Some(Arc::new(self.clone()))
    }
    fn cluster(&self, _: &Value) -> Option<String> {
        Some("q:9092".into())
    }
    fn connect(&self, _: Scope) -> Box<dyn Connector> {
        unreachable!("the coordinator reads no records")
    }
}

impl TopicCatalog for FakeQueue {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<u32>, EndError>> {
        Box::pin(async move {
            if self.down.load(Ordering::Relaxed) {
                return Err(EndError::retry(Code::BrokerUnreachable, "q:9092 does not answer"));
            }
            Ok(self.topics.lock().unwrap().get(topic).copied())
        })
    }
    fn durability<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<Durability>, EndError>> {
        let min_in_sync = if topic == "durable" { 2 } else { 1 };
        Box::pin(async move { Ok(Some(Durability { replicas: 3, min_in_sync })) })
    }
    fn create<'a>(&'a self, topic: &'a str, partitions: u32) -> BoxFuture<'a, Result<(), EndError>> {
        self.topics.lock().unwrap().insert(topic.to_owned(), partitions);
        Box::pin(async { Ok(()) })
    }
}

struct Running {
    address: SocketAddr,
    handle: Handle,
    queue: FakeQueue,
    store: Arc<MemoryStore>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), CoordinatorError>>,
}

async fn start(options: Options) -> Running {
    start_on(options, Arc::new(MemoryStore::new()), FakeQueue::default()).await
}

async fn start_on(options: Options, store: Arc<MemoryStore>, queue: FakeQueue) -> Running {
    let registry = Registry::default().connector(queue.clone());
    let coordinator =
        Coordinator::new(options, registry, BuildContext::detached("."), store.clone()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = coordinator.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(coordinator.serve(incoming(listener), async {
        let _ = stopped.await;
    }));
    Running { address, handle, queue, store, stop: Some(stop), served }
}

impl Running {
    async fn channel(&self) -> Channel {
        link::endpoint(&format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }
    async fn pipelines(&self) -> PipelinesClient<Channel> {
        PipelinesClient::new(self.channel().await)
    }
    async fn apply(&self, definition: &str) -> Result<Vec<v1::Applied>, Status> {
        let request = v1::ApplyRequest {
            definition: definition.into(),
            file_name: "p.yaml".into(),
            ..Default::default()
        };
        Ok(self.pipelines().await.apply(request).await?.into_inner().applied)
    }
    /// Wait until the published state is as described.
    async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let mut snapshots = self.handle.watch();
        let reached = tokio::time::timeout(Duration::from_secs(20), snapshots.wait_for(|s| holds(s))).await;
        assert!(matches!(reached, Ok(Ok(_))), "not reached: {what}; {:?}", self.handle.snapshot());
    }
    async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.served.await.unwrap().unwrap();
    }
}

/// A worker that does what it is told, over gRPC.
struct FakeWorker {
    reports: mpsc::Sender<v1::WorkerReport>,
    task: JoinHandle<()>,
}

impl FakeWorker {
    async fn attach(to: &Running, id: &str) -> Self {
        let (reports, outgoing) = mpsc::channel(64);
        let hello = v1::Hello { worker_id: id.into(), capacity: 8, ..Default::default() };
        send(&reports, worker_report::Kind::Hello(hello)).await;
        let mut client = WorkerSessionClient::new(to.channel().await);
        let mut directives = client.attach(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let answers = reports.clone();
        let task = tokio::spawn(async move {
            let mut beats = tokio::time::interval(Duration::from_millis(500));
            let mut held: Vec<v1::TaskStatus> = Vec::new();
            loop {
                tokio::select! {
                    _ = beats.tick() => {
                        send(&answers, worker_report::Kind::Heartbeat(v1::Heartbeat {
                            tasks: held.clone(),
                            ..Default::default()
                        })).await;
                    }
                    directive = directives.message() => match directive {
                        Ok(Some(v1::Directive { kind: Some(kind) })) => obey(&answers, kind, &mut held).await,
                        _ => return,
                    },
                }
            }
        });
        Self { reports, task }
    }

    /// The process dies.
    fn kill(self) {
        self.task.abort();
        drop(self.reports);
    }
}

async fn send(reports: &mpsc::Sender<v1::WorkerReport>, kind: worker_report::Kind) {
    let _ = reports.send(v1::WorkerReport { kind: Some(kind) }).await;
}

async fn obey(answers: &mpsc::Sender<v1::WorkerReport>, kind: Kind, held: &mut Vec<v1::TaskStatus>) {
    let (task, epoch, state) = match kind {
        Kind::Grant(g) => (g.task, g.epoch, TaskState::Running),
        Kind::Warm(g) => (g.task, g.epoch, TaskState::Warm),
        Kind::Revoke(r) => (r.task, r.epoch, TaskState::Released),
        _ => return,
    };
    let status = v1::TaskStatus { task, epoch, state: state.into(), ..Default::default() };
    if state != TaskState::Warm {
        held.retain(|t| t.task != status.task);
        held.extend((state == TaskState::Running).then(|| status.clone()));
    }
    send(answers, worker_report::Kind::TaskChange(v1::TaskChange { status: Some(status) })).await;
}

fn definition(name: &str, to: &str) -> String {
    format!(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n  sources:\n    in: {{ queue: {{ topics: [orders] }} }}\n  sinks:\n    out: {{ queue: {{ topic: {to} }} }}\n"
    )
}

fn development() -> Options {
    Options { create_topics: true, default_partitions: 4, ..Options::default() }
}

fn is_running(snapshot: &Snapshot) -> bool {
    snapshot.pipelines.first().is_some_and(|p| p.phase == "running")
}

fn on(snapshot: &Snapshot, worker: &str) -> usize {
    snapshot.pipelines.iter().flat_map(|p| &p.tasks).filter(|t| t.worker_id == worker).count()
}

#[tokio::test]
async fn an_applied_pipeline_runs_on_the_workers_and_survives_the_death_of_one() {
    let running = start(development()).await;
    let first = FakeWorker::attach(&running, "w1").await;
    let second = FakeWorker::attach(&running, "w2").await;
    let applied = running.apply(&definition("p", "totals")).await.unwrap();
    assert_eq!((applied[0].outcome.as_str(), applied[0].revision), ("created", 1));
    assert_eq!(applied[0].notes.len(), 2, "{:?}", applied[0].notes);
    assert_eq!(running.queue.topics.lock().unwrap().get("orders"), Some(&4));
    running.until("spread over both", |s| on(s, "w1") == 2 && on(s, "w2") == 2).await;
    running.until("running", is_running).await;
    first.kill();
    running.until("all on the other", |s| on(s, "w2") == 4).await;
    second.kill();
    running.stop().await;
}

#[tokio::test]
async fn a_pipeline_is_changed_paused_resumed_rolled_back_and_deleted() {
    let running = start(development()).await;
    let worker = FakeWorker::attach(&running, "w1").await;
    let mut client = running.pipelines().await;
    let p = v1::PipelineRef { namespace: String::new(), name: "p".into() };
    running.apply(&definition("p", "totals")).await.unwrap();
    assert_eq!(running.apply(&definition("p", "totals")).await.unwrap()[0].outcome, "unchanged");
    let changed = running.apply(&definition("p", "sums")).await.unwrap();
    assert_eq!((changed[0].outcome.as_str(), changed[0].revision), ("changed", 2));
    assert!(!changed[0].changes.is_empty());
    running
        .until("revision 2", |s| on(s, "w1") == 4 && s.pipelines[0].tasks.iter().all(|t| t.revision == 2))
        .await;
    assert_eq!(client.pause(p.clone()).await.unwrap().into_inner().phase, "paused");
    running.until("let go", |s| on(s, "w1") == 0).await;
    client.resume(p.clone()).await.unwrap();
    running.until("taken up", |s| on(s, "w1") == 4).await;
    let request = v1::RollbackRequest { name: "p".into(), ..Default::default() };
    let rolled = client.rollback(request).await.unwrap().into_inner();
    assert_eq!(rolled.revision, 3);
    assert!(rolled.definition.contains("totals"));
    client.delete(p.clone()).await.unwrap();
    assert_eq!(client.get(p).await.unwrap_err().code(), Rpc::NotFound);
    worker.kill();
    running.stop().await;
}

#[tokio::test]
async fn exactly_once_is_refused_on_a_topic_that_may_lose_acknowledged_records_unless_that_is_allowed() {
    let exactly_once = |to: &str| definition("p", to).replace("spec:\n", "spec:\n  delivery: exactly-once\n");
    let running = start(development()).await;
    let refused = running.apply(&exactly_once("totals")).await.unwrap_err();
    assert_eq!(refused.code(), Rpc::FailedPrecondition);
    let text = "[PLT0304] topic totals, which sink out of default/p writes, has 3 replicas and min.insync.replicas=1";
    assert!(refused.message().starts_with(text), "{}", refused.message());
    running.apply(&definition("p", "totals")).await.unwrap();
    running.apply(&exactly_once("durable")).await.unwrap();
    running.stop().await;
    let running = start(Options { allow_weak_durability: true, ..development() }).await;
    running.apply(&exactly_once("totals")).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let running = start(development()).await;
    let request =
        v1::ApplyRequest { definition: definition("p", "totals"), dry_run: true, ..Default::default() };
    let applied = running.pipelines().await.apply(request).await.unwrap().into_inner().applied;
    assert_eq!((applied[0].outcome.as_str(), applied[0].notes.len()), ("created", 2));
    assert!(running.queue.topics.lock().unwrap().is_empty());
    assert!(running.handle.fresh().await.unwrap().pipelines.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_missing_topic_a_silent_broker_and_a_bad_definition_are_told_apart() {
    let running = start(Options::default()).await;
    let missing = running.apply(&definition("p", "totals")).await.unwrap_err();
    assert_eq!(missing.code(), Rpc::FailedPrecondition);
    for part in ["PLT0204", "topic orders", "topic totals", "create it"] {
        assert!(missing.message().contains(part), "{part}: {missing}");
    }
    running.queue.down.store(true, Ordering::Relaxed);
    let down = running.apply(&definition("p", "totals")).await.unwrap_err();
    assert_eq!(down.code(), Rpc::Unavailable);
    assert!(down.message().contains("q:9092 does not answer"), "{down}");
    let bad = running.apply("kind: Pipeline\nspec: { sourcse: 1 }\n").await.unwrap_err();
    assert_eq!(bad.code(), Rpc::InvalidArgument);
    assert!(bad.message().contains("p.yaml:"), "{bad}");
    running.stop().await;
}

#[tokio::test]
async fn of_a_file_with_one_refused_document_nothing_is_applied() {
    let running = start(development()).await;
    let feed = definition("q", "orders").replace("kind: Pipeline", "kind: Feed");
    running.apply(&definition("p", "totals")).await.unwrap();
    let both = format!("{feed}---\n{}", definition("p", "sums").replace("kind: Pipeline", "kind: Feed"));
    let refused = running.apply(&both).await.unwrap_err();
    assert!(refused.message().contains("cannot become a Feed"), "{refused}");
    assert_eq!(running.handle.fresh().await.unwrap().pipelines.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_tap_relays_what_workers_send_and_ends_at_its_limit() {
    let running = start(development()).await;
    let worker = FakeWorker::attach(&running, "w1").await;
    running.apply(&definition("p", "totals")).await.unwrap();
    let mut records = RecordsClient::new(running.channel().await);
    let request = v1::TapRequest { pipeline: "p".into(), limit: 3, ..Default::default() };
    let nobody = records.tap(request.clone()).await.unwrap_err();
    assert_eq!(nobody.code(), Rpc::Unavailable, "{nobody}");
    let (replies, outgoing) = mpsc::channel(8);
    replies.send(v1::ServeReply { worker_id: "w1".into(), ..Default::default() }).await.unwrap();
    let mut session = WorkerSessionClient::new(running.channel().await);
    let mut requests = session.serve(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    // The worker's seat is taken a moment after its stream opened.
    let mut tapped = loop {
        match records.tap(request.clone()).await {
            Ok(tapped) => break tapped.into_inner(),
            Err(e) => assert_eq!(e.code(), Rpc::Unavailable, "{e}"),
        }
        tokio::task::yield_now().await;
    };
    let asked = requests.message().await.unwrap().unwrap();
    let record = |offset| v1::TappedRecord { offset, ..Default::default() };
    let reply = v1::ServeReply { id: asked.id, records: (0..5).map(record).collect(), ..Default::default() };
    replies.send(reply).await.unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = tapped.message().await.unwrap() {
        offsets.push(record.offset);
    }
    assert_eq!(offsets, [0, 1, 2]);
    let cancelled = requests.message().await.unwrap().unwrap();
    assert_eq!((cancelled.id, cancelled.kind), (asked.id, Some(v1::serve_request::Kind::Cancel(true))));
    worker.kill();
    running.stop().await;
}

#[tokio::test]
async fn a_watch_sees_a_pipeline_change_and_ends_when_it_is_deleted() {
    let running = start(development()).await;
    let worker = FakeWorker::attach(&running, "w1").await;
    running.apply(&definition("p", "totals")).await.unwrap();
    let mut client = running.pipelines().await;
    let p = v1::PipelineRef { namespace: String::new(), name: "p".into() };
    let mut seen = client.watch(p.clone()).await.unwrap().into_inner();
    while seen.message().await.unwrap().unwrap().phase != "running" {}
    client.delete(p).await.unwrap();
    while seen.message().await.unwrap().is_some() {}
    worker.kill();
    running.stop().await;
}

#[tokio::test]
async fn a_worker_is_listed_drained_and_confirmed() {
    let running = start(development()).await;
    let (one, two) = (FakeWorker::attach(&running, "w1").await, FakeWorker::attach(&running, "w2").await);
    running.apply(&definition("p", "totals")).await.unwrap();
    running.until("running", is_running).await;
    let mut cluster = ClusterClient::new(running.channel().await);
    let request = v1::DrainWorkerRequest { worker_id: "w1".into() };
    cluster.drain_worker(request).await.unwrap();
    running.until("drained", |s| on(s, "w1") == 0 && on(s, "w2") == 4).await;
    let workers = cluster.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!(
        workers.iter().map(|w| (w.id.as_str(), w.state.as_str())).collect::<Vec<_>>(),
        [("w1", "draining"), ("w2", "attached")]
    );
    let tasks = cluster.list_tasks(v1::ListTasksRequest::default()).await.unwrap().into_inner().tasks;
    let status = tasks[0].status.clone().unwrap();
    let mut session = WorkerSessionClient::new(running.channel().await);
    for (epoch, newest) in [(status.epoch, true), (status.epoch - 1, false)] {
        let request = v1::ConfirmEpochRequest { task: status.task.clone(), epoch, worker_id: "w2".into() };
        assert_eq!(session.confirm_epoch(request).await.unwrap().into_inner().newest, newest);
    }
    one.kill();
    two.kill();
    running.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_is_followed_by_another_stops_at_its_next_write() {
    let first = start(development()).await;
    let second = start_on(development(), first.store.clone(), first.queue.clone()).await;
    assert_eq!(second.handle.snapshot().term, 2);
    let refused = first.apply(&definition("p", "totals")).await.unwrap_err();
    assert_eq!(refused.code(), Rpc::Unavailable, "{refused}");
    assert!(matches!(first.served.await.unwrap(), Err(CoordinatorError::Fenced(_))));
    assert!(!first.handle.leads());
    second.apply(&definition("p", "totals")).await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn health_is_serving_and_garbage_ends_only_its_own_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let running = start(development()).await;
    let mut garbage = tokio::net::TcpStream::connect(running.address).await.unwrap();
    garbage.write_all(&[0xFF; 4096]).await.unwrap();
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(running.channel().await);
    let request = tonic_health::pb::HealthCheckRequest { service: "pelton.v1.WorkerSession".into() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_session_without_a_hello_is_told_so() {
    let running = start(development()).await;
    let mut client = WorkerSessionClient::new(running.channel().await);
    let beat = v1::WorkerReport { kind: Some(worker_report::Kind::Heartbeat(v1::Heartbeat::default())) };
    let mut answers = client.attach(tokio_stream::iter([beat])).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Rpc::InvalidArgument);
    running.stop().await;
}

#[tokio::test]
async fn metrics_show_leadership_tasks_and_epochs_and_forget_what_is_deleted() {
    let running = start(development()).await;
    let metrics = pelton_telemetry::metrics::Metrics::new("coordinator");
    crate::metrics::register(running.handle.clone(), &metrics).unwrap();
    let worker = FakeWorker::attach(&running, "w1").await;
    running.apply(&definition("p", "totals")).await.unwrap();
    running.until("running", is_running).await;
    let page = metrics.page().unwrap();
    for line in [
        "pelton_leader 1",
        "pelton_tasks_unassigned 0",
        "pelton_workers{state=\"attached\"} 1",
        "pelton_task_granted_epoch{namespace=\"default\",pipeline=\"p\",stage=\"0\",task=\"3\"} 1",
        "pelton_tasks{namespace=\"default\",pipeline=\"p\",state=\"running\"} 4",
        "pelton_tasks{namespace=\"default\",pipeline=\"p\",state=\"failed\"} 0",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
    let p = v1::PipelineRef { namespace: String::new(), name: "p".into() };
    running.pipelines().await.delete(p).await.unwrap();
    running.until("gone", |s| s.pipelines.is_empty()).await;
    assert!(!metrics.page().unwrap().contains("pipeline=\"p\""));
    worker.kill();
    let handle = running.handle.clone();
    running.stop().await;
    assert!(!handle.leads());
}
