//! What is done when: a function of the seed alone.

use std::time::Duration;

/// Shortest and longest pause before an act, without a wish for a longer run, milliseconds.
const PAUSE_MS: (u64, u64) = (500, 2_500);
/// Until a worker that ended is started again, milliseconds.
const RESTART_MS: (u64, u64) = (0, 1_000);
/// How long the broker stands still, milliseconds: longer than a worker's patience with a commit, and shorter than its own
/// session of 9 s. A single Apache Kafka 4.3.1 that wakes up beyond it, fenced, acknowledges commits of which it writes no
/// marker: their offsets are neither committed nor aborted, and a task that asks for them waits for ever
/// (`docs/incidents/PLT0206.md`).
const BROKER_STILL_MS: (u64, u64) = (2_000, 7_000);
/// How long the coordinator is away, milliseconds: longer than the lease of 3 s, so that a worker that waited for it
/// would be seen.
const AWAY_MS: (u64, u64) = (4_000, 7_000);
/// How long a worker stands still, milliseconds: shorter than the lease of 3 s to much longer than it.
const STILL_MS: (u64, u64) = (1_000, 8_000);
/// The same in a run of some minutes: beyond a transaction's time of 15 s too.
const LONG_STILL_MS: (u64, u64) = (1_000, 60_000);
/// From this length on a run has time for long pauses.
const LONG_RUN: Duration = Duration::from_secs(300);
/// How long a line is silent or slow, milliseconds: a socket's timeout is 5 s.
const LINE_MS: (u64, u64) = (500, 7_000);
/// Poison records at a time.
const POISON: (u64, u64) = (1, 20);

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
    /// Other faults, each kind of them in its turn.
    pub faults: usize,
    /// Times the broker is killed and started again, or stands still, in turns.
    pub broker_restarts: usize,
    /// The most tasks the shards are dealt to.
    pub tasks: usize,
    /// Pauses are stretched to make it take about this long.
    pub at_least: Duration,
}

/// One thing done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// Time since the act before it.
    pub pause: Duration,
    /// What is done.
    pub deed: Deed,
    /// Until it is made good.
    pub away: Duration,
}

/// What is done; a number is that of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// kill -9 of a worker, and a new one.
    Kill(usize),
    /// kill -9 of the coordinator, and a new one.
    KillCoordinator,
    /// kill -9 of the broker, and a new one.
    KillBroker,
    /// SIGSTOP of the broker, and SIGCONT.
    StopBroker,
    /// SIGTERM to a worker, and a new one.
    End(usize),
    /// SIGSTOP, and SIGCONT.
    Stop(usize),
    /// The worker's connections to the broker are reset.
    Reset(usize),
    /// Half open: nothing comes back.
    Silence(usize),
    /// Every request waits, and bytes trickle.
    Slow(usize),
    /// The connection is cut under the next end of a transaction, which arrives later.
    CutEnd(usize),
    /// The next offsets of a transaction are held, and arrive later.
    HoldOffsets(usize),
    /// The next answers to ends of transactions are lost.
    LoseAnswers(usize),
    /// Requests of transactions overtake each other.
    Reorder(usize),
    /// The connections are reset, and the broker names no broker to whoever asks where they are.
    NameNoBroker(usize),
    /// So many records that cannot be processed.
    Poison(u64),
    /// The shards are dealt to so many tasks.
    Deal(usize),
    /// A worker leaves for a while: there is one less.
    Leave(usize),
}

/// The kinds of other faults, in the order they take turns.
const OTHERS: usize = 13;

impl Deed {
    /// What the event log calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Deed::Kill(_) => "kill -9",
            Deed::KillCoordinator => "coordinator kill -9",
            Deed::KillBroker => "broker kill -9",
            Deed::StopBroker => "broker SIGSTOP",
            Deed::End(_) => "SIGTERM",
            Deed::Stop(_) => "SIGSTOP",
            Deed::Reset(_) => "connections reset",
            Deed::Silence(_) => "line silent",
            Deed::Slow(_) => "line slow",
            Deed::CutEnd(_) => "cut under EndTxn",
            Deed::HoldOffsets(_) => "TxnOffsetCommit held",
            Deed::LoseAnswers(_) => "answers to EndTxn lost",
            Deed::Reorder(_) => "requests reordered",
            Deed::NameNoBroker(_) => "no broker named",
            Deed::Poison(_) => "poison records",
            Deed::Deal(_) => "tasks dealt anew",
            Deed::Leave(_) => "worker left",
        }
    }
}

/// The plan of a wish.
pub fn plan(wish: &Wish) -> Vec<Act> {
    let mut random = Random(wish.seed);
    let acts = wish.kills + wish.coordinator_kills + wish.faults + wish.broker_restarts;
    let mean_ms = (PAUSE_MS.0 + PAUSE_MS.1) / 2;
    let wanted_ms = u64::try_from(wish.at_least.as_millis()).unwrap_or(u64::MAX) / acts.max(1) as u64;
    let stretch = wanted_ms.max(mean_ms);
    let mut deeds: Vec<Deed> = Vec::with_capacity(acts);
    for _ in 0..wish.kills {
        deeds.push(Deed::Kill(random.mortal(wish)));
    }
    deeds.extend((0..wish.coordinator_kills).map(|_| Deed::KillCoordinator));
    let broker = [Deed::KillBroker, Deed::StopBroker].into_iter().cycle();
    deeds.extend(broker.take(wish.broker_restarts));
    for turn in 0..wish.faults {
        deeds.push(other(turn % OTHERS, wish, &mut random));
    }
    // Fisher and Yates: every order is as likely as any other.
    for left in (1..deeds.len()).rev() {
        let other = usize::try_from(random.below(left as u64 + 1)).unwrap_or(0);
        deeds.swap(left, other);
    }
    let act = |deed: Deed| {
        let pause = Duration::from_millis(random.within(PAUSE_MS) * stretch / mean_ms);
        Act { pause, deed, away: Duration::from_millis(random.within(away(deed, wish))) }
    };
    deeds.into_iter().map(act).collect()
}

