//! A proxy in front of a Kafka broker that reads the protocol's framing: it can delay, drop, hold or reorder single
//! requests by their kind, lose their answers, cut connections, and make the line slow or silent.
//!
//! It needs nothing of the broker: in the answers that name the broker's address (`Metadata`, `FindCoordinator`,
//! `DescribeCluster`) it writes its own, so that clients stay behind it. One proxy stands for one broker.
//!
//! A test has a [`Proxy`] in its hand; `cargo run -p pelton-tests --bin kafka-proxy` is the same for other programs, told
//! what to do line by line ([`words`]).

mod connection;
mod rules;
mod wire;
pub mod words;

pub use rules::{Fault, Rule, Ticket};
pub use wire::{Address, ApiKey};

use connection::Pair;
use rules::Rules;
use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// What every connection goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Each request waits for this long.
    pub delay: Duration,
    /// Bytes a second and direction of one connection; 0: no limit.
    pub bytes_per_second: u64,
    /// New connections are closed at once.
    pub refuses: bool,
    /// Half open: all that is sent is taken, and goes nowhere.
    pub silent: bool,
}

/// See the module's text. Everything ends with it.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: Address,
    socket: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    upstream: Address,
    own: Address,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub rules: Rules,
    pub line: Line,
    pub ended: bool,
    pairs: HashMap<u64, Arc<Pair>>,
    accepted: u64,
    /// Requests passed on, by kind.
    passed: HashMap<i16, u64>,
}

impl Proxy {
    /// Listen at an address (port 0: any) for clients of a broker, which calls itself by the address it is reached at.
    ///
    /// # Errors
    /// The address is taken, or is none.
    pub fn start(listen: &str, upstream: &str) -> io::Result<Proxy> {
        let listener = TcpListener::bind(listen)?;
        let socket = listener.local_addr()?;
        let own = Address { host: socket.ip().to_string(), port: socket.port() };
        let shared = Arc::new(Shared {
            upstream: upstream.parse()?,
            own: own.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = shared.clone();
        let thread =
            std::thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener, &accepting))?;
        Ok(Proxy { shared, address: own, socket, thread: Some(thread) })
    }

    /// What clients use as `bootstrap.servers`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on, treat requests like this. The first rule that fits a request gets it.
    pub fn arm(&self, rule: Rule) -> Ticket {
        self.shared.lock().rules.arm(rule)
    }

    /// Forget a rule; what it holds goes on its way.
    pub fn disarm(&self, ticket: Ticket) {
        self.shared.lock().rules.disarm(ticket);
        self.shared.changed.notify_all();
    }

    /// Forget all rules, and give the line its full speed.
    pub fn clear(&self) {
        self.shared.lock().rules.clear();
        self.set_line(Line::default());
    }

    /// Deliver what a rule holds, and what it would hold from now on.
    pub fn release(&self, ticket: Ticket) {
        self.shared.lock().rules.release(ticket);
        self.shared.changed.notify_all();
    }

    /// Wait until a rule has met as many requests; false when it did not in time.
    pub fn until_caught(&self, ticket: Ticket, requests: u64, within: Duration) -> bool {
        self.until(within, |state| state.rules.caught(ticket) >= requests)
    }

    /// Wait until the broker has answered a request that a rule met (or its connection is gone); false when not in time.
    pub fn until_answered(&self, ticket: Ticket, requests: u64, within: Duration) -> bool {
        self.until(within, |state| state.rules.answered(ticket) >= requests)
    }

    /// Requests that a rule has met, and those of them that were answered.
    pub fn status(&self, ticket: Ticket) -> (u64, u64) {
        let rules = &self.shared.lock().rules;
        (rules.caught(ticket), rules.answered(ticket))
    }

    fn until(&self, within: Duration, so: impl Fn(&State) -> bool) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, within, |state| !so(state));
        so(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Requests of this kind that were passed on.
    pub fn passed(&self, key: ApiKey) -> u64 {
        self.shared.lock().passed.get(&key.0).copied().unwrap_or(0)
    }

    /// What every connection goes through from now on. A line that is silent no more has lost requests: its connections
    /// are reset.
    pub fn set_line(&self, line: Line) {
        let before = std::mem::replace(&mut self.shared.lock().line, line);
        if before.silent && !line.silent {
            self.reset();
        }
    }

    /// What every connection goes through now.
    pub fn line(&self) -> Line {
        self.shared.lock().line
    }

    /// Reset (RST) all connections on both sides.
    pub fn reset(&self) {
        self.shared.lock().pairs.values().for_each(|pair| pair.reset());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.ended = true;
            state.rules.clear();
            state.pairs.values().for_each(|pair| pair.reset());
        }
        self.shared.changed.notify_all();
        // Whatever comes of it, the thread looks up.
        let _ = TcpStream::connect(self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request goes to the broker.
    pub(crate) fn passed(&self, key: ApiKey) {
        *self.lock().passed.entry(key.0).or_default() += 1;
    }

    pub(crate) fn answered(&self, ticket: Ticket) {
        self.lock().rules.note_answer(ticket);
        self.changed.notify_all();
    }

    pub(crate) fn gone(&self, pair: u64) {
        self.lock().pairs.remove(&pair);
        self.changed.notify_all();
    }

    /// Keep a request until its rule is released, forgotten, or its time is over.
    pub(crate) fn hold(&self, ticket: Ticket, at_most: Option<Duration>) {
        let at_most = at_most.unwrap_or(Duration::MAX);
        let state = self.lock();
        // Longer than a day is for ever; a condition variable knows no `Duration::MAX`.
        let at_most = at_most.min(Duration::from_secs(86_400));
        drop(self.changed.wait_timeout_while(state, at_most, |s| !s.ended && s.rules.holds(ticket)));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.lock();
        if state.ended {
            return;
        }
        let (Ok(client), false) = (client, state.line.refuses) else { continue };
        state.accepted += 1;
        let number = state.accepted;
        drop(state);
        let Ok(server) = TcpStream::connect((shared.upstream.host.as_str(), shared.upstream.port)) else {
            continue;
        };
        let Ok(pair) = Pair::new(number, client, server) else { continue };
        let pair = Arc::new(pair);
        shared.lock().pairs.insert(number, pair.clone());
        connection::serve(&pair, shared);
    }
}
