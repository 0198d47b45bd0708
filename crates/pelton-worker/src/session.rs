//! The life of a worker beside its coordinator.
//!
//! One loop owns the ledger and the host: directives, answers of executors and the clock come in, commands and reports go
//! out. A session that ends, for whatever reason, is dialled again; tasks go on meanwhile.

use crate::{host::Host, ledger::Ledger, plan::stage_plan, report, serve, usage};
use pelton_checkpoint::Grant;
use pelton_proto::{MAX_MESSAGE_BYTES, task_id, v1};
use pelton_runtime::{
    ExecutorEvent, executor::AssignedPartitions, executor::empty_snapshot, status::TaskState,
};
use pelton_sdk::{BoxFuture, BuildContext, Registry};
use pelton_telemetry::RecentLines;
use pelton_types::{Code, Epoch, Incident, Offset, Partition, TaskId, causes};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use v1::{directive::Kind, worker_report::Kind as ReportKind, worker_session_client::WorkerSessionClient};

/// First pause before a lost coordinator is dialled again; it must be well below the 200 ms after which a closed
/// connection counts as a lost worker.
const REDIAL_FIRST: Duration = Duration::from_millis(20);
/// Longest such pause.
const REDIAL_LONGEST: Duration = Duration::from_secs(1);
/// How long the coordinator may take to confirm an epoch.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// How long last reports may take to leave after a drain.
const FAREWELL: Duration = Duration::from_millis(500);
/// Reports that wait for a slow connection; beyond that heartbeats are left out.
const REPORT_QUEUE: usize = 256;

/// Makes a connection to the coordinator; a simulation brings its own.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> + Send + Sync>;

/// What a worker is made from.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Stable across restarts where the platform gives a name.
    pub id: String,
    /// New for every process.
    pub incarnation: String,
    /// Tasks it may hold.
    pub capacity: u32,
    /// For placement.
    pub labels: HashMap<String, String>,
    /// `host:port` of its HTTP endpoints, for people.
    pub http: String,
    /// For finishing and committing on the way out.
    pub drain_timeout: Duration,
    /// Told whether the worker is attached.
    pub attached: watch::Sender<bool>,
    /// What this process logged, for `pelton logs`.
    pub logs: RecentLines,
}

/// See the module.
pub struct Worker {
    options: WorkerOptions,
    registry: Registry,
    context: BuildContext,
    host: Host,
    events: mpsc::UnboundedReceiver<ExecutorEvent>,
    ledger: Ledger,
    dial: Dial,
    answers: mpsc::UnboundedSender<Answer>,
    answered: mpsc::UnboundedReceiver<Answer>,
    draining: bool,
    lease: Duration,
    heartbeat: Duration,
}

/// What helpers beside the loop report to it.
enum Answer {
    Confirmed(TaskId, Option<bool>),
    Tap(u64, v1::TapRequest, mpsc::Sender<v1::ServeReply>),
}

/// Why a session ended.
enum End {
    Lost(String),
    Drained,
}

impl Worker {
    /// A worker whose executors are made by `host`: [`Host::threads`], or an inline one in a simulation. `events` is
    /// the other end of the host's event sink.
    pub fn new(
        options: WorkerOptions,
        registry: Registry,
        context: BuildContext,
        host: Host,
        events: mpsc::UnboundedReceiver<ExecutorEvent>,
        dial: Dial,
    ) -> Worker {
        let (answers, answered) = mpsc::unbounded_channel();
        Worker {
            options,
            registry,
            context,
            host,
            events,
            ledger: Ledger::default(),
            dial,
            answers,
            answered,
            draining: false,
            lease: Duration::from_secs(3),
            heartbeat: Duration::from_secs(1),
        }
    }

    /// An event sink for [`HostOptions::events`], and what the worker reads.
    pub fn event_channel() -> (pelton_runtime::EventSink, mpsc::UnboundedReceiver<ExecutorEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let sink: pelton_runtime::EventSink = Arc::new(move |event| {
            // The worker has ended: nobody wants to know any more.
            let _ = sender.send(event);
        });
        (sink, receiver)
    }

