//! Parts that are away for a while: the rest waits, says so, and goes on.

use crate::support::{
    cluster::{self, Cluster, copy, worker},
    kafka::Kafka,
    net, until,
};

#[test]
fn a_queue_that_is_away_at_the_start_and_in_the_middle_is_waited_for_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let listen = net::free_address();
    // Known to the coordinator, then gone: workers start without a queue.
    let (broker, _, _) = cluster::broker(dir.path(), &listen);
    let kafka = Kafka::at(&listen);
    kafka.create("in", 2);
    kafka.create("out", 2);
    let (coordinator, grpc, http) = cluster::coordinator(dir.path(), &listen, "127.0.0.1:0");
    let mut all = Cluster {
        dir,
        broker: Some(broker),
        coordinator,
        workers: Vec::new(),
        bootstrap: listen.clone(),
        grpc,
        http: vec![String::new(), http],
    };
    all.apply(&copy("copy", "true")).ok();
    kafka.put_ids("in", 0..100);
    all.broker.take().unwrap().kill();

    let soon = [("PELTON__WORKER__DRAINTIMEOUT", "2s")];
    let (child, _) = worker(all.dir.path(), "w0", &listen, &all.grpc, &soon);
    all.workers.push(child);
    says_so(&mut all);
    all.broker = Some(cluster::broker(all.dir.path(), &listen).0);
    assert_eq!(kafka.until_ids("out", 100).len(), 100);
    no_incident(&all);

    all.broker.take().unwrap().kill();
    says_so(&mut all);
    let refused = all.apply(&copy("other", "true"));
    refused.refused(69, &[&listen]);
    all.broker = Some(cluster::broker(all.dir.path(), &listen).0);
    kafka.put_ids("in", 100..200);
    assert_eq!(kafka.until_ids("out", 200).len(), 200);
    no_incident(&all);

    // Told to end while the queue is away again: it gives up in time, and cleanly.
    all.broker.take().unwrap().kill();
    says_so(&mut all);
    all.workers[0].terminate();
    let worker = all.workers.remove(0).said();
    assert_eq!(worker.code, 0, "{worker:#?}");
}

/// The worker's log and the coordinator's incident tell of the queue.
fn says_so(all: &mut Cluster) {
    until("an incident about the queue", || {
        let about = all.verb(&["describe", "pipeline", "copy"]).out;
        (about.contains("PLT0206") && about.contains(&all.bootstrap)).then_some(())
    });
    all.workers[0].until_says("no broker answers");
    assert!(all.verb(&["get", "incidents", "copy"]).ok().contains("PLT0206"));
}

fn no_incident(all: &Cluster) {
    all.until("copy", "runs without an incident", |p| {
        p["phase"] == "running" && p["incidents"].as_array().unwrap().is_empty()
    });
}

#[test]
fn workers_go_on_without_a_coordinator_and_find_it_again() {
    let mut cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    kafka.create("in", 2);
    kafka.create("out", 2);
    cluster.apply(&copy("copy", "true")).ok();
    kafka.put_ids("in", 0..10);
    cluster.until_in("copy", 10);

    let grpc = cluster.grpc.clone();
    let (stand_in, _, _) =
        cluster::coordinator(&cluster.dir.path().join("elsewhere"), &cluster.bootstrap, "127.0.0.1:0");
    std::mem::replace(&mut cluster.coordinator, stand_in).kill();
    cluster.workers[0].until_says("tasks go on, dialling again");
    net::until_status(&cluster.http[2], "/readyz", 503);
    kafka.put_ids("in", 10..20);
    assert_eq!(kafka.until_ids("out", 20).len(), 20, "records flow without a coordinator");

    cluster.coordinator = cluster::coordinator(cluster.dir.path(), &cluster.bootstrap, &grpc).0;
    net::until_status(&cluster.http[2], "/readyz", 200);
    let found = cluster.until("copy", "known again, at the same epoch", |p| p["phase"] == "running");
    assert_eq!(found["tasks"][0]["epoch"], 1, "the task was never taken away: {found}");
    kafka.put_ids("in", 20..30);
    let ids = kafka.until_ids("out", 30);
    assert!(ids.values().all(|count| *count == 1), "{ids:?}");
}
