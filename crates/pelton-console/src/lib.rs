//! The web console and its JSON API.
//!
//! * [`router`]: everything below a path, for whatever HTTP server a role has;
//! * `web/`: the pages, plain HTML, CSS and ES modules, compiled into the binary;
//! * `api`: JSON over the same services that the command line calls over gRPC;
//! * `events`: what changes, as server-sent events;
//! * `guard`: which requests are answered at all, and what browsers are told to refuse.
//!
//! It decides and stores nothing. What if it fails: the command line still tells and does everything.

mod api;
mod events;
mod files;
mod graph;
mod guard;
mod refusal;
mod tap;

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use pelton_proto::v1::{self, cluster_server::Cluster, pipelines_server::Pipelines, records_server::Records};
use std::{fmt, sync::Arc};
use tokio::sync::Semaphore;

/// Bytes of a request's body. The largest names some hundred dead letters.
const MAX_BODY: usize = 64 << 10;
/// Streams of events and records that may be open at once, one or two for each page that somebody looks at.
const MAX_STREAMS: usize = 64;

/// The services of a coordinator.
pub trait Services: Pipelines + Cluster + Records + Clone {}
impl<T: Pipelines + Cluster + Records + Clone> Services for T {}

/// What a cluster looks like at one moment, for the live pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Term of the coordinator.
    pub term: u64,
    /// Pipelines with their tasks.
    pub pipelines: Vec<v1::Pipeline>,
    /// Workers.
    pub workers: Vec<v1::Worker>,
    /// Incidents, open ones first.
    pub incidents: Vec<v1::Incident>,
    /// Moves, as [`v1::ListTasksResponse`] has them.
    pub moves: Vec<v1::Move>,
}

/// Gives the newest [`View`]; called about once a second for each open page, so it must be cheap.
pub type Look = Arc<dyn Fn() -> Arc<View> + Send + Sync>;

/// How the console is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    prefix: String,
    hosts: Vec<String>,
}

impl Options {
    /// `prefix` is the path in front of every page, for a reverse proxy that leaves it in the request: `/pelton`; empty:
    /// none. A proxy that takes it away needs no setting, because pages name each other relative to themselves.
    /// `hosts` are names under which browsers may reach the console, beside addresses and names that no public DNS
    /// gives out.
    ///
    /// # Errors
    /// A prefix that is no plain path.
    pub fn new(prefix: &str, hosts: &[String]) -> Result<Self, String> {
        let plain = |segment: &str| {
            segment.bytes().any(|b| b != b'.')
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
        };
        let inner = prefix.trim_matches('/');
        if !inner.is_empty() && !inner.split('/').all(plain) {
            return Err(format!(
                "`{prefix}` is no path such as `/pelton`: letters, digits and -_.~ between slashes"
            ));
        }
        Ok(Self { prefix: inner.to_owned(), hosts: hosts.iter().map(|h| h.to_ascii_lowercase()).collect() })
    }
}

/// What handlers share.
struct Shared<S> {
    services: S,
    look: Look,
    streams: Arc<Semaphore>,
}

impl<S: Clone> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self { services: self.services.clone(), look: self.look.clone(), streams: self.streams.clone() }
    }
}

impl<S> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// The console and its API.
pub fn router<S: Services>(services: S, look: Look, options: &Options) -> Router {
    let shared = Shared { services, look, streams: Arc::new(Semaphore::new(MAX_STREAMS)) };
    let api = api::routes::<S>()
        .route("/events", get(events::events::<S>))
        .route("/pipelines/{namespace}/{name}/tap", get(tap::tap::<S>))
        .fallback(refusal::no_such_path)
        .layer(middleware::from_fn(guard::same_origin))
        .with_state(shared);
    let pages = files::routes().nest("/api/v1", api);
    let pages = match options.prefix.as_str() {
        "" => pages,
        prefix => Router::new()
            .nest(&format!("/{prefix}/"), pages)
            .route(&format!("/{prefix}"), get(files::to_folder(prefix))),
    };
    let hosts: Arc<[String]> = options.hosts.clone().into();
    pages
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(hosts, guard::known_host))
        .layer(middleware::map_response(guard::armour))
}
