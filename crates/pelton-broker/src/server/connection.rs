//! One connection: who is there first, then a frame in, an answer out, in order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::budget::Share;
use super::listener::Bound;
use super::login::{self, Entered};
use super::shared::{ConnectionGuard, Shared, now_ms};
use super::stream::{Stream, is_timeout};
use crate::api::{Answer, Malformed, Request, encode_fetch, encode_response, group_response, handle};
use crate::stats::add;

/// The least a client must send or take, beyond [`Options::stall_timeout`](super::Options::stall_timeout).
const MIN_BYTES_PER_SECOND: usize = 256 * 1024;
/// Requests up to this need no share of the memory for requests.
const SMALL_BYTES: usize = 64 * 1024;
/// Buffers of each direction that all connections together keep between requests.
const KEEP_BYTES: usize = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("request of {0} bytes, more than this broker takes{hint}", hint = hint(*.0))]
    TooLong(u32),
    #[error("no TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("{0}")]
    Login(String),
    #[error("the session is over: the client did not log in again in time")]
    SessionOver,
    #[error("the client is too slow, or there is no memory for more at once")]
    Stalled,
    #[error("the storage fails: {0}")]
    Storage(io::Error),
}

/// What such a length really is, most likely.
fn hint(claimed: u32) -> &'static str {
    if claimed >> 16 == 0x1603 { "; it looks like TLS, which this listener does not have" } else { "" }
}

/// Serves a connection until it ends.
pub(super) fn run(stream: &TcpStream, peer: SocketAddr, guard: &ConnectionGuard, bound: &Bound) {
    let shared = &*guard.shared;
    match serve(stream, peer, guard, bound) {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(Ended::Io(error)) => tracing::debug!(%peer, %error, "connection ended"),
        Err(Ended::Stalled) => tracing::debug!(%peer, "closed a connection: {}", Ended::Stalled),
        Err(Ended::SessionOver) => tracing::debug!(%peer, "closed a connection: {}", Ended::SessionOver),
        Err(ended @ (Ended::Handshake(_) | Ended::Login(_))) => {
            add(&shared.stats.refused_logins, 1);
            tracing::info!(%peer, protocol = %bound.protocol, reason = %ended, "turned a client away");
        }
        Err(Ended::Storage(error)) => {
            tracing::error!(%peer, %error, "closed a connection without an answer: the storage fails")
        }
        Err(ended) => {
            add(&shared.stats.malformed_requests, 1);
            tracing::warn!(%peer, reason = %ended, "closed a connection: what it sent is no request");
        }
    }
}

fn serve(socket: &TcpStream, peer: SocketAddr, guard: &ConnectionGuard, bound: &Bound) -> Result<(), Ended> {
    let shared = &*guard.shared;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(shared.options.stall_timeout))?;
    let (mut stream, mut entered) = enter(socket, shared, bound)?;
    guard.enter();
    // A wait is cut into pieces no longer than a stall may be.
    let patience = shared.options.idle_timeout.min(shared.options.stall_timeout);
    stream.set_read_timeout(patience)?;
    let (mut out, mut spare) = (Vec::new(), BytesMut::new());
    let host = format!("/{}", peer.ip()); // as Kafka shows it
    let mut share = shared.request_memory.share();
    let limits = Limits::of_requests(shared);
    while let Some(frame) = read_frame(&mut stream, shared, &mut share, &limits, &mut spare)? {
        if let Some(session) = &mut entered {
            if session.renews(&frame) {
                session.renew(&mut stream, shared, frame)?;
                stream.set_read_timeout(patience)?;
                continue;
            }
            if session.is_over() {
                return Err(Ended::SessionOver);
            }
        }
        let again = frame.clone();
        let request = Request::decode(frame)?.from_host(&host);
        answer(&mut stream, request, shared, bound, &mut out)?;
        share = shared.request_memory.share();
        add(&shared.stats.requests, 1);
        let keep = KEEP_BYTES / shared.open_connections().max(1);
        if out.len() > keep {
            out = Vec::new();
        }
        // A store in memory holds on to what came: then there is nothing to use again.
        spare = again.try_into_mut().ok().filter(|frame| frame.capacity() <= keep).unwrap_or_default();
    }
    Ok(())
}

