//! Visits every state that can be reached, breadth first, so that the first story of a failure is a shortest one.

use crate::world::{Invariant, Left, Scenario, Step, World};
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    pub states: usize,
    pub steps: usize,
    /// States from which the calm run was followed.
    pub calm_runs: usize,
    /// The first invariant found broken, and how.
    pub broken: Option<(Invariant, Vec<String>)>,
}

/// Steps after which a calm run counts as stuck; the longest successful one takes less than a third.
const CALM_STEPS: usize = 300;
/// The calm run is followed from one state in so many, chosen by hash, and from all that are dead ends.
const CALM_SAMPLE: u64 = 32;

/// Keeps a scenario within seconds in an unoptimised build.
const MOST_STATES: usize = 4_000_000;

/// With fixed keys: the same in every run. Two of 400,000 states share a fingerprint with a probability of 5e-9.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// Explore a scenario and watch some invariants.
pub fn explore(scenario: &Scenario, watched: &[Invariant]) -> Seen {
    let first = World::new(scenario);
    let mut known = HashSet::from([fingerprint(&first)]);
    let mut live = HashSet::new();
    let mut story: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(0, first)]);
    let mut seen = Seen { states: 1, steps: 0, calm_runs: 0, broken: None };
    while let Some((index, world)) = queue.pop_front() {
        let steps = world.steps();
        if watched.contains(&Invariant::WorkGoesOn)
            && (steps.is_empty() || fingerprint(&world).is_multiple_of(CALM_SAMPLE))
        {
            seen.calm_runs += 1;
            let runs = [false, true].map(|away| calm_run(&world, away, &mut live).err());
            if let Some(mut run) = runs.into_iter().flatten().next() {
                let mut told = tell(&story, index);
                told.append(&mut run);
                seen.broken = Some((Invariant::WorkGoesOn, told));
                return seen;
            }
        }
        for step in steps {
            seen.steps += 1;
            let next = world.after(step);
            if !known.insert(fingerprint(&next)) {
                continue;
            }
            seen.states += 1;
            assert!(seen.states <= MOST_STATES, "more than {MOST_STATES} states: {scenario:?} is too wide");
            story.push((index, Some(step)));
            if let Some(broken) = watched.iter().find(|invariant| !next.holds(**invariant)) {
                let mut told = tell(&story, story.len() - 1);
                told.push(format!("{next:#?}"));
                seen.broken = Some((*broken, told));
                return seen;
            }
            queue.push_back((story.len() - 1, next));
        }
    }
    seen
}

/// The steps that led to a state.
fn tell(story: &[(usize, Option<Step>)], mut index: usize) -> Vec<String> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = story[index] {
        steps.push(format!("{step:?}"));
        index = before;
    }
    steps.reverse();
    steps
}

/// Follow the world while nothing goes wrong, until all is done or a state is met that is known to get there. While
/// the coordinators are away, it is no failure that nobody holds the task.
fn calm_run(world: &World, away: bool, live: &mut HashSet<(u64, usize, bool)>) -> Result<(), Vec<String>> {
    let mut world = world.clone();
    world.left =
        Left { faults: 0, slips: 0, grants: 100, elections: 100, revokes: 0, inits: 200, redeals: 0 };
    let mut passed = Vec::new();
    let mut run = vec![format!("-- and then nothing goes wrong any more (coordinators away: {away}) --")];
    for turn in 0..CALM_STEPS {
        let print = (fingerprint(&world), turn % 2, away);
        let idle = away && world.workers.iter().all(Option::is_none);
        if world.done() || idle || live.contains(&print) {
            live.extend(passed);
            return Ok(());
        }
        passed.push(print);
        let Some(step) = world.calm_step(turn, away) else { break };
        run.push(format!("{step:?}"));
        world.take(step);
    }
    run.push(format!("{world:#?}"));
    Err(run)
}
