//! Client verbs against a coordinator, a broker and workers that are processes of their own.

use crate::support::{
    Child,
    cluster::{Cluster, copy},
    pelton, until,
};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_pipeline_is_applied_changed_watched_paused_rolled_back_and_deleted() {
    let cluster = Cluster::start(2);
    let kafka = cluster.kafka();
    kafka.create("in", 4);
    kafka.create("out", 4);
    let all = copy("copy", ".id >= 0");
    let new = cluster.apply(&all).ok();
    assert!(new.starts_with("pipeline default/copy created (revision 1)"), "{new}");
    let unchanged = cluster.apply(&all).ok();
    assert!(unchanged.starts_with("pipeline default/copy unchanged (revision 1)"), "{unchanged}");
    kafka.put_ids("in", 0..100);
    cluster.until_in("copy", 100);

    looks(&cluster);

    let changed = cluster.apply(&copy("copy", "mod(int!(.id), 2) == 0")).ok();
    assert!(changed.contains("(revision 2)") && changed.contains("mod(int!(.id), 2) == 0"), "{changed}");
    kafka.put_ids("in", 100..200);
    // Nothing is read again: the new revision goes on at the committed offsets.
    let ids = kafka.until_ids("out", 150);
    cluster.until("copy", "revision 2 has settled all", |p| {
        p["revision"] == 2 && p["lag"] == 0 && p["pending"] == 0
    });
    assert!(ids.values().all(|count| *count == 1), "{ids:?}");
    assert!(ids.keys().all(|id| *id < 100 || id % 2 == 0));

    assert!(cluster.verb(&["pause", "copy"]).ok().contains("paused"));
    cluster.until("copy", "paused", |p| {
        let held = |t: &Value| !t["worker"].as_str().unwrap().is_empty();
        p["phase"] == "paused" && !p["tasks"].as_array().unwrap().iter().any(held)
    });
    kafka.put_ids("in", 200..210);
    assert!(cluster.verb(&["resume", "pipeline", "copy"]).ok().contains("resumed"));
    assert_eq!(kafka.until_ids("out", 155).len(), 155);

    let back = cluster.verb(&["rollback", "copy", "--to-revision", "1"]).ok();
    assert!(back.contains("rolled back; now revision 3"), "{back}");
    cluster.until("copy", "revision 3 runs", |p| p["revision"] == 3 && p["phase"] == "running");
    kafka.put_ids("in", 301..302);
    assert!(kafka.until_ids("out", 156).contains_key(&301), "the odd ids are kept again");

    let drained = cluster.verb(&["drain", "worker", "w0"]).ok();
    assert!(drained.contains("worker w0 is draining"), "{drained}");
    cluster.until("copy", "all tasks at w1", |p| {
        p["phase"] == "running" && p["tasks"].as_array().unwrap().iter().all(|t| t["worker"] == "w1")
    });

    let deleted = cluster.verb(&["delete", "pipeline", "copy"]).ok();
    assert!(deleted.contains("deleted; its topics and offsets stay"), "{deleted}");
    until("the pipeline's end", || (cluster.verb(&["get", "pipelines", "copy"]).code == 1).then_some(()));
    assert_eq!(json(&cluster.verb(&["get", "pipelines", "-o", "json"]).ok()), Value::Array(Vec::new()));
}

/// Every way to look at a running pipeline.
fn looks(cluster: &Cluster) {
    let table = cluster.verb(&["get", "pipelines"]).ok();
    let row = table.lines().find(|line| line.contains("copy")).unwrap();
    assert!(row.contains("running") && row.contains("100"), "{table}");
    let yaml = cluster.verb(&["get", "pipelines", "copy", "-o", "yaml"]).ok();
    assert!(yaml.contains("phase: running"), "{yaml}");
    let tasks = json(&cluster.verb(&["get", "tasks", "copy", "-o", "json"]).ok());
    let at: Vec<&str> = tasks.as_array().unwrap().iter().map(|t| t["worker"].as_str().unwrap()).collect();
    assert_eq!(at.iter().filter(|w| **w == "w0").count() * 2, at.len(), "spread over both workers: {at:?}");
    assert!(cluster.verb(&["get", "tasks"]).ok().contains("default/copy[0.g1.t0]"));
    let workers = json(&cluster.verb(&["get", "workers", "-o", "json"]).ok());
    let names: Vec<&Value> = workers.as_array().unwrap().iter().map(|w| &w["id"]).collect();
    assert_eq!(names, ["w0", "w1"]);
    assert!(workers.as_array().unwrap().iter().all(|w| w["state"] == "attached"));
    assert_eq!(json(&cluster.verb(&["get", "incidents", "-o", "json"]).ok()), Value::Array(Vec::new()));
    let about = cluster.verb(&["describe", "pipeline", "copy"]).ok();
    for part in
        ["pelton.default.copy", "100 in + 0 expanded = 100 out", "(balanced)", "Operators:", "keep", "in[0]@"]
    {
        assert!(about.contains(part), "no `{part}` in {about}");
    }
    let about = cluster.verb(&["describe", "worker", "w0"]).ok();
    assert!(about.contains("attached") && about.contains("default/copy["), "{about}");
}

