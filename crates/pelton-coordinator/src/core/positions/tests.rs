//! Savepoints and positions set by hand, as the core decides them.

use super::*;
use crate::core::simulation::World;
use std::time::Duration;

fn name() -> PipelineName {
    PipelineName::new("default", "a")
}

fn world() -> World {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(Duration::from_secs(4));
    world
}

fn at(index: i32, offset: Offset) -> PartitionAt {
    (Partition::new("a", index), offset)
}

fn pause(world: &mut World) {
    world.core.pause(&name(), world.now()).unwrap();
    world.carry_out();
    world.run(Duration::from_secs(1));
}

fn audit(world: &World) -> Vec<String> {
    world.view("a").audit.into_iter().map(|e| format!("{}: {} ({})", e.by, e.what, e.reason)).collect()
}

#[test]
fn positions_are_set_only_while_nobody_holds_the_tasks_and_under_a_new_epoch() {
    let mut world = world();
    let running = world.core.take_positions(&name(), &[at(1, 7)], world.now()).unwrap_err();
    assert!(running.to_string().contains("is not paused; `pelton pause a` first"), "{running}");
    pause(&mut world);
    let settings = world.core.take_positions(&name(), &[at(1, 7), at(3, 9)], world.now()).unwrap();
    world.carry_out();
    let taken: Vec<_> = settings.iter().map(|s| (s.task.index, s.epoch, s.positions.clone())).collect();
    assert_eq!(taken, [(1, 2, vec![at(1, 7)]), (3, 2, vec![at(3, 9)])]);
    let twice = world.core.take_positions(&name(), &[at(1, 8)], world.now()).unwrap_err();
    assert!(twice.to_string().contains("is still held"), "{twice}");

    // Somebody resumes meanwhile: the tasks in hand wait, the others go on.
    world.core.resume(&name(), world.now()).unwrap();
    world.carry_out();
    world.run(Duration::from_secs(2));
    assert_eq!(world.running().values().sum::<usize>(), 2);
    let tasks: Vec<_> = settings.into_iter().map(|s| s.task).collect();
    let entry =
        AuditRecord { at_ms: 1, by: "ada".into(), what: "set a[1] to 7".into(), reason: "lost".into() };
    world.core.positions_set(&name(), &tasks, Some(entry), world.now());
    world.carry_out();
    world.run(Duration::from_secs(2));
    assert_eq!(world.running().values().sum::<usize>(), 4);
    assert!(world.granted.contains_key(&(tasks[0].clone(), 3)), "a grant of a higher epoch");
    assert_eq!(audit(&world), ["ada: set a[1] to 7 (lost)"]);
    world.restart();
    assert_eq!(audit(&world), ["ada: set a[1] to 7 (lost)"], "the audit is kept");
}

#[test]
fn a_partition_of_somebody_else_is_refused_by_name() {
    let mut world = world();
    pause(&mut world);
    let refused = world.core.take_positions(&name(), &[at(1, 7), at(9, 9)], world.now()).unwrap_err();
    assert_eq!(refused, Refusal::NotFound("default/a does not read a[9]".into()));
}

#[test]
fn savepoints_are_kept_by_name_until_they_or_their_pipeline_are_deleted() {
    let mut world = world();
    let savepoint = SavepointRecord { at_ms: 5, revision: 1, positions: vec![("a".into(), 0, 3)] };
    world.core.add_savepoint(&name(), "before", savepoint.clone()).unwrap();
    world.carry_out();
    world.restart();
    assert_eq!(world.core.savepoint(&name(), "before").unwrap(), (savepoint.clone(), "1".into()));
    for (label, why) in [("before", "already"), ("", "is no name"), ("a/b", "is no name")] {
        let refused = world.core.add_savepoint(&name(), label, savepoint.clone()).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let none = world.core.savepoint(&name(), "after").unwrap_err();
    assert_eq!(none, Refusal::NotFound("default/a has no savepoint `after`; it has before".into()));
    world.core.drop_savepoint(&name(), "before").unwrap();
    assert!(world.core.savepoints(&name()).unwrap().is_empty());
    world.core.add_savepoint(&name(), "again", savepoint).unwrap();
    world.carry_out();
    world.run(Duration::from_secs(5));
    world.core.delete(&name(), world.now()).unwrap();
    world.carry_out();
    world.run(Duration::from_secs(2));
    assert!(!world.documents.keys().any(|key| key.starts_with("savepoint/")), "{:?}", world.documents.keys());
}

#[test]
fn without_positions_all_tasks_of_a_paused_pipeline_are_taken_as_they_stand() {
    let mut world = world();
    pause(&mut world);
    let settings = world.core.take_positions(&name(), &[], world.now()).unwrap();
    let taken: Vec<_> = settings.iter().map(|s| (s.task.index, s.epoch, s.positions.len())).collect();
    assert_eq!(taken, [(0, 2, 0), (1, 2, 0), (2, 2, 0), (3, 2, 0)]);
}