    /// Work until `shutdown` turns true or the coordinator asks for a drain; then finish, commit, release and return.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut pause = REDIAL_FIRST;
        loop {
            let started = Instant::now();
            let dialled = (self.dial)();
            let end = match self.meanwhile(dialled, &mut shutdown).await {
                Some(Ok(channel)) => self.session(channel, &mut shutdown).await,
                Some(Err(e)) => End::Lost(format!("cannot connect: {}", causes::innermost(&e))),
                None => End::Drained,
            };
            self.options.attached.send_replace(false);
            match end {
                End::Drained => break,
                End::Lost(why) => {
                    tracing::warn!(
                        worker = %self.options.id, tasks = self.ledger.len(), code = %Code::NoCoordinator,
                        "no coordinator ({why}); tasks go on, dialling again"
                    );
                }
            }
            pause = next_pause(pause, started.elapsed());
            if self.meanwhile(sleep(pause), &mut shutdown).await.is_none() {
                break;
            }
        }
        self.host.stop();
    }

    fn begin_drain(&mut self) {
        if !self.draining {
            self.draining = true;
            tracing::info!(worker = %self.options.id, tasks = self.ledger.len(), "draining: finish, commit, release");
            self.host.drain(self.options.drain_timeout);
        }
    }

    fn drained(&self) -> bool {
        self.draining && self.ledger.len() == 0
    }

    /// Wait for something while there is no session: tasks go on, and may ask and end. `None` when the drain is complete
    /// before.
    async fn meanwhile<T>(
        &mut self,
        wait: impl Future<Output = T>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Option<T> {
        tokio::pin!(wait);
        while !self.drained() {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop), if !self.draining => self.begin_drain(),
                Some(event) = self.events.recv() => match event {
                    ExecutorEvent::Confirm { task, .. } => self.host.confirmed(task, None),
                    ExecutorEvent::Changed(snapshot) => {
                        self.ledger.changed(&snapshot);
                        self.note_end(&snapshot);
                    }
                },
                Some(answer) = self.answered.recv() => self.take_answer(answer),
                done = &mut wait => return Some(done),
            }
        }
        None
    }

    fn note_end(&mut self, snapshot: &pelton_runtime::TaskSnapshot) {
        if snapshot.state.is_final() {
            self.host.ended(&snapshot.task, snapshot.epoch);
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Confirmed(task, newest) => self.host.confirmed(task, newest),
            Answer::Tap(id, request, replies) => serve::tap(&self.host, id, request, replies),
        }
    }

    /// One session, from hello to its end.
    async fn session(&mut self, channel: Channel, shutdown: &mut watch::Receiver<bool>) -> End {
        let mut client = WorkerSessionClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (reports, outgoing) = mpsc::channel(REPORT_QUEUE);
        // Room was just made for it.
        let _ = reports.try_send(wrap(ReportKind::Hello(self.hello())));
        let attach = client.attach(ReceiverStream::new(outgoing));
        let attach = timeout(pelton_proto::link::CALL_TIMEOUT, attach);
        let mut directives = match self.meanwhile(attach, shutdown).await {
            Some(Ok(Ok(response))) => response.into_inner(),
            Some(Ok(Err(status))) => return End::Lost(format!("attach refused: {}", status.message())),
            Some(Err(_)) => return End::Lost("attach was not answered".into()),
            None => return End::Drained,
        };
        let serving = tokio::spawn(serve::run(client.clone(), self.server()));
        let end = self.converse(&client, &reports, &mut directives, shutdown).await;
        serving.abort();
        end
    }

    fn server(&self) -> serve::Server {
        let answers = self.answers.clone();
        serve::Server {
            worker_id: self.options.id.clone(),
            logs: self.options.logs.clone(),
            registry: self.registry.clone(),
            taps: Arc::new(move |id, request, replies| {
                // The worker has ended: the watcher's stream ends with it.
                let _ = answers.send(Answer::Tap(id, request, replies));
            }),
        }
    }

    async fn converse(
        &mut self,
        client: &WorkerSessionClient<Channel>,
        reports: &mpsc::Sender<v1::WorkerReport>,
        directives: &mut tonic::Streaming<v1::Directive>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> End {
        let mut beat = interval(self.heartbeat);
        let mut sequence = 0_u64;
        let mut heard = Instant::now();
        let mut welcome = false;
        loop {
            if self.drained() {
                sleep(FAREWELL.min(self.heartbeat)).await;
                return End::Drained;
            }
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop), if !self.draining => self.begin_drain(),
                directive = directives.message() => match directive {
                    Ok(Some(v1::Directive { kind: Some(kind) })) => {
                        heard = Instant::now();
                        if let Kind::Welcome(terms) = &kind {
                            if terms.term < self.ledger.term {
                                return End::Lost(format!(
                                    "it is of term {}, this worker obeys term {}", terms.term, self.ledger.term
                                ));
                            }
                            self.welcomed(terms, reports);
                            beat = interval(self.heartbeat);
                            welcome = true;
                        } else {
                            self.obey(kind, reports);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return End::Lost("it closed the session".into()),
                    Err(status) => return End::Lost(status.message().to_owned()),
                },
                Some(event) = self.events.recv() => self.take_event(event, client, reports),
                Some(answer) = self.answered.recv() => self.take_answer(answer),
                _ = beat.tick() => {
                    if heard.elapsed() > self.lease + self.heartbeat {
                        return End::Lost(format!("nothing heard for {:?}", heard.elapsed()));
                    }
                    if welcome {
                        sequence += 1;
                        // A full queue means a slow line: the next heartbeat says more than this one.
                        let _ = reports.try_send(wrap(ReportKind::Heartbeat(self.beat(sequence))));
                    }
                }
            }
        }
    }

    fn hello(&self) -> v1::Hello {
        v1::Hello {
            worker_id: self.options.id.clone(),
            incarnation: self.options.incarnation.clone(),
            capacity: self.options.capacity,
            executors: self.host.executors() as u32,
            labels: self.options.labels.clone(),
            held: self.ledger.held(),
            term: self.ledger.term,
            version: env!("CARGO_PKG_VERSION").into(),
            http: self.options.http.clone(),
        }
    }

    fn welcomed(&mut self, terms: &v1::Welcome, reports: &mpsc::Sender<v1::WorkerReport>) {
        if terms.term > self.ledger.term {
            // A new coordinator knows of no move that the old one began.
            self.host.forget_warm();
        }
        self.ledger.term = terms.term;
        self.lease = Duration::from_millis(u64::from(terms.lease_ms.max(100)));
        self.heartbeat = Duration::from_millis(u64::from(terms.heartbeat_ms.max(10)));
        self.options.attached.send_replace(true);
        tracing::info!(worker = %self.options.id, term = terms.term, tasks = self.ledger.len(), "attached");
        for status in self.ledger.last_words() {
            // What does not fit is said on the next session.
            let _ = reports
                .try_send(wrap(ReportKind::TaskChange(v1::TaskChange { status: Some(status.clone()) })));
        }
        self.ledger.delivered();
    }

    fn beat(&self, sequence: u64) -> v1::Heartbeat {
        v1::Heartbeat {
            sequence,
            // A failed task is still ours until it is granted anew: the coordinator counts on hearing of it.
            tasks: self
                .host
                .board()
                .all()
                .iter()
                .map(report::status)
                .chain(self.ledger.failures().cloned())
                .collect(),
            cpu_seconds: usage::cpu_seconds(),
            resident_bytes: usage::resident_bytes(),
            draining: Some(self.draining),
        }
    }

    fn obey(&mut self, kind: Kind, reports: &mpsc::Sender<v1::WorkerReport>) {
        match kind {
            Kind::Welcome(_) | Kind::HeartbeatAck(_) => {}
            Kind::Pipeline(spec) => self.learn(&spec),
            Kind::Warm(grant) => self.warm(grant),
            Kind::Grant(grant) => {
                if let Some(snapshot) = self.take_grant(grant) {
                    self.say(&snapshot, reports);
                }
            }
            Kind::Revoke(revoke) => {
                let Ok(task) = task_id(revoke.task) else { return };
                let within = Duration::from_millis(u64::from(revoke.deadline_ms));
                if !self.host.release(&task, revoke.epoch, within) {
                    let status = self.ledger.not_here(&task, revoke.epoch);
                    // A full queue: the coordinator asks again on the next session.
                    let _ = reports
                        .try_send(wrap(ReportKind::TaskChange(v1::TaskChange { status: Some(status) })));
                }
            }
            Kind::Drain(drain) => {
                tracing::info!(worker = %self.options.id, reason = %drain.reason, "the coordinator asks for a drain");
                self.begin_drain();
            }
        }
    }

    fn learn(&mut self, spec: &v1::PipelineSpec) {
        let plan = serde_json::from_str(&spec.definition)
            .map_err(|e| format!("the definition is not JSON: {e}"))
            .and_then(|json| pelton_config::from_json(&json).map_err(|report| report.to_string()))
            .and_then(|document| {
                stage_plan(&document, spec.revision, &self.registry, &self.context)
                    .map_err(|problems| problems.join("; "))
            });
        if let Err(why) = &plan {
            tracing::error!(pipeline = %spec.name, revision = spec.revision, code = %Code::BadPipeline, "cannot build the pipeline: {why}");
        }
        self.ledger.learn(spec.uuid.clone(), spec.revision, plan);
    }

    fn warm(&mut self, grant: v1::Grant) {
        if self.draining {
            return;
        }
        let partitions = assigned(&grant);
        let Ok(task) = task_id(grant.task) else { return };
        if let Ok(plan) = self.ledger.plan(&task.uuid, grant.revision) {
            self.host.warm(task, plan, partitions);
        }
    }

    /// Start a granted task, or say why not.
    fn take_grant(&mut self, grant: v1::Grant) -> Option<pelton_runtime::TaskSnapshot> {
        let partitions = assigned(&grant);
        let task = match task_id(grant.task) {
            Ok(task) => task,
            Err(e) => {
                tracing::error!("a grant was ignored: {e}");
                return None;
            }
        };
        if let Err(refused) = self.ledger.grant(grant.term, &task, grant.epoch, grant.revision) {
            tracing::warn!(%task, epoch = grant.epoch, term = grant.term, ?refused, "a grant was refused");
            return None;
        }
        if self.draining {
            // It was on its way when the drain began, and the executors have had their last order.
            return Some(empty_snapshot(&task, grant.epoch, grant.revision, TaskState::Released, None));
        }
        match self.ledger.plan(&task.uuid, grant.revision) {
            Ok(plan) => {
                let own: Vec<_> = partitions.sources.values().flatten().cloned().collect();
                tracing::info!(
                    %task, epoch = grant.epoch, revision = grant.revision, partitions = own.len(), "granted"
                );
                let grant = Grant {
                    task,
                    epoch: grant.epoch,
                    term: grant.term,
                    virgin: grant.virgin,
                    partitions: own,
                    heard: grant.heard.iter().map(heard).collect(),
                };
                self.host.start(grant, plan, partitions);
                None
            }
            Err(why) => {
                let incident = Incident {
                    code: Code::BadPipeline,
                    message: format!("worker {}: {why}", self.options.id),
                    remedy:
                        "run workers of the same version and with the same models as the coordinator, then \
                             resume the pipeline"
                            .into(),
                    stops_task: true,
                };
                Some(empty_snapshot(&task, grant.epoch, grant.revision, TaskState::Failed, Some(incident)))
            }
        }
    }

    fn say(&mut self, snapshot: &pelton_runtime::TaskSnapshot, reports: &mpsc::Sender<v1::WorkerReport>) {
        tracing::info!(
            task = %snapshot.task, epoch = snapshot.epoch, state = ?snapshot.state, commits = snapshot.commits, "task changed"
        );
        let status = self.ledger.changed(snapshot);
        self.note_end(snapshot);
        let change = wrap(ReportKind::TaskChange(v1::TaskChange { status: Some(status) }));
        if reports.try_send(change).is_ok() {
            self.ledger.delivered();
        }
    }

    fn take_event(
        &mut self,
        event: ExecutorEvent,
        client: &WorkerSessionClient<Channel>,
        reports: &mpsc::Sender<v1::WorkerReport>,
    ) {
        match event {
            ExecutorEvent::Changed(snapshot) => self.say(&snapshot, reports),
            ExecutorEvent::Confirm { task, epoch } => {
                let request = self.confirm_request(&task, epoch);
                let (mut client, answers) = (client.clone(), self.answers.clone());
                tokio::spawn(async move {
                    let asked = timeout(CONFIRM_TIMEOUT, client.confirm_epoch(request)).await;
                    let newest = match asked {
                        Ok(Ok(response)) => Some(response.into_inner().newest),
                        _ => None,
                    };
                    // The worker has ended: nobody waits for the answer.
                    let _ = answers.send(Answer::Confirmed(task, newest));
                });
            }
        }
    }

    fn confirm_request(&self, task: &TaskId, epoch: Epoch) -> v1::ConfirmEpochRequest {
        v1::ConfirmEpochRequest { task: Some(task.into()), epoch, worker_id: self.options.id.clone() }
    }
}

