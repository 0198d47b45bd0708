//! Named cases.

use super::{simulation::World, *};
use pelton_proto::v1::{TaskState, directive::Kind};
use pelton_types::Code;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn pipeline(name: &str) -> PipelineName {
    PipelineName::new("default", name)
}

fn open_codes(world: &World) -> Vec<Code> {
    world.core.snapshot(world.now()).incidents.iter().map(|r| r.incident.code).collect()
}

fn epochs(world: &World) -> Vec<Epoch> {
    world.view("a").tasks.iter().map(|t| t.status.as_ref().unwrap().epoch).collect()
}

#[test]
fn tasks_of_a_new_pipeline_are_granted_at_once_and_spread() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(MS(1000));
    assert_eq!(world.running(), [("w0", 2), ("w1", 2)].into());
    assert_eq!(world.view("a").phase, "running");
    let virgin = world.worker("w0").seen.iter().filter(|k| matches!(k, Kind::Grant(g) if g.virgin)).count();
    assert_eq!(virgin, 2);
}

#[test]
fn a_task_that_once_ran_is_never_granted_as_virgin_again() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 1).unwrap();
    world.run(secs(2));
    world.kill("w0", true);
    world.run(secs(2));
    let grants: Vec<(Epoch, bool)> = world
        .worker("w0")
        .seen
        .iter()
        .filter_map(|k| if let Kind::Grant(g) = k { Some((g.epoch, g.virgin)) } else { None })
        .collect();
    assert_eq!(grants, [(1, true), (2, false)]);
}

#[test]
fn a_closed_connection_that_comes_back_within_the_grace_changes_nothing() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(2));
    let grants = world.granted.len();
    world.disconnect("w0", true);
    world.at += MS(150);
    world.core.tick(world.now());
    world.carry_out();
    world.run(secs(5));
    assert_eq!(world.granted.len(), grants);
}

#[test]
fn tasks_of_a_worker_that_stays_away_go_to_the_others_in_one_go() {
    let mut world = World::new().with_workers(3, 8);
    world.apply("a", "1", 6).unwrap();
    world.run(secs(2));
    world.disconnect("w0", true);
    world.at += MS(150);
    world.core.tick(world.now());
    assert!(world.core.take().is_empty(), "the grace is not over");
    world.at += MS(50);
    world.core.tick(world.now());
    let grants = world.core.take().sends.iter().filter(|(_, k)| matches!(k, Kind::Grant(_))).count();
    assert_eq!(grants, 2);
}

#[test]
fn a_silent_worker_is_lost_after_a_lease_and_its_old_tasks_are_taken_back_when_it_returns() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 2).unwrap();
    world.run(secs(2));
    // The line is cut: the coordinator notices nothing, the worker goes on.
    world.disconnect("w0", false);
    world.worker("w1").session.unwrap();
    let held: Vec<_> = world.worker("w0").tasks.keys().cloned().collect();
    let cut = world.workers.remove("w0").unwrap();
    world.run(MS(3100));
    assert_eq!(world.running()["w1"], 2);
    world.workers.insert("w0".into(), cut);
    world.connect("w0");
    world.run(MS(50));
    assert!(!world.worker("w0").tasks.contains_key(&held[0]) || world.running()["w1"] == 1);
    world.run(secs(5));
    assert_eq!(world.running(), [("w0", 1), ("w1", 1)].into());
}

#[test]
fn a_restarted_coordinator_waits_a_lease_and_takes_over_what_workers_hold() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(2));
    let before = epochs(&world);
    world.restart();
    assert_eq!(world.core.term(), 2);
    world.run(secs(10));
    assert_eq!(epochs(&world), before);
    assert_eq!(world.view("a").phase, "running");
    // What nobody holds is granted after the lease, not before.
    world.kill("w0", true);
    world.workers.remove("w0");
    world.restart();
    world.run(MS(2900));
    assert_eq!(world.running()["w1"], 2);
    world.run(MS(400));
    assert_eq!(world.running()["w1"], 4);
}

