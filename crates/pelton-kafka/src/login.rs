//! Keeps the login of a connection fresh: a password in a file that is exchanged, tokens that run out.
//!
//! One thread a connection, and none where nothing can change. Certificates and keys are read by the library when a
//! client is made; it cannot be given others later.

use crate::{
    native::{Client, c_text, text},
    token::{self, Token},
};
use pelton_sdk::{
    Revealed,
    connection::{Given, Sasl, Secret},
};
use pelton_types::Code;
use rdkafka_sys as sys;
use std::{
    ffi::c_char,
    ptr,
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Files are looked at this often: whoever exchanges a secret lets the old one work for longer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pauses after a failure: from the first to the last, doubled each time.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Login {
    label: String,
    sasl: Option<Sasl>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    clients: Vec<Weak<Client>>,
    /// Clients that nobody has given anything to yet.
    new: Vec<Weak<Client>>,
    running: bool,
    over: bool,
}

impl Login {
    pub(crate) fn new(label: &str, sasl: Option<Sasl>) -> Login {
        Login { label: label.to_owned(), sasl, shared: Arc::default() }
    }

    /// User and password as they are now, as properties of a new client.
    pub(crate) fn properties(&self) -> Result<Vec<(&'static str, Revealed)>, String> {
        match &self.sasl {
            Some(Sasl::Password { username, password, .. }) => {
                let (username, password) = read(username, password)?;
                Ok(vec![("sasl.username", Revealed::new(username)), ("sasl.password", password)])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Tokens are handed to the client by [`Login::keep`].
    pub(crate) fn is_by_token(&self) -> bool {
        matches!(self.sasl, Some(Sasl::Token(_) | Sasl::TokenEndpoint(_)))
    }

    /// Keep this client's login fresh from now on.
    pub(crate) fn keep(&self, client: &Arc<Client>) {
        let Some(keeper) = self.keeper() else { return };
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.new.push(Arc::downgrade(client));
        if !state.running {
            let (shared, label) = (self.shared.clone(), self.label.clone());
            let thread = std::thread::Builder::new().name("kafka-login".into());
            match thread.spawn(move || shared.run(keeper)) {
                Ok(_) => state.running = true,
                Err(why) => tracing::error!(brokers = label, "no thread to keep the login fresh: {why}"),
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// What has to be done, if anything can change.
    fn keeper(&self) -> Option<Box<dyn Keeper>> {
        let label = self.label.clone();
        match self.sasl.clone()? {
            Sasl::Password { username, password, .. } if username.may_change() || password.may_change() => {
                Some(Box::new(Passwords { label, username, password, held: None }))
            }
            Sasl::Password { .. } => None,
            Sasl::Token(secret) => Some(Box::new(Tokens::new(label, Origin::Held(secret)))),
            Sasl::TokenEndpoint(endpoint) => {
                Some(Box::new(Tokens::new(label, Origin::Endpoint(Box::new(endpoint)))))
            }
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.changed.notify_one();
    }
}

fn read(username: &Given, password: &Secret) -> Result<(String, Revealed), String> {
    Ok((username.read()?, password.read()?))
}

type Clients = Vec<Arc<Client>>;

/// What one kind of login needs over time.
trait Keeper: Send {
    /// Give new clients what they need, and all of them what has changed. When to look again.
    fn look(&mut self, all: &[Arc<Client>], new: &[Arc<Client>]) -> Duration;
}

impl Shared {
    fn run(&self, mut keeper: Box<dyn Keeper>) {
        let mut due = Instant::now();
        while let Some((all, new)) = self.next(due) {
            due = Instant::now() + keeper.look(&all, &new);
        }
    }

    /// Wait until it is time or a client came; `None` when the connection is gone.
    fn next(&self, due: Instant) -> Option<(Clients, Clients)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            if state.over {
                return None;
            }
            if now >= due || !state.new.is_empty() {
                let new: Vec<_> = state.new.drain(..).filter_map(|client| client.upgrade()).collect();
                state.clients.retain(|client| client.strong_count() > 0);
                state.clients.extend(new.iter().map(Arc::downgrade));
                return Some((state.clients.iter().filter_map(Weak::upgrade).collect(), new));
            }
            state = self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A user and a password, of which one or both are in files.
struct Passwords {
    label: String,
    username: Given,
    password: Secret,
    held: Option<(String, Revealed)>,
}

impl Keeper for Passwords {
    fn look(&mut self, all: &[Arc<Client>], new: &[Arc<Client>]) -> Duration {
        match read(&self.username, &self.password) {
            Ok(found) => {
                let changed = self.held.as_ref().is_some_and(|held| *held != found);
                if changed {
                    tracing::info!(
                        brokers = self.label,
                        "the login has changed; it counts from the next connection on"
                    );
                }
                // A new client may have read the old one just before.
                for client in if changed { all } else { new } {
                    if let Err(why) = set_password(client, &found) {
                        tracing::warn!(brokers = self.label, code = %Code::LoginFailed, "the client does not take the new login: {why}");
                    }
                }
                self.held = Some(found);
            }
            Err(why) => {
                tracing::warn!(brokers = self.label, code = %Code::LoginFailed, "the login stays as it was: {why}")
            }
        }
        LOOK_EVERY
    }
}

fn set_password(client: &Client, (username, password): &(String, Revealed)) -> Result<(), String> {
    let (username, password) = (c_text(username), c_text(password.expose()));
    // SAFETY: a live client; both texts are copied.
    let error =
        unsafe { sys::rd_kafka_sasl_set_credentials(client.raw(), username.as_ptr(), password.as_ptr()) };
    crate::consumer::take_error(error).map_err(|failure| failure.text)
}

/// Where tokens come from.
enum Origin {
    Held(Secret),
    Endpoint(Box<pelton_sdk::connection::TokenEndpoint>),
}

struct Tokens {
    label: String,
    origin: Origin,
    held: Option<Token>,
    failures: u32,
    /// When a new token is due.
    due: Instant,
}

impl Tokens {
    fn new(label: String, origin: Origin) -> Self {
        Self { label, origin, held: None, failures: 0, due: Instant::now() }
    }

    fn fetch(&self) -> Result<Token, String> {
        let now = SystemTime::now();
        match &self.origin {
            Origin::Held(secret) => token::held(secret, now),
            Origin::Endpoint(endpoint) => token::fetch(endpoint, now),
        }
    }

    /// Fetch a token and hand it to all clients. When the next one is due.
    fn refresh(&mut self, all: &[Arc<Client>]) -> Duration {
        let given = self.fetch().and_then(|token| {
            if self.held.as_ref() != Some(&token) {
                all.iter().try_for_each(|client| set_token(client, &token))?;
            }
            Ok(token)
        });
        match given {
            Ok(token) => {
                let lifetime = token.expires.duration_since(SystemTime::now()).unwrap_or_default();
                self.held = Some(token);
                self.failures = 0;
                match self.origin {
                    Origin::Held(_) => LOOK_EVERY,
                    Origin::Endpoint(_) => refresh_after(lifetime),
                }
            }
            Err(why) => {
                tracing::warn!(brokers = self.label, code = %Code::LoginFailed, "no new token: {why}");
                if self.held.as_ref().is_none_or(|token| token.expires <= SystemTime::now()) {
                    all.iter().for_each(|client| token_failed(client, &why));
                }
                self.failures += 1;
                retry_after(self.failures)
            }
        }
    }
}

impl Keeper for Tokens {
    fn look(&mut self, all: &[Arc<Client>], new: &[Arc<Client>]) -> Duration {
        let now = Instant::now();
        // A client that comes while there is no token hears why at once.
        if now >= self.due || self.held.is_none() {
            self.due = now + self.refresh(all);
        }
        if let Some(token) = &self.held {
            for client in new {
                if let Err(why) = set_token(client, token) {
                    token_failed(client, &why);
                }
            }
        }
        self.due.saturating_duration_since(now)
    }
}

/// A fifth of a token's life is kept for trouble in fetching the next.
fn refresh_after(lifetime: Duration) -> Duration {
    (lifetime * 4 / 5).max(RETRY[0])
}

fn retry_after(failures: u32) -> Duration {
    RETRY[0].saturating_mul(1 << failures.saturating_sub(1).min(8)).min(RETRY[1])
}

fn set_token(client: &Client, token: &Token) -> Result<(), String> {
    let mut why = [0 as c_char; 512];
    let (value, principal) = (c_text(token.value.expose()), c_text(&token.principal));
    let expires = token.expires.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as i64);
    // SAFETY: a live client; the texts are copied; the buffer has the length given.
    let code = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.raw(),
            value.as_ptr(),
            expires,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        ) as i32
    };
    // The library's text may quote the token, so it is looked at only where it cannot.
    // SAFETY: NUL-terminated by the library.
    let expired = code != 0 && unsafe { text(why.as_ptr()) }.starts_with("Must supply an unexpired token");
    match (code, expired) {
        (0, _) => Ok(()),
        (_, true) => Err("the token has expired already".into()),
        _ => Err(format!("the client refuses the token: {}", crate::native::error_text(code))),
    }
}

fn token_failed(client: &Client, why: &str) {
    let why = c_text(why);
    // SAFETY: a live client; the text is copied.
    unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client.raw(), why.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_fetched_well_before_they_run_out_and_failures_are_spaced() {
        assert_eq!(refresh_after(Duration::from_secs(300)), Duration::from_secs(240));
        assert_eq!(
            refresh_after(Duration::ZERO),
            Duration::from_secs(1),
            "never in a circle without a pause"
        );
        assert_eq!(retry_after(1), Duration::from_secs(1));
        assert_eq!(retry_after(3), Duration::from_secs(4));
        assert_eq!(retry_after(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn only_a_login_that_can_change_has_a_thread() {
        let password = |password: Secret| {
            Some(Sasl::Password {
                mechanism: pelton_sdk::connection::Mechanism::Plain,
                username: Given::Text("u".into()),
                password,
            })
        };
        assert!(Login::new("b:1", None).keeper().is_none());
        assert!(Login::new("b:1", password(Secret::Env("P".into()))).keeper().is_none());
        assert!(Login::new("b:1", password(Secret::File("/p".into()))).keeper().is_some());
        assert!(Login::new("b:1", Some(Sasl::Token(Secret::Env("T".into())))).keeper().is_some());
    }
}
