//! The operator: watch resources, ask the coordinator, decide, act.
//!
//! Resources come by a watch; the coordinator is asked once per round for all its pipelines. Steps of different
//! resources run side by side, those of one resource one after the other.

use crate::{
    decide::{Facts, Seen, step},
    lease::{DEADLINE, Election, PAUSE},
    perform::{Hands, Outcome, now},
    resource::Resource,
    workers::{Bounds, Scaler, wanted},
};
use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        events::{Recorder, Reporter},
        reflector, watcher,
    },
};
use pelton_proto::v1::{self, pipelines_client::PipelinesClient};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

/// Between two rounds without news. What changes at the coordinator is seen by then.
const ROUND: Duration = Duration::from_secs(1);
/// News that come within this time are one round.
const GATHER: Duration = Duration::from_millis(50);
/// For the coordinator's answer.
const ASK: Duration = Duration::from_secs(5);
/// Between two writes of nothing but numbers.
const NUMBERS: Duration = Duration::from_secs(10);
/// First and longest pause after a refusal or a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// For the steps that run when the operator is told to end.
const FINISH: Duration = Duration::from_secs(5);

/// What an operator is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only resources of this namespace; `None`: of all.
    pub namespace: Option<String>,
    /// Namespace of the lease and of the workers.
    pub home: String,
    /// Name of the lease, the same for all operators of one coordinator.
    pub lease: String,
    /// This process's name; must differ between processes.
    pub identity: String,
    /// The StatefulSet whose replicas follow the tasks, and how.
    pub workers: Option<(String, Bounds)>,
}

/// Why it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Asked,
    /// It could not renew its lease in time; another may work by now.
    LeaseLost,
}

/// Work until `stop` turns true or the lease is lost. `leading` hears when this operator is the one that works.
pub async fn run(
    client: Client,
    coordinator: Channel,
    options: Options,
    leading: impl Fn(bool) + Send + 'static,
    mut stop: watch::Receiver<bool>,
) -> End {
    let mut election = Election::new(client.clone(), &options.home, &options.lease, &options.identity);
    tokio::select! {
        () = elected(&mut election) => {}
        () = turned(&mut stop) => return End::Asked,
    }
    tracing::info!(lease = options.lease, identity = options.identity, "leads");
    leading(true);
    let mut work = Work::new(client, coordinator, options);
    let end = tokio::select! {
        () = renewed(&mut election) => End::LeaseLost,
        () = turned(&mut stop) => End::Asked,
        () = work.go_on() => End::Asked,
    };
    leading(false);
    if end == End::Asked {
        work.finish().await;
        election.resign().await;
    }
    end
}

async fn turned(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone cannot ask any more: neither can it take back.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Returns once the lease is ours.
async fn elected(election: &mut Election) {
    loop {
        match election.stand().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the lease cannot be had"),
        }
        sleep(PAUSE).await;
    }
}

/// Returns once the lease is lost.
async fn renewed(election: &mut Election) {
    let mut renewed = Instant::now();
    while renewed.elapsed() < DEADLINE {
        sleep(PAUSE).await;
        match timeout(DEADLINE.saturating_sub(renewed.elapsed()), election.stand()).await {
            Ok(Ok(true)) => renewed = Instant::now(),
            Ok(Ok(false)) => break,
            Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be renewed"),
            Err(_) => break,
        }
    }
    tracing::error!("the lease is lost: another operator may work by now");
}

/// What is known about a resource beside itself. Forgetting it costs a call or two.
#[derive(Debug, Default)]
struct Memory {
    /// A step runs.
    busy: bool,
    /// The version before our last write; while the watch still shows it, it is out of date.
    outdated: Option<String>,
    /// Nothing is tried before.
    not_before: Option<Instant>,
    /// Failures and refusals in a row, and the generation they were about.
    failures: (u32, i64),
    /// When numbers were last written.
    numbers: Option<Instant>,
}

type Finished = (Resource, Outcome);