/// What the listener asks for before the first request: TLS, a login. Both together have their time.
fn enter<'a>(
    socket: &'a TcpStream,
    shared: &Shared,
    bound: &Bound,
) -> Result<(Stream<'a>, Option<Entered>), Ended> {
    let deadline = Instant::now() + shared.options.handshake_timeout;
    let tls = bound.tls.as_ref().map(super::tls::Tls::connection).transpose();
    let mut stream = Stream::new(socket, tls.map_err(|error| Ended::Handshake(io::Error::other(error)))?);
    stream.handshake(deadline).map_err(Ended::Handshake)?;
    let entered = if bound.protocol.has_login() {
        Some(login::run(&mut stream, shared, deadline, None, None)?)
    } else {
        None
    };
    Ok((stream, entered))
}

/// What a frame may take.
pub(super) struct Limits {
    /// Until it begins.
    pub idle: Duration,
    /// When it must be there, if that does not follow from its length.
    pub until: Option<Instant>,
    pub max_bytes: usize,
}

impl Limits {
    fn of_requests(shared: &Shared) -> Self {
        let options = &shared.options;
        Self { idle: options.idle_timeout, until: None, max_bytes: options.max_request_bytes }
    }
}

/// When a message of this length must be over, if it begins now.
fn deadline(shared: &Shared, bytes: usize) -> Instant {
    Instant::now() + shared.options.stall_timeout + Duration::from_secs((bytes / MIN_BYTES_PER_SECOND) as u64)
}

/// The next frame, in the memory of `spare` if that is enough; `None` if the client closed the connection between two, or sent nothing for too long.
pub(super) fn read_frame(
    stream: &mut Stream<'_>,
    shared: &Shared,
    share: &mut Share<'_>,
    limits: &Limits,
    spare: &mut BytesMut,
) -> Result<Option<Bytes>, Ended> {
    let mut prefix = [0; 4];
    let idle_since = Instant::now();
    let read = loop {
        match stream.read(&mut prefix) {
            Ok(0) => return Ok(None),
            Ok(read) => break read,
            Err(error) if is_timeout(&error) => {
                if idle_since.elapsed() >= limits.idle {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    let deadline = |bytes| limits.until.unwrap_or_else(|| deadline(shared, bytes));
    fill(stream, &mut prefix[read..], deadline(0))?;
    let claimed = u32::from_be_bytes(prefix);
    let length = usize::try_from(claimed).ok().filter(|length| *length <= limits.max_bytes);
    let length = length.ok_or(Ended::TooLong(claimed))?;
    let deadline = deadline(length);
    let mut frame = std::mem::take(spare);
    let mut read = 0;
    while read < length {
        // Memory is taken as bytes arrive, not as they are promised: little at first, then eight times what came.
        let step = (length - read).min(SMALL_BYTES.max(read.saturating_mul(7)));
        if length > SMALL_BYTES && !share.grow(step, deadline) {
            return Err(Ended::Stalled);
        }
        // Bytes of an earlier frame are as good as zeros to read over.
        if frame.len() < read + step {
            frame.resize(read + step, 0);
        }
        fill(stream, &mut frame[read..read + step], deadline)?;
        read += step;
    }
    frame.truncate(length);
    Ok(Some(frame.freeze()))
}

/// Reads until `buffer` is full.
fn fill(stream: &mut Stream<'_>, mut buffer: &mut [u8], deadline: Instant) -> Result<(), Ended> {
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => buffer = &mut buffer[read..],
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
pub(super) fn send(stream: &mut Stream<'_>, shared: &Shared, mut bytes: &[u8]) -> Result<(), Ended> {
    let deadline = deadline(shared, bytes.len());
    loop {
        let moved = if bytes.is_empty() { stream.flush().map(|()| 0) } else { stream.write(bytes) };
        match moved {
            Ok(_) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(Ended::Io(io::ErrorKind::WriteZero.into())),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if !bytes.is_empty() && Instant::now() >= deadline {
            return Err(Ended::Stalled);
        }
    }
}

fn answer(
    stream: &mut Stream<'_>,
    request: Request,
    shared: &Shared,
    bound: &Bound,
    out: &mut Vec<u8>,
) -> Result<(), Ended> {
    let (correlation_id, version) = (request.correlation_id(), request.version());
    if let Request::Produce { produce, .. } = &request {
        let (batches, records, bytes) = produce.totals();
        add(&shared.stats.produced_batches, batches);
        add(&shared.stats.produced_records, records);
        add(&shared.stats.produced_bytes, bytes);
    }
    match shared.with_broker(|broker| handle(broker, request, &bound.address, now_ms())) {
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
