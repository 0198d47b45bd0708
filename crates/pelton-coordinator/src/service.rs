//! The gRPC services around the core, over any listener.
//!
//! One task, the [`actor`], owns the core and the store; services talk to it through a channel, so that everything
//! happens in one order. No answer leaves before what it says is durable.

mod actor;
mod admin;
mod definitions;
mod fleet;
mod growth;
mod hand;
mod hub;
mod positions;
mod records;
mod retirement;
mod session;
#[cfg(test)]
mod tests;

use crate::{
    core::{Core, Now, Refusal, Settings, Snapshot},
    store::{MetadataStore, StoreError},
};
use actor::{Actor, Command};
pub use fleet::{Fleet, Scaled};
use pelton_proto::{
    MAX_MESSAGE_BYTES, link,
    v1::{
        cluster_server::ClusterServer, pipelines_server::PipelinesServer, records_server::RecordsServer,
        worker_session_server::WorkerSessionServer,
    },
};
use pelton_sdk::{BuildContext, Registry};
use pelton_types::{Code, causes};
use std::{fmt, future::Future, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::Stream;
use tonic::{Status, transport::server::Connected};

pub use admin::Admin;

/// Looks up an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a coordinator is made with. Time, names and environment can be replaced, so that a simulation repeats.
#[derive(Clone)]
pub struct Options {
    /// Times and bounds of membership and grants.
    pub settings: Settings,
    /// Create topics that are missing. For development: in production a missing topic is a mistake.
    pub create_topics: bool,
    /// Take exactly-once pipelines on topics that may lose acknowledged records. For development.
    pub allow_weak_durability: bool,
    /// Partitions of a topic that is created.
    pub default_partitions: u32,
    /// Who this is, for people.
    pub holder: String,
    /// A call to a queue's catalog ends after this.
    pub catalog_timeout: Duration,
    /// Topics of running pipelines are looked at this often, for partitions that came.
    pub look_at_topics: Duration,
    /// Milliseconds since 1970; only shown to people.
    pub wall_clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Names for new pipeline objects, each given once.
    pub new_uuid: Arc<dyn Fn() -> String + Send + Sync>,
    /// Environment variables for `${NAME:default}` in definitions.
    pub env: Environment,
    /// The driver's workers, where their number can be changed.
    pub fleet: Option<Arc<dyn Fleet>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            create_topics: false,
            allow_weak_durability: false,
            default_partitions: 8,
            holder: String::new(),
            catalog_timeout: Duration::from_secs(8),
            // One question for each topic that is read: what is new waits for no longer than this.
            look_at_topics: Duration::from_secs(10),
            wall_clock: Arc::new(|| {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
                now.saturating_add(pelton_sabotage::points::skew_ms())
            }),
            new_uuid: Arc::new(|| uuid::Uuid::new_v4().to_string()),
            env: Arc::new(|name| std::env::var(name).ok()),
            fleet: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("settings", &self.settings)
            .field("create_topics", &self.create_topics)
            .field("default_partitions", &self.default_partitions)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

/// Why a coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Another coordinator leads; this one must not go on. Exit code 75: start it again.
    #[error("[{code}] another coordinator took over: {0}", code = Code::Deposed)]
    Fenced(StoreError),
    /// The store cannot be used. Exit code 69.
    #[error("[{code}] the store cannot be used: {0}", code = Code::StoreFailed)]
    Store(StoreError),
    /// The listener failed.
    #[error("the gRPC server failed: {0}")]
    Server(String),
}

impl From<StoreError> for CoordinatorError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Conflict { .. } => CoordinatorError::Fenced(e),
            other => CoordinatorError::Store(other),
        }
    }
}

/// Talks to a running coordinator; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Handle {
    /// The state as of a moment ago (a quarter of a second at most).
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Whether the coordinator still leads; false once it ended.
    pub fn leads(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Changes of the state; the newest is seen at once.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Run on the core; the answer comes once its effects are durable.
    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core, Now) -> R + Send + 'static,
    ) -> Result<R, Status> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |core: &mut Core, now: Now| {
            let result = question(core, now);
            // The asker may have gone away.
            Box::new(move || drop(reply.send(result))) as Box<dyn FnOnce() + Send>
        });
        let ended = |_| Status::unavailable("the coordinator is shutting down; try again");
        self.commands.send(Command::Ask(work)).await.map_err(|_| ended(()))?;
        answer.await.map_err(|_| ended(()))
    }

    /// The state now, with everything that was answered before.
    async fn fresh(&self) -> Result<Snapshot, Status> {
        self.ask(|core, now| core.snapshot(now)).await
    }
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::NotFound(text) => Status::not_found(text),
        Refusal::Conflict(text) => Status::failed_precondition(text),
    }
}

