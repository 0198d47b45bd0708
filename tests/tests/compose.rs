//! `deploy/compose` as a user starts it, without the images that are not ours: up, a pipeline, a worker killed, every
//! record counted, down with nothing left.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pelton_tests::docker::{self, docker, until};
use pelton_tests::parts;
use serde_json::Value;
use tempfile::TempDir;

/// Generous: the machine may be building something else.
const LIMIT: Duration = Duration::from_secs(180);
/// Sent in so many seconds, so that the kill falls into the stream.
const RECORDS: u64 = 20_000;
const RATE: u64 = 2_000;

const FILL: &str = "sources: { made: { generator: { count: COUNT, rate: RATE } } }
  sinks: { out: { kafka: { topic: in } } }";
const COPY: &str = "commitInterval: 200ms
  sources: { in: { kafka: { topics: [in], start: earliest } } }
  sinks: { out: { kafka: { topic: out } } }";
const COUNT: &str = "sources: { out: { kafka: { topics: [out], start: earliest } } }
  sinks: { shown: { stdout: {} } }";

#[test]
fn the_compose_file_gives_a_cluster_that_outlives_a_worker_and_leaves_nothing() {
    let Some(image) = parts::image() else { return };
    if !parts::program("docker-compose") {
        return;
    }
    let stage = Stage::up(&image);
    stage.pelton(&["apply", &stage.write("copy", COPY)]);
    until(LIMIT, "three workers share the tasks", || stage.holders().len() == 3).unwrap();

    let fill = FILL.replace("COUNT", &RECORDS.to_string()).replace("RATE", &RATE.to_string());
    stage.write("fill", &fill);
    let mut load = stage.run("fill").stdout(Stdio::null()).spawn().unwrap();
    until(LIMIT, "records come out", || stage.emitted() > RECORDS / 10).unwrap();
    let victim = stage.compose(&["ps", "-q", "worker-2"]);
    docker(&["kill", victim.trim()]).unwrap();
    assert!(load.wait().unwrap().success(), "all records are written");
    until(LIMIT, "the other two take over", || stage.holders().len() == 2).unwrap();

    let (mut ids, mut attempt) = (BTreeSet::new(), 0);
    until(LIMIT, "every record has come out", || {
        // Each time from the beginning, under a name of its own: what the engine drops of a container's last words is read
        // again the next time.
        attempt += 1;
        let name = format!("count{attempt}");
        stage.write(&name, COUNT);
        let shown = stage.run(&name).output().unwrap();
        let lines = String::from_utf8_lossy(&shown.stdout);
        // The account at the end is no record.
        let id = |line: &str| serde_json::from_str::<Value>(line).ok()?["id"].as_u64();
        ids.extend(lines.lines().filter_map(id));
        ids.len() as u64 == RECORDS
    })
    .unwrap_or_else(|late| panic!("{late}: {} of {RECORDS}", ids.len()));

    stage.compose(&["down", "--volumes"]);
    let label = format!("label=com.docker.compose.project={}", stage.project);
    for kind in ["container", "volume", "network"] {
        let all: &[&str] = if kind == "container" { &["--all"] } else { &[] };
        let left = docker(&[&[kind, "ls", "--quiet", "--filter", &label], all].concat()).unwrap();
        assert_eq!(left.trim(), "", "a {kind} is left");
    }
}

/// The services of the file under a project's name of our own.
struct Stage {
    image: String,
    project: String,
    ports: [u16; 2],
    dir: TempDir,
}

impl Stage {
    fn up(image: &str) -> Stage {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (project, dir) = (format!("peltontest{}", std::process::id()), tempfile::tempdir().unwrap());
        // The user of the image reads it.
        docker::open_to_all(dir.path()).unwrap();
        let stage = Stage { image: image.to_owned(), project, ports: [free(), free()], dir };
        stage.compose(&["up", "--detach"]);
        for service in ["queue", "coordinator", "worker-1", "worker-2", "worker-3"] {
            until(LIMIT, &format!("{service} is healthy"), || {
                let id = stage.compose(&["ps", "-q", service]);
                docker(&["inspect", "-f", "{{.State.Health.Status}}", id.trim()])
                    .is_ok_and(|health| health == "healthy")
            })
            .unwrap();
        }
        stage
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose");
        let mut command = Command::new("docker-compose");
        command.args([
            "--project-name",
            &self.project,
            "--file",
            "compose.yaml",
            "--file",
            "compose.ci.yaml",
        ]);
        command.args(arguments).current_dir(folder).env("PELTON_IMAGE", &self.image);
        command.env("PELTON_GRPC_PORT", self.ports[0].to_string());
        command.env("PELTON_HTTP_PORT", self.ports[1].to_string());
        command.env("PELTON_MODELS", self.dir.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a definition; the path of the file.
    fn write(&self, name: &str, spec: &str) -> String {
        let head =
            format!("apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n");
        let file: PathBuf = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&file, format!("{head}  delivery: at-least-once\n  {spec}\n")).unwrap();
        file.display().to_string()
    }

    /// `pelton run` of a definition, as one more container of the network.
    fn run(&self, name: &str) -> Command {
        let mut command = Command::new("docker");
        let network = format!("{}_default", self.project);
        let folder = format!("{}:/definitions:ro", self.dir.path().display());
        command.args(["run", "--rm", "--network", &network, "--volume", &folder, "--read-only"]);
        command.args([
            "--tmpfs",
            "/data:uid=65532",
            &self.image,
            "run",
            &format!("/definitions/{name}.yaml"),
        ]);
        command.args(["--kafka", "queue:9092", "--until-idle", "2s", "--data-dir", "/data"]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn pelton(&self, arguments: &[&str]) -> String {
        docker::pelton(&format!("http://127.0.0.1:{}", self.ports[0]), arguments).unwrap()
    }

    /// The workers with running tasks.
    fn holders(&self) -> BTreeSet<String> {
        let tasks: Value =
            serde_json::from_str(&self.pelton(&["get", "tasks", "copy", "-o", "json"])).unwrap();
        let running = tasks.as_array().unwrap().iter().filter(|task| task["state"] == "running");
        running.map(|task| task["worker"].as_str().unwrap().to_owned()).collect()
    }

    fn emitted(&self) -> u64 {
        let all: Value = serde_json::from_str(&self.pelton(&["get", "pipelines", "-o", "json"])).unwrap();
        all[0]["account"]["recordsOut"].as_u64().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.compose(&["logs", "--tail", "20"]));
        }
        self.compose(&["down", "--volumes", "--timeout", "1"]);
    }
}
