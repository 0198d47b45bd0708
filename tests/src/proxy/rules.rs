//! Which request meets which fault. No I/O.

use super::wire::ApiKey;
use std::time::Duration;

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on after this time; what follows on its connection waits behind it.
    Delay(Duration),
    /// It is kept, and what follows on its connection with it, until it is released.
    Hold,
    /// The client's connection is closed, and the request is delivered when it is released: a stray one.
    Cut,
    /// It is swallowed.
    Drop,
    /// It is passed on, its answer is swallowed.
    DropAnswer,
    /// It is passed on, and the client's connection is closed in place of its answer.
    CutAnswer,
    /// It is passed on, and its answer, one to `Metadata`, names no broker: as of a cluster whose only one is fenced for a
    /// moment. Other answers are left as they are.
    NameNoBroker,
    /// It is passed on, and its answer, one to `ApiVersions`, names no request of transactions: as of a cluster that has
    /// none. Other answers are left as they are.
    NameNoTransactions,
    /// It is passed on behind the request that follows it.
    Reorder,
    /// Its connection is reset on both sides, and it is not delivered.
    Reset,
}

/// Which requests meet a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind of request; `None`: any.
    pub key: Option<ApiKey>,
    /// What the client calls itself begins like this.
    pub client: String,
    /// After so many requests that are let pass.
    pub skip: u64,
    /// So many requests; `None`: all.
    pub times: Option<u64>,
    /// What happens to them.
    pub fault: Fault,
    /// What is held is delivered after this time by itself.
    pub at_most: Option<Duration>,
}

impl Rule {
    /// For the next request of a kind.
    pub fn next(key: ApiKey, fault: Fault) -> Rule {
        Rule { key: Some(key), client: String::new(), skip: 0, times: Some(1), fault, at_most: None }
    }

    /// For all requests of a kind from now on.
    pub fn every(key: ApiKey, fault: Fault) -> Rule {
        Rule { times: None, ..Rule::next(key, fault) }
    }

    /// Only of clients that call themselves so.
    #[must_use]
    pub fn of(self, client: impl Into<String>) -> Rule {
        Rule { client: client.into(), ..self }
    }

    fn fits(&self, key: ApiKey, client: &str) -> bool {
        self.key.is_none_or(|wanted| wanted == key) && client.starts_with(&self.client)
    }
}

/// Names an armed rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Debug)]
struct Armed {
    ticket: Ticket,
    rule: Rule,
    skipped: u64,
    caught: u64,
    answered: u64,
    released: bool,
    forgotten: bool,
}

/// All rules, in the order they were armed.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Armed>);

impl Rules {
    pub fn arm(&mut self, rule: Rule) -> Ticket {
        let ticket = Ticket(self.0.len() as u64 + 1);
        self.0.push(Armed {
            ticket,
            rule,
            skipped: 0,
            caught: 0,
            answered: 0,
            released: false,
            forgotten: false,
        });
        ticket
    }

    pub fn disarm(&mut self, ticket: Ticket) {
        if let Some(armed) = self.of(ticket) {
            armed.forgotten = true;
            armed.released = true;
        }
    }

    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|armed| {
            armed.forgotten = true;
            armed.released = true;
        });
    }

    pub fn release(&mut self, ticket: Ticket) {
        if let Some(armed) = self.of(ticket) {
            armed.released = true;
        }
    }

    /// The rule for a request that has just come.
    pub fn meet(&mut self, key: ApiKey, client: &str) -> Option<(Ticket, Rule)> {
        let fits = |armed: &&mut Armed| {
            let left = armed.rule.times.is_none_or(|times| armed.caught < times);
            !armed.forgotten && left && armed.rule.fits(key, client)
        };
        let armed = self.0.iter_mut().find(fits)?;
        if armed.skipped < armed.rule.skip {
            armed.skipped += 1;
            return None;
        }
        armed.caught += 1;
        Some((armed.ticket, armed.rule.clone()))
    }

    pub fn note_answer(&mut self, ticket: Ticket) {
        if let Some(armed) = self.of(ticket) {
            armed.answered += 1;
        }
    }

    pub fn holds(&self, ticket: Ticket) -> bool {
        self.get(ticket).is_some_and(|armed| !armed.released)
    }

    pub fn caught(&self, ticket: Ticket) -> u64 {
        self.get(ticket).map_or(0, |armed| armed.caught)
    }

    pub fn answered(&self, ticket: Ticket) -> u64 {
        self.get(ticket).map_or(0, |armed| armed.answered)
    }

    fn get(&self, ticket: Ticket) -> Option<&Armed> {
        self.0.iter().find(|armed| armed.ticket == ticket)
    }

    fn of(&mut self, ticket: Ticket) -> Option<&mut Armed> {
        self.0.iter_mut().find(|armed| armed.ticket == ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_meets_its_kind_of_request_as_often_as_it_says() {
        let mut rules = Rules::default();
        let ticket = rules.arm(Rule { skip: 1, ..Rule::next(ApiKey::END_TXN, Fault::Hold).of("worker") });
        assert_eq!(rules.meet(ApiKey::PRODUCE, "worker"), None, "another kind");
        assert_eq!(rules.meet(ApiKey::END_TXN, "load"), None, "another client");
        assert_eq!(rules.meet(ApiKey::END_TXN, "worker.0"), None, "the first is let pass");
        assert_eq!(rules.meet(ApiKey::END_TXN, "worker.0").map(|(t, _)| t), Some(ticket));
        assert_eq!(rules.meet(ApiKey::END_TXN, "worker.0"), None, "once is enough");
        assert!(rules.holds(ticket));
        rules.release(ticket);
        assert!(!rules.holds(ticket));
    }

    #[test]
    fn a_forgotten_rule_meets_nothing_and_holds_nothing() {
        let mut rules = Rules::default();
        let ticket = rules.arm(Rule::every(ApiKey::END_TXN, Fault::Hold));
        assert!(rules.meet(ApiKey::END_TXN, "").is_some());
        rules.disarm(ticket);
        assert_eq!(rules.meet(ApiKey::END_TXN, ""), None);
        assert!(!rules.holds(ticket));
        assert_eq!(rules.caught(ticket), 1);
    }
}
