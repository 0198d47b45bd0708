//! Answers that need no cluster: exit codes, messages, schema, settings.

use crate::support::{Child, digits, net, pelton, said, said_to};
use serde_json::Value;
use std::path::PathBuf;

fn example() -> String {
    digits().join("pipeline.yaml").display().to_string()
}

#[test]
fn without_a_coordinator_every_verb_says_so_and_what_to_do() {
    let nobody = format!("http://{}", net::free_address());
    let file = example();
    let verbs: [&[&str]; 11] = [
        &["apply", &file],
        &["get", "pipelines"],
        &["get", "workers"],
        &["describe", "pipeline", "digits"],
        &["describe", "worker", "w0"],
        &["delete", "digits"],
        &["pause", "digits"],
        &["resume", "digits"],
        &["rollback", "digits"],
        &["drain", "w0"],
        &["tap", "digits"],
    ];
    for verb in verbs {
        let refused = said(verb.iter().copied().chain(["--coordinator", &nobody]));
        refused.refused(
            69,
            &["no coordinator answers at", &nobody, "refused", "--coordinator or PELTON_COORDINATOR"],
        );
    }
    said(["get", "pipelines", "--coordinator", "not an address"])
        .refused(78, &["`not an address`", "http://"]);
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    said(["describe", "incident", "x"]).refused(2, &["pipeline, worker"]);
    said(["get", "everything"]).refused(2, &["pipelines, tasks, workers, incidents"]);
    said(["delete", "worker", "w0", "--coordinator", "http://127.0.0.1:1"])
        .refused(2, &["`pipeline` and a name"]);
    said(["dev", &example(), "--until-idle", "soon"]).refused(2, &["--until-idle"]);
    said(["dev"]).refused(2, &["<FILE>"]);
    said([] as [&str; 0]).refused(2, &["Usage: pelton"]);
    said(["apply"]).refused(2, &["FILE"]);
}

#[test]
fn definitions_are_validated_with_every_place() {
    let valid = said(["validate", &example()]).ok();
    assert!(
        valid.contains("Feed default/digits-feed is valid")
            && valid.contains("Pipeline default/digits is valid")
    );
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.yaml");
    let text = std::fs::read_to_string(example()).unwrap();
    let text = text.replace("commitInterval: 1s", "commitInterval: often").replace("filter:", "fitler:");
    std::fs::write(&wrong, text).unwrap();
    let name = wrong.display().to_string();
    let refused = said(["validate", &name, &example()]);
    refused.refused(78, &[&format!("{name}:21:19"), &format!("{name}:25:22"), "fitler", "often"]);
    assert!(refused.out.contains("Pipeline default/digits is valid"), "the other file is judged too");
}

#[test]
fn a_model_that_does_not_fit_is_refused_where_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml").display().to_string();
    let models = digits().display().to_string();
    let text = std::fs::read_to_string(example()).unwrap();
    std::fs::write(&file, text.replace("digits.onnx", "letters.onnx")).unwrap();
    said(["validate", &file, "--models", &models]).refused(78, &["letters.onnx", "p.yaml:28:16"]);
    std::fs::write(dir.path().join("digits.onnx"), b"no model at all").unwrap();
    std::fs::write(&file, text).unwrap();
    said(["validate", &file]).refused(78, &["digits.onnx", "p.yaml:28:16"]);
}

#[test]
fn the_schema_accepts_the_example_and_refuses_a_misspelt_key() {
    let schema: Value = serde_json::from_str(&said(["schema"]).ok()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let text = std::fs::read_to_string(example()).unwrap();
    let documents: Vec<Value> =
        text.split("\n---\n").map(|yaml| serde_saphyr::from_str(yaml).unwrap()).collect();
    assert_eq!(documents.len(), 2);
    for document in &documents {
        let mistakes: Vec<String> = validator.iter_errors(document).map(|e| e.to_string()).collect();
        assert!(mistakes.is_empty(), "{mistakes:?}");
    }
    let mut misspelt = documents[1].clone();
    misspelt["spec"]["deliverey"] = "at-least-once".into();
    assert!(!validator.is_valid(&misspelt));
}

#[test]
fn settings_show_where_each_value_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("node.yaml");
    std::fs::write(&file, "coordinator:\n  lease: 5s\nworker:\n  executors: 3\n").unwrap();
    let mut command = pelton(["config", "show", "--origin", "--log-level", "debug", "-o", "json"]);
    command.env("PELTON_CONFIG", &file).env("PELTON__WORKER__EXECUTORS", "7");
    command.env("PELTON__TELEMETRY__OTLP__HEADERS", "authorization=hush");
    let shown = Child::start(command).said().ok();
    let settings: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(settings["worker.executors"]["value"], "7");
    assert!(settings["worker.executors"]["origin"].as_str().unwrap().contains("PELTON__WORKER__EXECUTORS"));
    assert_eq!(settings["coordinator.lease"]["value"], "5s");
    assert!(settings["coordinator.lease"]["origin"].as_str().unwrap().contains("node.yaml"));
    assert!(settings["log.level"]["origin"].as_str().unwrap().contains("flag"), "{shown}");
    assert_eq!(settings["broker.http"]["origin"], "default");
    assert!(!shown.contains("hush"), "a secret is shown: {shown}");

    let mut wrong = pelton(["config", "show"]);
    wrong.env("PELTON__COORDINATOR__LEASE", "a while").env("PELTON__WORKER__EXECUTORS", "many");
    Child::start(wrong).said().refused(78, &["PELTON__COORDINATOR__LEASE", "a while", "many"]);
    said(["broker", "--log-level", "no,such=filter=at=all"]).refused(78, &["no,such=filter=at=all"]);
}

#[test]
fn a_reader_that_went_away_ends_a_verb_quietly() {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{} schema | head -1", env!("CARGO_BIN_EXE_pelton"))]);
    let said = Child::start(shell).said();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "{\n", ""));
}

#[test]
fn definitions_come_from_standard_input_too() {
    let nobody = format!("http://{}", net::free_address());
    let refused = said_to(["apply", "-f", "-", "--coordinator", &nobody], b"apiVersion: pelton.dev/v1\n");
    refused.refused(69, &["no coordinator answers"]);
    said_to(["apply", "-", "--coordinator", &nobody], b"a:\n\xff\xfe")
        .refused(78, &["standard input:2: not UTF-8: byte 4", "save it as UTF-8"]);
}
