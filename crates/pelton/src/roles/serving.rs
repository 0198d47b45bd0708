//! Listeners and the HTTP endpoints every role has.

use crate::exit::{Exit, Failure};
use pelton_telemetry::{Health, Metrics, Router, http};
use std::io;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Listen on an address.
///
/// # Errors
/// A port that is taken, an address that is not ours: with what to do.
pub async fn bind(what: &str, address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| cannot_listen(what, address, &e))
}

/// A failure that says why an address cannot be listened on, and what to do.
pub fn cannot_listen(what: &str, address: &str, e: &io::Error) -> Failure {
    let hint = match e.kind() {
        io::ErrorKind::AddrInUse => "; another process has the port: end it, or choose another address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need rights: choose another",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::InvalidInput => "; write it as HOST:PORT",
        _ => "",
    };
    Failure::new(Exit::Unavailable, format!("{what} cannot listen on {address}: {e}{hint}"))
}

/// The HTTP endpoints of a role.
pub struct Endpoints {
    /// Where they listen.
    pub address: String,
    task: JoinHandle<std::io::Result<()>>,
}

impl Endpoints {
    /// Serve `/livez`, `/readyz`, `/metrics` and whatever else the role has, until the shutdown is over.
    ///
    /// # Errors
    /// As [`bind`].
    pub async fn serve(
        address: &str,
        metrics: &Metrics,
        health: &Health,
        extra: Router,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Endpoints, Failure> {
        let listener = bind("HTTP", address).await?;
        let address = listener.local_addr()?.to_string();
        let router = http::router(metrics, health).merge(extra);
        let task = tokio::spawn(http::serve(listener, router, async move {
            // The sender outlives the endpoints.
            let _ = stop.wait_for(|stop| *stop).await;
        }));
        Ok(Endpoints { address, task })
    }

    /// End them.
    pub fn abort(self) {
        self.task.abort();
    }
}
