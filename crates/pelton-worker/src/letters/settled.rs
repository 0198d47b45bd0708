//! Which dead letters of one partition were dealt with, as an offset and a short text.

use pelton_types::Offset;
use std::collections::BTreeSet;

/// First word of the text; anything else was committed by somebody else.
const MARK: &str = "pelton-dead-letters";
/// A broker takes 4,096 bytes of text with an offset (`offset.metadata.max.bytes`).
const MOST_BYTES: usize = 4_000;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// Everything before it is settled.
    floor: Offset,
    /// Settled at or behind the floor.
    later: BTreeSet<Offset>,
    /// The first letter met that stays.
    stays: Option<Offset>,
    /// Behind the last letter met.
    seen: Offset,
    changed: bool,
}

impl Settled {
    /// From what was committed; `None` when the text is not ours.
    pub fn read(floor: Offset, text: &str) -> Option<Settled> {
        let mut later = BTreeSet::new();
        if !text.is_empty() {
            let mut words = text.split_whitespace();
            if words.next() != Some(MARK) {
                return None;
            }
            for range in words.next().unwrap_or_default().split(',').filter(|r| !r.is_empty()) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last): (Offset, Offset) = (first.parse().ok()?, last.parse().ok()?);
                // A text of 4 kB names at most a few million letters; more is damage.
                if last < first || last - first > 10_000_000 {
                    return None;
                }
                later.extend(first..=last);
            }
        }
        Some(Settled { floor, later, stays: None, seen: floor, changed: false })
    }

    /// Offset and text to commit.
    ///
    /// # Errors
    /// When too many letters were settled out of order to be named in the text.
    pub fn write(&self) -> Result<(Offset, String), String> {
        let floor = self.stays.unwrap_or(self.seen);
        let mut ranges: Vec<(Offset, Offset)> = Vec::new();
        for offset in self.later.range(floor..) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *offset => *last = *offset,
                _ => ranges.push((*offset, *offset)),
            }
        }
        let named: Vec<String> = ranges
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        let text = format!("{MARK} {}", named.join(","));
        if text.len() > MOST_BYTES {
            return Err(format!(
                "too many letters were settled out of order ({} gaps); settle the oldest ones first",
                named.len()
            ));
        }
        Ok((floor, text.trim_end().to_owned()))
    }

    /// Where to read from.
    pub fn next(&self) -> Offset {
        self.floor
    }

    /// A letter was met.
    pub fn saw(&mut self, offset: Offset) {
        self.seen = self.seen.max(offset + 1);
    }

    /// Whether it is settled.
    pub fn has(&self, offset: Offset) -> bool {
        offset < self.floor || self.later.contains(&offset)
    }

    /// It stays as it is.
    pub fn keep(&mut self, offset: Offset) {
        self.stays.get_or_insert(offset);
    }

    /// It is settled now.
    pub fn settle(&mut self, offset: Offset) {
        self.later.insert(offset);
        self.changed = true;
    }

    /// Whether there is something to commit.
    pub fn changed(&self) -> bool {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go over letters `offsets`, settling those of `wanted`.
    fn pass(state: &mut Settled, offsets: &[Offset], wanted: &[Offset]) {
        let floor = state.floor;
        for &offset in offsets.iter().filter(|o| **o >= floor) {
            state.saw(offset);
            if state.has(offset) {
                continue;
            }
            match wanted.contains(&offset) {
                true => state.settle(offset),
                false => state.keep(offset),
            }
        }
    }

    #[test]
    fn letters_settled_out_of_order_are_named_until_the_older_ones_are_settled_too() {
        let letters = [10, 11, 12, 15, 16, 20];
        let mut state = Settled::read(10, "").unwrap();
        pass(&mut state, &letters, &[11, 12, 16]);
        let (floor, text) = state.write().unwrap();
        assert_eq!((floor, text.as_str()), (10, "pelton-dead-letters 11-12,16"));

        let mut state = Settled::read(floor, &text).unwrap();
        assert!(state.has(12) && !state.has(15));
        pass(&mut state, &letters, &[10]);
        let (floor, text) = state.write().unwrap();
        assert_eq!((floor, text.as_str()), (15, "pelton-dead-letters 16"));

        let mut state = Settled::read(floor, &text).unwrap();
        pass(&mut state, &letters, &[15, 20]);
        assert_eq!(state.write().unwrap(), (21, "pelton-dead-letters".to_owned()));
    }

    #[test]
    fn what_was_not_looked_at_is_not_settled() {
        let mut state = Settled::read(0, "pelton-dead-letters 7").unwrap();
        pass(&mut state, &[0, 1], &[0, 1]);
        assert_eq!(state.write().unwrap(), (2, "pelton-dead-letters 7".to_owned()));
    }

    #[test]
    fn a_text_of_somebody_else_is_no_answer() {
        for text in
            ["hello", "pelton-dead-letters x", "pelton-dead-letters 5-1", "pelton-dead-letters 0-99999999999"]
        {
            assert_eq!(Settled::read(0, text), None, "{text}");
        }
    }

    #[test]
    fn too_many_gaps_are_refused_before_the_broker_does() {
        let mut state = Settled::read(0, "").unwrap();
        let all: Vec<Offset> = (0..10_000).collect();
        let every_other: Vec<Offset> = (0..10_000).filter(|o| o % 2 == 1).collect();
        pass(&mut state, &all, &every_other);
        assert!(state.write().unwrap_err().contains("settle the oldest ones first"));
    }
}
