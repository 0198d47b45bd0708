//! The driver `process`: a coordinator that keeps its own workers.

use crate::support::{Child, alive, children, cluster, kafka::Kafka, kill, pelton, said, until};
use serde_json::Value;

#[test]
fn a_coordinator_keeps_its_own_workers_replaces_a_killed_one_and_takes_them_along() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    let data = dir.path().join("coordinator").display().to_string();
    let mut command = pelton(["coordinator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce"]);
    command.args(["--kafka", &bootstrap, "--data-dir", &data, "--driver", "process", "--workers", "2"]);
    let mut coordinator = Child::start(command);
    let address = format!("http://{}", coordinator.announced()["grpc"].as_str().unwrap());
    let attached = || -> Option<usize> {
        let workers = said(["get", "workers", "-o", "json", "--coordinator", &address]).out;
        let workers: Vec<Value> = serde_json::from_str(&workers).ok()?;
        Some(workers.iter().filter(|w| w["state"] == "attached").count())
    };
    until("two workers", || attached().filter(|count| *count == 2));

    let kafka = Kafka::at(&bootstrap);
    kafka.create("in", 2);
    kafka.create("out", 2);
    let file = dir.path().join("copy.yaml");
    std::fs::write(&file, cluster::copy("copy", "true")).unwrap();
    said(["apply", &file.display().to_string(), "--coordinator", &address]).ok();
    kafka.put_ids("in", 0..100);
    kafka.until_ids("out", 100);

    let before = children(coordinator.pid());
    kill(before[0], libc::SIGKILL);
    until("a worker in the place of the killed one", || {
        let now = children(coordinator.pid());
        (now.len() == 2 && !now.contains(&before[0])).then_some(())
    });
    kafka.put_ids("in", 100..200);
    kafka.until_ids("out", 200);

    let workers = children(coordinator.pid());
    coordinator.terminate();
    let end = coordinator.said();
    assert_eq!(end.code, 0, "{end:#?}");
    assert!(!workers.iter().any(|pid| alive(*pid)), "a worker outlived its coordinator");
}