#[test]
fn a_store_that_was_set_back_learns_from_workers_and_stops_nobody() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 2).unwrap();
    world.run(secs(2));
    let old = world.documents.clone();
    world.kill("w0", true);
    world.run(secs(5));
    let newest = epochs(&world);
    world.worker("w0").seen.clear();
    world.worker("w1").seen.clear();
    world.documents = old;
    world.restart();
    world.run(secs(10));
    assert_eq!(epochs(&world), newest);
    let revoked = |k: &Kind| matches!(k, Kind::Revoke(_));
    assert!(!world.worker("w0").seen.iter().any(revoked) && !world.worker("w1").seen.iter().any(revoked));
    assert!(open_codes(&world).contains(&Code::StoreBehind));
}

#[test]
fn a_lost_store_leaves_strangers_alone_and_makes_them_its_own_when_the_pipeline_is_applied_again() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 2).unwrap();
    world.run(secs(2));
    let uuid = world.view("a").uuid;
    world.documents.clear();
    world.restart();
    world.run(secs(10));
    assert_eq!(world.running().values().sum::<usize>(), 2, "nobody was stopped");
    assert!(open_codes(&world).contains(&Code::StoreBehind));
    world.apply("a", "1", 2).unwrap();
    world.run(secs(5));
    let view = world.view("a");
    assert_eq!((view.phase.as_str(), &view.uuid), ("running", &uuid));
    assert!(view.tasks.iter().all(|t| t.status.as_ref().unwrap().task.as_ref().unwrap().generation == 2));
    assert_eq!(world.running().values().sum::<usize>(), 2);
}

#[test]
fn a_worker_that_obeyed_a_higher_term_lifts_ours_above_it() {
    let mut world = World::new();
    let hello = v1::Hello { worker_id: "w".into(), capacity: 1, term: 7, ..Default::default() };
    world.core.attach(1, hello, world.now()).unwrap();
    let effects = world.core.take();
    let welcomed = |k: &Kind| matches!(k, Kind::Welcome(w) if w.term == 8);
    assert!(effects.sends.iter().any(|(_, k)| welcomed(k)));
    assert!(effects.writes.contains_key(crate::store::keys::LEADER));
}

#[test]
fn two_workers_with_one_epoch_are_told_apart_by_a_higher_one() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 1).unwrap();
    world.run(secs(2));
    let owner = if world.running()["w0"] == 1 { "w0" } else { "w1" };
    let other = if owner == "w0" { "w1" } else { "w0" };
    let held = world.worker(owner).tasks.clone();
    // Not through `run`, which would rightly find two owners.
    world.disconnect(other, true);
    world.worker(other).tasks = held;
    world.connect(other);
    world.worker(other).tasks.clear();
    world.run(secs(2));
    assert!(open_codes(&world).contains(&Code::EpochConflict));
    assert_eq!(epochs(&world), [2]);
    assert_eq!((world.running()[owner], world.running()[other]), (1, 0));
}

#[test]
fn a_new_worker_gets_its_share_one_warm_move_at_a_time() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(4));
    world.workers.insert("w1".into(), simulation::FakeWorker::with_capacity(8));
    world.connect("w1");
    world.run(secs(4));
    assert_eq!(world.running(), [("w0", 2), ("w1", 2)].into());
    let seen = &world.worker("w1").seen;
    let order: String = seen
        .iter()
        .filter_map(|k| match k {
            Kind::Warm(_) => Some('w'),
            Kind::Grant(_) => Some('g'),
            _ => None,
        })
        .collect();
    assert_eq!(order, "wgwg");
}

#[test]
fn the_next_move_waits_until_the_task_before_runs_again() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 6).unwrap();
    world.run(secs(4));
    world.workers.insert("w1".into(), simulation::FakeWorker::with_capacity(8));
    world.connect("w1");
    let mut most = 0;
    for _ in 0..400 {
        world.run(Duration::from_millis(50));
        let running = |t: &&v1::Task| t.status.as_ref().is_some_and(|s| s.state() == v1::TaskState::Running);
        most = most.max(6 - world.view("a").tasks.iter().filter(running).count());
    }
    assert_eq!(world.running(), [("w0", 3), ("w1", 3)].into());
    assert_eq!(most, 1, "tasks on the way at a time");
}

#[test]
fn a_drained_worker_gives_everything_away_and_gets_nothing_until_a_new_process_attaches() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(4));
    assert_eq!(world.core.drain("w0", world.now()), Ok(2));
    world.carry_out();
    world.run(secs(4));
    assert_eq!(world.running(), [("w0", 0), ("w1", 4)].into());
    world.disconnect("w0", true);
    world.run(secs(4));
    assert_eq!(world.running(), [("w0", 0), ("w1", 4)].into());
    world.kill("w0", true);
    world.run(secs(4));
    assert_eq!(world.running(), [("w0", 2), ("w1", 2)].into());
    assert!(world.core.drain("nobody", world.now()).is_err());
}

