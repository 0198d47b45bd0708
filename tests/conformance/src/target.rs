//! The broker a case runs on: the embedded one, started for the case, or a real Apache Kafka that serves all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pelton_broker::server::{FirstUser, Listener, Options, Password, Protocol, Running, TlsFiles, serve};

use crate::{not_yet, parts};

/// How long a case waits for what has to happen. Long enough for a loaded machine; waited only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// The same where failure is expected.
const IMPATIENCE: Duration = Duration::from_secs(5);

/// A broker under test. Names of topics, groups and transactions are made unique, as a real Kafka is shared.
#[derive(Debug)]
pub struct Target {
    bootstrap: String,
    /// What clients need to connect, beside the address.
    settings: Vec<(String, String)>,
    secured: Option<Secured>,
    embedded: Option<(Running, tempfile::TempDir)>,
    /// How long to wait for what has to happen.
    pub patience: Duration,
    run: String,
    /// To be deleted when the case is over; the embedded broker goes away altogether.
    topics: RefCell<Vec<String>>,
}

/// Runs a case on an embedded broker of its own; `path` is the path of the case.
pub fn on_embedded(path: &str, case: fn(&Target)) {
    let Some(reason) = not_yet::reason(path) else { return case(&Target::embedded(PATIENCE)) };
    let target = Target::embedded(IMPATIENCE);
    let passed = catch_unwind(AssertUnwindSafe(|| case(&target))).is_ok();
    assert!(!passed, "the embedded broker does this now: remove it from NOT_YET ({reason})");
    eprintln!("not yet on the embedded broker: {reason}");
}

/// Runs a case on the real Kafka, if there is one.
pub fn on_kafka(case: fn(&Target)) {
    let Some(bootstrap) = parts::kafka() else { return };
    let target = Target::new(bootstrap, None, PATIENCE);
    let result = catch_unwind(AssertUnwindSafe(|| case(&target)));
    target.clean_up();
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs a case on an embedded broker with the listeners of the Kafka for tests.
pub fn on_secured_embedded(path: &str, case: fn(&Target)) {
    assert_eq!(not_yet::reason(path), None, "no secured case may be missing");
    case(&Target::embedded_secured(PATIENCE));
}

/// Runs a case on the real Kafka with TLS and SASL, if there is one.
pub fn on_secured_kafka(case: fn(&Target)) {
    let Some(dir) = parts::kafka_secure() else { return };
    let text = std::fs::read_to_string(dir.join("listeners")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let listeners: BTreeMap<String, String> = pairs.map(|(name, at)| (name.into(), at.into())).collect();
    let mut target = Target::new(listeners["PLAINTEXT"].clone(), None, PATIENCE);
    target.secured = Some(Secured { dir, listeners });
    let result = catch_unwind(AssertUnwindSafe(|| case(&target)));
    target.clean_up();
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Listeners with TLS and SASL.
#[derive(Debug)]
struct Secured {
    dir: PathBuf,
    listeners: BTreeMap<String, String>,
}

/// Certificates for all embedded brokers of this process.
fn certificates() -> &'static Path {
    static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        pelton_certificates::write_kit(dir.path()).unwrap();
        dir
    });
    DIR.path()
}

impl Target {
    /// A new embedded broker with the listeners, users and certificates of the Kafka for tests.
    pub fn embedded_secured(patience: Duration) -> Self {
        let (data, dir) = (tempfile::tempdir().unwrap(), certificates());
        let files = |name: &str, client_ca: Option<&str>| TlsFiles {
            certificate: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
            client_ca: client_ca.map(|name| dir.join(name)),
        };
        let (server, mutual) = (files("server", None), files("server", Some("ca.pem")));
        let all = [
            ("PLAINTEXT", Protocol::Plaintext, None),
            ("SSL", Protocol::Ssl, Some(server.clone())),
            ("SASL_PLAINTEXT", Protocol::SaslPlaintext, None),
            ("SASL_SSL", Protocol::SaslSsl, Some(server)),
            ("MUTUAL", Protocol::Ssl, Some(mutual)),
            ("EXPIRED", Protocol::Ssl, Some(files("expired", None))),
            ("ELSEWHERE", Protocol::Ssl, Some(files("elsewhere", None))),
        ];
        let mut options = Options::new("127.0.0.1:0", data.path());
        let listener = |(_, protocol, tls): &(_, Protocol, Option<TlsFiles>)| Listener {
            protocol: *protocol,
            tls: tls.clone(),
            ..Listener::plaintext("127.0.0.1:0")
        };
        options.listeners = all.iter().map(listener).collect();
        options.session_lifetime = Some(Duration::from_secs(2));
        let password = Password::new("alice-secret");
        options.first_user = Some(FirstUser { name: "alice".to_owned(), password });
        let running = serve(options).unwrap();
        let names = all.iter().map(|(name, ..)| (*name).to_owned());
        let listeners = names.zip(running.bootstraps().into_iter().map(|(_, at)| at)).collect();
        let mut target = Self::new(running.bootstrap(), Some((running, data)), patience);
        target.secured = Some(Secured { dir: dir.to_owned(), listeners });
        target
    }

    /// A new embedded broker.
    pub fn embedded(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new("127.0.0.1:0", dir.path());
        // Short enough for a case to wait for it.
        options.producer_expiration = Duration::from_secs(100);
        options.transactional_id_expiration = Duration::from_secs(30);
        let running = serve(options).unwrap();
        Self::new(running.bootstrap(), Some((running, dir)), patience)
    }

    fn new(bootstrap: String, embedded: Option<(Running, tempfile::TempDir)>, patience: Duration) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A Kafka that stays up sees process ids again.
        let run = format!("{}-{}-{number}", std::process::id(), crate::wire::now_ms() % 1_000_000);
        let settings = Vec::new();
        Self { bootstrap, settings, secured: None, embedded, patience, run, topics: RefCell::default() }
    }

    /// Whether this is the embedded broker, for the few differences that `docs/broker.md` lists.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// `HOST:PORT`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What clients need to connect, beside the address.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// The same broker through another of its listeners, with settings of clients. The target this is asked of has to stay.
    pub fn through(&self, listener: &str, settings: &[(&str, &str)]) -> Self {
        let secured = self.secured.as_ref().unwrap();
        let mut target = Self::new(secured.listeners[listener].clone(), None, self.patience);
        target.settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        target
    }

    /// A file of the certificates that `tests/infra/kafka/README.md` lists.
    pub fn certificate(&self, name: &str) -> String {
        self.secured.as_ref().unwrap().dir.join(name).display().to_string()
    }

    /// A name that no other case has.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    /// To be deleted after the case.
    pub fn remember(&self, topic: &str) {
        self.topics.borrow_mut().push(topic.to_owned());
    }

    /// Looks again and again until there is something to see.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "not within {:?}: {what}", self.patience);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn clean_up(&self) {
        let topics = self.topics.take();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        if !topics.is_empty() {
            // Best effort: the case has its result already.
            let _ = crate::client::block_on(self.admin().delete_topics(&topics, &self.admin_options()));
        }
    }
}
