//! One connection: a frame in, an answer out, in order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::budget::Share;
use super::shared::{ConnectionGuard, Shared, now_ms};
use crate::api::{Answer, Malformed, Request, encode_fetch, encode_response, group_response, handle};
use crate::stats::add;

/// The least a client must send or take, beyond [`Options::stall_timeout`](super::Options::stall_timeout).
const MIN_BYTES_PER_SECOND: usize = 256 * 1024;
/// Requests up to this need no share of the memory for requests.
const SMALL_BYTES: usize = 64 * 1024;
/// Buffers for answers that all connections together keep between requests.
const KEEP_BYTES: usize = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("request of {0} bytes, more than this broker takes")]
    TooLong(u32),
    #[error("the client is too slow, or there is no memory for more at once")]
    Stalled,
    #[error("the storage fails: {0}")]
    Storage(io::Error),
}

/// Serves a connection until it ends.
pub(super) fn run(stream: &TcpStream, peer: SocketAddr, guard: &ConnectionGuard) {
    let shared = &*guard.shared;
    match serve(stream, peer, shared) {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(Ended::Io(error)) => tracing::debug!(%peer, %error, "connection ended"),
        Err(Ended::Stalled) => tracing::debug!(%peer, "closed a connection: {}", Ended::Stalled),
        Err(Ended::Storage(error)) => {
            tracing::error!(%peer, %error, "closed a connection without an answer: the storage fails")
        }
        Err(ended) => {
            add(&shared.stats.malformed_requests, 1);
            tracing::warn!(%peer, reason = %ended, "closed a connection: what it sent is no request");
        }
    }
}

fn serve(stream: &TcpStream, peer: SocketAddr, shared: &Shared) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    // A wait is cut into pieces no longer than a stall may be.
    let stall = shared.options.stall_timeout;
    stream.set_read_timeout(Some(shared.options.idle_timeout.min(stall)))?;
    stream.set_write_timeout(Some(stall))?;
    let mut out = Vec::new();
    let host = format!("/{}", peer.ip()); // as Kafka shows it
    let mut share = shared.request_memory.share();
    while let Some(frame) = read_frame(stream, shared, &mut share)? {
        let request = Request::decode(frame)?.from_host(&host);
        answer(stream, request, shared, &mut out)?;
        share = shared.request_memory.share();
        add(&shared.stats.requests, 1);
        if out.len() > KEEP_BYTES / shared.open_connections().max(1) {
            out = Vec::new();
        }
    }
    Ok(())
}

/// When a message of this length must be over, if it begins now.
fn deadline(shared: &Shared, bytes: usize) -> Instant {
    Instant::now() + shared.options.stall_timeout + Duration::from_secs((bytes / MIN_BYTES_PER_SECOND) as u64)
}

/// The next frame; `None` if the client closed the connection between two, or sent nothing for too long.
fn read_frame(
    mut stream: &TcpStream,
    shared: &Shared,
    share: &mut Share<'_>,
) -> Result<Option<Bytes>, Ended> {
    let mut prefix = [0; 4];
    let idle_since = Instant::now();
    let read = loop {
        match stream.read(&mut prefix) {
            Ok(0) => return Ok(None),
            Ok(read) => break read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                if idle_since.elapsed() >= shared.options.idle_timeout {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    fill(stream, &mut prefix[read..], deadline(shared, 0))?;
    let claimed = u32::from_be_bytes(prefix);
    let length = usize::try_from(claimed).ok().filter(|length| *length <= shared.options.max_request_bytes);
    let length = length.ok_or(Ended::TooLong(claimed))?;
    let deadline = deadline(shared, length);
    let mut frame = Vec::with_capacity(length.min(SMALL_BYTES));
    while frame.len() < length {
        // Memory is taken as bytes arrive, not as they are promised: little at first, then eight times what came.
        let step = (length - frame.len()).min(SMALL_BYTES.max(frame.len().saturating_mul(7)));
        if length > SMALL_BYTES && !share.grow(step, deadline) {
            return Err(Ended::Stalled);
        }
        let from = frame.len();
        frame.resize(from + step, 0);
        fill(stream, &mut frame[from..], deadline)?;
    }
    Ok(Some(Bytes::from(frame)))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Reads until `buffer` is full.
fn fill(mut stream: &TcpStream, mut buffer: &mut [u8], deadline: Instant) -> Result<(), Ended> {
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if !buffer.is_empty() && Instant::now() >= deadline {
            return Err(Ended::Stalled);
        }
    }
    Ok(())
}

/// Writes all of `bytes`.
fn send(mut stream: &TcpStream, shared: &Shared, mut bytes: &[u8]) -> Result<(), Ended> {
    let deadline = deadline(shared, bytes.len());
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(Ended::Io(io::ErrorKind::WriteZero.into())),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if !bytes.is_empty() && Instant::now() >= deadline {
            return Err(Ended::Stalled);
        }
    }
    Ok(())
}

fn answer(stream: &TcpStream, request: Request, shared: &Shared, out: &mut Vec<u8>) -> Result<(), Ended> {
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
            send(stream, shared, &encode_response(&response, correlation_id, version)?)?;
        }
        Answer::Later(ticket) => {
            let Some(answer) = shared.await_answer(ticket) else { return Ok(()) };
            shared.sync_before_answer().map_err(Ended::Storage)?;
            let response = group_response(answer, version);
            send(stream, shared, &encode_response(&response, correlation_id, version)?)?;
        }
        Answer::Fetch(planner, plan) => {
            let plan = shared.await_fetch(&planner, plan);
            add(&shared.stats.fetched_bytes, plan.bytes());
            let mut share = shared.answer_memory.share();
            if !share.grow(plan.bytes(), deadline(shared, plan.bytes())) {
                return Err(Ended::Stalled);
            }
            let length = encode_fetch(&plan, correlation_id, version, out).map_err(Ended::Storage)?;
            send(stream, shared, &out[..length])?;
        }
    }
    Ok(())
}