#[test]
fn a_drain_asked_for_just_after_a_start_is_carried_out_once_workers_had_time_to_come_back() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(1));
    world.core.drain("w0", world.now()).unwrap();
    world.carry_out();
    world.run(secs(4));
    assert_eq!(world.running(), [("w0", 0), ("w1", 4)].into());
}

#[test]
fn a_task_is_moved_by_hand_and_stays_there() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(4));
    let task = world.worker("w0").tasks.keys().next().cloned().unwrap();
    world.core.move_task(&task, "w1", world.now()).unwrap();
    world.carry_out();
    world.run(secs(4));
    assert!(world.worker("w1").tasks.contains_key(&task));
    // Another one went the other way, for the balance.
    assert_eq!(world.running(), [("w0", 2), ("w1", 2)].into());
    assert!(world.core.move_task(&task, "nobody", world.now()).is_err());
}

#[test]
fn a_task_stopped_by_an_incident_stays_stopped_until_somebody_acts() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 2).unwrap();
    world.run(secs(2));
    let task = world.worker("w0").tasks.keys().next().cloned().unwrap();
    world.fail("w0", &task, true);
    world.run(secs(60));
    assert_eq!(world.view("a").phase, "failed");
    assert_eq!(open_codes(&world), [Code::PoisonRecord]);
    world.restart();
    world.run(secs(20));
    assert_eq!(world.view("a").phase, "failed", "the store remembers");
    world.core.resume(&pipeline("a"), world.now()).unwrap();
    world.carry_out();
    world.run(secs(5));
    assert_eq!(world.view("a").phase, "running");
    assert_eq!(open_codes(&world), []);
}

#[test]
fn a_task_that_failed_for_a_passing_reason_comes_back_after_growing_waits() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 1).unwrap();
    world.run(secs(1));
    let task = world.worker("w0").tasks.keys().next().cloned().unwrap();
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.fail("w0", &task, false);
        world.run(MS(50));
        let (failed, grants) = (world.at, world.granted.len());
        while world.granted.len() == grants {
            world.run(MS(50));
        }
        waits.push((world.at - failed).as_millis() as u64);
        world.run(MS(50));
    }
    assert!(waits.windows(2).all(|w| w[1] >= w[0]), "{waits:?}");
    assert_eq!((waits[0], waits[8]), (250, 30_000));
}

#[test]
fn a_bounded_pipeline_completes_and_runs_again_only_when_it_is_changed() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 1).unwrap();
    world.run(secs(1));
    let (task, (epoch, ..)) = world.worker("w0").tasks.pop_first().unwrap();
    let session = world.worker("w0").session.unwrap();
    let status = v1::TaskStatus {
        task: Some((&task).into()),
        epoch,
        state: TaskState::Completed.into(),
        ..Default::default()
    };
    world.core.task_change(session, v1::TaskChange { status: Some(status) }, world.now());
    world.carry_out();
    world.run(secs(10));
    assert_eq!((world.view("a").phase.as_str(), world.granted.len()), ("completed", 1));
    world.apply("a", "1", 1).unwrap();
    world.run(secs(2));
    assert_eq!(world.granted.len(), 1);
    world.apply("a", "2", 1).unwrap();
    world.run(secs(2));
    assert_eq!((world.view("a").phase.as_str(), world.granted.len()), ("running", 2));
}

#[test]
fn a_paused_pipeline_lets_go_of_everything_and_goes_on_when_resumed() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(2));
    world.core.pause(&pipeline("a"), world.now()).unwrap();
    world.carry_out();
    world.run(secs(2));
    assert_eq!(world.running(), [("w0", 0), ("w1", 0)].into());
    assert_eq!(world.view("a").phase, "paused");
    world.core.resume(&pipeline("a"), world.now()).unwrap();
    world.carry_out();
    world.run(secs(2));
    assert_eq!(world.view("a").phase, "running");
}

