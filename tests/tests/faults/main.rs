//! The failure windows of exactly-once, each opened by a proxy that stops a request at the right moment, with the
//! processes as users run them, on the embedded broker and on the real one that `PELTON_TEST_KAFKA` names.
//!
//! `cargo xtask sabotage` runs these tests against a build that breaks one rule of the protocol at a time.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../crates/pelton-kafka/tests/kit/mod.rs"]
mod kit;
mod scene;
mod server;

use kit::{Cluster, clusters};
use pelton_tests::{
    chaos::topics::client,
    proxy::{ApiKey, Fault, Rule, Ticket},
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

/// Play a scene on each cluster: with a pipeline that keeps each record, and where `PELTON_TEST_SHAPES` is `all` with one that
/// asks a server and one with dead letters too.
fn in_each_shape(play: impl Fn(Scene<'_>, Shape)) {
    let server = Server::start();
    let all = std::env::var("PELTON_TEST_SHAPES").is_ok_and(|shapes| shapes == "all");
    let shapes = shapes(&server);
    for cluster in clusters() {
        for shape in shapes.iter().take(if all { shapes.len() } else { 1 }) {
            println!("{shape:?} on {}", cluster.bootstrap());
            play(Scene::new(&cluster), shape.clone());
        }
    }
}

/// W1 to W3: a worker is killed at this request of a transaction, with three pipelines at work.
fn killed_at(request: ApiKey, fault: Fault) {
    for cluster in clusters() {
        let server = Server::start();
        let mut scene = Scene::new(&cluster);
        let worker = scene.worker();
        let pipelines = shapes(&server).map(|shape| scene.pipeline(shape, 2));
        for pipeline in &pipelines {
            scene.apply(pipeline);
            scene.put(pipeline, 0..40);
        }
        pipelines.iter().for_each(|pipeline| scene.until_found(pipeline, 40));
        let ticket = scene.proxies[worker].arm(Rule::every(request, fault));
        pipelines.iter().for_each(|pipeline| scene.put(pipeline, 40..80));
        scene.until_caught(worker, ticket, pipelines.len() as u64);
        if fault == Fault::DropAnswer {
            scene.until_answered(worker, ticket);
        }
        scene.kill(worker);
        scene.proxies[worker].clear();
        scene.restart(worker);
        pipelines.iter().for_each(|pipeline| scene.put(pipeline, 80..100));
        pipelines.iter().for_each(|pipeline| scene.each_once(pipeline, 100));
    }
}

#[test]
fn w1_a_worker_killed_between_its_outputs_and_their_offsets_leaves_neither() {
    killed_at(ApiKey::ADD_OFFSETS_TO_TXN, Fault::Drop);
}

#[test]
fn w2_a_worker_killed_before_the_end_of_its_transaction_leaves_nothing() {
    killed_at(ApiKey::END_TXN, Fault::Drop);
}

#[test]
fn w3_a_worker_killed_before_it_heard_that_its_transaction_is_committed_is_followed_there() {
    killed_at(ApiKey::END_TXN, Fault::DropAnswer);
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
        scene.fleet.kill("coordinator").unwrap();
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
fn w6_a_grantee_that_slept_before_its_init_finds_the_claim_of_the_next_one() {
    in_each_shape(|mut scene, shape| {
        let pipeline = scene.pipeline(shape, 1);
        scene.worker();
        let held = scene.proxies[0].arm(Rule::next(ApiKey::INIT_PRODUCER_ID, Fault::Hold));
        scene.apply(&pipeline);
        scene.until_caught(0, held, 1);
        scene.signal(0, "STOP");
        scene.worker();
        scene.put(&pipeline, 0..40);
        scene.until_found(&pipeline, 40);
        let owner = scene.epochs(&pipeline);
        scene.fleet.kill("coordinator").unwrap();
        scene.signal(0, "CONT");
        scene.proxies[0].release(held);
        until("the stale one steps down", || scene.log(0).contains("stepping down"));
        scene.put(&pipeline, 40..80);
        scene.until_found(&pipeline, 80);
        assert_eq!(scene.epochs(&pipeline), owner, "the newer owner has it");
        scene.fleet.start_coordinator().unwrap();
        scene.each_once(&pipeline, 80);
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
            let text = scene.committed(&pipeline).remove(0).1;
            let uuid = text.split(';').find_map(|part| part.strip_prefix("u=")).unwrap();
            let id = format!("pelton.default.{uuid}.0.g1.t0");
            let thief: BaseProducer =
                client(scene.cluster.bootstrap()).set("transactional.id", id).create().unwrap();
            thief.init_transactions(Duration::from_secs(30)).unwrap();
        }
        scene.put(&pipeline, 60..80);
        scene.each_once(&pipeline, 80);
    });
}

#[test]
fn w10_a_broker_that_is_started_anew_in_a_transaction_loses_and_doubles_nothing() {
    let mut cluster = Cluster::embedded();
    // The broker is the test's own: it must not be borrowed while it is down.
    let bootstrap = cluster.bootstrap().to_owned();
    let still = Cluster::Real { bootstrap };
    let mut scene = Scene::new(&still);
    let worker = scene.worker();
    let pipeline = scene.pipeline(Shape::Plain, 2);
    scene.apply(&pipeline);
    scene.put(&pipeline, 0..40);
    scene.until_found(&pipeline, 40);
    let held = scene.proxies[worker].arm(Rule::next(ApiKey::ADD_OFFSETS_TO_TXN, Fault::Hold));
    scene.put(&pipeline, 40..80);
    scene.until_caught(worker, held, 1);
    cluster.stop();
    scene.proxies[worker].clear();
    cluster.up();
    scene.put(&pipeline, 80..100);
    scene.each_once(&pipeline, 100);
}

#[test]
fn w11_a_transaction_that_outlasts_its_time_is_done_again() {
    in_each_shape(|mut scene, shape| {
        let worker = scene.worker();
        let pipeline = scene.pipeline(shape, 2);
        scene.apply(&pipeline);
        scene.put(&pipeline, 0..40);
        scene.until_found(&pipeline, 40);
        let held = scene.proxies[worker].arm(Rule::next(ApiKey::ADD_OFFSETS_TO_TXN, Fault::Hold));
        scene.put(&pipeline, 40..80);
        scene.until_caught(worker, held, 1);
        scene.signal(worker, "STOP");
        until("the broker sees the open transaction", || scene.is_open(&pipeline));
        until("the broker aborts it", || !scene.is_open(&pipeline));
        scene.signal(worker, "CONT");
        scene.proxies[worker].release(held);
        scene.put(&pipeline, 80..100);
        scene.each_once(&pipeline, 100);
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
