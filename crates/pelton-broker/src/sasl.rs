//! Logging in: the SASL requests of one connection, as a state machine without sockets, clocks or chance.
//!
//! As in Kafka: first, once, ApiVersions if the client likes, then SaslHandshake, then SaslAuthenticate until the mechanism
//! is through. Anything else ends the connection.

use std::fmt;
use std::str::FromStr;

use kafka_protocol::messages::{RequestKind, ResponseKind, SaslAuthenticateResponse, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use crate::api::{Request, api_versions};
use crate::code::Code;
use crate::scram::{ClientFirst, Credential, Exchange, Hash, Refused};

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself: only as safe as what carries it.
    Plain,
    /// A proof that the client knows the password.
    Scram(Hash),
}

impl Mechanism {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512)];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mechanism {
    type Err = String;

    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mechanism| mechanism.name() == text);
        found.ok_or_else(|| format!("SASL mechanism {text:?}; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"))
    }
}

/// Somebody who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Their name.
    pub user: String,
    /// How they proved it.
    pub mechanism: Mechanism,
}

/// What a step needs to know.
pub struct Facts<'a> {
    /// What is kept of a user's password.
    pub credential: &'a dyn Fn(&str, Hash) -> Option<Credential>,
    /// Never told to anybody; what strangers see of users that do not exist comes from it.
    pub secret: &'a [u8],
    /// Printable, without commas, never the same twice.
    pub nonce: &'a str,
    /// How long a session counts, milliseconds; 0 for ever.
    pub lifetime_ms: i64,
}

/// What a step leads to.
#[derive(Debug)]
pub struct Step {
    /// What the client gets, if anything.
    pub answer: Option<Answer>,
    /// What comes when it has it.
    pub next: Next,
}

/// To be sent.
#[derive(Debug)]
pub enum Answer {
    /// To a request.
    Response(Box<ResponseKind>),
    /// A frame without a header, after a handshake in version 0.
    Token(Vec<u8>),
}

/// What comes then.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// More of the login.
    GoOn,
    /// The connection belongs to somebody.
    LoggedIn(Session),
    /// After the answer, if there is one, the connection ends.
    Refused(String),
}

#[derive(Debug)]
enum State {
    Begin { knows_versions: bool },
    Chosen(Mechanism),
    Proof(Hash, String, Exchange),
    Over,
}

/// The login of one connection.
#[derive(Debug)]
pub struct Login<'a> {
    mechanisms: &'a [Mechanism],
    /// Who logs in again.
    before: Option<&'a Session>,
    state: State,
    /// Tokens come without requests around them: the handshake had version 0.
    is_raw: bool,
}

/// What came of a token.
struct Progress {
    token: Vec<u8>,
    session: Option<Session>,
}

impl<'a> Login<'a> {
    /// Begins one with these mechanisms to choose from; `before` renews a session.
    #[must_use]
    pub fn new(mechanisms: &'a [Mechanism], before: Option<&'a Session>) -> Self {
        Self { mechanisms, before, state: State::Begin { knows_versions: false }, is_raw: false }
    }

    /// Whether the next frame is a bare token.
    #[must_use]
    pub fn wants_token(&self) -> bool {
        self.is_raw
    }

    /// Takes a request.
    pub fn request(&mut self, request: Request, facts: &Facts<'_>) -> Step {
        if let State::Begin { knows_versions: false } = self.state
            && let Some(versions) = api_versions(&request)
        {
            // One in a version of the future is asked again in another.
            let is_known = !matches!(request, Request::UnsupportedApiVersions { .. });
            self.state = State::Begin { knows_versions: is_known };
            return Step { answer: Some(Answer::Response(Box::new(versions))), next: Next::GoOn };
        }
        let (kind, version) = match request {
            Request::Other { kind, version, .. } => (*kind, version),
            _ => return self.unexpected(None),
        };
        match (&self.state, kind) {
            (State::Begin { .. }, RequestKind::SaslHandshake(asked)) => {
                self.handshake(&asked.mechanism, version)
            }
            (State::Chosen(_) | State::Proof(..), RequestKind::SaslAuthenticate(asked)) => {
                let (response, next) = match self.token(&asked.auth_bytes, facts) {
                    Ok(progress) => accepted(progress, version, facts.lifetime_ms),
                    Err(reason) => (failed(Code::SaslAuthenticationFailed, &reason), Next::Refused(reason)),
                };
                Step { answer: Some(response_of(ResponseKind::SaslAuthenticate(response))), next }
            }
            (State::Chosen(_) | State::Proof(..), RequestKind::SaslHandshake(_)) => {
                self.unexpected(Some(ResponseKind::SaslHandshake(no_handshake_here())))
            }
            _ => self.unexpected(None),
        }
    }

    /// Takes a bare token.
    pub fn bare_token(&mut self, token: &[u8], facts: &Facts<'_>) -> Step {
        match self.token(token, facts) {
            Ok(Progress { token, session }) => {
                let next = session.map_or(Next::GoOn, Next::LoggedIn);
                Step { answer: Some(Answer::Token(token)), next }
            }
            Err(reason) => Step { answer: None, next: Next::Refused(reason) },
        }
    }

    fn unexpected(&mut self, response: Option<ResponseKind>) -> Step {
        self.state = State::Over;
        let next = Next::Refused("a request that has no place in a login".to_owned());
        Step { answer: response.map(response_of), next }
    }