#[test]
fn a_deleted_pipeline_is_forgotten_once_it_was_let_go_and_its_late_holders_are_told_so() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 2).unwrap();
    world.run(secs(4));
    let (task, held) = world.worker("w0").tasks.first_key_value().map(|(t, h)| (t.clone(), *h)).unwrap();
    world.core.delete(&pipeline("a"), world.now()).unwrap();
    world.carry_out();
    assert!(world.apply("a", "1", 2).unwrap_err().to_string().contains("is being deleted"));
    world.run(secs(2));
    assert!(world.core.snapshot(world.now()).pipelines.is_empty());
    assert!(!world.documents.keys().any(|k| k.starts_with("epoch/") || k.starts_with("revision/")));
    world.disconnect("w0", true);
    world.worker("w0").tasks.insert(task, held);
    world.run(secs(2));
    assert_eq!(world.running(), [("w0", 0), ("w1", 0)].into());
    assert_eq!(open_codes(&world), []);
}

#[test]
fn a_changed_definition_restarts_the_same_tasks_on_the_same_workers_with_the_new_revision() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(2));
    let before: Vec<_> =
        world.workers.values().map(|w| w.tasks.keys().cloned().collect::<Vec<_>>()).collect();
    let applied = world.apply("a", "2", 4).unwrap();
    assert_eq!((applied.outcome, applied.revision), (Outcome::Changed, 2));
    world.run(secs(2));
    let after: Vec<_> = world.workers.values().map(|w| w.tasks.keys().cloned().collect::<Vec<_>>()).collect();
    assert_eq!(before, after);
    assert!(world.workers.values().all(|w| w.tasks.values().all(|(epoch, rev, _)| (*epoch, *rev) == (2, 2))));
    assert_eq!(world.apply("a", "2", 4).unwrap().outcome, Outcome::Unchanged);
    assert_eq!(world.core.definition(&pipeline("a"), 0), Ok("1".into()));
    assert!(
        world
            .core
            .definition(&pipeline("a"), 9)
            .unwrap_err()
            .to_string()
            .contains("no revision 9; it has 1, 2")
    );
}

#[test]
fn a_new_generation_is_granted_only_after_the_old_one_was_let_go() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(4));
    // One worker is cut off with its tasks: nobody knows whether it goes on.
    world.disconnect("w0", false);
    let cut = world.workers.remove("w0").unwrap();
    let applied = world.apply("a", "2", 6).unwrap();
    assert_eq!(applied.redealt, [(0, 4, 6)]);
    world.run(secs(2));
    assert_eq!(world.running()["w1"], 0, "w0 may still run the old generation");
    world.run(secs(2));
    assert_eq!(world.running()["w1"], 6);
    world.workers.insert("w0".into(), cut);
    world.run(secs(5));
    assert_eq!(world.running(), [("w0", 3), ("w1", 3)].into());
    let generations = world.workers.values().flat_map(|w| w.tasks.keys()).all(|t| t.generation == 2);
    assert!(generations);
}

#[test]
fn tasks_that_find_no_room_are_an_incident_until_they_do() {
    let mut world = World::new().with_workers(1, 2);
    world.apply("a", "1", 3).unwrap();
    world.run(secs(1));
    assert_eq!((world.running()["w0"], open_codes(&world)), (2, vec![Code::Unassigned]));
    assert_eq!(world.core.snapshot(world.now()).unassigned, 1);
    world.workers.insert("w1".into(), simulation::FakeWorker::with_capacity(2));
    world.run(secs(1));
    assert_eq!(open_codes(&world), []);
}

#[test]
fn a_second_process_under_a_live_workers_name_is_turned_away() {
    let mut world = World::new().with_workers(1, 8);
    let hello =
        v1::Hello { worker_id: "w0".into(), incarnation: "other".into(), capacity: 8, ..Default::default() };
    let refused = world.core.attach(99, hello.clone(), world.now()).unwrap_err();
    assert!(refused.to_string().contains("another process"), "{refused}");
    world.disconnect("w0", true);
    assert_eq!(world.core.attach(99, hello, world.now()), Ok(()));
}

