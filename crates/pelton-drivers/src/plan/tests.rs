//! Decisions against an engine made of a list, which crashes, loses and keeps what chance says.

use super::*;
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(500);

/// An engine, and the driver's memory beside it.
#[derive(Debug, Default)]
struct World {
    containers: Vec<Seen>,
    memory: Memory,
    now: Duration,
    made: usize,
    /// Containers that were told to finish and how many steps they still take.
    finishing: BTreeMap<String, u8>,
    /// Signals each container got.
    signals: BTreeMap<String, u8>,
}

/// What chance may do between two looks.
#[derive(Clone, Debug)]
enum Event {
    Scale(usize),
    /// kill -9 of the container at this place.
    Kill(usize),
    /// A new make.
    Upgrade,
    /// The driver is killed after so many of its actions.
    Crash(usize),
    /// Somebody removes a container.
    Vanish(usize),
    Nothing,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_usize..8).prop_map(Event::Scale),
        3 => any::<usize>().prop_map(Event::Kill),
        1 => Just(Event::Upgrade),
        2 => (0_usize..4).prop_map(Event::Crash),
        1 => any::<usize>().prop_map(Event::Vanish),
        5 => Just(Event::Nothing),
    ]
}

impl World {
    /// One look and what follows, at most `limit` actions of it.
    fn step(&mut self, wanted: &Wanted, limit: usize) -> Vec<Action> {
        self.now += STEP;
        for one in &mut self.containers {
            if let Some(left) = self.finishing.get_mut(&one.id) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    one.state = State::Ended;
                }
            }
        }
        let actions = self.memory.decide(wanted, &self.containers, self.now);
        for action in actions.iter().take(limit) {
            self.act(action, wanted);
        }
        actions
    }

    fn act(&mut self, action: &Action, wanted: &Wanted) {
        match action {
            Action::Make { slot } => {
                let same_name = |one: &Seen| one.slot == *slot && !one.leaving;
                assert!(!self.containers.iter().any(same_name), "the engine refuses a name that is taken");
                self.made += 1;
                let (id, make) = (format!("c{}", self.made), wanted.make.clone());
                self.containers.push(Seen { id, slot: *slot, make, leaving: false, state: State::Running });
            }
            Action::Start { id } => self.of(id).state = State::Running,
            Action::Retire { id, .. } => {
                self.of(id).leaving = true;
                // Every third does not finish in time.
                let takes = if self.made.is_multiple_of(3) { 200 } else { 2 };
                self.finishing.insert(id.clone(), takes);
                *self.signals.entry(id.clone()).or_default() += 1;
            }
            Action::End { id } => self.of(id).state = State::Ended,
            Action::Remove { id, .. } => self.containers.retain(|one| one.id != *id),
        }
    }

    fn of(&mut self, id: &str) -> &mut Seen {
        self.containers.iter_mut().find(|one| one.id == id).expect("actions name what was seen")
    }

    fn happen(&mut self, event: &Event, wanted: &mut Wanted) {
        let count = self.containers.len();
        match event {
            Event::Scale(workers) => wanted.workers = *workers,
            Event::Upgrade => wanted.make = format!("{}+", wanted.make),
            Event::Kill(at) if count > 0 => self.containers[at % count].state = State::Ended,
            Event::Vanish(at) if count > 0 => drop(self.containers.remove(at % count)),
            _ => {}
        }
    }
}

fn wanted(workers: usize) -> Wanted {
    Wanted { workers, make: "a".into(), grace: GRACE }
}

proptest! {
    /// Whatever happened, crashes of the driver between any two of its actions included: in the end each wanted slot
    /// has one running container of the newest make, there is no other, and nothing more is to be done.
    #[test]
    fn a_fleet_comes_to_what_is_wanted_and_rests(events in prop::collection::vec(event(), 1..60)) {
        let (mut world, mut wanted) = (World::default(), wanted(3));
        for event in &events {
            world.happen(event, &mut wanted);
            match event {
                Event::Crash(after) => {
                    world.step(&wanted, *after);
                    world.memory = Memory::default();
                }
                _ => drop(world.step(&wanted, usize::MAX)),
            }
        }
        for _ in 0..400 {
            world.step(&wanted, usize::MAX);
        }
        let mut slots: Vec<usize> = world.containers.iter().map(|one| one.slot).collect();
        slots.sort_unstable();
        prop_assert_eq!(slots, (0..wanted.workers).collect::<Vec<_>>());
        prop_assert!(world.containers.iter().all(|one| one.state == State::Running && one.make == wanted.make));
        prop_assert_eq!(world.step(&wanted, usize::MAX), vec![], "a second look changes nothing");
        prop_assert!(world.signals.values().all(|signals| *signals == 1), "one signal each: {:?}", world.signals);
    }

    /// A new make never takes more than one worker away at a time.
    #[test]
    fn an_upgrade_takes_one_worker_at_a_time(workers in 1_usize..9) {
        let (mut world, mut wanted) = (World::default(), wanted(workers));
        world.step(&wanted, usize::MAX);
        wanted.make = "b".into();
        for _ in 0..300 {
            world.step(&wanted, usize::MAX);
            let serving = |one: &&Seen| one.state == State::Running && !one.leaving;
            prop_assert!(world.containers.iter().filter(serving).count() + 1 >= workers);
        }
        prop_assert!(world.containers.iter().all(|one| one.make == "b"));
    }
}

#[test]
fn a_container_that_ends_at_once_is_replaced_ever_more_rarely() {
    let (mut world, wanted) = (World::default(), wanted(1));
    let mut makes = 0;
    for _ in 0..600 {
        let actions = world.step(&wanted, usize::MAX);
        makes += actions.iter().filter(|action| matches!(action, Action::Make { .. })).count();
        world.containers.iter_mut().for_each(|one| one.state = State::Ended);
    }
    // 300 s: pauses double from 0.1 s to 30 s.
    assert!((10..25).contains(&makes), "{makes} in five minutes");
}

#[test]
fn one_that_vanishes_by_itself_again_and_again_is_made_ever_more_rarely_too() {
    let (mut world, wanted) = (World::default(), wanted(1));
    let mut makes = 0;
    for _ in 0..600 {
        let actions = world.step(&wanted, usize::MAX);
        makes += actions.iter().filter(|action| matches!(action, Action::Make { .. })).count();
        if actions.is_empty() {
            world.containers.clear();
        }
    }
    assert!((10..25).contains(&makes), "{makes} in five minutes");
}

#[test]
fn a_container_that_was_made_before_a_crash_is_started_and_not_made_again() {
    let made = Seen { id: "x".into(), slot: 0, make: "a".into(), leaving: false, state: State::Made };
    let actions = Memory::default().decide(&wanted(1), &[made], Duration::ZERO);
    assert_eq!(actions, [Action::Start { id: "x".into() }]);
}

#[test]
fn one_that_was_leaving_before_a_crash_gets_its_time_and_no_second_signal() {
    let leaving = Seen { id: "x".into(), slot: 0, make: "a".into(), leaving: true, state: State::Running };
    let mut memory = Memory::default();
    assert_eq!(memory.decide(&wanted(1), std::slice::from_ref(&leaving), Duration::ZERO), []);
    let late = GRACE + Duration::from_secs(1);
    assert_eq!(memory.decide(&wanted(1), &[leaving], late), [Action::End { id: "x".into() }]);
}
