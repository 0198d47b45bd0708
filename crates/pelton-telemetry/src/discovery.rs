//! Where Prometheus finds the processes of a cluster: its HTTP service discovery (`http_sd_configs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::Router;

/// Where the list is.
pub const PATH: &str = "/prometheus/targets";

/// A process to be scraped, as one group of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// `host:port`, the only one of its group.
    pub targets: [String; 1],
    /// Labels that its series get; those that begin with `__meta_` are for relabelling only.
    pub labels: BTreeMap<&'static str, String>,
}

type Look = Arc<dyn Fn() -> Option<Vec<Target>> + Send + Sync>;

/// Serves what `look` knows at [`PATH`]. `None` means that it does not know yet: the answer is 503 then, and
/// Prometheus goes on with the list it had.
pub fn router(look: impl Fn() -> Option<Vec<Target>> + Send + Sync + 'static) -> Router {
    Router::new().route(PATH, get(targets)).with_state(Arc::new(look) as Look)
}

async fn targets(State(look): State<Look>) -> Response {
    match look() {
        Some(targets) => Json(targets).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not known yet").into_response(),
    }
}