struct Work {
    hands: Hands,
    options: Options,
    scaler: Scaler,
    begun: Instant,
    memory: HashMap<String, Memory>,
    steps: JoinSet<Finished>,
    /// Whether the coordinator answered last.
    answers: bool,
}

impl Work {
    fn new(client: Client, coordinator: Channel, options: Options) -> Self {
        let reporter =
            Reporter { controller: "pelton-operator".into(), instance: Some(options.identity.clone()) };
        let pipelines =
            PipelinesClient::new(coordinator).max_decoding_message_size(pelton_proto::MAX_MESSAGE_BYTES);
        Work {
            hands: Hands { client: client.clone(), pipelines, recorder: Recorder::new(client, reporter) },
            options,
            scaler: Scaler::default(),
            begun: Instant::now(),
            memory: HashMap::new(),
            steps: JoinSet::new(),
            answers: true,
        }
    }

    async fn go_on(&mut self) {
        let client = self.hands.client.clone();
        let kind = Resource::kind();
        let api: Api<DynamicObject> = match &self.options.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        let writer = reflector::store::Writer::new(kind);
        let store = writer.as_reader();
        let news = Arc::new(Notify::new());
        let watching = {
            let news = news.clone();
            let events = watcher(api, watcher::Config::default()).default_backoff();
            reflector(writer, events).for_each(move |event| {
                match event {
                    Ok(_) => news.notify_one(),
                    Err(error) => tracing::warn!(%error, "the watch of pipelines broke; it begins anew"),
                }
                std::future::ready(())
            })
        };
        let rounds = async {
            // Without a first list an empty store would look like no resources at all.
            if store.wait_until_ready().await.is_err() {
                return;
            }
            loop {
                let resources: Vec<Resource> =
                    store.state().iter().map(|object| Resource::read(object)).collect();
                self.round(resources).await;
                tokio::select! {
                    () = news.notified() => sleep(GATHER).await,
                    Some(done) = self.steps.join_next() => self.took(done),
                    () = sleep(ROUND) => {}
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = rounds => {}
        }
    }

    /// Let steps that run come to their end.
    async fn finish(&mut self) {
        let rest = async { while self.steps.join_next().await.is_some() {} };
        // What is cut off is done by the next operator.
        let _ = timeout(FINISH, rest).await;
    }

    async fn round(&mut self, resources: Vec<Resource>) {
        while let Some(done) = self.steps.try_join_next() {
            self.took(done);
        }
        let known = self.ask().await;
        self.memory.retain(|uid, memory| memory.busy || resources.iter().any(|one| one.uid == *uid));
        for resource in resources {
            let seen = match &known {
                None => Seen::Unreachable,
                Some(all) => all
                    .iter()
                    .find(|p| p.namespace == resource.namespace && p.name == resource.name)
                    .map_or(Seen::Absent, Seen::Present),
            };
            self.consider(resource, seen);
        }
        if let Some(known) = known {
            self.scale(&known).await;
        }
    }

    /// All pipelines of the coordinator.
    async fn ask(&mut self) -> Option<Vec<v1::Pipeline>> {
        let mut request = tonic::Request::new(v1::ListPipelinesRequest { namespace: String::new() });
        request.set_timeout(ASK);
        let answer = self.hands.pipelines.list(request).await;
        if answer.is_ok() != self.answers {
            self.answers = answer.is_ok();
            match &answer {
                Ok(_) => tracing::info!("the coordinator answers again"),
                Err(status) => tracing::warn!(%status, "the coordinator does not answer"),
            }
        }
        Some(answer.ok()?.into_inner().pipelines)
    }

    fn consider(&mut self, resource: Resource, seen: Seen<'_>) {
        let memory = self.memory.entry(resource.uid.clone()).or_default();
        if memory.busy || memory.outdated.as_deref() == Some(&resource.version) {
            return;
        }
        let waits = memory.not_before.is_some_and(|then| Instant::now() < then);
        // A new definition is not what failed.
        let same = memory.failures.1 == resource.generation;
        let retry = !(waits && same);
        let numbers = memory.numbers.is_none_or(|then| then.elapsed() >= NUMBERS);
        let now = now();
        let facts = Facts { resource: &resource, seen, retry, numbers, now: &now };
        let Some(step) = step(facts) else { return };
        // After a failure everything waits, after a refusal only the next try.
        let refused = crate::status::refusal(&resource).is_some();
        if waits && same && !refused {
            return;
        }
        memory.busy = true;
        if numbers {
            memory.numbers = Some(Instant::now());
        }
        tracing::debug!(namespace = resource.namespace, name = resource.name, ?step, "acts");
        let hands = self.hands.clone();
        self.steps.spawn(async move {
            let outcome = hands.perform(&resource, step).await;
            (resource, outcome)
        });
    }

    fn took(&mut self, done: Result<Finished, tokio::task::JoinError>) {
        let (resource, outcome) = match done {
            Ok(finished) => finished,
            Err(error) => {
                // Nobody knows whose it was: look at all of them again.
                tracing::error!(%error, "a step ended without an answer");
                self.memory.clear();
                return;
            }
        };
        let memory = self.memory.entry(resource.uid.clone()).or_default();
        memory.busy = false;
        let applied = matches!(outcome, Outcome::Applied { .. });
        let (written, failed) = match outcome {
            Outcome::Done { version } | Outcome::Applied { version } => (version, None),
            Outcome::Refused { version } => (version, Some("the definition was refused".to_owned())),
            Outcome::Failed(why) => (None, Some(why)),
        };
        memory.outdated = written.filter(|new| *new != resource.version).map(|_| resource.version.clone());
        let Some(why) = failed else {
            // A status that was written does not make a refused definition better.
            if applied || crate::status::refusal(&resource).is_none() {
                (memory.failures, memory.not_before) = ((0, resource.generation), None);
            }
            return;
        };
        let before = if memory.failures.1 == resource.generation { memory.failures.0 } else { 0 };
        let pause = BACKOFF.0.saturating_mul(1 << before.min(5)).min(BACKOFF.1);
        memory.failures = (before.saturating_add(1), resource.generation);
        memory.not_before = Some(Instant::now() + pause);
        tracing::warn!(
            namespace = resource.namespace,
            name = resource.name,
            why,
            ?pause,
            "tries again later"
        );
    }

    /// The driver `kubernetes`: as many workers as the tasks need.
    async fn scale(&mut self, pipelines: &[v1::Pipeline]) {
        let Some((name, bounds)) = self.options.workers.clone() else { return };
        let api: Api<StatefulSet> = Api::namespaced(self.hands.client.clone(), &self.options.home);
        let present = match api.get_scale(&name).await {
            Ok(scale) => scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
            Err(error) => return tracing::warn!(%error, name, "the number of workers cannot be read"),
        };
        let present = u32::try_from(present).unwrap_or(0);
        let wanted = wanted(pipelines, bounds);
        let Some(next) = self.scaler.next(self.begun.elapsed(), present, wanted, bounds.patience) else {
            return;
        };
        tracing::info!(name, from = present, to = next, "scales the workers");
        let patch = Patch::Merge(json!({ "spec": { "replicas": next } }));
        if let Err(error) = api.patch_scale(&name, &PatchParams::default(), &patch).await {
            tracing::warn!(%error, name, "the number of workers cannot be set");
        }
    }
}

/// Connect to the API server as the pod's service account, or as a kubeconfig says.
///
/// # Errors
/// When neither is there, with what was tried.
pub async fn connect() -> Result<Client, String> {
    Client::try_default().await.map_err(|error| {
        format!("no Kubernetes to talk to: {error}; run in a pod with a service account, or set KUBECONFIG")
    })
}

/// Namespace of the service account or of the kubeconfig.
pub fn home(client: &Client) -> String {
    client.default_namespace().to_owned()
}
