//! The order in which an asynchronous operator hands on what it holds.
//!
//! A [`Reorder`] keeps what is in flight in **lanes**: one for each key, or for each partition, or none at all. What
//! is complete waits until everything before it in its lane is handed on. It is pure: no clock, no thread, nothing that
//! blocks; calls cost O(log n) of what is held.

use pelton_types::{Offset, Partition};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

/// What is promised about the order of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Records of one partition with equal keys leave in the order they came. Records without a key have no order.
    #[default]
    Key,
    /// Records of one partition leave in the order they came; a slow one holds up those behind it.
    Partition,
    /// Records leave as they become ready.
    None,
}

/// Names what was put into a [`Reorder`]. Tickets rise in the order of [`Reorder::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// See the module. `T` is what is held: a record, a batch, and what became of it.
#[derive(Debug)]
pub struct Reorder<T> {
    order: Order,
    limit: usize,
    /// By ticket. A map and no queue: one that stays long must not keep the places of those that came after it.
    slots: HashMap<u64, Slot<T>>,
    next: u64,
    ready: VecDeque<u64>,
    lanes: HashMap<(usize, u64), VecDeque<u64>>,
    hasher: RandomState,
    /// Few: the partitions of one task.
    partitions: Vec<(Partition, Floors)>,
}

/// Offsets held of one partition, each with how often.
type Floors = BTreeMap<Offset, usize>;

#[derive(Debug)]
struct Slot<T> {
    partition: usize,
    lane: Option<u64>,
    offset: Offset,
    complete: bool,
    held: T,
}

impl<T> Reorder<T> {
    /// Nothing held. [`Reorder::has_room`] says no from `limit` on.
    pub fn new(order: Order, limit: usize) -> Self {
        Self {
            order,
            limit,
            slots: HashMap::new(),
            next: 0,
            ready: VecDeque::new(),
            lanes: HashMap::new(),
            hasher: RandomState::new(),
            partitions: Vec::new(),
        }
    }

    /// Whether fewer are held than the limit. It bounds what is asked for, not what [`Reorder::push`] takes: a batch
    /// that was accepted is taken whole.
    pub fn has_room(&self) -> bool {
        self.slots.len() < self.limit
    }

    /// How many are held, complete or not.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The lowest offset held of a partition: everything below it was handed on.
    pub fn floor(&self, partition: &Partition) -> Option<Offset> {
        let (_, floors) = self.partitions.iter().find(|(known, _)| known == partition)?;
        floors.keys().next().copied()
    }

    /// Take something in. `offset`: the lowest of the records it stands for.
    pub fn push(&mut self, partition: &Partition, key: Option<&[u8]>, offset: Offset, held: T) -> Ticket {
        let partition = self.partition(partition);
        let lane = match self.order {
            // Keys whose hashes meet share a lane: that only keeps more order than was promised.
            Order::Key => key.map(|key| self.hasher.hash_one(key)),
            Order::Partition => Some(0),
            Order::None => None,
        };
        let ticket = self.next;
        self.next += 1;
        if let Some(lane) = lane {
            self.lanes.entry((partition, lane)).or_default().push_back(ticket);
        }
        *self.partitions[partition].1.entry(offset).or_default() += 1;
        self.slots.insert(ticket, Slot { partition, lane, offset, complete: false, held });
        Ticket(ticket)
    }