#[test]
fn live_records_are_tapped_where_one_asks_for_them() {
    let cluster = Cluster::start(1);
    let made = cluster.apply(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: made }\nspec:\n  \
         sources: { in: { generator: { rate: 200 }, decode: json } }\n  \
         operators: [{ name: mark, map: \".seen = true\" }]\n  sinks: { out: { blackhole: {} } }\n",
    );
    made.ok();
    cluster.until("made", "records flow", |p| p["account"]["recordsOut"].as_u64() > Some(0));
    let sinks = cluster.verb(&["tap", "made", "--limit", "3", "-o", "json"]).ok();
    let records: Vec<Value> = sinks.lines().map(json).collect();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|r| json(r["value"].as_str().unwrap())["seen"] == true), "{sinks}");
    // The coordinator may also be named by the environment.
    let mut command = pelton(["tap", "made", "--at", "in", "--limit", "2"]);
    command.env("PELTON_COORDINATOR", format!("http://{}", cluster.grpc));
    let source = Child::start(command).said().ok();
    assert_eq!(source.lines().count(), 2, "{source}");
    assert!(!source.contains("seen"), "before the operator: {source}");
    cluster.verb(&["tap", "nobody"]).refused(1, &["nobody"]);
    cluster.verb(&["tap", "made", "--at", "nowhere"]).refused(78, &["nowhere"]);
}

#[test]
fn a_poison_record_stops_its_pipeline_alone_and_says_where_it_is_and_a_change_lets_it_go_on() {
    let cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    for topic in ["in", "out", "dlq"] {
        kafka.create(topic, 1);
    }
    let strict = copy("strict", ".id >= 0");
    cluster.apply(&strict).ok();
    kafka.put_ids("in", 0..5);
    kafka.put("in", [("5".to_owned(), b"\xff\xfe{")]);
    kafka.put_ids("in", 6..10);
    cluster.until("strict", "stopped", |p| p["phase"] == "failed");
    let about = cluster.verb(&["describe", "pipeline", "strict"]).ok();
    for part in ["PLT0101", "`keep`", "in[0] offset 5", "deadLetter", "1 on their way"] {
        assert!(about.contains(part), "no `{part}` in {about}");
    }
    let incidents = json(&cluster.verb(&["get", "incidents", "strict", "-o", "json"]).ok());
    assert_eq!(
        (&incidents[0]["code"], &incidents[0]["stopsTask"]),
        (&"PLT0101".into(), &true.into()),
        "{incidents}"
    );
    assert!(kafka.committed("pelton.default.strict", "in", 0) <= Some(5), "nothing after it is committed");
    let late = cluster.verb(&["resume", "strict"]).ok();
    assert!(late.contains("resumed"), "{late}");
    cluster.until("strict", "stopped again: the record is still there", |p| p["phase"] == "failed");

    let lenient = format!("{strict}  onError: {{ deadLetter: {{ kafka: {{ topic: dlq }} }} }}\n");
    let changed = cluster.apply(&lenient).ok();
    assert!(changed.contains("(revision 2)") && changed.contains("deadLetter"), "{changed}");
    cluster.verb(&["resume", "strict"]).ok();
    let letters = kafka.until("dlq", 1);
    assert_eq!(letters[0].value, b"\xff\xfe{");
    assert_eq!(kafka.until_ids("out", 9).len(), 9);
    cluster.until("strict", "goes on without an incident", |p| {
        p["phase"] == "running" && p["incidents"].as_array().unwrap().is_empty()
    });
}
