//! `delivery: exactly-once`: outputs, dead letters and offsets in one transaction, whatever is killed.

use crate::support::{
    Child,
    cluster::{self, Cluster},
    kafka::Kafka,
    pelton, said, until,
};
use std::collections::BTreeMap;

/// Ids from `in` to `out`; one in ten cannot be processed and goes to `letters`.
fn definition() -> String {
    dealt(4)
}

fn dealt(tasks: u32) -> String {
    format!(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: once }}\nspec:\n  \
         delivery: exactly-once\n  commitInterval: 50ms\n  tasks: {tasks}\n  \
         sources: {{ in: {{ kafka: {{ topics: [in], start: earliest }}, decode: json }} }}\n  \
         operators: [{{ name: most, filter: \"assert!(mod(int!(.id), 10) != 3)\" }}]\n  \
         sinks: {{ out: {{ kafka: {{ topic: out }} }} }}\n  \
         onError: {{ deadLetter: {{ kafka: {{ topic: letters }} }} }}\n"
    )
}

fn topics(kafka: &Kafka) {
    kafka.create("in", 4);
    kafka.create("out", 4);
    kafka.create("letters", 2);
}

/// Write ids in small pieces, so that many transactions come of them.
fn trickle(kafka: &Kafka, ids: std::ops::Range<u64>) {
    let mut from = ids.start;
    while from < ids.end {
        let to = (from + 50).min(ids.end);
        kafka.put_ids("in", from..to);
        from = to;
    }
}

/// How often each id is in the output and the dead letters, once all are there.
fn counts(kafka: &Kafka, ids: u64) -> BTreeMap<u64, usize> {
    let dead = usize::try_from(ids / 10).unwrap();
    let mut counts = kafka.until_ids("out", usize::try_from(ids).unwrap() - dead);
    for (id, count) in kafka.until_ids("letters", dead) {
        *counts.entry(id).or_default() += count;
    }
    counts
}

#[track_caller]
fn each_once(counts: &BTreeMap<u64, usize>, ids: u64) {
    let wrong: Vec<_> = (0..ids).filter(|id| counts.get(id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} ids are not there exactly once: {wrong:?}", wrong.len());
    assert_eq!(counts.len() as u64, ids);
}

#[test]
fn every_record_and_every_dead_letter_is_there_once_although_workers_are_killed() {
    let mut cluster = Cluster::start(2);
    let kafka = cluster.kafka();
    topics(&kafka);
    cluster.apply(&definition()).ok();
    cluster.until("once", "running", |p| p["phase"] == "running");
    for (round, ids) in [0..500, 500..1000, 1000..1500].into_iter().enumerate() {
        trickle(&kafka, ids.clone());
        kafka.until_ids("out", usize::try_from(ids.start).unwrap() + 1);
        cluster.workers.remove(0).kill();
        let id = format!("next{round}");
        let (child, _) = cluster::worker(cluster.dir.path(), &id, &cluster.bootstrap, &cluster.grpc, &[]);
        cluster.workers.push(child);
    }
    each_once(&counts(&kafka, 1500), 1500);
    cluster.until("once", "nothing left", |p| p["lag"] == 0 && p["pending"] == 0);
}

/// A broker and the pipeline's file, for `pelton run`, which needs no cluster.
struct Alone {
    dir: tempfile::TempDir,
    bootstrap: String,
    _broker: Child,
}

impl Alone {
    /// With the topics made.
    fn new() -> (Alone, Kafka) {
        let dir = tempfile::tempdir().unwrap();
        let (broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
        let kafka = Kafka::at(&bootstrap);
        topics(&kafka);
        std::fs::write(dir.path().join("once.yaml"), definition()).unwrap();
        (Alone { dir, bootstrap, _broker: broker }, kafka)
    }

    /// Arguments of a run with a data directory of this name.
    fn run(&self, data: &str, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let own = ["run", &path("once.yaml"), "--kafka", &self.bootstrap, "--data-dir", &path(data)];
        own.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }
}

#[test]
fn a_run_that_is_killed_is_taken_up_where_its_last_transaction_ended() {
    let (alone, kafka) = Alone::new();
    let first = Child::start(pelton(alone.run("data", &["--executors", "2", "-o", "json"])));
    trickle(&kafka, 0..500);
    kafka.until_ids("out", 1);
    first.kill();
    trickle(&kafka, 500..1000);
    said(alone.run("data", &["--executors", "2", "-o", "json", "--until-idle", "1s"])).ok();
    each_once(&counts(&kafka, 1000), 1000);
}

#[test]
fn the_run_that_was_started_last_has_the_tasks_and_the_other_steps_down() {
    let (alone, kafka) = Alone::new();
    let start = |name: &str| Child::start(pelton(alone.run(name, &["--executors", "1"])));
    let mut first = start("first");
    trickle(&kafka, 0..200);
    kafka.until_ids("out", 180);
    let _second = start("second");
    // The first one hears of it with its next commit.
    let mut next = 200;
    until("the first run ends, for its tasks are somebody else's", || {
        trickle(&kafka, next..next + 50);
        next += 50;
        (!first.running()).then_some(())
    });
    assert_eq!(first.wait().code(), Some(75), "{}", first.err());
    each_once(&counts(&kafka, next), next);
}

#[test]
fn shards_are_dealt_anew_while_records_flow_and_a_deleted_pipeline_is_retired() {
    let cluster = Cluster::start(2);
    let kafka = cluster.kafka();
    topics(&kafka);
    cluster.apply(&definition()).ok();
    cluster.until("once", "running", |p| p["phase"] == "running");
    for (ids, tasks) in [(0..300, 2), (300..600, 3), (600..900, 1)] {
        trickle(&kafka, ids.clone());
        kafka.until_ids("out", usize::try_from(ids.start).unwrap() + 1);
        let said = cluster.apply(&dealt(tasks)).ok();
        assert!(said.contains("tasks"), "{said}");
    }
    each_once(&counts(&kafka, 900), 900);
    let found = cluster.until("once", "the last map at work", |p| p["phase"] == "running" && p["lag"] == 0);
    assert_eq!(found["tasks"].as_array().unwrap().len(), 1, "{found}");
    let rising = kafka
        .all("out")
        .windows(2)
        .filter(|w| w[0].partition == w[1].partition)
        .all(|w| w[0].json()["id"].as_u64() < w[1].json()["id"].as_u64() || w[0].key != w[1].key);
    assert!(rising, "order per key");

    cluster.verb(&["delete", "pipeline", "once"]).ok();
    until("the pipeline is gone", || {
        let said = cluster.verb(&["get", "pipelines", "-o", "json"]);
        (said.out.trim() == "[]").then_some(())
    });
}

fn incident_of(cluster: &Cluster, code: &str) -> serde_json::Value {
    until(&format!("an incident {code}"), || {
        let said = cluster.verb(&["get", "incidents", "-o", "json"]);
        let all: serde_json::Value = serde_json::from_str(&said.out).ok()?;
        all.as_array()?.iter().find(|i| i["code"] == code).cloned()
    })
}

#[test]
fn offsets_that_another_tool_set_on_a_paused_pipeline_and_a_topic_made_anew_are_refused_and_told() {
    let cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    topics(&kafka);
    cluster.apply(&dealt(1)).ok();
    trickle(&kafka, 0..100);
    counts(&kafka, 100);
    cluster.verb(&["pause", "once"]).ok();
    cluster.until("once", "let go", |p| {
        p["phase"] == "paused" && p["tasks"].as_array().unwrap().iter().all(|t| t["state"] != "running")
    });
    kafka.reset("pelton.default.once", "in", 0, 0);
    cluster.verb(&["resume", "once"]).ok();
    let told = incident_of(&cluster, "PLT0301");
    let text = told["message"].as_str().unwrap();
    assert!(text.contains("in[0]") && text.contains("another tool"), "{told}");
    assert_eq!(kafka.all("out").len(), 90, "nothing was read again");

    // A topic that was deleted and made anew has lost its offsets too.
    let cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    topics(&kafka);
    cluster.apply(&dealt(1)).ok();
    trickle(&kafka, 0..100);
    counts(&kafka, 100);
    cluster.verb(&["pause", "once"]).ok();
    cluster.until("once", "let go", |p| {
        p["phase"] == "paused" && p["tasks"].as_array().unwrap().iter().all(|t| t["state"] != "running")
    });
    kafka.delete("in");
    kafka.create("in", 4);
    kafka.put_ids("in", 100..150);
    cluster.verb(&["resume", "once"]).ok();
    let said = until("an incident", || {
        let said = cluster.verb(&["get", "incidents", "-o", "json"]).out;
        said.contains("PLT0").then_some(said)
    });
    assert!(said.contains("PLT0301") || said.contains("PLT0205"), "{said}");
    assert_eq!(kafka.all("out").len(), 90, "nothing of the new topic was read");
}

/// Paused, and nobody holds its tasks.
fn paused(cluster: &Cluster, name: &str) {
    cluster.verb(&["pause", name]).ok();
    cluster.until(name, "let go", |p| {
        let holds = |t: &serde_json::Value| t["worker"] != "";
        p["phase"] == "paused" && !p["tasks"].as_array().unwrap().iter().any(holds)
    });
}

#[test]
fn a_pipeline_goes_back_to_a_savepoint_or_to_where_somebody_says_and_that_is_remembered() {
    let cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    for (name, delivery) in [("once", "exactly-once"), ("least", "at-least-once")] {
        let (input, output) = (format!("{name}-in"), format!("{name}-out"));
        kafka.create(&input, 2);
        kafka.create(&output, 2);
        let text = format!(
            "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n  \
             delivery: {delivery}\n  commitInterval: 50ms\n  \
             sources: {{ in: {{ kafka: {{ topics: [{input}], start: earliest }}, decode: json }} }}\n  \
             sinks: {{ out: {{ kafka: {{ topic: {output} }} }} }}\n"
        );
        cluster.apply(&text).ok();
        let settled = |records: u64| cluster.until_in(name, records);
        kafka.put_ids(&input, 0..100);
        settled(100);
        let said = cluster.verb(&["savepoint", "create", name, "before"]).ok();
        assert!(said.contains("savepoint before of default/") && said.contains("2 partitions"), "{said}");
        kafka.put_ids(&input, 100..200);
        settled(200);

        let running = cluster.verb(&["rollback", name, "--to-savepoint", "before"]);
        running.refused(78, &["is not paused", &format!("pelton pause {name}")]);
        paused(&cluster, name);
        let said =
            cluster.verb(&["rollback", name, "--to-savepoint", "before", "--reason", "a bad model"]).ok();
        assert!(said.contains("at the offsets of savepoint before"), "{said}");
        cluster.verb(&["resume", name]).ok();
        kafka.until(&output, 300);
        let counts = kafka.until_ids(&output, 200);
        assert!(counts.iter().all(|(id, n)| *n == if *id < 100 { 1 } else { 2 }), "{counts:?}");

        cluster
            .until(name, "all committed", |p| p["lag"] == 0 && p["pending"] == 0 && p["phase"] == "running");
        paused(&cluster, name);
        kafka.put_ids(&input, 200..300);
        let at = kafka.all(&input).iter().filter(|r| r.partition == 0).count();
        let (to, strange) = (format!("{input}/0={at}"), format!("{input}/7=3"));
        let skip = |to: &str| cluster.verb(&["task", "skip-to", name, to, "--reason", "poison"]);
        skip(&strange).refused(1, &[&format!("does not read {input}[7]")]);
        let said = skip(&to).ok();
        assert!(said.contains(&format!("{input}/0: ")) && said.contains(&format!("-> {at}")), "{said}");
        cluster.verb(&["resume", name]).ok();
        let skipped = kafka
            .all(&input)
            .iter()
            .filter(|r| r.partition == 0 && r.json()["id"].as_u64() >= Some(200))
            .count();
        kafka.until_ids(&output, 300 - skipped);
        cluster.until(name, "all committed", |p| p["lag"] == 0 && p["pending"] == 0);
        assert_eq!(kafka.until_ids(&output, 1).len(), 300 - skipped, "what was skipped is not there");
        let told = cluster.verb(&["describe", "pipeline", name]).ok();
        assert!(
            told.contains("rolled back to savepoint before (revision 1)") && told.contains("a bad model"),
            "{told}"
        );
        assert!(told.contains(&format!("set {input}[0] to {at}")) && told.contains("poison"), "{told}");
    }
}
