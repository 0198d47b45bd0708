//! Explores the protocol: two workers with real machines, two coordinators, one broker, and everything that may go
//! wrong between them, in every order. The same states are visited in every run.
//!
//! One partition stands for all: every shard is in one task of each generation, a transaction holds what it does to all
//! partitions of its task or nothing of it, and no task is granted before all old ones are retired.

mod broker;
mod coordinators;
mod search;
mod worker;
mod world;

use broker::BrokerFlaws;
use pelton_checkpoint::Delivery;
use search::{Seen, explore};
use worker::Sabotage;
use world::{Invariant, Left, Scenario};

/// Who may do what, and how often, where nothing else is said.
const CALM: Left = Left { faults: 0, slips: 0, grants: 2, elections: 0, revokes: 0, inits: 4, redeals: 0 };

fn scenario(delivery: Delivery, left: Left) -> Scenario {
    Scenario {
        delivery,
        records: 2,
        left,
        store_forgets: false,
        sabotage: None,
        flaws: BrokerFlaws::default(),
    }
}

/// Two grantees race, under two coordinators; nothing fails.
fn race(delivery: Delivery) -> Scenario {
    scenario(delivery, Left { elections: 1, inits: 3, ..CALM })
}

/// One owner, and two failures: crashes, requests lost, repeated or delayed.
fn failures(delivery: Delivery) -> Scenario {
    scenario(delivery, Left { faults: 2, grants: 1, ..CALM })
}

/// Two grantees and a failure.
fn both(delivery: Delivery) -> Scenario {
    scenario(delivery, Left { faults: 1, inits: 3, ..CALM })
}

/// The owner is asked to release, while a second one may already have been granted.
fn handover(delivery: Delivery) -> Scenario {
    scenario(delivery, Left { revokes: 1, inits: 3, ..CALM })
}

/// The shards are dealt anew while the owner may be asleep: each generation is granted once, and three inits let either
/// owner come back once. Left out is a second owner in one generation, which is what the scenarios above explore: an
/// init fences all holders of its id alike, however many.
fn redealt(delivery: Delivery) -> Scenario {
    scenario(delivery, Left { redeals: 1, inits: 3, ..CALM })
}

/// The same with one record and a failure of a worker.
fn redealt_and_failing() -> Scenario {
    Scenario {
        records: 1,
        ..scenario(Delivery::ExactlyOnce, Left { redeals: 1, inits: 3, faults: 1, ..CALM })
    }
}

/// The same with one record and two failures of the hand that retires: two are what it takes to bring a whole claim
/// back, its offsets and its end.
fn redealt_by_a_shaky_hand() -> Scenario {
    Scenario {
        records: 1,
        ..scenario(Delivery::ExactlyOnce, Left { redeals: 1, inits: 3, slips: 2, ..CALM })
    }
}

/// The same with one record and another coordinator that is elected, while the hand of the one before may be asleep.
fn redealt_by_two() -> Scenario {
    Scenario {
        records: 1,
        ..scenario(Delivery::ExactlyOnce, Left { redeals: 1, inits: 3, elections: 1, ..CALM })
    }
}

/// The coordinators' store loses a grant, so that two workers hold the same epoch.
fn forgetful_store(delivery: Delivery) -> Scenario {
    Scenario { store_forgets: true, ..scenario(delivery, CALM) }
}

fn expect_sound(name: &str, scenario: &Scenario) {
    let seen = explore(scenario, &Invariant::promised(scenario.delivery));
    println!("{name}: {} states, {} steps, {} calm runs", seen.states, seen.steps, seen.calm_runs);
    if let Some((invariant, story)) = seen.broken {
        panic!("{name}: {invariant:?} does not hold:\n{}", story.join("\n"));
    }
}

#[test]
fn exactly_once_holds_whatever_goes_wrong() {
    let delivery = Delivery::ExactlyOnce;
    expect_sound("exactly-once, a race", &race(delivery));
    expect_sound("exactly-once, failures", &failures(delivery));
    expect_sound("exactly-once, a handover", &handover(delivery));
    expect_sound("exactly-once, a store that forgets", &forgetful_store(delivery));
}

#[test]
fn a_zombie_of_an_old_generation_does_no_harm() {
    expect_sound("exactly-once, shards dealt anew", &redealt(Delivery::ExactlyOnce));
    expect_sound("exactly-once, shards dealt anew and a failure", &redealt_and_failing());
    expect_sound("exactly-once, shards dealt anew by a shaky hand", &redealt_by_a_shaky_hand());
    expect_sound("exactly-once, shards dealt anew by two", &redealt_by_two());
    expect_sound("at-least-once, shards dealt anew", &redealt(Delivery::AtLeastOnce));
}

