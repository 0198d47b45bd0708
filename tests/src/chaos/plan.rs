//! What is killed when: a function of the seed alone.

use std::time::Duration;

/// Shortest and longest pause before a kill, without a wish for a longer run, milliseconds.
const PAUSE_MS: (u64, u64) = (1_000, 5_000);
/// Until a killed worker is started again, milliseconds.
const RESTART_MS: (u64, u64) = (0, 1_000);
/// How long the coordinator is away, milliseconds: longer than the lease of 3 s, so that a worker that waited for it
/// would be seen.
const AWAY_MS: (u64, u64) = (4_000, 7_000);

/// What the run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The same seed gives the same plan.
    pub seed: u64,
    /// Workers there are.
    pub workers: usize,
    /// Workers killed, one after the other.
    pub kills: usize,
    /// Times the coordinator is killed.
    pub coordinator_kills: usize,
    /// Pauses are stretched to make the kills take about this long.
    pub at_least: Duration,
}

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// Time since the act before it.
    pub pause: Duration,
    /// Who is killed.
    pub victim: Victim,
    /// Until it is started again.
    pub away: Duration,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The worker of this index.
    Worker(usize),
    /// The coordinator.
    Coordinator,
}

/// The plan of a wish.
pub fn plan(wish: &Wish) -> Vec<Act> {
    let mut random = Random(wish.seed);
    let acts = wish.kills + wish.coordinator_kills;
    let mean_ms = (PAUSE_MS.0 + PAUSE_MS.1) / 2;
    let wanted_ms = u64::try_from(wish.at_least.as_millis()).unwrap_or(u64::MAX) / acts.max(1) as u64;
    let stretch = wanted_ms.max(mean_ms);
    let mut coordinators = wish.coordinator_kills;
    (0..acts)
        .map(|done| {
            // Each of the acts left is as likely as any other to be one of the coordinator's.
            let coordinator = random.below((acts - done) as u64) < coordinators as u64;
            coordinators -= usize::from(coordinator);
            let pause = Duration::from_millis(random.within(PAUSE_MS) * stretch / mean_ms);
            let worker = usize::try_from(random.below(wish.workers.max(1) as u64)).unwrap_or(0);
            let (victim, away) = match coordinator {
                true => (Victim::Coordinator, random.within(AWAY_MS)),
                false => (Victim::Worker(worker), random.within(RESTART_MS)),
            };
            Act { pause, victim, away: Duration::from_millis(away) }
        })
        .collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    fn within(&mut self, (from, to): (u64, u64)) -> u64 {
        from + self.below(to - from + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(seed: u64) -> Wish {
        Wish { seed, workers: 3, kills: 20, coordinator_kills: 5, at_least: Duration::ZERO }
    }

    #[test]
    fn a_plan_has_the_kills_that_were_asked_for_and_depends_on_the_seed_alone() {
        for seed in 0..200 {
            let acts = plan(&wish(seed));
            let coordinators = acts.iter().filter(|a| a.victim == Victim::Coordinator).count();
            assert_eq!((acts.len(), coordinators), (25, 5), "seed {seed}");
            assert_eq!(acts, plan(&wish(seed)), "seed {seed}");
            assert!(acts.iter().all(|a| !matches!(a.victim, Victim::Worker(n) if n > 2)), "seed {seed}");
        }
        assert_ne!(plan(&wish(1)), plan(&wish(2)));
        assert!(plan(&Wish { kills: 0, coordinator_kills: 0, ..wish(1) }).is_empty());
    }

    #[test]
    fn pauses_stretch_to_the_length_asked_for() {
        let long = plan(&Wish { at_least: Duration::from_secs(600), ..wish(7) });
        let total: Duration = long.iter().map(|a| a.pause).sum();
        assert!(total > Duration::from_secs(400) && total < Duration::from_secs(900), "{total:?}");
    }
}
