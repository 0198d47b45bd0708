//! The HTTP endpoints that every role has: `/livez`, `/readyz`, `/metrics`.

use std::future::Future;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;

use crate::{Health, Metrics, Router};

#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    health: Health,
}

/// The routes of every role. A role with more of its own merges them: `http::router(..).merge(own)`.
pub fn router(metrics: &Metrics, health: &Health) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(page))
        .with_state(Shown { metrics: metrics.clone(), health: health.clone() })
}

/// Serves `router` on any listener until `stop` is ready, then ends once the open requests are answered.
///
/// Nothing in it ends by itself: `Err` would mean a listener that fails for good.
pub async fn serve<L>(
    listener: L,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn livez(State(shown): State<Shown>) -> Response {
    let stalls = shown.health.liveness.stalls(Instant::now());
    let status = if stalls.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "live": stalls.is_empty(), "stalled": stalls }))).into_response()
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let report = shown.health.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn page(State(shown): State<Shown>) -> Response {
    match shown.metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response(),
        Err(cause) => (StatusCode::INTERNAL_SERVER_ERROR, cause.to_string()).into_response(),
    }
}
