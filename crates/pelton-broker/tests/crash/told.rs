//! One client's view of a broker: what it was told, and whether that is so.

use std::collections::{BTreeMap, BTreeSet};

use pelton_broker::batch::{Batch, Marker};
use pelton_broker::core::{Isolation, WantedMarker};
use pelton_broker::store::SegmentStore;
use pelton_broker::{Broker, Code};
use proptest::prelude::*;

use crate::kit::{B, encode, id, idempotent, offset, read, transactional};

#[derive(Debug, Clone)]
pub enum Step {
    Plain {
        partition: i32,
        count: usize,
    },
    Repeat,
    /// Owns its id anew, or raises the epoch it has.
    Begin {
        producer: usize,
        raises: bool,
    },
    InTxn {
        producer: usize,
        partition: i32,
    },
    TxnOffset {
        producer: usize,
    },
    End {
        producer: usize,
        commit: bool,
    },
    Commit,
    Expire,
    NewProducer,
    /// An administrator ends a transaction in one partition.
    Marker {
        producer: usize,
        partition: i32,
        commit: bool,
    },
    /// So much time goes by that all that is idle is forgotten.
    Idle,
}

pub fn any_step() -> impl Strategy<Value = Step> {
    let producer = 0..2_usize;
    prop_oneof![
        (0..3, 1..4_usize).prop_map(|(partition, count)| Step::Plain { partition, count }),
        Just(Step::Repeat),
        (producer.clone(), any::<bool>()).prop_map(|(producer, raises)| Step::Begin { producer, raises }),
        (producer.clone(), 0..3).prop_map(|(producer, partition)| Step::InTxn { producer, partition }),
        (producer.clone(), 0..3).prop_map(|(producer, partition)| Step::InTxn { producer, partition }),
        producer.clone().prop_map(|producer| Step::TxnOffset { producer }),
        (producer.clone(), any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        (producer, 0..3, any::<bool>()).prop_map(|(producer, partition, commit)| Step::Marker {
            producer,
            partition,
            commit
        }),
        Just(Step::Idle),
        Just(Step::Commit),
        Just(Step::NewProducer),
        Just(Step::Expire),
    ]
}

/// What happens to the records of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged for good: readers of committed records must see it.
    Counts,
    /// Acknowledged, its transaction is open.
    Open(usize),
    /// Nobody may see it.
    Aborted,
    /// The broker stopped while deciding: seen, or not.
    Undecided,
}

/// One client's view: what it was told.
#[derive(Debug, Default)]
pub struct Told {
    /// Value and fate by partition and offset.
    pub records: BTreeMap<(i32, i64), (String, Fate)>,
    pub offset: i64,
    pub pending_offset: [Option<i64>; 2],
    pub offset_undecided: Option<i64>,
    pub producers: [(i64, i16); 2],
    pub sequences: BTreeMap<(usize, i32), i32>,
    pub last_idempotent: Option<(i32, Batch, i64)>,
    pub values: usize,
    /// Every producer id and epoch ever given out.
    pub owners: BTreeSet<(i64, i16)>,
}

pub const TXN_TIMEOUT_MS: i32 = 1000;

impl Told {
    pub fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    pub fn take(&mut self, broker: &mut B, step: &Step, now_ms: i64) -> Result<(), Code> {
        match step {
            Step::Plain { partition, count } => self.plain(broker, *partition, *count),
            Step::Repeat => self.repeat(broker),
            Step::Begin { producer, raises } => {
                let current = raises.then(|| self.producers[*producer]).filter(|(id, _)| *id >= 0);
                self.begin_as(broker, *producer, current, now_ms)
            }
            Step::InTxn { producer, partition } => self.in_txn(broker, *producer, *partition, now_ms),
            Step::TxnOffset { producer } => self.txn_offset(broker, *producer, now_ms),
            Step::End { producer, commit } => self.end(broker, *producer, *commit, now_ms),
            Step::Marker { producer, partition, commit } => {
                self.marker(broker, *producer, *partition, *commit, now_ms)
            }
            Step::Idle => self.idle(broker, now_ms),
            Step::NewProducer => self.new_producer(broker),
            Step::Commit => {
                let next = self.offset + 1;
                self.offset_undecided = Some(next);
                let plan = broker.state().plan_commit_offsets("g", vec![offset(next)], now_ms);
                broker.run(plan, Code::KafkaStorageError)?;
                (self.offset, self.offset_undecided) = (next, None);
                Ok(())
            }
            Step::Expire => {
                // Time is still: nothing may be aborted.
                broker.expire_transactions(now_ms);
                Ok(())
            }
        }
    }

