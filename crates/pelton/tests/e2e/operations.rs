//! What an operator does with a running pipeline: logs, rates, scale, rollouts, differences, dead letters.

use crate::support::{
    Child,
    cluster::{Cluster, copy},
    pelton, said, until,
};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A pipeline with dead letters, and ten good and four broken records in its topic of two partitions.
fn with_dead_letters(cluster: &Cluster) -> String {
    let kafka = cluster.kafka();
    kafka.create("in", 2);
    kafka.create("out", 2);
    kafka.create("dlq", 1);
    let definition =
        format!("{}  onError: {{ deadLetter: {{ kafka: {{ topic: dlq }} }} }}\n", copy("p", ".id >= 0"));
    cluster.apply(&definition).ok();
    kafka.put_ids("in", 0..10);
    let broken = ["{one", "two", "{three", "four"];
    kafka.put("in", broken.iter().map(|text| ((*text).to_owned(), text.as_bytes())));
    cluster.until("p", "four dead letters", |p| p["account"]["deadLettered"] == 4 && p["pending"] == 0);
    definition
}

fn letters(cluster: &Cluster, filter: &[&str]) -> Vec<Value> {
    let words: Vec<&str> = ["dlq", "list", "p", "-o", "json"].iter().chain(filter).copied().collect();
    json(&cluster.verb(&words).ok()).as_array().unwrap().clone()
}

#[test]
fn dead_letters_are_listed_shown_written_back_and_discarded_and_what_is_settled_stays_settled() {
    let cluster = Cluster::start(1);
    with_dead_letters(&cluster);
    let kafka = cluster.kafka();

    let all = letters(&cluster, &[]);
    let values: Vec<&str> = all.iter().map(|l| l["value"].as_str().unwrap()).collect();
    assert_eq!(values.len(), 4, "{all:?}");
    assert!(all.iter().all(|l| l["operator"] == "keep" && l["source"]["topic"] == "in"), "{all:?}");
    let table = cluster.verb(&["dlq", "list", "p"]).ok();
    assert!(table.lines().count() == 5 && table.contains("invalid JSON"), "{table}");
    assert_eq!(letters(&cluster, &["--limit", "3"]).len(), 3);
    assert_eq!(letters(&cluster, &["--cause", "expected a key"]).len(), 2, "{all:?}");
    assert_eq!(letters(&cluster, &["--operator", "nobody"]).len(), 0);
    let page = cluster.verb(&["dlq", "show", "p", "0:2"]).ok();
    assert!(page.contains(values[2]) && page.contains("read from  in["), "{page}");

    // The third goes back to where it was read, and fails there again: a fifth letter.
    let back = cluster.verb(&["dlq", "replay", "p", "0:2"]).ok();
    assert_eq!(back.trim(), "1 dead letter of p written back to where they were read");
    let read = until("the record at its old partition", || {
        let all = kafka.all("in");
        (all.iter().filter(|r| r.value == values[2].as_bytes()).count() == 2).then_some(all)
    });
    let places: Vec<i32> =
        read.iter().filter(|r| r.value == values[2].as_bytes()).map(|r| r.partition).collect();
    assert_eq!(places[0], places[1]);
    cluster.until("p", "it failed again", |p| p["account"]["deadLettered"] == 5 && p["pending"] == 0);
    let ids =
        |list: &[Value]| list.iter().map(|l| l["letter"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&letters(&cluster, &[])), ["0:0", "0:1", "0:3", "0:4"]);
    let headers = &letters(&cluster, &[])[3]["headers"];
    assert_eq!(
        headers.as_array().unwrap().len(),
        0,
        "the headers of the first failure do not pile up: {headers}"
    );

    let gone = cluster.verb(&["dlq", "discard", "p", "0:0", "0:4"]).ok();
    assert!(gone.contains("2 dead letters of p discarded"), "{gone}");
    assert_eq!(ids(&letters(&cluster, &[])), ["0:1", "0:3"]);
    // What is settled is kept with the queue's offsets: tools for lag see the letters that wait.
    assert_eq!(kafka.committed("pelton.default.p", "dlq", 0), Some(1));
    assert_eq!(json(&cluster.verb(&["dlq", "discard", "p", "--all", "-o", "json"]).ok())["settled"], 2);
    assert!(letters(&cluster, &[]).is_empty());
    assert_eq!(kafka.committed("pelton.default.p", "dlq", 0), Some(5));
}

