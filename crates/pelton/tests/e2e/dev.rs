//! `pelton dev`: one command, and what it leaves behind.

use crate::support::{
    Child, alive, children, cluster,
    kafka::{Kafka, Read},
    kill, net, pelton, said, until,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What an account consists of, exactly.
const FIELDS: [&str; 9] = [
    "cpuSeconds",
    "deadLettered",
    "elapsedSeconds",
    "emitted",
    "expanded",
    "filtered",
    "held",
    "pending",
    "recordsIn",
];

fn example() -> String {
    crate::support::digits().join("pipeline.yaml").display().to_string()
}

fn truth() -> BTreeMap<u64, u64> {
    let text = std::fs::read_to_string(crate::support::digits().join("truth.csv")).unwrap();
    let pair = |line: &str| {
        let (id, label) = line.split_once(',')?;
        Some((id.parse().ok()?, label.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// The images of the example, by id.
fn images() -> BTreeMap<u64, Value> {
    let text = std::fs::read_to_string(crate::support::digits().join("images.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|image| (image["id"].as_u64().unwrap(), image["pixels"].clone())).collect()
}

/// Start `dev` and wait until it is up; the address of its queue.
fn start(arguments: &[&str]) -> (Child, String) {
    let file = example();
    let mut dev = Child::start(pelton(["dev", file.as_str()].iter().chain(arguments)));
    dev.until_says("data, logs");
    let bootstrap = after(&dev.err(), "queue ");
    (dev, bootstrap)
}

/// The word behind a mark.
fn after(text: &str, mark: &str) -> String {
    let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("no `{mark}` in {text}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn digits_are_recognised_each_id_arrives_once_and_a_rerun_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().display().to_string();
    let file = example();
    let listen = net::free_address();
    let command =
        ["dev", &file, "--until-idle", "3s", "-o", "json", "--data-dir", &home, "--broker-listen", &listen];
    let run = said(command);
    assert!(run.err.contains(&format!("queue        {listen} ")), "{}", run.err);
    let account = run.account();
    let fields: Vec<&str> = account.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, FIELDS, "the account has other fields");
    let counts: Vec<_> = ["recordsIn", "emitted", "filtered", "held", "expanded", "deadLettered", "pending"]
        .map(|field| account[field].as_u64().unwrap())
        .to_vec();
    assert_eq!(counts, [540, 540, 0, 0, 0, 0, 0], "{account}");
    assert!(
        account["elapsedSeconds"].as_f64().unwrap() > 0.0 && account["cpuSeconds"].as_f64().unwrap() > 0.0
    );

    let (broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    let labels = Kafka::at(&bootstrap).all("labels");
    let truth = truth();
    let ids: BTreeSet<u64> = labels.iter().map(|read| read.json()["id"].as_u64().unwrap()).collect();
    assert_eq!((labels.len(), ids), (540, truth.keys().copied().collect()), "each id exactly once");
    let right = labels.iter().filter(|read| is_right(read, &truth)).count();
    assert!(right >= 520, "{right} of 540 labels are right");
    for read in &labels {
        let record = read.json();
        let fields: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["id", "label", "score"]);
        assert_eq!(read.key.as_deref(), Some(record["id"].to_string().as_bytes()));
    }
    broker.kill();

    let again = said(command).account();
    assert_eq!(
        (&again["recordsIn"], &again["emitted"]),
        (&json!(0), &json!(0)),
        "nothing is read twice: {again}"
    );
}

fn is_right(read: &Read, truth: &BTreeMap<u64, u64>) -> bool {
    let record = read.json();
    truth.get(&record["id"].as_u64().unwrap()).copied() == record["label"].as_u64()
}

#[test]
fn images_from_outside_are_recognised_broken_ones_become_dead_letters_and_a_signal_ends_all() {
    let (mut dev, bootstrap) = start(&["-o", "json"]);
    let pids = children(dev.pid());
    assert_eq!(pids.len(), 4, "broker, coordinator, two workers");
    let kafka = Kafka::at(&bootstrap);
    kafka.until_ids("labels", 540);
    let (images, truth) = (images(), truth());
    // Other names, in the reverse order: a label can only come from the pixels.
    let relabelled = images.iter().rev().map(|(id, pixels)| {
        (format!("again-{id}"), json!({ "id": 10_000 + id, "pixels": pixels, "note": "ünïcode" }).to_string())
    });
    kafka.put("digits", relabelled);
    let blank = json!({ "id": 20_000, "pixels": vec![0; 64] }).to_string();
    let noise: Vec<u64> = (0..64).map(|n| (n * 7919) % 17).collect();
    let noise = json!({ "id": 20_001, "pixels": noise }).to_string();
    let small = json!({ "id": 20_002, "pixels": vec![0; 63] }).to_string();
    let broken: [(&str, Vec<u8>); 6] = [
        ("truncated", br#"{"id": 30000, "pixels": [0, 1, "#.to_vec()),
        ("no-utf8", b"{\"id\": 30001, \"pixels\": \"\xff\xfe\"}".to_vec()),
        ("no-json", b"hello".to_vec()),
        ("no-pixels", br#"{"id": 30003}"#.to_vec()),
        ("words", json!({ "id": 30_004, "pixels": vec!["ink"; 64] }).to_string().into_bytes()),
        ("empty", Vec::new()),
    ];
    kafka.put(
        "digits",
        [("blank", blank), ("noise", noise), ("small", small)].map(|(k, v)| (k.to_owned(), v)),
    );
    kafka.put("digits", broken.iter().map(|(key, value)| ((*key).to_owned(), value)));

    let labels = kafka.until("labels", 540 + 540 + 2);
    let label = |read: &Read| (read.json()["id"].as_u64().unwrap(), read.json()["label"].as_u64().unwrap());
    let labels: BTreeMap<u64, u64> = labels.iter().map(label).collect();
    let right = truth.iter().filter(|(id, label)| labels.get(&(10_000 + **id)) == Some(label)).count();
    assert!(right >= 520, "{right} of 540 relabelled images are right");
    assert!(labels[&20_000] < 10 && labels[&20_001] < 10, "other images get some label");
    let letters = kafka.until("digits.dlq", broken.len());
    assert_eq!(letters.len(), broken.len(), "{letters:#?}");
    let written = kafka.all("digits");
    for (key, value) in &broken {
        let of = |read: &&Read| read.key.as_deref() == Some(key.as_bytes());
        let letter = letters.iter().find(of).unwrap_or_else(|| panic!("no dead letter of {key}"));
        assert_eq!(&letter.value, value, "the bytes of {key}");
        let original = written.iter().find(of).unwrap();
        assert_eq!(letter.headers["pelton-topic"], "digits");
        assert_eq!(letter.headers["pelton-partition"], original.partition.to_string(), "{key}");
        assert_eq!(letter.headers["pelton-offset"], original.offset.to_string(), "{key}");
        assert!(!letter.headers["pelton-cause"].is_empty() && !letter.headers["pelton-operator"].is_empty());
    }

    // As Ctrl-C does.
    dev.signal(libc::SIGINT);
    assert!(dev.wait().success());
    let account = dev.said().account();
    let counts =
        ["recordsIn", "emitted", "filtered", "deadLettered", "pending"].map(|field| account[field].clone());
    assert_eq!(counts, [1089, 1082, 1, 6, 0].map(|n| json!(n)), "{account}");
    assert!(!pids.iter().any(|pid| alive(*pid)), "a child remains");
}

#[test]
fn a_killed_worker_is_replaced_and_nothing_survives_a_killed_dev() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().display().to_string();
    let (mut dev, bootstrap) = start(&["--data-dir", &home]);
    let kafka = Kafka::at(&bootstrap);
    kafka.until_ids("labels", 540);
    let pixels = images().into_values().next().unwrap();
    let put = |ids: std::ops::Range<u64>| {
        let image = |id| (format!("{id}"), json!({ "id": id, "pixels": pixels }).to_string());
        kafka.put("digits", ids.map(image));
    };
    put(10_000..10_500);
    let worker: u32 = after(&dev.err(), "worker-1 (").trim_end_matches([')', ',']).parse().unwrap();
    assert!(alive(worker));
    kill(worker, libc::SIGKILL);
    put(10_500..11_000);
    dev.until_says("worker-1 ended (signal: 9 (SIGKILL))");
    let ids = kafka.until_ids("labels", 1540);
    assert_eq!(ids.len(), 1540);
    let replaced = || children(dev.pid()).len() == 4;
    until("a worker in the place of the killed one", || replaced().then_some(()));

    let pids = children(dev.pid());
    dev.kill();
    until("the end of the children", || (!pids.iter().any(|pid| alive(*pid))).then_some(()));
    let file = example();
    let account = said(["dev", &file, "--until-idle", "1s", "-o", "json", "--data-dir", &home]).account();
    assert_eq!(account["pending"], 0, "{account}");
    let (_broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    assert_eq!(Kafka::at(&bootstrap).until_ids("labels", 1540).len(), 1540);
}

#[test]
fn taken_ports_and_a_data_directory_in_use_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = example();
    for flag in ["--broker-listen", "--coordinator-grpc", "--coordinator-http"] {
        let refused = said(["dev", &file, flag, &address]);
        refused.refused(
            69,
            &["did not start: ", &format!("cannot listen on {address}"), "another process has the port"],
        );
        assert_eq!(refused.err.lines().count(), 1, "one line says it: {}", refused.err);
    }
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().display().to_string();
    let (dev, _) = start(&["--data-dir", &home]);
    let second = said(["dev", &file, "--data-dir", &home]);
    second.refused(69, &["is in use by another `pelton dev`", &format!("(process {})", dev.pid())]);
}

#[test]
fn what_dev_cannot_run_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let file = write(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: lines }\nspec:\n  \
         sources: { in: { stdin: {}, decode: json } }\n  sinks: { out: { blackhole: {} } }\n",
    );
    said(["dev", &file]).refused(78, &["reads standard input", "`pelton run`"]);
    let missing = Path::new("/nowhere/p.yaml").display().to_string();
    said(["dev", &missing]).refused(78, &["cannot read /nowhere/p.yaml"]);
    let mut wrong = pelton(["dev", &example()]);
    wrong.env("PELTON__WORKER__EXECUTERS", "2");
    Child::start(wrong).said().refused(78, &["PELTON__WORKER__EXECUTERS"]);
}

#[test]
fn records_of_a_standard_output_sink_come_out_of_dev() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    std::fs::write(dir.path().join("in.jsonl"), "{\"id\":1}\n{\"id\":2}\n").unwrap();
    std::fs::write(
        &file,
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: lines }\nspec:\n  \
         sources: { in: { file: { path: in.jsonl }, decode: json } }\n  sinks: { out: { stdout: {} } }\n",
    )
    .unwrap();
    let run = said(["dev", &file.display().to_string(), "--until-idle", "500ms", "-o", "json"]).ok();
    let lines: Vec<Value> = run.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[..2], [json!({ "id": 1 }), json!({ "id": 2 })]);
    assert_eq!(lines[2]["recordsIn"], 2, "{run}");
}
