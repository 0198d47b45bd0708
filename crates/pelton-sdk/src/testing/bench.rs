//! An operator with a clock of its own, called as the runtime calls it.

use crate::{BuildContext, Collector, Operator, OperatorFactory};
use pelton_types::{Account, Batch, Offset, Partition};
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};

/// An operator that wakes itself more often than this without an end has no end.
const MOST_WAKES: usize = 1_000_000;
/// Work beside an operator that takes longer than this will never end.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Runs one operator in virtual time and keeps its books: a difference fails the test that made it.
pub struct Bench {
    operator: Box<dyn Operator>,
    origin: Instant,
    now: Duration,
    again: Option<Duration>,
    account: Account,
}

/// What an operator gave in a stretch of time: batches by port, failures and counts, as a [`Collector`] has them.
pub type Given = Collector;

impl Bench {
    /// A new operator at time zero.
    ///
    /// # Panics
    /// When the options are wrong.
    pub fn new(factory: &dyn OperatorFactory, options: &Value, context: &BuildContext) -> Self {
        let operator = factory.build(options, context).unwrap_or_else(|errors| panic!("{errors:#?}"));
        Self {
            operator,
            origin: Instant::now(),
            now: Duration::ZERO,
            again: None,
            account: Account::default(),
        }
    }

    /// Let time pass until `at`; the operator is asked whenever it wished to be.
    pub fn advance(&mut self, at: Duration) -> Given {
        assert!(at >= self.now, "time goes back from {:?} to {at:?}", self.now);
        let mut given = self.collector(at);
        let mut wakes = 0;
        while let Some(wake) = self.again.filter(|wake| *wake <= at) {
            self.now = wake.max(self.now);
            let mut out = self.collector(self.now);
            self.poll_into(&mut out);
            join(&mut given, out);
            wakes += 1;
            assert!(wakes < MOST_WAKES, "the operator wants to be asked again for ever");
        }
        self.now = at;
        given
    }

    /// Give it a batch now. The runtime asks what is ready before and after.
    pub fn send(&mut self, batch: Batch) -> Given {
        let mut out = self.collector(self.now);
        self.ask(&mut out);
        self.account.records_in += batch.len() as u64;
        self.operator.process(batch, &mut out);
        self.settle(out)
    }

    /// Ask what is ready now.
    pub fn poll(&mut self) -> Given {
        let out = self.collector(self.now);
        self.settle(out)
    }

    /// A commit is due now.
    pub fn flush(&mut self) -> Given {
        if self.operator.held() > 0 {
            self.operator.flush();
        }
        self.poll()
    }

    /// Wait, in real time, until nothing is held: for an operator whose work is done on other threads.
    ///
    /// # Panics
    /// When that takes longer than any work of a test.
    pub fn wait(&mut self) -> Given {
        let (mut given, begun) = (self.collector(self.now), Instant::now());
        while self.operator.held() > 0 {
            assert!(begun.elapsed() < LONGEST_WAIT, "{} records are held for ever", self.operator.held());
            // A wake-up ends it, where the context has this thread to wake.
            thread::park_timeout(Duration::from_millis(10));
            let later = self.poll();
            join(&mut given, later);
        }
        given
    }

    fn settle(&mut self, mut out: Collector) -> Given {
        self.ask(&mut out);
        self.book(&out);
        out
    }

    fn poll_into(&mut self, out: &mut Collector) {
        self.again = None;
        self.ask(out);
        self.book(out);
    }

    fn ask(&mut self, out: &mut Collector) {
        self.again = None;
        if self.operator.held() > 0 {
            let again = self.operator.poll(out);
            self.again = again.map(|at| at.saturating_duration_since(self.origin));
        }
    }

    fn collector(&self, at: Duration) -> Collector {
        Collector::new(self.origin + at)
    }

    /// Add what was given to the books, which must balance.
    fn book(&mut self, out: &Collector) {
        let emitted: usize = out.emitted.iter().map(|(_, batch)| batch.len()).sum();
        self.account += Account {
            records_out: emitted as u64,
            filtered: out.filtered,
            expanded: out.expanded,
            merged: out.merged,
            dead_lettered: out.failed.len() as u64,
            ..Account::default()
        };
        let account = self.account();
        assert_eq!(account.imbalance(), 0, "the books do not balance: {account:?}");
    }

    /// Where every record went so far.
    pub fn account(&self) -> Account {
        Account { held: self.operator.held(), ..self.account }
    }

    /// The time now.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// When the operator wants to be asked again.
    pub fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Records held.
    pub fn held(&self) -> u64 {
        self.operator.held()
    }

    /// Whether there is room for more.
    pub fn ready(&self) -> bool {
        self.operator.ready()
    }

    /// The lowest offset held of a partition.
    pub fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.operator.floor(partition)
    }
}

/// Add what was given later.
pub(super) fn join(given: &mut Given, later: Given) {
    given.emitted.extend(later.emitted);
    given.failed.extend(later.failed);
    given.filtered += later.filtered;
    given.expanded += later.expanded;
    given.merged += later.merged;
}
