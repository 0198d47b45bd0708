//! The driver `docker` on a real engine: a coordinator that keeps worker containers, and what it does when they are
//! killed, when it is killed itself, and when their number changes again and again.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pelton_tests::docker::{self, until};
use pelton_tests::parts;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;

/// Generous: the machine may be building something else.
const LIMIT: Duration = Duration::from_secs(180);
/// Partitions of a topic that the coordinator makes.
const PARTITIONS: i32 = 4;
/// Changes of the number of workers; `cargo xtask bench scale` asks for 100.
const EVENTS: &str = "PELTON_TEST_SCALE_EVENTS";

const DEFINITION: &str = "apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: copy }
spec:
  delivery: at-least-once
  commitInterval: 200ms
  sources: { in: { kafka: { topics: [in], start: earliest } } }
  sinks: { out: { kafka: { topic: out } } }
";

#[test]
fn a_coordinator_keeps_its_worker_containers_whatever_is_killed_and_loses_no_record() {
    let Some(image) = parts::image() else { return };
    let mut stage = Stage::new(&image);
    stage.coordinator_is_up();
    stage.pelton(&["apply", stage.write("copy.yaml", DEFINITION).to_str().unwrap()]);
    stage.until_running(2);
    let load = Load::start(&stage.kafka);

    // kill -9 of a container: another one takes its slot.
    let before = stage.containers();
    let victim = before.values().next().unwrap().clone();
    docker::docker(&["kill", &victim]).unwrap();
    stage.until("the killed container is replaced", |stage| {
        let now = stage.containers();
        now.len() == 2 && !now.values().any(|id| *id == victim)
    });
    stage.until_running(2);

    // kill -9 of the coordinator: the next one finds the containers and makes none.
    let before = stage.containers();
    stage.kill_coordinator();
    assert_eq!(stage.containers(), before, "workers outlive their coordinator");
    stage.coordinator_is_up();
    stage.until_running(2);
    assert_eq!(stage.containers(), before, "the containers that were there are kept");

    // The number of workers changes and changes.
    let events = std::env::var(EVENTS).ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for (event, workers) in [4_usize, 1, 3, 2].into_iter().cycle().take(events).enumerate() {
        let sent = load.sent();
        stage.pelton(&["scale", "workers", &workers.to_string()]);
        stage
            .until(&format!("event {event}: {workers} workers"), |stage| stage.containers().len() == workers);
        // Records go on through every change.
        stage.until("records are sent meanwhile", |_| load.sent() > sent);
    }
    let sent = load.stop();
    let seen = Seen::all(&stage.kafka, sent);
    println!("{events} scale events, {sent} records sent, {} read, none lost", seen.read);

    // None is wanted: none is left, under any name.
    stage.pelton(&["scale", "workers", "0"]);
    stage.until("no container is left", |stage| stage.containers().is_empty());
    // A driver without work stays so: the file remembers the number over a restart.
    stage.kill_coordinator();
    stage.coordinator_is_up();
    assert_eq!(stage.pelton(&["scale", "workers", "0"]).trim(), "workers: 0 -> 0");
}

#[test]
fn containers_of_a_dev_that_is_killed_end_with_it() {
    let Some(image) = parts::image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("copy.yaml");
    std::fs::write(&file, DEFINITION).unwrap();
    // The user of the image reads it.
    docker::open_to_all(dir.path()).unwrap();
    let mut dev = Command::new(parts::binary());
    dev.arg("dev").arg(&file).args(["--containers", "--image", &image, "--workers", "2"]);
    // What it keeps goes with the folder: killed, it cannot clean up.
    dev.env("TMPDIR", dir.path());
    let mut dev = dev.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let fleet = format!("pelton-dev-{}", dev.id());
    let come = until(LIMIT, "two containers run", || running(&fleet).len() == 2);
    dev.kill().unwrap();
    dev.wait().unwrap();
    come.unwrap();
    until(LIMIT, "they end and go away", || containers(&fleet).is_empty()).unwrap();
}

