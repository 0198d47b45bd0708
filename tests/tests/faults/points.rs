//! The failure windows, opened at fail points (see `pelton_sabotage::points`): the process dies, stops or waits at one line
//! of it, whatever is on the wire.

use crate::{
    in_each_shape_of,
    kit::{Cluster, clusters},
    scene::{Pipeline, Scene, Shape, until},
    server::Server,
    shapes,
};
use pelton_sabotage::points::Point;
use pelton_tests::{
    chaos::fleet::{COORDINATOR, worker},
    proxy::{ApiKey, Fault, Rule},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
};
use std::fs;

impl Scene<'_> {
    /// Have this happen to a process when it gets there: once, except `fail`.
    fn arm(&self, process: &str, point: Point, what: &str) {
        // Written elsewhere first: half a file is no wish.
        let folder = self.fleet.points(process).unwrap();
        fs::write(folder.join("wish"), what).unwrap();
        fs::rename(folder.join("wish"), folder.join(point.name())).unwrap();
    }

    #[track_caller]
    fn until_reached(&self, process: &str, point: Point) {
        let reached = self.fleet.points(process).unwrap().join(format!("{}.reached", point.name()));
        until(point.name(), || reached.exists());
    }

    /// Let go of a thread that is held, or let what failed succeed.
    fn release(&self, process: &str, point: Point) {
        let folder = self.fleet.points(process).unwrap();
        for name in [point.name().to_owned(), format!("{}.reached", point.name())] {
            // One of the two is there.
            let _ = fs::remove_file(folder.join(name));
        }
    }

    /// It got there, and died of it.
    #[track_caller]
    fn until_killed(&mut self, process: &str, point: Point) {
        self.until_reached(process, point);
        until("it is dead", || self.fleet.has_ended(process).unwrap());
        self.release(process, point);
    }

    /// How wrong the wall clocks of processes are.
    fn skew(&self, processes: &[&str], ms: i64) {
        for process in processes {
            fs::write(self.fleet.points(process).unwrap().join("skew"), ms.to_string()).unwrap();
        }
    }

    /// Records that are out and committed before anything happens to the pipeline.
    #[track_caller]
    pub fn begin(&self, pipeline: &Pipeline) {
        self.apply(pipeline);
        self.put(pipeline, 0..40);
        self.until_found(pipeline, 40);
        until("it is committed", || self.lag(pipeline) == 0);
    }
}

