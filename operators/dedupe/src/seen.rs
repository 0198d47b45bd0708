//! Keys that were seen, by their hash, for a time and up to a number.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    time::{Duration, Instant},
};

/// Hashes in the order they were first seen; the oldest goes first.
///
/// An entry takes 24 bytes in the queue and up to about 40 in the set, whose table doubles when it is 7/8 full, and
/// is then half as full again.
#[derive(Debug)]
pub(crate) struct Seen {
    within: Duration,
    most: usize,
    /// Time zero of `order`; the first time that is known.
    origin: Option<Instant>,
    now_ms: u64,
    order: VecDeque<(u64, u64, u64)>,
    known: HashSet<u128, BuildHasherDefault<AsItIs>>,
}

impl Seen {
    pub fn new(within: Duration, most: usize) -> Self {
        Self { within, most, origin: None, now_ms: 0, order: VecDeque::new(), known: HashSet::default() }
    }

    /// It is `now`: forget what is older than it may be.
    pub fn forget(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let passed = now.saturating_duration_since(origin).as_millis();
        self.now_ms = self.now_ms.max(u64::try_from(passed).unwrap_or(u64::MAX));
        let within = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
        while let Some((at, _, _)) = self.order.front()
            && self.now_ms - at >= within
        {
            self.forget_oldest();
        }
    }

    /// Whether a hash was not seen; from here on it was.
    pub fn is_new(&mut self, hash: u128) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        if self.order.len() >= self.most {
            self.forget_oldest();
        }
        self.order.push_back((self.now_ms, (hash >> 64) as u64, hash as u64));
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((_, high, low)) = self.order.pop_front() {
            self.known.remove(&(u128::from(high) << 64 | u128::from(low)));
        }
    }

    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        (self.order.len(), self.known.len())
    }
}

/// The keys of the set are hashes already.
#[derive(Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list that is searched from one end to the other.
        #[test]
        fn it_knows_what_a_list_would_know(
            most in 1usize..6,
            steps in proptest::collection::vec((0u64..40, 0u128..8), 0..200),
        ) {
            let (origin, within) = (Instant::now(), Duration::from_millis(100));
            let mut seen = Seen::new(within, most);
            let mut list: Vec<(u64, u128)> = Vec::new();
            let mut now = 0;
            for (pause, hash) in steps {
                now += pause;
                seen.forget(origin + Duration::from_millis(now));
                list.retain(|(at, _)| now - at < 100);
                let new = list.iter().all(|(_, known)| *known != hash);
                if new {
                    list.push((now, hash));
                    if list.len() > most {
                        list.remove(0);
                    }
                }
                prop_assert_eq!(seen.is_new(hash), new);
                prop_assert_eq!(seen.len(), (list.len(), list.len()));
            }
        }
    }
}
