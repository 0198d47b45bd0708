//! `pelton test`: tests of pipelines that pass, and what a failing one says.

use crate::{pelton, root, text};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const PIPELINE: &str = r#"apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: orders }
spec:
  sources:
    orders: { file: { path: orders.jsonl }, schema: { price: float, customer: string } }
    returns: { file: { path: returns.jsonl } }
  operators:
    - { name: large, filter: ".price > 1000", inputs: [orders] }
    - { name: convert, map: ".eur = .price * 0.9" }
    - { name: back, filter: ".back == true", inputs: [returns] }
  sinks:
    out: { stdout: {}, inputs: [convert, back], key: .customer }
  onError: { deadLetter: { stdout: {} } }
  tests:
"#;

fn run(tests: &str, args: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), tests, args)
}

fn run_in(folder: &Path, tests: &str, args: &[&str]) -> (i32, String, String) {
    fs::write(folder.join("pipeline.yaml"), format!("{PIPELINE}{tests}")).unwrap();
    let out = pelton(folder, &[&["test"], args].concat());
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

const GOOD: &str = r#"    - name: converts
      send:
        orders: [ { price: 2000, customer: ada }, '{"price": 5, "customer": "ben"}' ]
        returns: [ { value: { back: true, customer: kim }, headers: { why: size }, timestamp: 7 } ]
      expect:
        out:
          records:
            - { value: { price: 2000, customer: ada, eur: 1800 }, key: ada }
            - { value: { back: true, customer: kim }, key: kim, headers: { why: size }, timestamp: 7 }
          order: any
      filtered: { large: 1 }
    - name: refuses what does not fit
      send: { orders: [ { price: dear, customer: ada } ] }
      expect: { out: [] }
      deadLetters:
        - operator: orders.decode
          cause: 'field `.price` must be a float, found the string "dear"'
          value: { price: dear, customer: ada }
    - name: sets aside what an operator fails on
      send: { orders: [ { price: 2000, customer: ada }, { price: 3000, customer: ben } ] }
      fail: { operator: convert, records: [1], cause: no rate }
      expect: { out: { records: [ { price: 2000 } ], match: partial } }
      deadLetters: [ no rate ]
    - name: takes answers for an operator
      steps:
        - send: { orders: [ { price: 2000, customer: ada } ] }
        - advance: 10s
        - send: { orders: [ { price: 3000, customer: ben } ] }
      stub: { operator: convert, answers: [ { eur: 1.004 }, { fail: out of order } ] }
      expect: { out: { records: [ { price: 2000, customer: "<any>", eur: 1 } ], tolerance: 0.01 } }
      deadLetters: [ out of order ]
"#;

#[test]
fn tests_that_hold_pass() {
    let (code, out, err) = run(GOOD, &[]);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.ends_with("4 tests, 4 passed, 0 failed\n"), "{out}");
}

#[test]
fn a_test_that_fails_says_field_by_field_what_differs() {
    let bad = GOOD.replace("eur: 1800", "eur: 1801, vat: 1").replace("large: 1 }", "large: 2 }");
    let (code, out, err) = run(&bad, &["--filter", "converts"]);
    assert_eq!(code, 1);
    assert!(err.contains("1 of 1 tests failed"), "{err}");
    for part in [
        "FAIL  orders: converts",
        "pipeline.yaml:16:13",
        ".eur: expected 1801, found 1800.0",
        ".vat: expected 1, found nothing",
        "filtered by `large`: expected 2, found 1",
        "1 tests, 0 passed, 1 failed",
    ] {
        assert!(out.contains(part), "{part} is missing in:\n{out}");
    }
    let unexpected = GOOD.replace("      deadLetters: [ no rate ]\n", "");
    let (code, out, _) = run(&unexpected, &["--filter", "sets aside"]);
    assert_eq!(code, 1);
    assert!(out.contains("dead letters: expected 0, found 1"), "{out}");
    assert!(out.contains("unexpected  `convert`: no rate; the record is"), "{out}");
    assert_eq!(run(GOOD, &["--filter", "nothing like it"]).0, 2);
}

#[test]
fn reports_for_machines_are_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let bad = GOOD.replace("name: converts", "name: \"<&> \\\"'\"").replace("eur: 1800", "eur: 1801");
    let (code, out, _) = run_in(folder.path(), &bad, &["-o", "json", "--junit", "junit.xml"]);
    assert_eq!(code, 1);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["tests"], &json["failed"]), (&4.into(), &1.into()));
    assert_eq!(json["results"][0]["passed"], false);
    let xml = fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let suites = document.root_element();
    assert_eq!((suites.attribute("tests"), suites.attribute("failures")), (Some("4"), Some("1")));
    let cases: Vec<_> = suites.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    assert_eq!(cases[0].attribute("name"), Some("<&> \"'"));
    let failures: Vec<_> = suites.descendants().filter(|node| node.has_tag_name("failure")).collect();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].text().unwrap().contains(".eur: expected 1801"), "{xml}");
}

/// Time passes where a test says so, and nowhere else: hours in milliseconds.
#[test]
fn time_is_virtual() {
    let file = r#"apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: slow }
spec:
  sources: { in: { file: { path: in.jsonl } } }
  operators:
    - { name: once, dedupe: { key: .id, within: 10h } }
    - { name: gently, throttle: { records: 1, per: 1h, burst: 1 } }
    - { name: pairs, batch: { records: 2, within: 3h, format: lines } }
  sinks: { out: { stdout: {} } }
  tests:
    - name: hours pass
      steps:
        - send: { in: [ { id: 1 }, { id: 1 }, { id: 2 }, { id: 3 } ] }
        - advance: 90m
        - advance: 5h
        - send: { in: [ { id: 2 } ] }
        - advance: 6h
        - send: { in: [ { id: 2 } ] }
        - advance: 4h
      expect: { out: [ "{\"id\":1}\n{\"id\":2}", '{"id":3}', '{"id":2}' ] }
      filtered: { once: 2 }
"#;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), file).unwrap();
    let out = pelton(folder.path(), &["test"]);
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    // Without the six hours the third 2 is still remembered.
    fs::write(folder.path().join("pipeline.yaml"), file.replace("advance: 6h", "advance: 1h")).unwrap();
    let out = pelton(folder.path(), &["test"]);
    assert!(text(&out.stdout).contains("filtered by `once`: expected 2, found 3"), "{}", text(&out.stdout));
}

#[test]
fn the_examples_pass_their_own_tests() {
    for example in ["examples/orders", "examples/digits"] {
        let out = pelton(&root(example), &["test"]);
        assert!(out.status.success(), "{example}: {}{}", text(&out.stdout), text(&out.stderr));
    }
}

#[test]
fn watching_runs_the_tests_again_when_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    fs::write(&file, format!("{PIPELINE}{GOOD}")).unwrap();
    let mut watching = Command::new(env!("CARGO_BIN_EXE_pelton"))
        .args(["test", "--watch"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (send, lines) = mpsc::channel();
    let stdout = BufReader::new(watching.stdout.take().unwrap());
    let reader =
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let until = |wanted: &str| loop {
        match lines.recv_timeout(Duration::from_secs(120)) {
            Ok(line) if line.contains(wanted) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    };
    let first = until("4 passed, 0 failed");
    fs::write(&file, format!("{PIPELINE}{}", GOOD.replace("eur: 1800", "eur: 1"))).unwrap();
    let second = first && until("3 passed, 1 failed");
    watching.kill().unwrap();
    watching.wait().unwrap();
    drop(reader.join());
    assert!(first && second, "first run {first}, second run {second}");
}
