//! What should be and what is there, to what is to be done.
//!
//! A fleet has slots 0, 1, ...; each wanted slot is filled by one container of the newest make. A container that is no
//! longer wanted is first marked as leaving and then asked to finish, so that whoever looks next, perhaps another
//! process after a crash, does not ask twice: a worker takes a second signal as "end at once".

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// First pause before a container that ended is replaced; doubles with each that did not live.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest such pause.
const PAUSE_LONGEST: Duration = Duration::from_secs(30);
/// A container that lived this long is replaced at once.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// What should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of workers.
    pub workers: usize,
    /// What they are made from; containers of another make are replaced, one after the other.
    pub make: String,
    /// How long a leaving container may take to finish.
    pub grace: Duration,
}

/// A container of the fleet as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The engine's id.
    pub id: String,
    /// The slot it fills.
    pub slot: usize,
    /// What it was made from.
    pub make: String,
    /// Whether it was marked as leaving.
    pub leaving: bool,
    /// What it does.
    pub state: State,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, and never started.
    Made,
    /// Runs, or is held by somebody (paused): left alone.
    Running,
    /// Ended.
    Ended,
    /// On its way out of the engine: nothing is to be done.
    Going,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Make a container for a slot and start it.
    Make {
        /// The slot.
        slot: usize,
    },
    /// Start one that was made.
    Start {
        /// Which.
        id: String,
    },
    /// Mark it as leaving, then ask it to finish.
    Retire {
        /// Which.
        id: String,
        /// Its slot.
        slot: usize,
    },
    /// It had its time: end it.
    End {
        /// Which.
        id: String,
    },
    /// Take away what ended, or what was never started.
    Remove {
        /// Which.
        id: String,
        /// Its slot.
        slot: usize,
        /// Whether it ended although it should run: worth a word.
        unexpected: bool,
    },
}

/// What was observed over time; a new one is as good after a restart, but for pauses.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    slots: BTreeMap<usize, Slot>,
    /// Since when each leaving container is known to leave.
    leaving: BTreeMap<String, Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Ends in a row that came soon after the start.
    failures: u32,
    /// When one was last made.
    made: Duration,
    /// Not before this.
    not_before: Duration,
    /// Whether one was there that should stay.
    there: bool,
}

impl Memory {
    /// What is to be done now; `now` counts from any moment.
    pub fn decide(&mut self, wanted: &Wanted, seen: &[Seen], now: Duration) -> Vec<Action> {
        self.leaving.retain(|id, _| seen.iter().any(|one| one.id == *id));
        self.note_vanished(seen, now);
        let mut actions = Vec::new();
        let mut filled = BTreeSet::new();
        let mut outdated = Vec::new();
        for one in seen {
            let is_wanted = one.slot < wanted.workers && !one.leaving;
            match one.state {
                State::Going => {}
                State::Ended => {
                    if is_wanted {
                        self.note_end(one.slot, now);
                    }
                    let unexpected = is_wanted;
                    actions.push(Action::Remove { id: one.id.clone(), slot: one.slot, unexpected });
                }
                State::Made if is_wanted && one.make == wanted.make && filled.insert(one.slot) => {
                    self.slots.entry(one.slot).or_default().made = now;
                    actions.push(Action::Start { id: one.id.clone() });
                }
                State::Made => {
                    actions.push(Action::Remove { id: one.id.clone(), slot: one.slot, unexpected: false });
                }
                State::Running if one.leaving => {
                    let since = *self.leaving.entry(one.id.clone()).or_insert(now);
                    if now.saturating_sub(since) > wanted.grace {
                        actions.push(Action::End { id: one.id.clone() });
                    }
                }
                State::Running if is_wanted && filled.insert(one.slot) => {
                    if one.make != wanted.make {
                        outdated.push(one);
                    }
                }
                State::Running => actions.push(Action::Retire { id: one.id.clone(), slot: one.slot }),
            }
        }
        // A slot is free once nothing of it is left: its next worker has the same name.
        let taken: BTreeSet<usize> = seen.iter().map(|one| one.slot).collect();
        let free: Vec<usize> = (0..wanted.workers).filter(|slot| !taken.contains(slot)).collect();
        for one in seen {
            let stays = one.slot < wanted.workers && !one.leaving && one.state == State::Running;
            self.slots.entry(one.slot).or_default().there |= stays;
        }
        // One at a time, and only while all the others are there.
        if let (Some(one), true) = (outdated.first(), filled.len() == wanted.workers && actions.is_empty()) {
            actions.push(Action::Retire { id: one.id.clone(), slot: one.slot });
        }
        for slot in free {
            let known = self.slots.entry(slot).or_default();
            if now >= known.not_before {
                known.made = now;
                actions.push(Action::Make { slot });
            }
        }
        actions
    }

    /// An action of a slot failed at the engine: it pauses like one whose container ended.
    pub fn failed(&mut self, slot: usize, now: Duration) {
        self.note_end(slot, now);
    }

    /// A container that somebody took away, or that went by itself, ended like any other.
    fn note_vanished(&mut self, seen: &[Seen], now: Duration) {
        let gone = |slot: &usize| !seen.iter().any(|one| one.slot == *slot);
        let vanished: Vec<usize> = self
            .slots
            .iter()
            .filter(|(slot, known)| known.there && gone(slot))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in vanished {
            self.note_end(slot, now);
        }
        for one in seen.iter().filter(|one| one.leaving || one.state != State::Running) {
            self.slots.entry(one.slot).or_default().there = false;
        }
    }

    fn note_end(&mut self, slot: usize, now: Duration) {
        let known = self.slots.entry(slot).or_default();
        known.there = false;
        if now.saturating_sub(known.made) > STABLE_AFTER {
            known.failures = 0;
            known.not_before = now;
        } else {
            let pause = PAUSE_FIRST * 2_u32.pow(known.failures.min(12));
            known.failures += 1;
            known.not_before = now + pause.min(PAUSE_LONGEST);
        }
    }
}

#[cfg(test)]
mod tests;
