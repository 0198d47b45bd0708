//! The failure windows of exactly-once, with the processes as users run them, on the embedded broker and on the real one
//! that `PELTON_TEST_KAFKA` names. Here each is opened by a proxy that stops a request at the right moment, in [`points`] by
//! a fail point of a development build.
//!
//! `cargo xtask sabotage` runs these tests against a build that breaks one rule of the protocol at a time.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../crates/pelton-kafka/tests/kit/mod.rs"]
mod kit;
mod points;
mod refusals;
mod scene;
mod server;

use kit::{Cluster, clusters};
use pelton_tests::{
    chaos::{fleet::COORDINATOR, topics::client},
    proxy::{ApiKey, Fault, Proxy, Rule, Ticket},
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use scene::{GUARD, Pipeline, Scene, Shape, until};
use server::Server;
use std::time::Duration;

impl Scene<'_> {
    #[track_caller]
    fn until_caught(&self, proxy: usize, ticket: Ticket, requests: u64) {
        assert!(self.proxies[proxy].until_caught(ticket, requests, GUARD), "the request never came");
    }

    #[track_caller]
    fn until_answered(&self, proxy: usize, ticket: Ticket) {
        assert!(self.proxies[proxy].until_answered(ticket, 1, GUARD), "the request was never answered");
    }
}

fn shapes(server: &Server) -> [Shape; 3] {
    [Shape::Plain, Shape::Asks(server.url.clone()), Shape::DeadLetters]
}

/// Play a scene on each cluster: with a pipeline that keeps each record, and where `PELTON_TEST_SHAPES` is `all` with one
/// that asks a server and one with dead letters too.
fn in_each_shape(play: impl Fn(Scene<'_>, Shape)) {
    in_each_shape_of(Scene::new, play);
}

fn in_each_shape_of(scene: fn(&Cluster) -> Scene<'_>, play: impl Fn(Scene<'_>, Shape)) {
    let server = Server::start();
    let all = std::env::var("PELTON_TEST_SHAPES").is_ok_and(|shapes| shapes == "all");
    let shapes = shapes(&server);
    for cluster in clusters() {
        for shape in shapes.iter().take(if all { shapes.len() } else { 1 }) {
            println!("{shape:?} on {}", cluster.bootstrap());
            play(scene(&cluster), shape.clone());
        }
    }
}

#[test]
fn w3_a_worker_killed_before_it_heard_that_its_transaction_is_committed_is_followed_there() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let pipeline = scene.pipeline(shape, 2);
        scene.apply(&pipeline);
        scene.put(&pipeline, 0..40);
        scene.until_found(&pipeline, 40);
        let ticket = scene.proxies[worker].arm(Rule::every(ApiKey::END_TXN, Fault::DropAnswer));
        scene.put(&pipeline, 40..80);
        scene.until_answered(worker, ticket);
        scene.kill(worker);
        scene.proxies[worker].clear();
        scene.restart(worker);
        scene.put(&pipeline, 80..100);
        scene.each_once(&pipeline, 100);
    });
}

#[test]
fn a_question_for_offsets_whose_answer_is_lost_is_asked_again() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let pipeline = scene.pipeline(shape, 2);
        let ticket = scene.proxies[worker].arm(Rule::next(ApiKey::OFFSET_FETCH, Fault::DropAnswer));
        scene.apply(&pipeline);
        scene.until_answered(worker, ticket);
        scene.put(&pipeline, 0..40);
        scene.each_once(&pipeline, 40);
    });
}

#[test]
fn a_worker_whose_broker_named_no_broker_for_a_while_goes_on_by_itself() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let pipeline = scene.pipeline(shape, 2);
        scene.begin(&pipeline);
        let nobody = scene.proxies[worker].arm(Rule::every(ApiKey::METADATA, Fault::NameNoBroker));
        // Clients that have lost their connections ask where brokers are.
        until("it was told so", || {
            scene.proxies[worker].reset();
            scene.proxies[worker].status(nobody).0 >= 3
        });
        scene.put(&pipeline, 40..80);
        scene.proxies[worker].disarm(nobody);
        scene.each_once(&pipeline, 80);
    });
}

#[test]
fn a_task_that_is_to_start_while_its_broker_names_no_broker_starts_once_it_does() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let nobody = scene.proxies[worker].arm(Rule::every(ApiKey::METADATA, Fault::NameNoBroker));
        let pipeline = scene.pipeline(shape, 2);
        scene.put(&pipeline, 0..40);
        scene.apply(&pipeline);
        scene.until_caught(worker, nobody, 3);
        scene.proxies[worker].disarm(nobody);
        scene.each_once(&pipeline, 40);
    });
}

