//! A request of one transaction that arrives during the next one (window W4): rule P7 replaces a producer of which a
//! request went unanswered. A proxy holds or cuts, against the embedded broker and the one `PELTON_TEST_KAFKA` names.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../crates/pelton-kafka/tests/kit/mod.rs"]
mod kit;

use kit::{holder::*, *};
use pelton_kafka::{KafkaFactory, KafkaOptions};
use pelton_sdk::{EndError, ErrorKind};
use pelton_tests::proxy::{ApiKey, Fault, Proxy, Rule, Ticket};
use pelton_types::Partition;
use std::time::{Duration, Instant};

/// Nothing here takes longer unless it hangs.
const GUARD: Duration = Duration::from_secs(60);
/// The client gives a request up after this: shorter than users have it, to lose no time.
const SOCKET_TIMEOUT_MS: &str = "1500";
/// The requests of a transaction, and how each may be left without its answer.
const KINDS: [ApiKey; 5] = [
    ApiKey::PRODUCE,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
    ApiKey::END_TXN,
];
const FAULTS: [Fault; 2] = [Fault::Cut, Fault::Hold];

/// A task behind a proxy.
struct Stage<'a> {
    cluster: &'a Cluster,
    proxy: Proxy,
    holder: Holder,
    output: String,
    /// Whether the producer is replaced when the rule says so.
    rule: bool,
}

/// As the task does: a broker that is slow is asked again.
fn initialised(holder: &mut Holder, throw_away: bool) {
    let begun = Instant::now();
    while let Err(why) = init(&mut *holder.producer, throw_away) {
        assert!(why.kind == ErrorKind::Retry && begun.elapsed() < GUARD, "{why}");
        holder.producer.discard();
    }
}

impl Stage<'_> {
    fn new(cluster: &Cluster, rule: bool) -> Stage<'_> {
        let proxy = Proxy::start("127.0.0.1:0", cluster.bootstrap()).unwrap();
        let (input, output) = (cluster.topic("stray-in", 1), cluster.topic("stray-out", 1));
        let options = KafkaOptions::new(proxy.address()).client_id("stray");
        let factory = KafkaFactory::new(options.property("socket.timeout.ms", SOCKET_TIMEOUT_MS)).unwrap();
        let mut holder = Holder::on(Executor::of(&factory), &input, &output, None);
        initialised(&mut holder, false);
        assert!(holder.commit(0, "claim").unwrap(), "nothing went unanswered");
        Stage { cluster, proxy, holder, output, rule }
    }

    /// As the task does with what came of a commit; true when it went on with its producer.
    fn judge(&mut self, outcome: &Result<bool, EndError>) -> bool {
        let keep = match outcome {
            Ok(clean) => *clean || !self.rule,
            Err(_) => false,
        };
        if !keep {
            self.replace();
        }
        keep
    }

    fn replace(&mut self) {
        self.holder.producer.discard();
        initialised(&mut self.holder, true);
    }

    /// Write, and wait until the broker has the record.
    fn written(&mut self, value: &str) {
        let before = self.proxy.passed(ApiKey::PRODUCE);
        self.holder.write(&[value]);
        until("the record is with the broker", || {
            (self.proxy.passed(ApiKey::PRODUCE) > before).then_some(())
        });
    }

    /// Deliver what was held, and wait for what the broker makes of it.
    fn deliver(&self, ticket: Ticket) {
        self.proxy.release(ticket);
        assert!(self.proxy.until_answered(ticket, 1, GUARD), "the stray request is answered");
    }

    /// The committed offset, by a client that does not go through the proxy.
    fn offset(&self) -> Option<i64> {
        let mut other = self.cluster.executor();
        other.successor_of(&self.holder.executor);
        let mut offsets = other.offsets(&self.holder.input, "earliest");
        committed(&mut *offsets, &[Partition::new(self.holder.input.as_str(), 0)]).unwrap()[0].offset
    }

    /// All that readers of committed records see by now.
    fn values(&self) -> Vec<String> {
        let mut other = self.cluster.executor();
        let mut sink = other.sink(&self.output);
        push_all(&mut *sink, &batch_of(Partition::new("a file", 0), &[(Some("k"), Some("the end"))]));
        flush(&mut *sink).unwrap();
        let mut source = other.reading(&self.output, [0]);
        let mut values = Vec::new();
        while values.last().is_none_or(|last| last != "the end") {
            let more = seen(&next(&mut *source));
            values.extend(more.into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()));
        }
        values.pop();
        values
    }
}