    pub fn plain(&mut self, broker: &mut B, partition: i32, count: usize) -> Result<(), Code> {
        let values: Vec<String> = (0..count).map(|_| self.value()).collect();
        let batch =
            idempotent(encode(&values), (9_000_000, 0), self.sequences.entry((9, partition)).or_default());
        let plan = broker.state().plan_produce(("t", partition), None, batch.clone(), 0)?;
        let (base, _) = broker.run(plan, Code::KafkaStorageError)?;
        self.last_idempotent = Some((partition, batch, base));
        for (delta, value) in values.into_iter().enumerate() {
            let told = self.records.insert((partition, base + delta as i64), (value, Fate::Counts));
            assert_eq!(told, None, "an offset was given twice");
        }
        Ok(())
    }

    pub fn repeat(&mut self, broker: &mut B) -> Result<(), Code> {
        let Some((partition, batch, base)) = self.last_idempotent.clone() else { return Ok(()) };
        let plan = broker.state().plan_produce(("t", partition), None, batch, 0)?;
        assert!(plan.effects().is_empty(), "a repeated batch would be stored twice");
        assert_eq!(broker.run(plan, Code::KafkaStorageError)?.0, base);
        Ok(())
    }

    pub fn begin(&mut self, broker: &mut B, producer: usize, now_ms: i64) -> Result<(), Code> {
        self.begin_as(broker, producer, None, now_ms)
    }

    pub fn begin_as(
        &mut self,
        broker: &mut B,
        producer: usize,
        current: Option<(i64, i16)>,
        now_ms: i64,
    ) -> Result<(), Code> {
        let ask = |broker: &mut B| {
            let (id, fenced) = (id(producer), Code::ProducerFenced);
            let plan = broker.state().plan_init_transactional(id, TXN_TIMEOUT_MS, current, fenced, now_ms)?;
            broker.run(plan, Code::KafkaStorageError)
        };
        let old = self.producers[producer];
        self.decide(producer, Fate::Aborted);
        let new = match ask(broker)? {
            // What was open is ended by now.
            Err(Code::ConcurrentTransactions) => ask(broker)?.unwrap(),
            answer => answer.unwrap(),
        };
        assert!(old.0 != new.0 || old.1 < new.1, "epoch {old:?} was not fenced by {new:?}");
        assert!(self.owners.insert(new), "{new:?} has two owners");
        self.producers[producer] = new;
        self.sequences.retain(|(owner, _), _| *owner != producer);
        Ok(())
    }

    /// A producer without a transactional id.
    pub fn new_producer(&mut self, broker: &mut B) -> Result<(), Code> {
        let id = broker.new_producer_id()?;
        assert!(self.owners.insert((id, 0)), "producer id {id} has two owners");
        Ok(())
    }