#[test]
fn w4_offsets_that_arrive_again_in_the_next_transaction_do_no_harm() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let pipeline = scene.pipeline(shape, 1);
        scene.apply(&pipeline);
        scene.put(&pipeline, 0..20);
        scene.until_found(&pipeline, 20);
        let stray = scene.proxies[worker].arm(Rule::next(ApiKey::TXN_OFFSET_COMMIT, Fault::Cut));
        scene.put(&pipeline, 20..40);
        scene.until_caught(worker, stray, 1);
        scene.until_found(&pipeline, 40);
        let end = scene.proxies[worker].arm(Rule::next(ApiKey::END_TXN, Fault::Hold));
        scene.put(&pipeline, 40..60);
        scene.until_caught(worker, end, 1);
        scene.proxies[worker].release(stray);
        scene.until_answered(worker, stray);
        scene.proxies[worker].release(end);
        scene.until_found(&pipeline, 60);
        scene.kill(worker);
        scene.restart(worker);
        scene.put(&pipeline, 60..70);
        scene.each_once(&pipeline, 70);
    });
}

/// Worker 0 is stopped in the middle of a transaction, and worker 1 takes the task over and does the work.
fn stopped_in_a_transaction(scene: &mut Scene<'_>, pipeline: &Pipeline) -> Ticket {
    scene.worker();
    scene.apply(pipeline);
    scene.put(pipeline, 0..40);
    scene.until_found(pipeline, 40);
    let held = scene.proxies[0].arm(Rule::next(ApiKey::ADD_OFFSETS_TO_TXN, Fault::Hold));
    scene.put(pipeline, 40..80);
    scene.until_caught(0, held, 1);
    scene.signal(0, "STOP");
    scene.worker();
    held
}

#[test]
fn w5_a_worker_that_was_stopped_beyond_its_lease_commits_nothing_when_it_goes_on() {
    in_each_shape(|mut scene, shape| {
        let pipeline = scene.pipeline(shape, 2);
        let held = stopped_in_a_transaction(&mut scene, &pipeline);
        scene.until_found(&pipeline, 80);
        scene.signal(0, "CONT");
        scene.proxies[0].release(held);
        scene.until_answered(0, held);
        scene.put(&pipeline, 80..120);
        scene.each_once(&pipeline, 120);
    });
}

#[test]
fn w6_w9_a_stale_grantee_that_initialises_last_steps_down_without_a_coordinator() {
    in_each_shape(|mut scene, shape| {
        let pipeline = scene.pipeline(shape, 1);
        scene.worker();
        scene.apply(&pipeline);
        scene.put(&pipeline, 0..40);
        scene.until_found(&pipeline, 40);
        until("it is committed", || scene.lag(&pipeline) == 0);
        let first = scene.epochs(&pipeline)[0];
        scene.signal(0, "STOP");
        scene.worker();
        until("the new owner claims, before it has any work", || scene.epochs(&pipeline)[0] > first);
        let second = scene.epochs(&pipeline);
        scene.put(&pipeline, 40..80);
        scene.until_found(&pipeline, 80);
        scene.fleet.kill(COORDINATOR).unwrap();
        scene.signal(0, "CONT");
        scene.put(&pipeline, 80..100);
        until("the stale one steps down", || scene.log(0).contains("stepping down"));
        scene.put(&pipeline, 100..120);
        scene.until_found(&pipeline, 120);
        assert_eq!(scene.epochs(&pipeline), second, "the newer owner has it");
        scene.fleet.start_coordinator().unwrap();
        scene.each_once(&pipeline, 120);
        assert_eq!(scene.epochs(&pipeline), second, "the newer owner has it");
    });
}

#[test]
fn w7_a_stolen_transactional_id_costs_a_new_producer_and_nothing_else() {
    in_each_shape(|mut scene, shape| {
        scene.worker();
        let pipeline = scene.pipeline(shape, 1);
        scene.apply(&pipeline);
        for round in 0..3 {
            scene.put(&pipeline, round * 20..(round + 1) * 20);
            scene.until_found(&pipeline, usize::try_from((round + 1) * 20).unwrap());
            scene.steal(&pipeline);
        }
        scene.put(&pipeline, 60..80);
        scene.each_once(&pipeline, 80);
        scene.until_incident("PLT0306", &pipeline.name);
    });
}

#[test]
fn w13_an_old_generation_that_wakes_after_shards_were_dealt_anew_steps_down() {
    in_each_shape(|mut scene, shape| {
        let mut pipeline = scene.pipeline(shape, 4);
        pipeline.tasks = 2;
        let held = stopped_in_a_transaction(&mut scene, &pipeline);
        pipeline.tasks = 3;
        scene.apply(&pipeline);
        scene.until_found(&pipeline, 80);
        scene.signal(0, "CONT");
        scene.proxies[0].release(held);
        scene.until_answered(0, held);
        scene.put(&pipeline, 80..120);
        scene.each_once(&pipeline, 120);
    });
}