#[test]
fn exactly_once_holds_when_two_grantees_meet_a_failure() {
    expect_sound("exactly-once, two grantees and a failure", &both(Delivery::ExactlyOnce));
}

#[test]
fn at_least_once_holds_whatever_goes_wrong() {
    let delivery = Delivery::AtLeastOnce;
    expect_sound("at-least-once, a race", &race(delivery));
    expect_sound("at-least-once, failures", &failures(delivery));
    expect_sound("at-least-once, a handover", &handover(delivery));
    expect_sound("at-least-once, a store that forgets", &forgetful_store(delivery));
}

#[test]
fn at_least_once_holds_when_two_grantees_meet_a_failure() {
    expect_sound("at-least-once, two grantees and a failure", &both(Delivery::AtLeastOnce));
}

/// A worker or broker that is wrong in one way, and what that must break.
fn sabotaged() -> Vec<(Scenario, Invariant)> {
    use Delivery::{AtLeastOnce, ExactlyOnce};
    use Invariant::*;
    let worker =
        |scenario: Scenario, sabotage, broken| (Scenario { sabotage: Some(sabotage), ..scenario }, broken);
    let broker = |scenario: Scenario, flaws, broken| (Scenario { flaws, ..scenario }, broken);
    let unfenced = BrokerFlaws { init_does_not_fence: true, ..BrokerFlaws::default() };
    let apart = BrokerFlaws { offsets_outside_the_transaction: true, ..BrokerFlaws::default() };
    vec![
        worker(failures(ExactlyOnce), Sabotage::KeepsAProducerThatWasNotClean, OutputsAndOffsetsTogether),
        worker(race(ExactlyOnce), Sabotage::SkipsTheClaim, NoZombieCommits),
        worker(race(ExactlyOnce), Sabotage::IgnoresNewerEpochs, EpochsNeverFall),
        worker(scenario(ExactlyOnce, CALM), Sabotage::ReadsBeforeInit, NothingDoubled),
        worker(race(ExactlyOnce), Sabotage::DoesNotRewind, NothingLost),
        worker(race(ExactlyOnce), Sabotage::AlarmsAtTakingOver, NoFalseAlarm),
        worker(redealt(ExactlyOnce), Sabotage::SkipsTheRetirementClaim, NothingDoubled),
        worker(redealt_by_a_shaky_hand(), Sabotage::TrustsAnUncleanRetirement, EpochsNeverFall),
        worker(failures(ExactlyOnce), Sabotage::NeverTriesAgain, WorkGoesOn),
        broker(failures(ExactlyOnce), apart, NothingLost),
        broker(race(ExactlyOnce), unfenced, NothingDoubled),
        worker(failures(AtLeastOnce), Sabotage::CommitsBeforeTheFlush, NothingLost),
        worker(failures(AtLeastOnce), Sabotage::ForgetsAFailedFlush, NothingLost),
        worker(failures(AtLeastOnce), Sabotage::DoesNotRewind, NothingLost),
        worker(failures(AtLeastOnce), Sabotage::CommitsWhatItHolds, NothingLost),
        worker(failures(AtLeastOnce), Sabotage::SendsOutOfOrder, FirstOccurrencesRise),
        worker(race(AtLeastOnce), Sabotage::AlarmsAtTakingOver, NoFalseAlarm),
        worker(failures(AtLeastOnce), Sabotage::NeverTriesAgain, WorkGoesOn),
    ]
}

#[test]
fn every_sabotage_is_caught_and_every_invariant_can_fail() {
    let mut proved = Vec::new();
    for (scenario, expected) in sabotaged() {
        let what = match scenario.sabotage {
            Some(sabotage) => format!("{:?}, the worker {sabotage:?}", scenario.delivery),
            None => format!("{:?}, {:?}", scenario.delivery, scenario.flaws),
        };
        let Seen { states, broken, .. } = explore(&scenario, &[expected]);
        let Some((invariant, story)) = broken else { panic!("{what}: {expected:?} still holds") };
        println!("{what}: {invariant:?} broken after {} steps ({states} states)", story.len() - 1);
        proved.push(invariant);
    }
    assert!(Invariant::ALL.iter().all(|invariant| proved.contains(invariant)), "{proved:?}");
}

#[test]
fn the_same_states_are_visited_in_every_run() {
    let [first, second] = [(), ()].map(|()| explore(&failures(Delivery::AtLeastOnce), &Invariant::ALL[..1]));
    assert_eq!((first.states, first.steps), (second.states, second.steps));
}
