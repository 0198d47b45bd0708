//! Logging in on a connection: frames in and out of [`crate::sasl`], and how long a session counts.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use super::connection::{Ended, Limits, read_frame, send};
use super::shared::Shared;
use super::stream::Stream;
use crate::api::{Request, encode_response};
use crate::sasl::{Answer, Facts, Login, Next, Session};

/// Longest frame of somebody who is not in yet; Kafka's `sasl.server.max.receive.size` is 512 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// A refusal is told after this, as Kafka's `connection.failed.authentication.delay.ms`: guessing takes time.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);
/// A session is renewed no more often than this, as in Kafka.
const RENEWAL_LEAST: Duration = Duration::from_secs(1);

/// A client that logged in.
#[derive(Debug)]
pub(super) struct Entered {
    session: Session,
    /// When the last renewal began.
    renewed: Option<Instant>,
    /// When it must have been renewed.
    until: Option<Instant>,
}

impl Entered {
    /// Whether this frame begins a new login.
    pub fn renews(&self, frame: &[u8]) -> bool {
        let is_handshake = frame.starts_with(&(ApiKey::SaslHandshake as i16).to_be_bytes());
        is_handshake && self.renewed.is_none_or(|at| at.elapsed() >= RENEWAL_LEAST)
    }

    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() > until)
    }

    /// Logs in again; `frame` is the first of that.
    pub fn renew(&mut self, stream: &mut Stream<'_>, shared: &Shared, frame: Bytes) -> Result<(), Ended> {
        let deadline = Instant::now() + shared.options.handshake_timeout;
        *self = run(stream, shared, deadline, Some(&self.session), Some(frame))?;
        Ok(())
    }
}

/// Exchanges frames until somebody is in, or not.
pub(super) fn run(
    stream: &mut Stream<'_>,
    shared: &Shared,
    deadline: Instant,
    before: Option<&Session>,
    mut first: Option<Bytes>,
) -> Result<Entered, Ended> {
    let renewed = before.map(|_| Instant::now());
    let mut login = Login::new(&shared.options.mechanisms, before);
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let lifetime = shared.options.session_lifetime;
    let facts = Facts {
        credential: &|user, hash| {
            shared.with_broker(|broker| broker.state().users().credential(user, hash).cloned())
        },
        secret: &shared.secret,
        nonce: &nonce,
        lifetime_ms: lifetime.map_or(0, |lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)),
    };
    loop {
        let frame = match first.take() {
            Some(frame) => frame,
            None => next_frame(stream, shared, deadline)?,
        };
        let (step, id, version) = if login.wants_token() {
            (login.bare_token(&frame, &facts), 0, 0)
        } else {
            let request = Request::decode(frame)?;
            let (id, version) = (request.correlation_id(), request.version());
            (login.request(request, &facts), id, version)
        };
        if matches!(step.next, Next::Refused(_)) {
            shared.pause(REFUSAL_DELAY);
        }
        match step.answer {
            Some(Answer::Response(response)) => {
                send(stream, shared, &encode_response(&response, id, version)?)?;
            }
            Some(Answer::Token(token)) => {
                let length = u32::try_from(token.len()).unwrap_or_default().to_be_bytes();
                send(stream, shared, &[&length[..], &token].concat())?;
            }
            None => {}
        }
        match step.next {
            Next::GoOn => {}
            Next::LoggedIn(session) => {
                tracing::debug!(user = session.user, mechanism = %session.mechanism, "a client logged in");
                return Ok(Entered {
                    session,
                    renewed,
                    until: lifetime.map(|lifetime| Instant::now() + lifetime),
                });
            }
            Next::Refused(reason) => return Err(Ended::Login(reason)),
        }
    }
}

fn next_frame(stream: &mut Stream<'_>, shared: &Shared, deadline: Instant) -> Result<Bytes, Ended> {
    let left = deadline.saturating_duration_since(Instant::now());
    stream.set_read_timeout(left)?;
    // So little needs no share of the memory.
    let mut share = shared.request_memory.share();
    let limits = Limits { idle: left, until: Some(deadline), max_bytes: MAX_BYTES };
    let frame = read_frame(stream, shared, &mut share, &limits, &mut BytesMut::new())?;
    frame.ok_or_else(|| Ended::Io(std::io::ErrorKind::UnexpectedEof.into()))
}