#[test]
fn w13_a_retirement_whose_offsets_are_still_on_their_way_is_made_again_before_anything_newer_works() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let between = Proxy::start("127.0.0.1:0", scene.cluster.bootstrap()).unwrap();
        scene.fleet.kill(COORDINATOR).unwrap();
        scene.fleet.start_coordinator_behind(&between.address()).unwrap();
        let mut pipeline = scene.pipeline(shape, 4);
        pipeline.tasks = 2;
        scene.begin(&pipeline);
        pipeline.tasks = 3;
        let stray = between.arm(Rule::next(ApiKey::TXN_OFFSET_COMMIT, Fault::Cut));
        scene.apply(&pipeline);
        scene.put(&pipeline, 40..80);
        scene.until_found(&pipeline, 80);
        until("everything is committed", || scene.lag(&pipeline) == 0);
        assert_eq!(between.status(stray).0, 1, "the offsets of one claim were kept");
        between.release(stray);
        assert!(between.until_answered(stray, 1, GUARD), "they arrive");
        scene.kill(worker);
        scene.restart(worker);
        scene.put(&pipeline, 80..100);
        scene.each_once(&pipeline, 100);
    });
}

#[test]
fn partitions_that_come_while_a_pipeline_runs_are_read_without_a_restart() {
    in_each_shape(|mut scene, shape| {
        scene.worker();
        scene.worker();
        let mut pipeline = scene.pipeline(shape, 2);
        pipeline.tasks = 2;
        scene.begin(&pipeline);
        scene.grow(&mut pipeline, 4);
        scene.put(&pipeline, 40..80);
        scene.each_once(&pipeline, 80);
        let committed = scene.committed(&pipeline);
        assert!(committed.iter().all(|(_, text)| text.contains(";g=2;")), "{committed:?}");
    });
}

#[test]
fn positions_go_past_the_marks_of_transactions() {
    for cluster in clusters() {
        let mut scene = Scene::new(&cluster);
        let worker = scene.worker();
        let pipeline = scene.pipeline(Shape::Plain, 1);
        scene.apply(&pipeline);
        let id = kit::unique("upstream");
        let upstream: BaseProducer =
            client(cluster.bootstrap()).set("transactional.id", id).create().unwrap();
        upstream.init_transactions(Duration::from_secs(30)).unwrap();
        for round in 0..10_u64 {
            upstream.begin_transaction().unwrap();
            for id in round * 4..(round + 1) * 4 {
                let (key, value) = (id.to_string(), format!(r#"{{"id":{id}}}"#));
                upstream.send(BaseRecord::to(&pipeline.input).key(&key).payload(&value)).unwrap();
            }
            upstream.commit_transaction(Duration::from_secs(30)).unwrap();
        }
        scene.until_found(&pipeline, 40);
        until("the mark of the last transaction is passed too", || scene.lag(&pipeline) == 0);
        scene.kill(worker);
        scene.restart(worker);
        scene.put(&pipeline, 40..50);
        scene.each_once(&pipeline, 50);
    }
}

#[test]
fn p13_results_beyond_the_cut_wait_for_the_transaction_of_their_offsets() {
    for cluster in clusters() {
        let server = Server::start();
        let mut scene = Scene::new(&cluster);
        let worker = scene.worker();
        let pipeline = scene.pipeline(Shape::Asks(server.url.clone()), 1);
        scene.apply(&pipeline);
        server.keep(10);
        scene.put(&pipeline, 0..20);
        until("all others were asked for", || (0..20).all(|id| server.was_asked(id)));
        scene.until_found(&pipeline, 10);
        until("the cut is committed", || scene.committed(&pipeline)[0].0 == 10);
        scene.kill(worker);
        server.answer_all();
        scene.restart(worker);
        scene.put(&pipeline, 20..30);
        scene.each_once(&pipeline, 30);
    }
}

#[test]
fn at_least_once_commits_no_offset_before_its_output_is_stored() {
    for cluster in clusters() {
        let mut scene = Scene::new(&cluster);
        let worker = scene.worker();
        let mut pipeline = scene.pipeline(Shape::Plain, 1);
        pipeline.delivery = "at-least-once";
        scene.apply(&pipeline);
        scene.put(&pipeline, 0..20);
        scene.until_found(&pipeline, 20);
        until("it is committed", || scene.lag(&pipeline) == 0);
        let lost = scene.proxies[worker].arm(Rule::every(ApiKey::PRODUCE, Fault::Drop));
        scene.put(&pipeline, 20..40);
        scene.until_caught(worker, lost, 1);
        // Time for a commit that must not be: intervals are 50 ms. What is right passes however long this takes.
        std::thread::sleep(Duration::from_secs(1));
        scene.kill(worker);
        scene.proxies[worker].clear();
        scene.restart(worker);
        scene.put(&pipeline, 40..50);
        let found = scene.settled(&pipeline, 50);
        assert_eq!(found.len(), 50);
    }
}