    fn handshake(&mut self, asked: &str, version: i16) -> Step {
        let names = self.mechanisms.iter().map(|mechanism| StrBytes::from_static_str(mechanism.name()));
        let response = SaslHandshakeResponse::default().with_mechanisms(names.collect());
        let chosen = self.mechanisms.iter().find(|mechanism| mechanism.name() == asked);
        let (code, next) = match chosen {
            Some(mechanism) => {
                (self.state, self.is_raw) = (State::Chosen(*mechanism), version == 0);
                (Code::None, Next::GoOn)
            }
            None => {
                self.state = State::Over;
                let reason = format!("SASL mechanism {asked:?} is not enabled");
                (Code::UnsupportedSaslMechanism, Next::Refused(reason))
            }
        };
        let response = ResponseKind::SaslHandshake(response.with_error_code(code.into()));
        Step { answer: Some(response_of(response)), next }
    }

    /// A step of the mechanism.
    fn token(&mut self, token: &[u8], facts: &Facts<'_>) -> Result<Progress, String> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Chosen(mechanism) => {
                if let Some(before) = self.before.filter(|before| before.mechanism != mechanism) {
                    let old = before.mechanism;
                    return Err(format!(
                        "a session that began with {old} cannot be renewed with {mechanism}"
                    ));
                }
                match mechanism {
                    Mechanism::Plain => {
                        let user = plain(token, facts)?;
                        self.logged_in(user, mechanism, Vec::new())
                    }
                    Mechanism::Scram(hash) => self.scram_first(hash, token, facts),
                }
            }
            State::Proof(hash, user, exchange) => {
                let token = exchange.finish(token).map_err(|why| scram_failed(hash, &user, why))?;
                self.logged_in(user, Mechanism::Scram(hash), token.into_bytes())
            }
            State::Begin { .. } | State::Over => Err("no handshake came before".to_owned()),
        }
    }

    fn scram_first(&mut self, hash: Hash, token: &[u8], facts: &Facts<'_>) -> Result<Progress, String> {
        let first = ClientFirst::parse(token).map_err(|why| scram_failed(hash, "", why))?;
        let known = (facts.credential)(&first.user, hash);
        let credential = known.unwrap_or_else(|| Credential::decoy(hash, facts.secret, &first.user));
        let (exchange, challenge) = Exchange::begin(hash, &first, credential, facts.nonce);
        self.state = State::Proof(hash, first.user, exchange);
        Ok(Progress { token: challenge.into_bytes(), session: None })
    }

    fn logged_in(&self, user: String, mechanism: Mechanism, token: Vec<u8>) -> Result<Progress, String> {
        match self.before {
            Some(before) if before.user != user => {
                Err(format!("a session of {:?} cannot be renewed by {user:?}", before.user))
            }
            _ => Ok(Progress { token, session: Some(Session { user, mechanism }) }),
        }
    }
}

/// User and password of a PLAIN token (RFC 4616), if they belong together.
fn plain(token: &[u8], facts: &Facts<'_>) -> Result<String, String> {
    let text = std::str::from_utf8(token).map_err(|_| "a PLAIN token that is no UTF-8".to_owned())?;
    let parts: Vec<&str> = text.split('\0').collect();
    let [authzid, user, password] = parts[..] else {
        return Err(format!("a PLAIN token of {} parts instead of 3", parts.len()));
    };
    if !authzid.is_empty() && authzid != user {
        return Err(
            "Authentication failed: Client requested an authorization id that is different from username"
                .to_owned(),
        );
    }
    let known = Hash::ALL.into_iter().find_map(|hash| Some((hash, (facts.credential)(user, hash)?)));
    let (hash, credential) =
        known.unwrap_or_else(|| (Hash::Sha256, Credential::decoy(Hash::Sha256, facts.secret, user)));
    if user.is_empty() || password.is_empty() || !credential.fits(hash, password) {
        return Err("Authentication failed: Invalid username or password".to_owned());
    }
    Ok(user.to_owned())
}

/// Kafka's words; clients log them. The cause goes no further than the broker's own log.
fn scram_failed(hash: Hash, user: &str, why: Refused) -> String {
    let mechanism = Mechanism::Scram(hash);
    tracing::debug!(user, %mechanism, %why, "a login failed");
    format!(
        "Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
    )
}

fn accepted(progress: Progress, version: i16, lifetime_ms: i64) -> (SaslAuthenticateResponse, Next) {
    let response = SaslAuthenticateResponse::default().with_auth_bytes(progress.token.into());
    match progress.session {
        None => (response, Next::GoOn),
        Some(session) if version == 0 => (response, Next::LoggedIn(session)),
        Some(session) => (response.with_session_lifetime_ms(lifetime_ms), Next::LoggedIn(session)),
    }
}

fn failed(code: Code, text: &str) -> SaslAuthenticateResponse {
    let message = Some(StrBytes::from_string(text.to_owned()));
    SaslAuthenticateResponse::default().with_error_code(code.into()).with_error_message(message)
}

fn response_of(kind: ResponseKind) -> Answer {
    Answer::Response(Box::new(kind))
}

/// To a handshake where there is nothing to log in to, or not now.
pub(crate) fn no_handshake_here() -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(Code::IllegalSaslState.into())
}

/// The same to a token.
pub(crate) fn no_login_here() -> SaslAuthenticateResponse {
    failed(Code::IllegalSaslState, "SaslAuthenticate has no place here: this connection needs no login now")
}

#[cfg(test)]
mod tests;