    pub fn in_txn(
        &mut self,
        broker: &mut B,
        producer: usize,
        partition: i32,
        now_ms: i64,
    ) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let owner = (id(producer), producer_id, epoch);
        let place = vec![("t".to_owned(), partition)];
        let plan = broker.state().plan_txn_partitions(owner, place, Code::ProducerFenced, now_ms)?;
        broker.run(plan, Code::KafkaStorageError)?;
        let value = self.value();
        let sequence = self.sequences.entry((producer, partition)).or_default();
        let batch = transactional(encode(std::slice::from_ref(&value)), (producer_id, epoch), sequence);
        let plan = broker.state().plan_produce(("t", partition), Some(id(producer)), batch, now_ms)?;
        let (base, _) = broker.run(plan, Code::KafkaStorageError)?;
        self.records.insert((partition, base), (value, Fate::Open(producer)));
        Ok(())
    }

    pub fn txn_offset(&mut self, broker: &mut B, producer: usize, now_ms: i64) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let owner = (id(producer), producer_id, epoch);
        let fenced = Code::ProducerFenced;
        let plan = broker.state().plan_txn_offsets(owner, "g", Vec::new(), fenced, now_ms)?;
        broker.run(plan, Code::KafkaStorageError)?;
        let next = self.offset + 100;
        let plan = broker.state().plan_txn_offsets(owner, "g", vec![offset(next)], fenced, now_ms)?;
        broker.run(plan, Code::KafkaStorageError)?;
        assert!(broker.state().transactions().has_pending("g", "t", 0));
        self.pending_offset[producer] = Some(next);
        Ok(())
    }

    pub fn end(&mut self, broker: &mut B, producer: usize, commit: bool, now_ms: i64) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let owner = (id(producer), producer_id, epoch);
        let plan = broker.state().plan_end_txn(owner, commit, Code::ProducerFenced, now_ms)?;
        if plan.effects().is_empty() {
            return Ok(()); // a repeat
        }
        let pending = self.pending_offset[producer].take().filter(|_| commit);
        self.offset_undecided = pending;
        // Until the answer is there, either may be true; an abort can only become an abort.
        self.decide(producer, if commit { Fate::Undecided } else { Fate::Aborted });
        broker.run(plan, Code::KafkaStorageError)?;
        self.offset = pending.unwrap_or(self.offset);
        self.offset_undecided = None;
        for (_, fate) in self.records.values_mut().filter(|(_, fate)| *fate == Fate::Undecided) {
            *fate = Fate::Counts;
        }
        Ok(())
    }

    pub fn marker(
        &mut self,
        broker: &mut B,
        producer: usize,
        partition: i32,
        commit: bool,
        now_ms: i64,
    ) -> Result<(), Code> {
        let (producer_id, epoch) = self.producers[producer];
        let marker = if commit { Marker::Commit } else { Marker::Abort };
        let wanted = WantedMarker { producer_id, epoch, marker, coordinator_epoch: 0 };
        let plan = broker.state().plan_write_marker(("t", partition), wanted, now_ms)?;
        let mut fates = |from: Fate, to: Fate| {
            let here = self.records.iter_mut().filter(|((p, _), _)| *p == partition);
            here.filter(|(_, (_, fate))| *fate == from).for_each(|(_, (_, fate))| *fate = to);
        };
        fates(Fate::Open(producer), if commit { Fate::Undecided } else { Fate::Aborted });
        broker.run(plan, Code::KafkaStorageError)?;
        fates(Fate::Undecided, Fate::Counts);
        Ok(())
    }

    pub fn idle(&mut self, broker: &mut B, now_ms: i64) -> Result<(), Code> {
        // Repeats are not known any more either.
        self.last_idempotent = None;
        broker.run(broker.state().plan_forget_producers(0, now_ms), Code::KafkaStorageError)?;
        broker.run(broker.state().plan_forget_transactional_ids(0, now_ms), Code::KafkaStorageError)
    }

    pub fn decide(&mut self, producer: usize, decided: Fate) {
        for (_, fate) in self.records.values_mut().filter(|(_, fate)| *fate == Fate::Open(producer)) {
            *fate = decided;
        }
        if decided == Fate::Aborted {
            self.pending_offset[producer] = None;
        }
    }

    /// Goes on after a stop, as clients do that got no answer: they look at what became of it, and begin anew. What was
    /// being decided has happened everywhere or nowhere.
    pub fn go_on(&mut self, broker: &mut B) -> Result<(), Code> {
        let stored = broker.state().groups().committed("g", "t", 0).map_or(0, |committed| committed.offset);
        (self.offset, self.offset_undecided) = (stored, None);
        (0..2).try_for_each(|producer| self.begin(broker, producer, 0))?;
        self.new_producer(broker)?;
        let undecided = self.records.iter().filter(|(_, (_, fate))| *fate == Fate::Undecided);
        let is_seen = |((partition, offset), _): (&(i32, i64), &_)| {
            read(broker, *partition, Isolation::ReadCommitted).contains_key(offset)
        };
        let seen: BTreeSet<bool> = undecided.map(is_seen).collect();
        assert!(seen.len() < 2, "a transaction was committed in some partitions only");
        let fate = if seen.contains(&true) { Fate::Counts } else { Fate::Aborted };
        for (_, undecided) in self.records.values_mut().filter(|(_, fate)| *fate == Fate::Undecided) {
            *undecided = fate;
        }
        // Sequences of what was refused say nothing any more.
        self.sequences.clear();
        for partition in 0..3 {
            let value = self.value();
            let batch = encode(std::slice::from_ref(&value));
            let plan = broker.state().plan_produce(("t", partition), None, batch, 0)?;
            let (base, _) = broker.run(plan, Code::KafkaStorageError)?;
            let told = self.records.insert((partition, base), (value, Fate::Counts));
            assert_eq!(told, None, "an offset was given twice");
        }
        (0..3).try_for_each(|partition| self.in_txn(broker, 0, partition, 0))?;
        self.end(broker, 0, true, 0)
    }

    pub fn check<S: SegmentStore>(&self, broker: &Broker<S>) {
        for partition in 0..3 {
            let all = read(broker, partition, Isolation::ReadUncommitted);
            let committed = read(broker, partition, Isolation::ReadCommitted);
            let told = self.records.iter().filter(|((p, _), _)| *p == partition);
            for ((_, offset), (value, fate)) in told {
                assert_eq!(all.get(offset), Some(value), "acknowledged record {partition}@{offset} is lost");
                let is_seen = committed.contains_key(offset);
                match fate {
                    Fate::Aborted => assert!(!is_seen, "aborted {value} is seen"),
                    Fate::Open(producer) => {
                        assert!(!is_seen, "{value} of an open transaction is seen");
                        let txn = broker.state().transactions().get(id(*producer));
                        assert!(txn.is_some(), "nobody can end the transaction of {value}");
                    }
                    // Behind an open transaction it may have to wait.
                    Fate::Counts => {
                        let (_, core) = broker.state().find("t", partition).unwrap();
                        assert!(is_seen || *offset >= core.stable_offset(), "committed {value} is not seen");
                    }
                    Fate::Undecided => {}
                }
            }
        }
        let stored = broker.state().groups().committed("g", "t", 0).map_or(0, |committed| committed.offset);
        assert!(
            stored == self.offset || Some(stored) == self.offset_undecided,
            "offset {stored}, told {}",
            self.offset
        );
    }
}
