//! What is forgotten of producers that nobody hears of any more: Kafka's `producer.id.expiration.ms` and
//! `transactional.id.expiration.ms`.

use super::{Transaction, Transactions, TxnStatus};
use crate::core::{Effect, Entry, Plan, State};

impl State {
    /// Lets partitions forget producers without an open transaction whose last batch is `expiration_ms` old by its own
    /// time. A batch of such a producer is taken afterwards whatever its sequence number is, as that of a new one.
    #[must_use]
    pub fn plan_forget_producers(&self, expiration_ms: i64, now_ms: i64) -> Plan<()> {
        let until_ms = now_ms.saturating_sub(expiration_ms);
        let with_silent = self.partitions.iter().filter(|(_, core)| core.has_silent_producer(until_ms));
        let forget = |(log, _): (&_, &_)| Effect::ForgetProducers { log: *log, until_ms };
        Plan::new(with_silent.map(forget).collect(), ())
    }

    /// Forgets transactional ids without a transaction for `expiration_ms`. Who still has one is told that it is
    /// unknown, and gets another producer id when it asks.
    #[must_use]
    pub fn plan_forget_transactional_ids(&self, expiration_ms: i64, now_ms: i64) -> Plan<()> {
        let until_ms = now_ms.saturating_sub(expiration_ms);
        let idle = self.transactions.all().filter(|(_, txn)| txn.is_idle_since(until_ms));
        let forget = |(id, _): (&str, _)| Effect::Journal(Entry::TxnForgotten { id: id.to_owned() });
        Plan::new(idle.map(forget).collect(), ())
    }
}

impl Transaction {
    fn is_idle_since(&self, until_ms: i64) -> bool {
        self.is_over() && self.idle_since_ms <= until_ms
    }

    /// Nothing is open or being ended.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status, TxnStatus::Empty | TxnStatus::Ended { .. })
    }
}

impl Transactions {
    pub(in crate::core) fn forget(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    /// After a restart: ids of journals that did not note times are idle from now on.
    pub(in crate::core) fn restart_idleness(&mut self, now_ms: i64) {
        for txn in self.by_id.values_mut().filter(|txn| txn.idle_since_ms == 0) {
            txn.idle_since_ms = now_ms;
        }
    }
}