#[test]
fn a_dead_letter_that_is_not_there_is_refused_and_nothing_is_done() {
    let cluster = Cluster::start(1);
    with_dead_letters(&cluster);
    cluster.verb(&["dlq", "replay", "p", "0:1", "7:9"]).refused(78, &["7:9", "nothing was done"]);
    cluster.verb(&["dlq", "discard", "p", "0:99"]).refused(78, &["0:99", "nothing was done"]);
    assert_eq!(letters(&cluster, &[]).len(), 4);
    assert_eq!(cluster.kafka().all("in").len(), 14, "nothing was written back");
    cluster.verb(&["dlq", "show", "p", "0:99"]).refused(1, &["0:99", "pelton dlq list p"]);
    cluster.verb(&["dlq", "show", "p", "first"]).refused(2, &["PARTITION:OFFSET"]);
    cluster.verb(&["dlq", "replay", "p"]).refused(2, &["--all"]);
    cluster.verb(&["dlq", "list", "nobody"]).refused(1, &["nobody"]);
    cluster.apply(&copy("strict", ".id >= 0").replace("in:", "other:")).ok();
    cluster.verb(&["dlq", "list", "strict"]).refused(78, &["no `onError.deadLetter`"]);
}

#[test]
fn a_pipeline_is_scaled_its_revisions_are_listed_and_a_rollout_is_followed_and_undone() {
    let cluster = Cluster::start(1);
    let definition = with_dead_letters(&cluster);
    let scaled = cluster.verb(&["scale", "p", "--tasks", "1"]).ok();
    assert!(scaled.contains("(revision 2): 1 task\n") && scaled.contains("from 2 tasks to 1"), "{scaled}");
    let rolled = cluster.verb(&["rollout", "status", "p", "--timeout", "60s"]).ok();
    assert!(rolled.ends_with("pipeline default/p revision 2 rolled out: 1 task\n"), "{rolled}");
    let more = cluster.verb(&["scale", "pipeline", "p", "--tasks", "50"]).ok();
    assert!(more.contains("its topics have 2 partitions"), "{more}");
    let history = cluster.verb(&["rollout", "history", "p"]).ok();
    assert!(history.lines().nth(2).is_some_and(|line| line.contains("tasks: added, 1")), "{history}");
    let undone = cluster.verb(&["rollout", "undo", "p", "--to-revision", "1"]).ok();
    assert!(undone.contains("now revision 4"), "{undone}");
    cluster.verb(&["rollout", "status", "p", "--timeout", "60s"]).ok();

    let file = cluster.dir.path().join("changed.yaml");
    std::fs::write(&file, &definition).unwrap();
    let same = cluster.verb(&["diff", "-f", &file.display().to_string()]);
    assert_eq!((same.code, same.out.as_str(), same.err.as_str()), (0, "", ""));
    std::fs::write(&file, definition.replace(">= 0", ">= 5")).unwrap();
    let differs = cluster.verb(&["diff", &file.display().to_string()]);
    assert_eq!((differs.code, differs.err.as_str()), (1, ""));
    assert!(differs.out.contains(r#"".id >= 0" -> ".id >= 5""#), "{differs:?}");
    let dry = cluster.verb(&["apply", "--dry-run", &file.display().to_string()]).ok();
    assert!(dry.contains("(dry run)"), "{dry}");
    assert_eq!(cluster.until("p", "as before", |p| p["phase"] == "running")["revision"], 4);

    std::fs::write(&file, definition.replace(".id >= 0", ".id >= ")).unwrap();
    for verb in ["apply", "diff"] {
        let name = file.display().to_string();
        let refused = cluster.verb(&[verb, &name]);
        // The line, a mark under the place, and what to do, as `validate` shows them.
        refused.refused(
            78,
            &[&name, " |   operators: [{ name: keep,", "^\n  hint: a value is expected behind `>=`"],
        );
    }
    programs_are_told_too(&cluster);
}

/// What was done as JSON, and what is not there.
fn programs_are_told_too(cluster: &Cluster) {
    let done = |words: &[&str]| json(&cluster.verb(&[words, &["-o", "json"]].concat()).ok());
    assert_eq!(done(&["scale", "p", "--tasks", "1"])["revision"], 5);
    assert_eq!(done(&["rollout", "status", "p"])["phase"], "running");
    assert_eq!(done(&["rollout", "undo", "p"])["revision"], 6);
    assert_eq!(done(&["pause", "p"])["name"], "p");
    assert_eq!(done(&["resume", "p"])["revision"], 6);
    assert_eq!(done(&["drain", "w0"])["worker"], "w0");
    cluster
        .verb(&["rollout", "undo", "p", "--to-revision", "77"])
        .refused(1, &["has no revision 77; it has 1, 2"]);
    for words in [
        &["get", "tasks", "nobody"][..],
        &["get", "incidents", "nobody"],
        &["describe", "pipeline", "nobody"],
    ] {
        cluster
            .verb(words)
            .refused(1, &["there is no pipeline default/nobody; `pelton get pipelines -A` lists them"]);
    }
    assert_eq!(done(&["delete", "p"])["deleted"], true);
    let empty = cluster.verb(&["get", "pipelines", "-n", "empty"]);
    assert!(empty.err.contains("no pipelines in namespace empty"), "{empty:?}");
}

#[test]
fn logs_of_a_pipeline_come_from_its_workers_and_go_on_when_followed() {
    let cluster = Cluster::start(2);
    with_dead_letters(&cluster);
    let lines = cluster.verb(&["logs", "p", "-o", "json"]).ok();
    let lines: Vec<Value> = lines.lines().map(json).collect();
    let granted = |lines: &[Value]| lines.iter().filter(|l| l["msg"] == "granted").count();
    assert!(granted(&lines) >= 2, "{lines:?}");
    let workers: std::collections::BTreeSet<&str> =
        lines.iter().map(|l| l["worker"].as_str().unwrap()).collect();
    assert_eq!(workers.into_iter().collect::<Vec<_>>(), ["w0", "w1"]);
    let mut times: Vec<&str> = lines.iter().map(|l| l["ts"].as_str().unwrap()).collect();
    let shown = times.clone();
    times.sort_unstable();
    assert_eq!(shown, times, "in order of time");
    let one = cluster.verb(&["logs", "p", "--worker", "w1", "--tail", "1"]).ok();
    assert!(one.lines().count() == 1 && one.contains(" w1 "), "{one}");
    cluster.verb(&["logs", "p", "--worker", "w9"]).refused(1, &["w9", "w0, w1"]);

    let address = format!("http://{}", cluster.grpc);
    let mut following = Child::start(pelton([
        "logs",
        "p",
        "--follow",
        "--tail",
        "1",
        "-o",
        "json",
        "--coordinator",
        &address,
    ]));
    following.until_out("the kept line", |line| line.contains("ts"));
    cluster.verb(&["pause", "p"]).ok();
    following.until_out("the task let go", |line| line.contains("Released"));
}

#[test]
fn rates_are_shown_once_when_piped_and_a_watch_prints_what_changed() {
    let cluster = Cluster::start(1);
    with_dead_letters(&cluster);
    let rows = |what: &str| json(&cluster.verb(&["top", what, "--interval", "100ms", "-o", "json"]).ok());
    assert_eq!(rows("pipelines")[0]["pipeline"], "default/p");
    assert_eq!(rows("tasks").as_array().unwrap().len(), 2);
    assert!(rows("workers")[0]["rates"]["cpu"].is_number());
    let table = cluster.verb(&["top", "--interval", "100ms"]).ok();
    assert!(table.contains("IN/S") && table.contains("default/p"), "{table}");

    let address = format!("http://{}", cluster.grpc);
    let mut watching = Child::start(pelton(["get", "pipelines", "-w", "--coordinator", &address]));
    watching.until_out("the running pipeline", |line| line.contains("default") && line.contains("running"));
    cluster.verb(&["pause", "p"]).ok();
    watching.until_out("the paused pipeline", |line| line.contains("paused"));
}

#[test]
fn a_queue_is_measured_and_the_topic_made_for_it_is_deleted() {
    let cluster = Cluster::start(0);
    let url = format!("kafka://{}", cluster.bootstrap);
    let figures = said(["bench", &url, "--duration", "300ms", "--rate", "200", "-o", "json"]).ok();
    let figures = json(&figures);
    assert_eq!(figures["produce"]["records"], figures["fetch"]["records"], "{figures}");
    assert_eq!(figures["latencyRecords"], 60);
    assert!(figures["latencyMs"]["p99"].as_f64() >= figures["latencyMs"]["p50"].as_f64(), "{figures}");
    assert_eq!(cluster.kafka().topics(), Vec::<String>::new());
    cluster.kafka().create("mine", 2);
    let text = said(["bench", &format!("{url}/mine"), "--duration", "100ms"]).ok();
    assert!(text.contains("produce") && text.contains("p99.9"), "{text}");
    assert_eq!(cluster.kafka().topics(), ["mine"], "a topic that was there stays");
    said(["bench", &format!("{url}/none"), "--duration", "1s"]).refused(78, &["there is no topic none"]);
    said(["bench", "kafka://127.0.0.1:1"]).refused(69, &["127.0.0.1:1"]);
    said(["bench", "redis://x:1"]).refused(2, &["kafka://"]);
}

#[test]
fn completion_and_manual_pages_name_every_command() {
    let bash = said(["completion", "bash"]).ok();
    for command in ["rollout", "dlq", "bench", "validate"] {
        assert!(bash.contains(command), "no {command}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(said(["completion", shell]).ok().len() > 1000, "{shell}");
    }
    assert!(said(["man"]).ok().contains(".TH pelton 1"));
    let dir = tempfile::tempdir().unwrap();
    said(["man", "--dir", &dir.path().display().to_string()]).ok();
    for page in ["pelton.1", "pelton-apply.1", "pelton-dlq-replay.1", "pelton-rollout-status.1"] {
        assert!(dir.path().join(page).is_file(), "no {page}");
    }
}

#[test]
fn without_a_coordinator_every_verb_says_what_to_do() {
    let file = crate::support::digits().join("pipeline.yaml").display().to_string();
    let verbs: [&[&str]; 21] = [
        &["apply", &file],
        &["apply", "--dry-run", &file],
        &["diff", &file],
        &["get", "pipelines"],
        &["get", "pipelines", "--watch"],
        &["describe", "pipeline", "p"],
        &["delete", "p"],
        &["pause", "p"],
        &["resume", "p"],
        &["rollback", "p"],
        &["savepoint", "list", "p"],
        &["task", "skip-to", "p", "in/0=1", "--reason", "x"],
        &["drain", "w0"],
        &["logs", "p"],
        &["top"],
        &["scale", "p", "--tasks", "1"],
        &["rollout", "status", "p"],
        &["rollout", "history", "p"],
        &["dlq", "list", "p"],
        &["dlq", "discard", "p", "--all"],
        &["tap", "p"],
    ];
    for verb in verbs {
        let words = verb.iter().copied().chain(["--coordinator", "http://127.0.0.1:1"]);
        said(words).refused(69, &["no coordinator answers at http://127.0.0.1:1", "pelton dev"]);
    }
}
