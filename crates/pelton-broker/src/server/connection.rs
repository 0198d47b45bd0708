//! One connection: a frame in, an answer out, in order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;

use super::shared::{ConnectionGuard, Shared, now_ms};
use crate::api::{Answer, Malformed, Request, encode_fetch, encode_response, group_response, handle};
use crate::stats::add;

/// A client that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// At most this is reserved by what a length prefix claims; more only as bytes arrive.
const READ_STEP: usize = 1024 * 1024;
/// A buffer for answers is kept between requests up to this size.
const KEEP_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("request of {0} bytes, more than this broker takes")]
    TooLong(u32),
    #[error("the storage fails: {0}")]
    Storage(io::Error),
}

/// Serves a connection until it ends.
pub(super) fn run(mut stream: TcpStream, peer: SocketAddr, guard: &ConnectionGuard) {
    let shared = &*guard.shared;
    match serve(&mut stream, peer, shared) {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(Ended::Io(error)) => tracing::debug!(%peer, %error, "connection ended"),
        Err(Ended::Storage(error)) => {
            tracing::error!(%peer, %error, "closed a connection without an answer: the storage fails")
        }
        Err(ended) => {
            add(&shared.stats.malformed_requests, 1);
            tracing::warn!(%peer, reason = %ended, "closed a connection: what it sent is no request");
        }
    }
}

fn serve(stream: &mut TcpStream, peer: SocketAddr, shared: &Shared) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(shared.options.idle_timeout))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut out = Vec::new();
    let host = format!("/{}", peer.ip()); // as Kafka shows it
    while let Some(frame) = read_frame(stream, shared.options.max_request_bytes)? {
        let request = Request::decode(frame)?.from_host(&host);
        answer(stream, request, shared, &mut out)?;
        add(&shared.stats.requests, 1);
        if out.len() > KEEP_BYTES {
            out = Vec::new();
        }
    }
    Ok(())
}

/// The next frame; `None` if the client closed the connection between two.
fn read_frame(stream: &mut TcpStream, max_bytes: usize) -> Result<Option<Bytes>, Ended> {
    let mut prefix = [0; 4];
    match stream.read(&mut prefix)? {
        0 => return Ok(None),
        read => stream.read_exact(&mut prefix[read..])?,
    }
    let claimed = u32::from_be_bytes(prefix);
    let length =
        usize::try_from(claimed).ok().filter(|length| *length <= max_bytes).ok_or(Ended::TooLong(claimed))?;
    let mut frame = Vec::with_capacity(length.min(READ_STEP));
    // Grows by doubling as bytes arrive, and is never zeroed.
    if Read::by_ref(stream).take(u64::from(claimed)).read_to_end(&mut frame)? < length {
        return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Some(Bytes::from(frame)))
}

fn answer(stream: &mut TcpStream, request: Request, shared: &Shared, out: &mut Vec<u8>) -> Result<(), Ended> {
    let (correlation_id, version) = (request.correlation_id(), request.version());
    if let Request::Produce { produce, .. } = &request {
        let (batches, records, bytes) = produce.totals();
        add(&shared.stats.produced_batches, batches);
        add(&shared.stats.produced_records, records);
        add(&shared.stats.produced_bytes, bytes);
    }
    match shared.with_broker(|broker| handle(broker, request, &shared.address, now_ms())) {
        Answer::Nothing => shared.sync_before_answer().map_err(Ended::Storage)?,
        Answer::Response(response) => {
            shared.sync_before_answer().map_err(Ended::Storage)?;
            stream.write_all(&encode_response(&response, correlation_id, version)?)?;
        }
        Answer::Later(ticket) => {
            let Some(answer) = shared.await_answer(ticket) else { return Ok(()) };
            shared.sync_before_answer().map_err(Ended::Storage)?;
            let response = group_response(answer, version);
            stream.write_all(&encode_response(&response, correlation_id, version)?)?;
        }
        Answer::Fetch(planner, plan) => {
            let plan = shared.await_fetch(&planner, plan);
            add(&shared.stats.fetched_bytes, plan.bytes());
            let length = encode_fetch(&plan, correlation_id, version, out).map_err(Ended::Storage)?;
            stream.write_all(&out[..length])?;
        }
    }
    Ok(())
}