#[test]
fn a_worker_that_lets_go_by_itself_gets_nothing_more() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 4).unwrap();
    world.run(secs(4));
    let session = world.worker("w0").session.unwrap();
    let held = std::mem::take(&mut world.worker("w0").tasks);
    for (task, (epoch, ..)) in held {
        let status = v1::TaskStatus {
            task: Some((&task).into()),
            epoch,
            state: TaskState::Released.into(),
            ..Default::default()
        };
        world.core.task_change(session, v1::TaskChange { status: Some(status) }, world.now());
        world.carry_out();
    }
    world.run(MS(200));
    assert_eq!(world.running(), [("w0", 0), ("w1", 4)].into());
    // It was an order that had crossed another on its way, and no end: it says so, and gets its share again.
    let stays = v1::Heartbeat { draining: Some(false), ..Default::default() };
    world.core.heartbeat(session, stays, world.now());
    world.carry_out();
    world.run(secs(10));
    assert_eq!(world.running(), [("w0", 2), ("w1", 2)].into());
}

#[test]
fn the_books_of_a_pipeline_add_up_over_epochs_and_leave_out_what_is_read_again() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 1).unwrap();
    world.run(secs(1));
    let report = |world: &mut World, epoch, records_in, held| {
        let (task, _) = world.worker("w0").tasks.first_key_value().map(|(t, h)| (t.clone(), *h)).unwrap();
        let account = v1::Account { records_in, records_out: records_in - held, held, ..Default::default() };
        let status = v1::TaskStatus {
            task: Some((&task).into()),
            epoch,
            state: TaskState::Running.into(),
            account: Some(account),
            ..Default::default()
        };
        let session = world.worker("w0").session.unwrap();
        world.core.task_change(session, v1::TaskChange { status: Some(status) }, world.now());
        world.carry_out();
    };
    report(&mut world, 1, 10, 3);
    world.apply("a", "2", 1).unwrap();
    world.run(MS(100));
    report(&mut world, 2, 5, 0);
    let account: Account = world.view("a").account.unwrap().into();
    assert_eq!((account.records_in, account.records_out, account.imbalance()), (12, 12, 0));
}

#[test]
fn shards_are_dealt_to_tasks_in_turn() {
    let stage = crate::store::StageRecord {
        generation: 1,
        tasks: 2,
        topics: vec![("l".into(), "left".into(), 3), ("r".into(), "right".into(), 2)],
    };
    let of = |index| {
        let named = stage.sources_of(index).into_iter().flat_map(|s| s.partitions);
        named.map(|p| format!("{}{}", p.topic, p.index)).collect::<Vec<_>>()
    };
    assert_eq!(of(0), ["left0", "left2", "right0"]);
    assert_eq!(of(1), ["left1", "right1"]);
}

#[test]
fn an_incident_stays_open_while_its_task_only_starts_again_and_is_resolved_once_it_works() {
    let mut world = World::new().with_workers(1, 8);
    world.apply("a", "1", 1).unwrap();
    world.run(secs(2));
    let task = world.worker("w0").tasks.keys().next().cloned().unwrap();
    world.fail("w0", &task, false);
    world.run(secs(3));
    assert_eq!(world.view("a").phase, "running");
    assert_eq!(open_codes(&world), [Code::PoisonRecord], "it may fail at the same record again");
    world.run(secs(20));
    let now = world.core.snapshot(world.now());
    assert_eq!(now.incidents, []);
    let resolved: Vec<_> = now.resolved.iter().map(|(r, at)| (r.incident.code, *at > r.since_ms)).collect();
    assert_eq!(resolved, [(Code::PoisonRecord, true)]);
}

#[test]
fn a_worker_that_dies_with_tasks_is_an_incident_until_it_is_back_and_its_tasks_are_seen_to_move() {
    let mut world = World::new().with_workers(2, 8);
    world.apply("a", "1", 2).unwrap();
    world.run(secs(2));
    world.kill("w0", true);
    let dead = world.workers.remove("w0").unwrap();
    world.run(secs(2));
    assert_eq!(open_codes(&world), [Code::WorkerLost]);
    let moves = world.core.snapshot(world.now()).moves;
    let seen: Vec<_> = moves.iter().map(|m| (m.from.as_str(), m.to.as_str(), m.reason.as_str())).collect();
    assert_eq!(seen, [("w0", "w1", "worker lost")]);
    world.workers.insert("w0".into(), dead);
    world.run(secs(3));
    assert_eq!(open_codes(&world), []);
    let back = &world.core.snapshot(world.now()).moves[0];
    assert_eq!((back.from.as_str(), back.to.as_str(), back.reason.as_str()), ("w1", "w0", "rebalanced"));
}
