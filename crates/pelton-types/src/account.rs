//! Where every record went: the balance an operator and a task must always show.

use serde::{Deserialize, Serialize};
use std::ops::{Add, AddAssign};

/// Counts of outcomes. For each operator, and for a task as a whole, at rest:
/// `records_in + expanded == records_out + filtered + merged + held + dead_lettered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Records given in (for a source: delivered; offsets are no count, markers and compaction leave gaps).
    pub records_in: u64,
    /// Records handed on.
    pub records_out: u64,
    /// Records dropped on purpose, by a condition of the user's.
    pub filtered: u64,
    /// Records in flight or in state.
    pub held: u64,
    /// Extra outputs: one record in, two out counts one.
    pub expanded: u64,
    /// Records that could not be processed and went to the dead-letter topic.
    pub dead_lettered: u64,
    /// Records that went into another's output: three in, one out counts two.
    #[serde(default)]
    pub merged: u64,
}

impl Account {
    /// What is missing (positive: lost without a trace) or too much (negative: doubled); 0 when the books balance.
    pub fn imbalance(&self) -> i64 {
        let debit = i128::from(self.records_in) + i128::from(self.expanded);
        let credit = i128::from(self.records_out)
            + i128::from(self.filtered)
            + i128::from(self.merged)
            + i128::from(self.held)
            + i128::from(self.dead_lettered);
        i64::try_from(debit - credit).unwrap_or(i64::MAX)
    }
}

impl Add for Account {
    type Output = Account;
    fn add(self, other: Account) -> Account {
        Account {
            records_in: self.records_in + other.records_in,
            records_out: self.records_out + other.records_out,
            filtered: self.filtered + other.filtered,
            held: self.held + other.held,
            expanded: self.expanded + other.expanded,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            merged: self.merged + other.merged,
        }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Account) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_record_shows_as_an_imbalance() {
        let mut books =
            Account { records_in: 3, records_out: 1, filtered: 1, dead_lettered: 1, ..Default::default() };
        assert_eq!(books.imbalance(), 0);
        books.records_in += 1;
        assert_eq!(books.imbalance(), 1);
        books.records_out += 2;
        assert_eq!(books.imbalance(), -1);
    }

    #[test]
    fn records_that_became_one_balance() {
        let books = Account { records_in: 3, records_out: 1, merged: 2, ..Default::default() };
        assert_eq!((books + books).imbalance(), 0);
    }
}
