//! What comes in from outside: JSON records with an id, a number within their key, and whether the pipeline keeps them.

use super::{
    Random, SimKafka,
    cluster::{BEGAN_MS, INPUT, TICK},
    ends::partition_of,
};
use pelton_broker::records::NewRecord;
use std::collections::BTreeMap;

/// Keys of the load.
const KEYS: u64 = 40;

/// Records that come in from outside.
pub(super) struct Load {
    random: Random,
    pub(super) left: u64,
    per_second: u64,
    owed: u64,
    next: u64,
    numbers: BTreeMap<u64, u64>,
    partitions: u32,
    pub(super) open: bool,
}

impl Load {
    pub(super) fn new(seed: u64, records: u64, per_second: u64, partitions: u32) -> Self {
        Self {
            random: Random::new(seed ^ 0x10ad),
            left: records,
            per_second,
            owed: 0,
            next: 0,
            numbers: BTreeMap::new(),
            partitions,
            open: false,
        }
    }

    /// What comes in during one tick.
    pub(super) fn tick(&mut self, kafka: &SimKafka) {
        if !self.open {
            return;
        }
        self.owed += self.per_second;
        let ticks_per_second = 1000 / TICK.as_millis() as u64;
        let count = (self.owed / ticks_per_second).min(self.left);
        self.owed %= ticks_per_second;
        self.left -= count;
        for _ in 0..count {
            let id = self.next;
            self.next += 1;
            let key = self.random.below(KEYS);
            let number = self.numbers.entry(key).or_default();
            let value = format!(r#"{{"id":{id},"n":{number},"keep":{}}}"#, !id.is_multiple_of(5));
            *number += 1;
            let key = format!("key-{key}");
            let partition = partition_of(Some(key.as_bytes()), self.partitions);
            let record = NewRecord {
                key: Some(key.into()),
                value: Some(value.into()),
                timestamp_ms: BEGAN_MS,
                ..NewRecord::default()
            };
            kafka.broker().append((INPUT, partition), &[record], BEGAN_MS).expect("the input topic exists");
        }
    }
}
