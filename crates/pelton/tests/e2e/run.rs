//! `pelton run`: pipelines in one process, without a coordinator.

use crate::support::{Child, cluster, kafka::Kafka, pelton, said, said_to};
use serde_json::{Value, json};
use std::path::Path;

fn write(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn pipeline(name: &str, rest: &str) -> String {
    format!("apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n{rest}")
}

#[test]
fn lines_go_from_a_file_through_a_topic_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    let kafka = Kafka::at(&bootstrap);
    kafka.create("lines", 4);
    let lines: String = (0..1000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    write(dir.path(), "in.jsonl", &lines);
    let fill = pipeline(
        "fill",
        "  sources: { in: { file: { path: in.jsonl }, decode: json } }\n  \
         sinks: { out: { kafka: { topic: lines }, key: .id } }\n",
    );
    let fill = write(dir.path(), "fill.yaml", &fill);
    let data = dir.path().join("data").display().to_string();
    let run = ["run", &fill, "--kafka", &bootstrap, "--executors", "2", "--data-dir", &data, "-o", "json"];
    let account = said(run).account();
    assert_eq!(
        (&account["recordsIn"], &account["emitted"], &account["pending"]),
        (&json!(1000), &json!(1000), &json!(0))
    );
    assert_eq!(account.as_object().unwrap().len(), 9);

    let drop = pipeline(
        "drop",
        "  sources: { in: { kafka: { topics: [lines], start: earliest }, decode: json } }\n  \
         operators: [{ name: even, filter: \"mod(int!(.id), 2) == 0\" }]\n  \
         sinks: { out: { file: { path: out.jsonl } } }\n",
    );
    let drop = write(dir.path(), "drop.yaml", &drop);
    let run = ["run", &drop, "--kafka", &bootstrap, "--executors", "2", "--data-dir", &data];
    let idle = run.iter().copied().chain(["--until-idle", "1s", "-o", "json"]);
    let account = said(idle.clone()).account();
    assert_eq!((&account["emitted"], &account["filtered"]), (&json!(500), &json!(500)), "{account}");
    let out = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    let mut ids: Vec<u64> = out.lines().map(id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..1000).step_by(2).collect::<Vec<u64>>());
    assert_eq!(said(idle).account()["recordsIn"], 0, "a second run goes on where the first stopped");
}

fn id(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()
}

#[test]
fn it_is_a_filter_in_a_shell_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(
        "pipe",
        "  sources: { in: { stdin: {}, decode: json } }\n  \
         operators: [{ name: twice, map: \".id = int!(.id) * 2\" }]\n  sinks: { out: { stdout: {} } }\n",
    );
    let file = write(dir.path(), "pipe.yaml", &file);
    let data = dir.path().display().to_string();
    let said = said_to(["run", &file, "--data-dir", &data], b"{\"id\":1}\n{\"id\":21}\n");
    assert_eq!(said.code, 0, "{said:#?}");
    assert_eq!(said.out, "{\"id\":2}\n{\"id\":42}\n", "nothing but records on standard output");
    assert!(said.err.contains("2 in + 0 expanded = 2 out"), "the account is for the person: {}", said.err);
}

#[test]
fn a_generator_fills_a_black_hole() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(
        "noise",
        "  sources: { in: { generator: { count: 5000 }, decode: json } }\n  sinks: { out: { blackhole: {} } }\n",
    );
    let file = write(dir.path(), "noise.yaml", &file);
    let data = dir.path().display().to_string();
    let account = said(["run", &file, "--data-dir", &data, "-o", "json"]).account();
    assert_eq!((&account["recordsIn"], &account["emitted"]), (&json!(5000), &json!(5000)), "{account}");
}

const POISON: &[u8] = b"{\"id\": 5, \"cut";

#[test]
fn a_poison_record_stops_the_run_where_it_is_unless_dead_letters_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    let kafka = Kafka::at(&bootstrap);
    kafka.create("in", 1);
    kafka.create("out", 1);
    kafka.create("dlq", 1);
    kafka.put_ids("in", 0..5);
    kafka.put("in", [("5".to_owned(), POISON)]);
    kafka.put_ids("in", 6..10);
    let strict = cluster::copy("strict", ".id >= 0");
    let file = write(dir.path(), "strict.yaml", &strict);
    let run = |file: &str| {
        let data = dir.path().display().to_string();
        said([
            "run",
            file,
            "--kafka",
            &bootstrap,
            "--executors",
            "1",
            "--data-dir",
            &data,
            "--until-idle",
            "1s",
            "-o",
            "json",
        ])
    };
    let stopped = run(&file);
    stopped.refused(70, &["PLT0101", "default/strict", "in", "offset 5", "deadLetter"]);
    assert!(kafka.committed("pelton.default.strict", "in", 0) <= Some(5), "nothing after it is committed");
    assert!(!kafka.all("out").iter().any(|read| read.json()["id"].as_u64() > Some(5)));

    let file = write(
        dir.path(),
        "lenient.yaml",
        &format!("{strict}  onError: {{ deadLetter: {{ kafka: {{ topic: dlq }} }} }}\n"),
    );
    let account = run(&file).account();
    assert_eq!(account["deadLettered"], 1, "{account}");
    assert_eq!(kafka.committed("pelton.default.strict", "in", 0), Some(10));
    let letters = kafka.all("dlq");
    assert_eq!((letters.len(), letters[0].value.as_slice()), (1, POISON));
    assert_eq!(letters[0].headers["pelton-offset"], "5");
    let ids = kafka.until_ids("out", 9);
    assert_eq!(ids.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
}

#[test]
fn a_missing_topic_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    let file = write(dir.path(), "p.yaml", &cluster::copy("lost", "true"));
    let data = dir.path().display().to_string();
    let refused = said(["run", &file, "--kafka", &bootstrap, "--data-dir", &data]);
    refused.refused(78, &["topic `in` does not exist", "create it"]);
}

#[test]
fn a_signal_finishes_and_commits() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(
        "slow",
        "  commitInterval: 10s\n  sources: { in: { generator: { rate: 500 }, decode: json } }\n  \
         sinks: { out: { file: { path: out.jsonl } } }\n",
    );
    let file = write(dir.path(), "slow.yaml", &file);
    let data = dir.path().display().to_string();
    let mut child = Child::start(pelton(["run", &file, "--data-dir", &data, "-o", "json"]));
    crate::support::until("lines in the file", || {
        let lines = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap_or_default();
        (lines.lines().count() > 100).then_some(())
    });
    child.terminate();
    child.wait();
    let account = child.said().account();
    let lines = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    assert_eq!(account["recordsIn"], lines.lines().count(), "{account}");
    assert_eq!(account["pending"], 0, "{account}");
}
