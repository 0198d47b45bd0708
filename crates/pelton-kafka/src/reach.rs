//! Which brokers a client is connected to, and how it finds them again when the library has let go of all of them.
//!
//! A metadata answer that names no broker, as a cluster gives whose only one is fenced for a moment, makes librdkafka 2.12.1
//! let go of every broker it knows. It begins anew from `bootstrap.servers` when the last connection fails, but not when it
//! has closed that itself: then it is connected to nobody, asks nobody, and says nothing of it
//! (<https://github.com/confluentinc/librdkafka/issues/5301>).

use crate::{native::Client, overheard::Overheard};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// Time between two looks at all clients.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A client that has no connection and has tried none for this long is given its brokers anew; each time in vain the wait
/// doubles up to the second. One whose brokers are down tries them by itself, every ten seconds at least, so what comes too
/// often is no harm; but the library keeps the addresses of each call.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(600)];

/// What is known of the connections of a client.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Host and port of brokers that are connected.
    up: BTreeSet<(String, i32)>,
    /// When something happened to any connection, or the client was given its brokers.
    since: Instant,
    /// Times that it was given them since it was last connected.
    tries: u32,
}

impl Reach {
    pub(crate) fn new(now: Instant) -> Reach {
        Reach { up: BTreeSet::new(), since: now, tries: 0 }
    }

    /// A connection changed. Those to the coordinators of groups and transactions have no port: they are no help in finding
    /// brokers.
    pub(crate) fn changed(&mut self, host: &str, port: i32, is_up: bool, now: Instant) {
        if port == 0 {
            return;
        }
        if is_up {
            self.up.insert((host.to_owned(), port));
            self.tries = 0;
        } else {
            self.up.remove(&(host.to_owned(), port));
        }
        self.since = now;
    }

    /// Whether it is time to give the client its brokers. It counts as done.
    fn is_deaf(&mut self, now: Instant) -> bool {
        let patience = (PATIENCE[0] * 2_u32.saturating_pow(self.tries)).min(PATIENCE[1]);
        let is_deaf = self.up.is_empty() && now.saturating_duration_since(self.since) >= patience;
        if is_deaf {
            self.tries += 1;
            self.since = now;
        }
        is_deaf
    }
}

/// Looks after all clients of a connection, on a thread that ends with it.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Option<mpsc::Sender<Watched>>>);

type Watched = (Weak<Client>, Arc<Overheard>);

impl Watch {
    /// Look after this client too.
    pub(crate) fn keep(&self, client: &Arc<Client>, overheard: &Arc<Overheard>) {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = (Arc::downgrade(client), overheard.clone());
        if let Some(sender) = &*thread {
            // The thread ends only when the sender is gone.
            let _ = sender.send(watched);
            return;
        }
        let (sender, new) = mpsc::channel();
        let _ = sender.send(watched);
        match std::thread::Builder::new().name("kafka-reach".into()).spawn(move || watch(&new)) {
            Ok(_) => *thread = Some(sender),
            Err(why) => tracing::error!("no thread to look after connections: {why}"),
        }
    }
}

fn watch(new: &mpsc::Receiver<Watched>) {
    let mut all: Vec<Watched> = Vec::new();
    loop {
        match new.recv_timeout(LOOK_EVERY) {
            Ok(watched) => all.push(watched),
            Err(RecvTimeoutError::Timeout) => {
                all.retain(|(client, _)| client.strong_count() > 0);
                for (client, overheard) in &all {
                    if overheard.reach().is_deaf(Instant::now())
                        && let Some(client) = client.upgrade()
                    {
                        tracing::debug!(
                            "a client is connected to no broker and tries none: given its brokers anew"
                        );
                        client.look_for_brokers();
                    }
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_without_a_connection_that_tries_none_is_deaf_and_ever_more_patience_is_had_with_it() {
        let begin = Instant::now();
        let mut reach = Reach::new(begin);
        reach.changed("a", 9092, true, begin);
        assert!(!reach.is_deaf(begin + 600 * SECOND), "it is connected");
        reach.changed("a", 9092, false, begin + 600 * SECOND);
        assert!(!reach.is_deaf(begin + 602 * SECOND), "not yet");
        assert!(reach.is_deaf(begin + 603 * SECOND));
        assert!(!reach.is_deaf(begin + 608 * SECOND), "twice the patience");
        assert!(reach.is_deaf(begin + 609 * SECOND));
        reach.changed("a", 9092, true, begin + 610 * SECOND);
        reach.changed("a", 9092, false, begin + 611 * SECOND);
        assert!(reach.is_deaf(begin + 614 * SECOND), "as at first, once it was connected");
    }

    #[test]
    fn one_that_tries_its_brokers_or_is_connected_to_one_is_not_deaf_and_coordinators_do_not_count() {
        let begin = Instant::now();
        let mut reach = Reach::new(begin);
        for second in 0..60 {
            reach.changed("a", 9092, false, begin + second * SECOND);
            assert!(!reach.is_deaf(begin + second * SECOND), "it tries");
        }
        reach.changed("b", 9092, true, begin + 60 * SECOND);
        reach.changed("a", 9092, false, begin + 60 * SECOND);
        assert!(!reach.is_deaf(begin + 120 * SECOND), "the other one is there");
        reach.changed("b", 9092, false, begin + 120 * SECOND);
        reach.changed("GroupCoordinator", 0, true, begin + 121 * SECOND);
        assert!(reach.is_deaf(begin + 123 * SECOND));
    }
}