#[test]
fn whatever_request_went_unanswered_the_commit_is_not_clean() {
    for cluster in clusters() {
        for kind in KINDS {
            for fault in FAULTS {
                let mut stage = Stage::new(&cluster, true);
                let ticket = stage.proxy.arm(Rule::next(kind, fault));
                stage.holder.write(&["first"]);
                let outcome = stage.holder.commit(1, "work");
                assert!(stage.proxy.until_caught(ticket, 1, GUARD), "{kind} {fault:?}");
                assert!(!stage.judge(&outcome), "{kind} {fault:?}: {outcome:?}");
                stage.deliver(ticket);
                // As the task does: what was committed tells whether it happened.
                if stage.offset() != Some(1) {
                    stage.holder.write(&["first"]);
                    assert!(stage.holder.commit(1, "work").unwrap(), "{kind} {fault:?}");
                }
                stage.holder.write(&["second"]);
                assert!(
                    stage.holder.commit(2, "work").unwrap(),
                    "{kind} {fault:?}: a new one is clean again"
                );
                assert_eq!(stage.values(), ["first", "second"], "{kind} {fault:?}");
                assert_eq!(stage.offset(), Some(2), "{kind} {fault:?}");
                close(&mut *stage.holder.producer);
            }
        }
    }
}

#[test]
fn a_thousandth_clean_transaction_is_still_clean() {
    let cluster = Cluster::embedded();
    let mut stage = Stage::new(&cluster, true);
    for at in 1..=200 {
        stage.holder.write(&["x"]);
        assert!(stage.holder.commit(at, "work").unwrap(), "transaction {at}");
    }
    assert_eq!(stage.values().len(), 200);
    close(&mut *stage.holder.producer);
}

/// The end of transaction 1 comes once more in the middle of transaction 2, whose holder then dies.
fn stray_end(cluster: &Cluster, fault: Fault, rule: bool) -> Vec<String> {
    let mut stage = Stage::new(cluster, rule);
    stage.holder.write(&["first"]);
    let ticket = stage.proxy.arm(Rule::next(ApiKey::END_TXN, fault));
    let outcome = stage.holder.commit(1, "work");
    stage.judge(&outcome);
    stage.written("second");
    stage.deliver(ticket);
    stage.replace();
    assert_eq!(stage.offset(), Some(1), "{fault:?}: what follows is read again");
    stage.written("second");
    stage.holder.commit(2, "work").unwrap();
    let values = stage.values();
    close(&mut *stage.holder.producer);
    values
}

/// The offsets of transaction 1 come once more behind those of transaction 2.
fn stray_offsets(cluster: &Cluster, fault: Fault, rule: bool) -> Option<i64> {
    let mut stage = Stage::new(cluster, rule);
    stage.holder.write(&["first"]);
    let stray = stage.proxy.arm(Rule::next(ApiKey::TXN_OFFSET_COMMIT, fault));
    let outcome = stage.holder.commit(1, "work");
    stage.judge(&outcome);
    assert_eq!(stage.offset(), Some(1), "{fault:?}");
    stage.holder.write(&["second"]);
    let end = stage.proxy.arm(Rule::next(ApiKey::END_TXN, Fault::Hold));
    stage.holder.producer.start_commit(&[(Partition::new(stage.holder.input.as_str(), 0), 2)], "work");
    assert!(stage.proxy.until_caught(end, 1, GUARD), "the offsets of transaction 2 are with the broker");
    stage.deliver(stray);
    stage.proxy.release(end);
    until("the commit", || ready(stage.holder.producer.poll_commit())).unwrap();
    assert_eq!(stage.values(), ["first", "second"], "{fault:?}");
    let offset = stage.offset();
    close(&mut *stage.holder.producer);
    offset
}

#[test]
fn a_stray_end_of_a_transaction_makes_nothing_of_the_next_one_visible() {
    for cluster in clusters() {
        for fault in FAULTS {
            assert_eq!(stray_end(&cluster, fault, true), ["first", "second"], "{fault:?}");
        }
    }
}

#[test]
fn stray_offsets_do_not_set_those_of_the_next_transaction_back() {
    for cluster in clusters() {
        for fault in FAULTS {
            assert_eq!(stray_offsets(&cluster, fault, true), Some(2), "{fault:?}");
        }
    }
}

/// What the two tests above guard against does happen: they can fail.
#[test]
fn without_the_rule_a_stray_request_doubles_output_and_sets_offsets_back() {
    for cluster in clusters() {
        for fault in FAULTS {
            assert_eq!(stray_end(&cluster, fault, false), ["first", "second", "second"], "{fault:?}");
            assert_eq!(stray_offsets(&cluster, fault, false), Some(1), "{fault:?}");
        }
    }
}