/// The pause before the next attempt. A session or an attempt that lasted has waited enough: the next comes at once.
fn next_pause(last: Duration, lasted: Duration) -> Duration {
    if lasted > REDIAL_LONGEST { REDIAL_FIRST } else { (last * 2).min(REDIAL_LONGEST) }
}

fn wrap(kind: ReportKind) -> v1::WorkerReport {
    v1::WorkerReport { kind: Some(kind) }
}

fn assigned(grant: &v1::Grant) -> AssignedPartitions {
    let of = |s: &v1::AssignedSource| (s.source.clone(), s.partitions.iter().map(Into::into).collect());
    AssignedPartitions { sources: grant.sources.iter().map(of).collect(), tasks: grant.tasks }
}

fn heard(one: &v1::PartitionOffset) -> (Partition, Offset) {
    (Partition::from(&one.partition.clone().unwrap_or_default()), one.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostOptions;
    use pelton_runtime::Metrics;
    use std::future::pending;

    fn worker(dial: Dial) -> Worker {
        let (events, heard) = Worker::event_channel();
        let (host, _executor) = Host::inline(&HostOptions {
            executors: 1,
            registry: Registry::default(),
            models: ".".into(),
            queue_bytes: 1 << 20,
            metrics: Metrics::detached(),
            events,
            origin: std::time::Instant::now(),
            background: pelton_sdk::Background::none(),
        });
        let options = WorkerOptions {
            id: "w".into(),
            incarnation: "1".into(),
            capacity: 8,
            labels: HashMap::new(),
            http: String::new(),
            drain_timeout: Duration::from_secs(1),
            attached: watch::channel(false).0,
            logs: RecentLines::default(),
        };
        Worker::new(options, Registry::default(), BuildContext::detached("."), host, heard, dial)
    }

    fn nobody_answers() -> Dial {
        Arc::new(|| Box::pin(pending()))
    }

    fn grant(epoch: Epoch) -> v1::Grant {
        let task = v1::TaskId {
            namespace: "default".into(),
            pipeline: "p".into(),
            uuid: "u".into(),
            generation: 1,
            ..Default::default()
        };
        v1::Grant { task: Some(task), epoch, term: 1, revision: 1, ..Default::default() }
    }

    #[tokio::test]
    async fn a_worker_without_tasks_ends_at_once_even_while_it_dials() {
        let (_told, shutdown) = watch::channel(true);
        // It hangs when the signal is not heard; the limit only turns that into a failure.
        let ended = timeout(Duration::from_secs(60), worker(nobody_answers()).run(shutdown)).await;
        assert!(ended.is_ok());
    }

    #[tokio::test]
    async fn a_grant_that_comes_after_a_drain_began_is_handed_back() {
        let mut worker = worker(nobody_answers());
        worker.begin_drain();
        let answer = worker.take_grant(grant(7)).expect("the coordinator is told");
        assert_eq!((answer.state, answer.epoch), (TaskState::Released, 7));
        let (reports, mut sent) = mpsc::channel(1);
        worker.say(&answer, &reports);
        assert!(worker.drained(), "nothing is left to wait for");
        assert!(sent.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_grant_without_a_definition_fails_with_what_to_do() {
        let mut worker = worker(nobody_answers());
        let answer = worker.take_grant(grant(1)).expect("it cannot start");
        let incident = answer.incident.expect("it says why");
        assert_eq!((answer.state, incident.code), (TaskState::Failed, Code::BadPipeline));
        assert!(incident.message.contains("revision 1"), "{}", incident.message);
    }

    #[test]
    fn a_lost_coordinator_is_dialled_within_its_grace_and_then_ever_more_rarely() {
        let grace = Duration::from_millis(200);
        let long = Duration::from_secs(60);
        assert!(next_pause(REDIAL_LONGEST, long) < grace);
        let at_once = Duration::from_millis(1);
        let pauses: Vec<_> =
            std::iter::successors(Some(REDIAL_FIRST), |last| Some(next_pause(*last, at_once)))
                .take(9)
                .collect();
        assert!(pauses.is_sorted() && pauses.last() == Some(&REDIAL_LONGEST), "{pauses:?}");
    }
}
