//! The broker a case runs on: the embedded one, started for the case, or a real Apache Kafka that serves all.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pelton_broker::server::{Options, Running, serve};

use crate::{not_yet, parts};

/// How long a case waits for what has to happen. Long enough for a loaded machine; waited only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// The same where failure is expected.
const IMPATIENCE: Duration = Duration::from_secs(5);

/// A broker under test. Names of topics, groups and transactions are made unique, as a real Kafka is shared.
#[derive(Debug)]
pub struct Target {
    bootstrap: String,
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

impl Target {
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
        Self { bootstrap, embedded, patience, run, topics: RefCell::default() }
    }

    /// Whether this is the embedded broker, for the few differences that `docs/broker.md` lists.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// `HOST:PORT`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
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
