//! Records that wait together.

use crate::options::Format;
use pelton_sdk::types::{Offset, Partition};
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

/// Records that become one.
#[derive(Debug)]
pub(crate) struct Group {
    pub partition: Partition,
    pub key: Option<Vec<u8>>,
    /// The new value so far, without its end.
    pub body: Vec<u8>,
    pub records: usize,
    /// The lowest offset: what a commit must not pass while the records wait here or behind.
    pub first: Offset,
    pub timestamp_ms: i64,
    pub since: Instant,
    /// Counts groups in the order they were begun.
    number: u64,
}

impl Group {
    /// Add a value.
    pub fn add(&mut self, value: &[u8], format: Format) {
        let before: &[u8] = match (format, self.records) {
            (Format::Array, 0) => b"[",
            (Format::Array, _) => b",",
            (Format::Lines, 0) => b"",
            (Format::Lines, _) => b"\n",
        };
        self.body.extend_from_slice(before);
        self.body.extend_from_slice(value);
        self.records += 1;
    }

    /// The whole new value.
    pub fn finish(&mut self, format: Format) {
        if format == Format::Array {
            self.body.push(b']');
        }
    }
}

/// The groups of a task, by partition and key, and in the order they were begun.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: HashMap<Vec<u8>, Group>,
    order: BTreeMap<u64, Vec<u8>>,
    begun: u64,
    partitions: Vec<Partition>,
    /// Name of the group in hand.
    name: Vec<u8>,
    held: usize,
}

impl Groups {
    /// Look for the group of a partition and key from here on.
    pub fn seek(&mut self, partition: &Partition, key: Option<&[u8]>) {
        let known = self.partitions.iter().position(|known| known == partition);
        let place = known.unwrap_or_else(|| {
            self.partitions.push(partition.clone());
            self.partitions.len() - 1
        });
        self.name.clear();
        self.name.extend_from_slice(&(place as u32).to_le_bytes());
        // No key is not the same as an empty one.
        if let Some(key) = key {
            self.name.push(1);
            self.name.extend_from_slice(key);
        }
    }

    /// The group that was sought.
    pub fn current(&mut self) -> Option<&mut Group> {
        self.all.get_mut(&self.name)
    }

    /// Begin the group that was sought.
    pub fn begin(&mut self, partition: &Partition, key: Option<&[u8]>, first: Offset, now: Instant) {
        let group = Group {
            partition: partition.clone(),
            key: key.map(<[u8]>::to_vec),
            body: Vec::new(),
            records: 0,
            first,
            timestamp_ms: -1,
            since: now,
            number: self.begun,
        };
        self.order.insert(self.begun, self.name.clone());
        self.begun += 1;
        self.all.insert(self.name.clone(), group);
    }

    /// A record was added to the group that was sought.
    pub fn count(&mut self) {
        self.held += 1;
    }

    /// Take the group that was sought out.
    pub fn take(&mut self) -> Option<Group> {
        let group = self.all.remove(&self.name)?;
        self.order.remove(&group.number);
        self.held -= group.records;
        Some(group)
    }

    /// The one that was begun first.
    pub fn oldest(&self) -> Option<&Group> {
        self.order.values().next().and_then(|name| self.all.get(name))
    }

    /// Take out the one that was begun first.
    pub fn take_oldest(&mut self) -> Option<Group> {
        let (_, name) = self.order.pop_first()?;
        let group = self.all.remove(&name)?;
        self.held -= group.records;
        Some(group)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn held(&self) -> usize {
        self.held
    }

    /// The lowest offset of a partition that waits.
    pub fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.all.values().filter(|group| group.partition == *partition).map(|group| group.first).min()
    }
}
