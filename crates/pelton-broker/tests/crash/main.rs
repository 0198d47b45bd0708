//! Whatever is asked of the broker, and wherever it stops: what was acknowledged is there afterwards.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod files;
mod kit;
mod told;

use std::cell::Cell;
use std::rc::Rc;

use pelton_broker::core::{Effect, Entry, Isolation, Plan, TopicConfig, TxnOwner};
use pelton_broker::store::{MemoryStore, SegmentStore};
use pelton_broker::{Broker, Code};
use proptest::prelude::*;

use kit::{Stopping, encode, read, start, transactional};
use told::{Fate, TXN_TIMEOUT_MS, Told, any_step};

/// The state a restart rebuilds, as far as it can be told from outside.
fn visible_state<S: SegmentStore>(broker: &Broker<S>) -> String {
    let partitions: Vec<_> = (0..3)
        .map(|partition| {
            let (_, core) = broker.state().find("t", partition).unwrap();
            let open = core.open_producers();
            format!(
                "{} {} {open:?} {:?}",
                core.next_offset(),
                core.stable_offset(),
                core.aborted_between(0, i64::MAX)
            )
        })
        .collect();
    format!("{:?}\n{partitions:?}", broker.state().snapshot())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_acknowledged_is_lost_wherever_the_broker_stops(
        steps in prop::collection::vec(any_step(), 1..60),
        stop_after in 0..120_usize,
    ) {
        let left = Rc::new(Cell::new(usize::MAX));
        let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::clone(&left) });
        let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
        broker.run(plan, Code::KafkaStorageError).unwrap();
        let mut told = Told { producers: [(-2, 0); 2], ..Told::default() };
        left.set(stop_after);
        for step in &steps {
            // Refusals are fine: a step may make no sense now, or the store has stopped.
            let refused = told.take(&mut broker, step, 0);
            if left.get() == 0 || refused == Err(Code::KafkaStorageError) {
                break;
            }
            told.check(&broker);
        }
        left.set(usize::MAX);
        let restarted = start(broker.store().clone());
        told.check(&restarted);
        prop_assert!(restarted.state().transactions().unfinished().is_empty());
        if broker.state().transactions().unfinished().is_empty() {
            // Nothing was left to finish: what lived on and what was rebuilt are the same.
            prop_assert_eq!(visible_state(&broker), visible_state(&restarted));
        }
        // And once more: recovery itself changes nothing that was told, and is idempotent.
        let mut again = start(restarted.store().clone());
        prop_assert_eq!(visible_state(&again), visible_state(&restarted));
        told.check(&again);
        // Whoever comes then owns an epoch that nobody had before.
        prop_assert_eq!(told.go_on(&mut again), Ok(()));
        told.check(&again);
    }
}

#[test]
fn a_transaction_over_its_time_is_aborted_and_its_owner_fenced() {
    let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::new(Cell::new(usize::MAX)) });
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let mut told = Told { producers: [(-2, 0); 2], ..Told::default() };
    told.begin(&mut broker, 0, 0).unwrap();
    told.in_txn(&mut broker, 0, 1, 10).unwrap();
    broker.expire_transactions(10 + i64::from(TXN_TIMEOUT_MS) - 1);
    told.check(&broker);
    broker.expire_transactions(10 + i64::from(TXN_TIMEOUT_MS));
    told.decide(0, Fate::Aborted);
    told.check(&broker);
    assert_eq!(told.end(&mut broker, 0, true, 2000), Err(Code::ProducerFenced));
    let (id, epoch) = told.producers[0];
    let late = transactional(encode(&["late".to_owned()]), (id, epoch), &mut 1);
    let refused = broker.state().plan_produce(("t", 1), Some("a"), late, 2000).map(|_| ());
    assert_eq!(refused, Err(Code::InvalidProducerEpoch));
}

#[test]
fn the_last_epoch_is_never_owned_so_that_there_is_one_left_to_fence_with() {
    let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::new(Cell::new(usize::MAX)) });
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let (producer_id, epoch) = (7, i16::MAX - 1);
    let owner = TxnOwner { producer_id, epoch, raised_from: None, timeout_ms: TXN_TIMEOUT_MS, at_ms: 0 };
    let entry = Entry::TxnProducer { id: "a".to_owned(), owner };
    broker.run(Plan::new(vec![Effect::Journal(entry)], ()), Code::KafkaStorageError).unwrap();
    let mut told = Told { producers: [(producer_id, epoch), (-2, 0)], ..Told::default() };
    told.in_txn(&mut broker, 0, 0, 0).unwrap();
    broker.expire_transactions(i64::from(TXN_TIMEOUT_MS));
    told.decide(0, Fate::Aborted);
    assert_eq!(told.in_txn(&mut broker, 0, 0, 2000), Err(Code::ProducerFenced));
    assert_eq!(told.begin_as(&mut broker, 0, Some((producer_id, epoch)), 2000), Ok(()));
    assert!(told.producers[0].0 != producer_id && told.producers[0].1 == 0, "{:?}", told.producers[0]);
    told.check(&broker);
}

#[test]
fn a_store_that_fails_for_a_while_refuses_loses_nothing_and_goes_on() {
    let left = Rc::new(Cell::new(usize::MAX));
    let mut broker = start(Stopping { inner: MemoryStore::default(), left: Rc::clone(&left) });
    let plan = broker.state().plan_create_topic("t", 3, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let mut told = Told { producers: [(-2, 0); 2], ..Told::default() };
    told.plain(&mut broker, 0, 2).unwrap();
    told.begin(&mut broker, 0, 0).unwrap();
    told.in_txn(&mut broker, 0, 1, 0).unwrap();
    left.set(1); // the decision is stored, its markers are not
    assert_eq!(told.end(&mut broker, 0, true, 0), Err(Code::KafkaStorageError));
    assert_eq!(told.plain(&mut broker, 0, 1), Err(Code::KafkaStorageError));
    told.check(&broker);
    left.set(usize::MAX);
    assert_eq!(told.in_txn(&mut broker, 0, 1, 0), Err(Code::ConcurrentTransactions), "not before it is over");
    told.sequences.insert((9, 0), 2); // the refused batch is sent again with the same numbers
    told.plain(&mut broker, 0, 1).unwrap();
    // The next look at the timers finishes what was decided, without a request.
    broker.expire_transactions(0);
    assert!(broker.state().transactions().unfinished().is_empty());
    assert_eq!(read(&broker, 1, Isolation::ReadCommitted).len(), 1, "the transaction was committed");
    told.check(&broker);
}