    /// What is held under a ticket; `None` once it was handed on.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.slots.get_mut(&ticket.0).map(|slot| &mut slot.held)
    }

    /// Nothing more will happen to it. A second time, or after it was handed on, nothing happens.
    pub fn complete(&mut self, ticket: Ticket) {
        let Some(slot) = self.slots.get_mut(&ticket.0) else { return };
        if std::mem::replace(&mut slot.complete, true) {
            return;
        }
        match slot.lane.map(|lane| (slot.partition, lane)) {
            None => self.ready.push_back(ticket.0),
            Some(lane) => self.advance(lane),
        }
    }

    /// What is complete at the front of a lane becomes ready.
    fn advance(&mut self, lane: (usize, u64)) {
        let Some(mut queue) = self.lanes.remove(&lane) else { return };
        while let Some(front) = queue.front().copied() {
            if self.slots.get(&front).is_some_and(|slot| !slot.complete) {
                self.lanes.insert(lane, queue);
                return;
            }
            queue.pop_front();
            self.ready.push_back(front);
        }
    }

    /// The next in the promised order that is complete; from now on it is not held.
    pub fn pop(&mut self) -> Option<T> {
        let ticket = self.ready.pop_front()?;
        let slot = self.slots.remove(&ticket)?;
        let floors = &mut self.partitions[slot.partition].1;
        if let Some(count) = floors.get_mut(&slot.offset) {
            *count -= 1;
            if *count == 0 {
                floors.remove(&slot.offset);
            }
        }
        Some(slot.held)
    }

    fn partition(&mut self, partition: &Partition) -> usize {
        // Batch after batch is of the same few partitions; their names are shared, so this compares pointers mostly.
        match self.partitions.iter().position(|(known, _)| known == partition) {
            Some(found) => found,
            None => {
                self.partitions.push((partition.clone(), Floors::new()));
                self.partitions.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: i32) -> Partition {
        Partition::new("in", n)
    }

    fn popped(reorder: &mut Reorder<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| reorder.pop()).collect()
    }

    #[test]
    fn a_key_waits_for_itself_only() {
        let mut reorder = Reorder::new(Order::Key, 10);
        let a1 = reorder.push(&at(0), Some(b"a"), 0, "a1");
        let a2 = reorder.push(&at(0), Some(b"a"), 1, "a2");
        let b1 = reorder.push(&at(0), Some(b"b"), 2, "b1");
        let none = reorder.push(&at(0), None, 3, "null");
        let other = reorder.push(&at(1), Some(b"a"), 4, "a of another partition");
        for ticket in [a2, b1, none, other] {
            reorder.complete(ticket);
        }
        assert_eq!(popped(&mut reorder), ["b1", "null", "a of another partition"]);
        reorder.complete(a1);
        reorder.complete(a1);
        assert_eq!(popped(&mut reorder), ["a1", "a2"]);
        assert!(reorder.is_empty() && reorder.lanes.is_empty() && reorder.slots.is_empty());
    }

    #[test]
    fn a_partition_waits_for_itself_only() {
        let mut reorder = Reorder::new(Order::Partition, 10);
        let first = reorder.push(&at(0), Some(b"a"), 0, "first");
        let second = reorder.push(&at(0), Some(b"b"), 1, "second");
        let other = reorder.push(&at(1), None, 0, "other");
        reorder.complete(second);
        reorder.complete(other);
        assert_eq!(popped(&mut reorder), ["other"]);
        reorder.complete(first);
        assert_eq!(popped(&mut reorder), ["first", "second"]);
    }

    #[test]
    fn without_order_things_leave_as_they_are_ready() {
        let mut reorder = Reorder::new(Order::None, 10);
        let first = reorder.push(&at(0), Some(b"a"), 0, "first");
        let second = reorder.push(&at(0), Some(b"a"), 1, "second");
        reorder.complete(second);
        assert_eq!(popped(&mut reorder), ["second"]);
        reorder.complete(first);
        assert_eq!(popped(&mut reorder), ["first"]);
    }

    #[test]
    fn the_floor_is_the_lowest_offset_not_handed_on_whatever_the_order_of_arrival() {
        let mut reorder = Reorder::new(Order::None, 2);
        assert_eq!(reorder.floor(&at(0)), None);
        let late = reorder.push(&at(0), None, 7, "7");
        assert!(reorder.has_room());
        let early = reorder.push(&at(0), None, 5, "5");
        assert!(!reorder.has_room());
        assert_eq!((reorder.floor(&at(0)), reorder.floor(&at(1))), (Some(5), None));
        reorder.complete(early);
        assert_eq!(reorder.floor(&at(0)), Some(5), "complete, and still held");
        assert_eq!(reorder.pop(), Some("5"));
        assert_eq!(reorder.floor(&at(0)), Some(7));
        assert_eq!(reorder.get_mut(early), None);
        assert_eq!(reorder.get_mut(late), Some(&mut "7"));
    }
}
