//! Generations that are retired before the next one works.

use super::*;
use crate::core::simulation::World;
use std::time::Duration;

fn exactly_once() -> World {
    let mut world = World::new().with_workers(2, 8);
    world.exactly_once.insert("a".into());
    world.apply("a", "1", 4).unwrap();
    world.run(Duration::from_secs(4));
    world
}

#[test]
fn each_task_that_was_granted_is_retired_before_the_next_generation_is_granted() {
    let mut world = exactly_once();
    world.apply("a", "2", 3).unwrap();
    // Directives and answers go to and fro, and nobody retires anything yet.
    for _ in 0..20 {
        for id in ["w0", "w1"] {
            world.deliver_down(id);
            world.deliver_up(id);
        }
    }
    let asked: Vec<_> = world.retirements.iter().map(|w| (w.task.index, w.next, w.sources.clone())).collect();
    assert_eq!(
        asked.iter().map(|(i, next, _)| (*i, *next)).collect::<Vec<_>>(),
        [(0, 2), (1, 2), (2, 2), (3, 2)]
    );
    let shards: Vec<i32> = asked[3].2[0].partitions.iter().map(|p| p.index).collect();
    assert_eq!(shards, [3], "the shards it had, not those it would have now");
    assert_eq!(world.running().values().sum::<usize>(), 0);
    for _ in 0..3 {
        world.answer_retirement(true);
    }
    assert!(world.granted.keys().all(|(t, _)| t.generation == 1), "one is left");
    world.answer_retirement(true);
    world.run(Duration::from_secs(1));
    assert_eq!(world.running().values().sum::<usize>(), 3);
    assert_eq!(world.view("a").phase, "running");
}

#[test]
fn a_retirement_that_fails_is_an_incident_until_a_later_try_succeeds() {
    let mut world = exactly_once();
    world.apply("a", "2", 2).unwrap();
    for _ in 0..20 {
        for id in ["w0", "w1"] {
            world.deliver_down(id);
            world.deliver_up(id);
        }
    }
    world.answer_retirement(false);
    let open = |world: &World| world.core.snapshot(world.now()).incidents.len();
    assert_eq!((open(&world), world.retirements.len()), (1, 3));
    world.run(Duration::from_secs(2));
    assert_eq!((open(&world), world.running().values().sum::<usize>()), (0, 2));
}

#[test]
fn a_coordinator_that_starts_anew_goes_on_retiring() {
    let mut world = exactly_once();
    world.apply("a", "2", 2).unwrap();
    world.run(Duration::from_millis(0));
    world.restart();
    world.run(Duration::from_secs(8));
    assert_eq!(world.running().values().sum::<usize>(), 2);
    assert_eq!(world.retired.iter().filter(|t| t.generation == 1).count(), 4);
}

#[test]
fn a_deleted_pipeline_is_forgotten_once_its_tasks_are_retired_or_cannot_be() {
    let mut world = exactly_once();
    let name = PipelineName::new("default", "a");
    world.core.delete(&name, world.now()).unwrap();
    world.carry_out();
    world.run(Duration::from_secs(2));
    assert!(world.core.snapshot(world.now()).pipeline(&name).is_none());
    assert_eq!(world.retired.len(), 4);

    let mut world = exactly_once();
    world.core.delete(&name, world.now()).unwrap();
    world.carry_out();
    for _ in 0..400 {
        world.at += Duration::from_millis(100);
        for id in ["w0", "w1"] {
            world.deliver_down(id);
            world.deliver_up(id);
            world.worker(id).beat();
        }
        world.core.tick(world.now());
        world.carry_out();
        world.answer_retirement(false);
    }
    assert!(world.core.snapshot(world.now()).pipeline(&name).is_none(), "its topics may be gone for good");
}

#[test]
fn a_task_that_nobody_was_granted_needs_no_retirement() {
    let mut world = World::new();
    world.exactly_once.insert("a".into());
    world.apply("a", "1", 4).unwrap();
    world.apply("a", "2", 2).unwrap();
    assert!(world.retirements.is_empty());
    assert!(world.core.tasks.keys().all(|t| t.generation == 2));
}