/// A coordinator that leads, ready to serve.
#[derive(Debug)]
pub struct Coordinator {
    actor: Actor,
    admin: Admin,
    stop: watch::Sender<bool>,
}

impl Coordinator {
    /// Read the store and take the lead: raises the term by compare-and-swap.
    ///
    /// # Errors
    /// When the store fails, cannot be read, or another coordinator takes the lead at the same time.
    pub async fn new(
        options: Options,
        registry: Registry,
        context: BuildContext,
        store: Arc<dyn MetadataStore>,
    ) -> Result<Self, CoordinatorError> {
        let (commands, inbox) = mpsc::channel(actor::INBOX);
        let weak = commands.downgrade();
        let (actor, snapshots) = Actor::lead(&options, store, registry.clone(), weak, inbox).await?;
        let fleet = fleet::Slot(options.fleet.clone());
        let (stop, stopped) = watch::channel(false);
        let admin = Admin {
            handle: Handle { commands, snapshots },
            definitions: Arc::new(definitions::Definitions::new(options, registry, context)),
            fleet,
            hub: hub::Hub::default(),
            stopped,
            settling: Default::default(),
        };
        Ok(Self { actor, admin, stop })
    }

    /// Talks to it, before and while it serves.
    pub fn handle(&self) -> Handle {
        self.admin.handle.clone()
    }

    /// What the gRPC services answer, for others that serve it, such as the console.
    pub fn admin(&self) -> Admin {
        self.admin.clone()
    }

    /// Serve until `shutdown` is ready or the coordinator must stop. Workers keep what they hold.
    ///
    /// # Errors
    /// When the coordinator lost its lead, its store or its listener.
    pub async fn serve<IO, E>(
        self,
        incoming: impl Stream<Item = Result<IO, E>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), CoordinatorError>
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { actor, admin, stop } = self;
        let stopped = admin.stopped.clone();
        let services = services(admin).await.map_err(CoordinatorError::Server)?;
        let mut running = tokio::spawn(actor.run(stopped.clone()));
        let mut gone = stopped;
        let server = services.serve_with_incoming_shutdown(incoming, async move {
            let _ = gone.wait_for(|stop| *stop).await;
        });
        tokio::pin!(server, shutdown);
        let ended = tokio::select! {
            biased;
            () = &mut shutdown => None,
            ended = &mut running => Some(ended),
            served = &mut server => {
                let why = served.err().map_or("the listener ended".to_owned(), |e| causes::all(&e));
                running.abort();
                return Err(CoordinatorError::Server(why));
            }
        };
        let _ = stop.send(true);
        // Streams end with the actor; a client that does not read cannot hold us for longer.
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, &mut server).await;
        let ended = match ended {
            Some(ended) => ended,
            None => running.await,
        };
        ended.unwrap_or_else(|e| Err(CoordinatorError::Server(format!("the coordinator task ended: {e}"))))
    }
}

/// How long calls in progress may take to finish at the end.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// The services with their limits.
async fn services(admin: Admin) -> Result<link::Services, String> {
    let sessions = session::Sessions {
        handle: admin.handle.clone(),
        hub: admin.hub.clone(),
        stopped: admin.stopped.clone(),
    };
    tokio::spawn(positions::keep_paused(admin.clone()));
    tokio::spawn(growth::watch(admin.clone(), admin.definitions.look_at_topics()));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<PipelinesServer<Admin>>().await;
    health.set_serving::<ClusterServer<Admin>>().await;
    health.set_serving::<RecordsServer<Admin>>().await;
    health.set_serving::<WorkerSessionServer<session::Sessions>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pelton_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| e.to_string())?;
    macro_rules! limited {
        ($service:expr) => {
            $service.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
        };
    }
    Ok(link::server()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(limited!(WorkerSessionServer::new(sessions)))
        .add_service(limited!(PipelinesServer::new(admin.clone())))
        .add_service(limited!(ClusterServer::new(admin.clone())))
        .add_service(limited!(RecordsServer::new(admin))))
}

/// A bound TCP listener as a stream of connections, for the usual case.
pub fn incoming(listener: tokio::net::TcpListener) -> impl Stream<Item = io::Result<tokio::net::TcpStream>> {
    futures_util::stream::unfold(listener, |listener| async {
        // A connection that failed while it was accepted is its peer's trouble, not the end of the server.
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    return Some((Ok(stream), listener));
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    // Out of descriptors, most likely: give others time to close some.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}
