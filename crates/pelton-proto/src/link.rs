//! Connections with the timeouts every Pelton client and server uses, over any transport.
//!
//! A cut line is silent: only HTTP/2 keep-alive notices it, so it is on while idle, on both sides.

use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Server, server::Router};

/// Ping after this much silence.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A ping unanswered for this long ends the connection.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection attempt ends after this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Deadline of a unary call unless the caller states another.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams one client may have open; the library's default is no limit.
pub const MAX_STREAMS: u32 = 128;

/// A client endpoint. The address may be anything when a connector ignores it.
///
/// # Errors
/// When the address is no URI.
pub fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(address.to_owned())?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true))
}

/// A server to add services to.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(MAX_STREAMS))
        .tcp_nodelay(true)
}

/// What a dialled connection is, whoever dialled it.
pub type Link = Channel;
/// What a server with services is, before it gets its listener.
pub type Services = Router;