#[test]
fn a_coordinator_without_an_image_or_an_engine_says_what_to_do() {
    let Some(image) = parts::image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let coordinator = |variables: &[(&str, &str)]| {
        let mut command = Command::new(parts::binary());
        command.args(["coordinator", "--driver", "docker", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(dir.path()).envs(variables.iter().copied());
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = coordinator(&[]);
    assert!(code == Some(78) && said.contains("coordinator.docker.image"), "{code:?} {said}");
    let missing = [
        ("PELTON__COORDINATOR__DOCKER__IMAGE", "localhost/pelton:none"),
        ("PELTON__COORDINATOR__DOCKER__PULL", "never"),
    ];
    let (code, said) = coordinator(&missing);
    assert!(code == Some(69) && said.contains("has no image localhost/pelton:none"), "{code:?} {said}");
    let nobody = [
        ("PELTON__COORDINATOR__DOCKER__IMAGE", image.as_str()),
        ("PELTON__COORDINATOR__DOCKER__HOST", "unix:///nobody/here.sock"),
    ];
    let (code, said) = coordinator(&nobody);
    assert!(code == Some(69) && said.contains("/nobody/here.sock"), "{code:?} {said}");
}

/// Broker and coordinator as processes, workers as containers on the machine's own network.
struct Stage {
    image: String,
    fleet: String,
    kafka: String,
    coordinator: Option<(Child, String)>,
    broker: Child,
    dir: TempDir,
}

impl Stage {
    fn new(image: &str) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("broker").display().to_string();
        let (broker, announced) =
            start(&["broker", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", &data], &[]);
        Stage {
            image: image.to_owned(),
            fleet: format!("pelton-test-{}", std::process::id()),
            kafka: announced["bootstrap"].as_str().unwrap().to_owned(),
            coordinator: None,
            broker,
            dir,
        }
    }

    /// Starts the coordinator with two workers, on its data.
    fn coordinator_is_up(&mut self) {
        let data = self.dir.path().join("coordinator").display().to_string();
        // Workers look for it where it was.
        let grpc = self.coordinator.take().map_or("127.0.0.1:0".to_owned(), |(_, grpc)| grpc);
        let partitions = PARTITIONS.to_string();
        let settings = [
            ("PELTON__COORDINATOR__DOCKER__IMAGE", self.image.as_str()),
            ("PELTON__COORDINATOR__DOCKER__FLEET", &self.fleet),
            ("PELTON__COORDINATOR__DOCKER__NETWORK", "host"),
            ("PELTON__COORDINATOR__DOCKER__MEMORY", "256MiB"),
            ("PELTON__COORDINATOR__DOCKER__PULL", "never"),
            ("PELTON__COORDINATOR__DOCKER__ARGUMENTS", "--executors 1"),
        ];
        let arguments = ["coordinator", "--driver", "docker", "--workers", "2", "--grpc", &grpc];
        let more = [
            "--http",
            "127.0.0.1:0",
            "--data-dir",
            &data,
            "--kafka",
            &self.kafka,
            "--create-topics",
            &partitions,
        ];
        // Without a lifeline: its containers are to outlive it.
        let (child, announced) = start(&[&arguments[..], &more[..]].concat(), &settings);
        self.coordinator = Some((child, announced["grpc"].as_str().unwrap().to_owned()));
    }

    fn kill_coordinator(&mut self) {
        let (child, _) = self.coordinator.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn pelton(&self, arguments: &[&str]) -> String {
        let (_, grpc) = self.coordinator.as_ref().unwrap();
        docker::pelton(&format!("http://{grpc}"), arguments).unwrap()
    }

    /// Name and id of every container of the fleet.
    fn containers(&self) -> BTreeMap<String, String> {
        containers(&self.fleet)
    }

    fn until(&self, what: &str, condition: impl Fn(&Stage) -> bool) {
        until(LIMIT, what, || condition(self)).unwrap();
    }

    /// Until all tasks run, on so many workers.
    fn until_running(&self, workers: usize) {
        self.until(&format!("tasks run on {workers} workers"), |stage| {
            let tasks: Value =
                serde_json::from_str(&stage.pelton(&["get", "tasks", "copy", "-o", "json"])).unwrap();
            let running = tasks.as_array().unwrap().iter().filter(|task| task["state"] == "running");
            let holders: Vec<&str> = running.map(|task| task["worker"].as_str().unwrap()).collect();
            holders.len() == PARTITIONS as usize && holders.iter().collect::<BTreeSet<_>>().len() == workers
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.coordinator {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        for id in self.containers().values() {
            if std::thread::panicking() {
                eprintln!("--- {id}\n{}", docker::docker(&["logs", "--tail", "20", id]).unwrap_or_default());
            }
            // It may be gone by now.
            let _ = docker::docker(&["rm", "--force", "--volumes", id]);
        }
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// `pelton ROLE ...`; what it announces.
fn start(arguments: &[&str], settings: &[(&str, &str)]) -> (Child, Value) {
    let mut command = Command::new(parts::binary());
    command.args(arguments).arg("--announce").envs(settings.iter().copied());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let announced =
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{arguments:?} announced `{line}`"));
    (child, announced)
}

fn listed(fleet: &str, all: &[&str]) -> BTreeMap<String, String> {
    let label = format!("label=dev.pelton.fleet={fleet}");
    let format = "{{.Names}} {{.ID}}";
    let lines =
        docker::docker(&[&["ps", "--no-trunc", "--filter", &label, "--format", format][..], all].concat());
    let lines = lines.unwrap_or_default();
    lines.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.into(), id.into())).collect()
}

fn containers(fleet: &str) -> BTreeMap<String, String> {
    listed(fleet, &["--all"])
}

fn running(fleet: &str) -> BTreeMap<String, String> {
    listed(fleet, &[])
}

/// Numbers, sent without a pause worth the name until they are stopped.
struct Load {
    sent: std::sync::Arc<AtomicU64>,
    stop: std::sync::Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(kafka: &str) -> Load {
        let producer: BaseProducer = client(kafka).create().unwrap();
        let (sent, stop) = (std::sync::Arc::<AtomicU64>::default(), std::sync::Arc::<AtomicBool>::default());
        let (count, stopped) = (sent.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    let id = count.fetch_add(1, Ordering::Relaxed).to_string();
                    producer.send(BaseRecord::to("in").key(&id).payload(&id)).unwrap();
                }
                // Paces the stream by what the broker takes.
                producer.flush(LIMIT).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Load { sent, stop, thread }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// What came out.
struct Seen {
    /// Records, those that came twice included.
    read: u64,
}

impl Seen {
    /// Reads until every number below `sent` has come.
    fn all(kafka: &str, sent: u64) -> Seen {
        let consumer: BaseConsumer = client(kafka).set("group.id", "not used").create().unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset("out", partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let (mut read, mut missing) = (0, (0..sent).collect::<BTreeSet<u64>>());
        until(LIMIT, "every record has come out", || {
            while let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                read += 1;
                missing.remove(&std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap());
            }
            missing.is_empty()
        })
        .unwrap_or_else(|late| {
            panic!("{late}: {} of {sent} are lost, such as {:?}", missing.len(), missing.first())
        });
        Seen { read }
    }
}

fn client(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("message.timeout.ms", LIMIT.as_millis().to_string());
    config
}