fn other(kind: usize, wish: &Wish, random: &mut Random) -> Deed {
    let worker = if matches!(kind, 2 | 7) { random.mortal(wish) } else { random.worker(wish) };
    match kind {
        0 => Deed::Stop(worker),
        1 => Deed::CutEnd(worker),
        2 => Deed::End(worker),
        3 => Deed::Poison(random.within(POISON)),
        4 => Deed::Deal(usize::try_from(1 + random.below(wish.tasks.max(1) as u64)).unwrap_or(1)),
        5 => Deed::HoldOffsets(worker),
        6 => Deed::Reset(worker),
        7 => Deed::Leave(worker),
        8 => Deed::LoseAnswers(worker),
        9 => Deed::Silence(worker),
        10 => Deed::Slow(worker),
        11 => Deed::NameNoBroker(worker),
        _ => Deed::Reorder(worker),
    }
}

/// How long a deed lasts, milliseconds.
fn away(deed: Deed, wish: &Wish) -> (u64, u64) {
    match deed {
        Deed::Kill(_) | Deed::End(_) | Deed::KillBroker => RESTART_MS,
        Deed::KillCoordinator => AWAY_MS,
        Deed::StopBroker => BROKER_STILL_MS,
        Deed::Stop(_) if wish.at_least >= LONG_RUN => LONG_STILL_MS,
        Deed::Stop(_) | Deed::Leave(_) => STILL_MS,
        Deed::Poison(_) | Deed::Deal(_) | Deed::Reset(_) => (0, 0),
        Deed::Silence(_)
        | Deed::Slow(_)
        | Deed::CutEnd(_)
        | Deed::HoldOffsets(_)
        | Deed::LoseAnswers(_)
        | Deed::NameNoBroker(_)
        | Deed::Reorder(_) => LINE_MS,
    }
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

    /// A worker whose process may end: the last of several never does, so that it can be seen how it grows.
    fn mortal(&mut self, wish: &Wish) -> usize {
        usize::try_from(self.below(wish.workers.saturating_sub(1).max(1) as u64)).unwrap_or(0)
    }

    fn worker(&mut self, wish: &Wish) -> usize {
        usize::try_from(self.below(wish.workers.max(1) as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn wish(seed: u64) -> Wish {
        Wish {
            seed,
            workers: 3,
            kills: 20,
            coordinator_kills: 5,
            faults: 24,
            broker_restarts: 2,
            tasks: 12,
            at_least: Duration::ZERO,
        }
    }

    fn count(acts: &[Act], name: &str) -> usize {
        acts.iter().filter(|act| act.deed.name() == name).count()
    }

    #[test]
    fn a_plan_has_the_deeds_that_were_asked_for_and_depends_on_the_seed_alone() {
        for seed in 0..200 {
            let acts = plan(&wish(seed));
            assert_eq!(acts.len(), 51, "seed {seed}");
            assert_eq!(count(&acts, "kill -9"), 20, "seed {seed}");
            assert_eq!(count(&acts, "coordinator kill -9"), 5, "seed {seed}");
            assert_eq!(count(&acts, "broker kill -9"), 1, "seed {seed}");
            assert_eq!(count(&acts, "broker SIGSTOP"), 1, "seed {seed}");
            assert_eq!(count(&acts, "SIGSTOP"), 2, "each kind of the others in its turn, seed {seed}");
            assert_eq!(acts, plan(&wish(seed)), "seed {seed}");
            assert!(acts.iter().all(|a| !matches!(a.deed, Deed::Kill(n) | Deed::Stop(n) if n > 2)));
            let ends = |deed| matches!(deed, Deed::Kill(n) | Deed::End(n) | Deed::Leave(n) if n > 1);
            assert!(acts.iter().all(|a| !ends(a.deed)), "the last one is spared, seed {seed}");
            assert!(acts.iter().all(|a| !matches!(a.deed, Deed::Deal(n) if n == 0 || n > 12)));
        }
        assert_ne!(plan(&wish(1)), plan(&wish(2)));
        let nothing = Wish { kills: 0, coordinator_kills: 0, faults: 0, broker_restarts: 0, ..wish(1) };
        assert!(plan(&nothing).is_empty());
    }

    #[test]
    fn a_round_of_the_other_faults_has_each_of_them_once() {
        let acts =
            plan(&Wish { kills: 0, coordinator_kills: 0, broker_restarts: 0, faults: OTHERS, ..wish(3) });
        let kinds: BTreeSet<_> = acts.iter().map(|act| act.deed.name()).collect();
        assert_eq!((acts.len(), kinds.len()), (OTHERS, OTHERS));
    }

    #[test]
    fn pauses_stretch_to_the_length_asked_for() {
        let long = plan(&Wish { at_least: Duration::from_secs(600), ..wish(7) });
        let total: Duration = long.iter().map(|a| a.pause).sum();
        assert!(total > Duration::from_secs(400) && total < Duration::from_secs(900), "{total:?}");
    }
}