fn at_points(play: impl Fn(Scene<'_>, Shape)) {
    in_each_shape_of(Scene::with_points, play);
}

/// W1 to W3: a worker with three pipelines is killed at this point of a transaction of each.
fn killed_at(point: Point) {
    for cluster in clusters() {
        let server = Server::start();
        let mut scene = Scene::with_points(&cluster);
        let index = scene.worker();
        let name = worker(index);
        let pipelines = shapes(&server).map(|shape| scene.pipeline(shape, 2));
        pipelines.iter().for_each(|pipeline| scene.begin(pipeline));
        for pipeline in &pipelines {
            scene.arm(&name, point, "kill");
            scene.put(pipeline, 40..80);
            scene.until_killed(&name, point);
            scene.restart(index);
        }
        pipelines.iter().for_each(|pipeline| scene.put(pipeline, 80..100));
        pipelines.iter().for_each(|pipeline| scene.each_once(pipeline, 100));
    }
}

#[test]
fn w1_a_worker_killed_between_its_outputs_and_their_offsets_leaves_neither() {
    killed_at(Point::Produced);
}

#[test]
fn w2_a_worker_killed_before_the_end_of_its_transaction_leaves_nothing() {
    killed_at(Point::OffsetsSent);
}

#[test]
fn w3_a_worker_killed_after_its_transaction_is_followed_there() {
    killed_at(Point::Committed);
}

#[test]
fn w4_a_worker_killed_while_its_producer_is_in_doubt_loses_and_doubles_nothing() {
    at_points(|mut scene, shape| {
        let index = scene.worker();
        let name = worker(index);
        let pipeline = scene.pipeline(shape, 2);
        scene.begin(&pipeline);
        scene.arm(&name, Point::InDoubt, "kill");
        let stray = scene.proxies[index].arm(Rule::next(ApiKey::END_TXN, Fault::Cut));
        scene.put(&pipeline, 40..80);
        scene.until_killed(&name, Point::InDoubt);
        scene.proxies[index].release(stray);
        scene.restart(index);
        scene.put(&pipeline, 80..100);
        scene.each_once(&pipeline, 100);
    });
}

#[test]
fn w5_a_worker_that_stops_before_the_end_of_its_transaction_ends_nothing_when_it_goes_on() {
    at_points(|mut scene, shape| {
        let index = scene.worker();
        let name = worker(index);
        let pipeline = scene.pipeline(shape, 2);
        scene.begin(&pipeline);
        scene.arm(&name, Point::OffsetsSent, "stop");
        scene.put(&pipeline, 40..80);
        scene.until_reached(&name, Point::OffsetsSent);
        scene.worker();
        scene.until_found(&pipeline, 80);
        scene.signal(index, "CONT");
        scene.put(&pipeline, 80..120);
        scene.each_once(&pipeline, 120);
    });
}

#[test]
fn w6_a_grantee_that_slept_before_its_init_finds_the_claim_of_the_next_one() {
    at_points(|mut scene, shape| {
        let pipeline = scene.pipeline(shape, 1);
        scene.arm(&worker(0), Point::Initialising, "stop");
        let index = scene.worker();
        scene.apply(&pipeline);
        scene.until_reached(&worker(index), Point::Initialising);
        scene.worker();
        scene.put(&pipeline, 0..40);
        scene.until_found(&pipeline, 40);
        let owner = scene.epochs(&pipeline);
        scene.fleet.kill(COORDINATOR).unwrap();
        scene.signal(index, "CONT");
        until("the stale one steps down", || scene.log(index).contains("stepping down"));
        scene.put(&pipeline, 40..80);
        scene.until_found(&pipeline, 80);
        assert_eq!(scene.epochs(&pipeline), owner, "the newer owner has it");
        scene.fleet.start_coordinator().unwrap();
        scene.each_once(&pipeline, 80);
    });
}

#[test]
fn w7_a_worker_killed_when_it_was_just_fenced_loses_and_doubles_nothing() {
    at_points(|mut scene, shape| {
        let index = scene.worker();
        let name = worker(index);
        let pipeline = scene.pipeline(shape, 1);
        scene.begin(&pipeline);
        scene.arm(&name, Point::Fenced, "kill");
        scene.steal(&pipeline);
        scene.put(&pipeline, 40..80);
        scene.until_killed(&name, Point::Fenced);
        scene.restart(index);
        scene.put(&pipeline, 80..100);
        scene.each_once(&pipeline, 100);
    });
}

#[test]
fn w8_a_savepoint_is_there_whole_or_not_at_all_and_commits_go_on_without_it() {
    at_points(|mut scene, shape| {
        scene.worker();
        let pipeline = scene.pipeline(shape, 1);
        scene.begin(&pipeline);
        scene.arm(COORDINATOR, Point::Storing, "kill");
        let torn = scene.fleet.ask(&["savepoint", "create", &pipeline.name, "torn"]);
        assert!(torn.is_err(), "the coordinator died over it, and yet said: {torn:?}");
        scene.until_killed(COORDINATOR, Point::Storing);
        scene.put(&pipeline, 40..60);
        scene.until_found(&pipeline, 60);
        scene.fleet.start_coordinator().unwrap();
        let list = || scene.fleet.ask(&["savepoint", "list", &pipeline.name]);
        until("the coordinator is back", || list().is_ok());
        assert!(!list().unwrap().contains("torn"), "{list:?}", list = list());
        until("a savepoint is made", || {
            scene.fleet.ask(&["savepoint", "create", &pipeline.name, "whole"]).is_ok()
        });
        assert!(list().unwrap().contains("whole"));
        scene.put(&pipeline, 60..80);
        scene.each_once(&pipeline, 80);
    });
}

#[test]
fn w9_a_coordinator_killed_between_writing_a_grant_down_and_giving_it_grants_once() {
    at_points(|mut scene, shape| {
        let pipeline = scene.pipeline(shape, 2);
        scene.apply(&pipeline);
        scene.arm(COORDINATOR, Point::Stored, "kill");
        scene.worker();
        scene.until_killed(COORDINATOR, Point::Stored);
        scene.put(&pipeline, 0..40);
        scene.fleet.start_coordinator().unwrap();
        scene.each_once(&pipeline, 40);
    });
}

#[test]
fn w10_a_broker_that_is_started_anew_before_the_end_of_a_transaction_loses_and_doubles_nothing() {
    let server = Server::start();
    let mut cluster = Cluster::embedded();
    // The broker is the test's own: it must not be borrowed while it is down.
    let bootstrap = cluster.bootstrap().to_owned();
    let still = Cluster::Real { bootstrap };
    let mut scene = Scene::with_points(&still);
    let name = worker(scene.worker());
    let pipelines = shapes(&server).map(|shape| scene.pipeline(shape, 2));
    pipelines.iter().for_each(|pipeline| scene.begin(pipeline));
    for pipeline in &pipelines {
        scene.arm(&name, Point::OffsetsSent, "hold");
        scene.put(pipeline, 40..80);
        scene.until_reached(&name, Point::OffsetsSent);
        cluster.stop();
        cluster.up();
        scene.release(&name, Point::OffsetsSent);
        scene.put(pipeline, 80..100);
    }
    pipelines.iter().for_each(|pipeline| scene.each_once(pipeline, 100));
}

#[test]
fn w11_a_transaction_that_outlasts_its_time_is_done_again() {
    at_points(|mut scene, shape| {
        let name = worker(scene.worker());
        let pipeline = scene.pipeline(shape, 2);
        scene.begin(&pipeline);
        scene.arm(&name, Point::Produced, "hold");
        scene.put(&pipeline, 40..80);
        scene.until_reached(&name, Point::Produced);
        until("the broker sees the open transaction", || scene.is_open(&pipeline));
        until("the broker aborts it", || !scene.is_open(&pipeline));
        scene.release(&name, Point::Produced);
        scene.put(&pipeline, 80..100);
        scene.each_once(&pipeline, 100);
    });
}

#[test]
fn w12_offsets_that_another_tool_sets_under_a_claim_change_nothing() {
    at_points(|mut scene, shape| {
        let index = scene.worker();
        let name = worker(index);
        let pipeline = scene.pipeline(shape, 1);
        scene.begin(&pipeline);
        scene.fleet.end(&name).unwrap();
        scene.put(&pipeline, 40..80);
        // The first transaction of a task is its claim: the offsets in it were read before.
        scene.arm(&name, Point::Produced, "hold");
        scene.restart(index);
        scene.until_reached(&name, Point::Produced);
        let mut reset = TopicPartitionList::new();
        reset.add_partition_offset(&pipeline.input, 0, Offset::Offset(0)).unwrap();
        scene.watcher(&pipeline).commit(&reset, CommitMode::Sync).unwrap();
        assert_eq!(scene.committed(&pipeline)[0].0, 0);
        scene.release(&name, Point::Produced);
        scene.each_once(&pipeline, 80);
    });
}

#[test]
fn w13_a_coordinator_killed_at_each_step_of_dealing_shards_anew_comes_to_its_end() {
    at_points(|mut scene, shape| {
        scene.worker();
        let mut pipeline = scene.pipeline(shape, 4);
        pipeline.tasks = 2;
        scene.begin(&pipeline);
        pipeline.tasks = 3;
        scene.arm(COORDINATOR, Point::Retiring, "kill");
        scene.apply(&pipeline);
        scene.until_killed(COORDINATOR, Point::Retiring);
        scene.put(&pipeline, 40..80);
        scene.arm(COORDINATOR, Point::Retired, "kill");
        scene.fleet.start_coordinator().unwrap();
        scene.until_killed(COORDINATOR, Point::Retired);
        scene.put(&pipeline, 80..100);
        scene.fleet.start_coordinator().unwrap();
        scene.each_once(&pipeline, 100);
        assert!(scene.committed(&pipeline)[0].1.contains(";g=2;"), "the second generation is at work");
    });
}

#[test]
fn w14_a_coordinator_whose_disk_is_full_ends_and_tasks_go_on_without_it() {
    at_points(|mut scene, shape| {
        scene.worker();
        let pipeline = scene.pipeline(shape, 2);
        scene.begin(&pipeline);
        scene.arm(COORDINATOR, Point::Storing, "fail");
        assert!(scene.fleet.ask(&["pause", &pipeline.name]).is_err(), "nothing could be written down");
        scene.until_reached(COORDINATOR, Point::Storing);
        until("it ends", || scene.fleet.has_ended(COORDINATOR).unwrap());
        assert!(scene.log_of(COORDINATOR).contains("No space left on device"));
        scene.put(&pipeline, 40..60);
        scene.until_found(&pipeline, 60);
        scene.release(COORDINATOR, Point::Storing);
        scene.fleet.start_coordinator().unwrap();
        scene.put(&pipeline, 60..80);
        scene.each_once(&pipeline, 80);
    });
}

#[test]
fn w14_wall_clocks_that_jump_by_an_hour_move_no_task() {
    at_points(|mut scene, shape| {
        let name = worker(scene.worker());
        let pipeline = scene.pipeline(shape, 2);
        scene.begin(&pipeline);
        let owner = scene.epochs(&pipeline);
        for (round, ms) in [(1, 3_600_000), (2, -3_600_000)] {
            scene.skew(&[&name, COORDINATOR], ms);
            scene.put(&pipeline, round * 40..(round + 1) * 40);
            scene.until_found(&pipeline, usize::try_from((round + 1) * 40).unwrap());
        }
        scene.each_once(&pipeline, 120);
        assert_eq!(scene.epochs(&pipeline), owner, "nobody else got the task");
    });
}

#[test]
fn w15_workers_of_two_versions_follow_each_other_and_the_older_one_reads_nothing_it_does_not_know() {
    at_points(|mut scene, shape| {
        let pipeline = scene.pipeline(shape, 1);
        let (old, new) = (scene.worker(), 1);
        scene.begin(&pipeline);
        scene.arm(&worker(new), Point::NextFormat, "fail");
        scene.worker();
        scene.put(&pipeline, 40..60);
        scene.fleet.end(&worker(old)).unwrap();
        scene.put(&pipeline, 60..80);
        scene.until_found(&pipeline, 80);
        until("the newer one has committed", || scene.committed(&pipeline)[0].1.starts_with("p2;"));
        until("everything is committed", || scene.lag(&pipeline) == 0);
        scene.fleet.end(&worker(new)).unwrap();
        scene.restart(old);
        scene.put(&pipeline, 80..100);
        until("the older one says why it does not go on", || {
            let incidents = scene.fleet.ask(&["get", "incidents", "-o", "json"]).unwrap_or_default();
            incidents.contains("PLT0301") && incidents.contains("of a newer version of pelton")
        });
        assert_eq!(scene.found(&pipeline).len(), 80);
        scene.fleet.end(&worker(old)).unwrap();
        scene.restart(new);
        scene.fleet.ask(&["resume", &pipeline.name]).unwrap();
        scene.each_once(&pipeline, 100);
    });
}
