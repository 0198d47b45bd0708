//! The image at work: broker, coordinator and workers as containers of a real Docker engine, one worker killed.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pelton_tests::docker::{Cluster, until};
use pelton_tests::parts;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

/// Generous: the machine may be building something else.
const LIMIT: Duration = Duration::from_secs(120);
/// Each image is sent this often, under an id of its own, so that the stream outlasts the kill.
const ROUNDS: u64 = 20;
/// A worker is killed once so many results are out: in the midst of the stream.
const BEFORE_KILL: usize = 3_000;
/// `--create-topics` of the coordinator in [`Cluster::start`].
const PARTITIONS: i32 = 4;

#[test]
fn containers_recognise_every_image_although_a_worker_is_killed() {
    let Some(image) = parts::image() else { return };
    let cluster = Cluster::start(&image, &example(), 3, LIMIT).unwrap();
    let file = std::env::temp_dir().join(format!("pelton-containers-{}.yaml", std::process::id()));
    std::fs::write(&file, pipeline_alone()).unwrap();
    let applied = cluster.pelton(&parts::binary(), &["apply", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    applied.unwrap();
    until(LIMIT, "three workers share the tasks", || holders(&cluster).len() == 3).unwrap();

    let images = images();
    let sent = images.len() as u64 * ROUNDS;
    let kafka = cluster.kafka();
    let load = std::thread::spawn(move || send(&kafka, &images));
    let mut results = Results::of(&cluster.kafka());
    results.read_until(|seen| seen.labels.len() >= BEFORE_KILL);
    let victim = &cluster.workers[1];
    victim.kill().unwrap();
    load.join().unwrap();
    results.read_until(|seen| seen.labels.len() as u64 == sent);

    let right = results.right_of(&truth());
    println!("{sent} images sent, {} results, {right} of 540 right", results.read);
    assert!(right >= 520, "only {right} of 540 images were recognised");
    until(LIMIT, "the two workers that are left share the tasks", || {
        let holders = holders(&cluster);
        holders.len() == 2 && !holders.iter().any(|worker| worker.starts_with(&victim.name))
    })
    .unwrap();
    end_in_order(&cluster);
}

#[test]
fn a_container_says_what_is_wrong_with_its_arguments() {
    let Some(image) = parts::image() else { return };
    let containers = pelton_tests::docker::Containers::new(&image, &example()).unwrap();
    let broken = containers.start("worker", 9, &["--coordinator", "nowhere at all"]).unwrap();
    until(LIMIT, "the container ends", || !broken.is_running()).unwrap();
    let said = broken.logs().unwrap();
    assert!(said.contains("nowhere at all"), "{said}");
    assert_eq!(broken.stop(Duration::from_secs(1)).unwrap(), 78, "bad configuration: {said}");
}

/// SIGTERM to each, and none needs to be killed.
fn end_in_order(cluster: &Cluster) {
    let left = cluster.workers.iter().filter(|worker| worker.is_running());
    for container in left.chain([&cluster.coordinator, &cluster.broker]) {
        let code = container.stop(Duration::from_secs(35)).unwrap();
        assert_eq!(code, 0, "{} did not end well:\n{}", container.name, container.logs().unwrap());
    }
}

/// Ids of the workers that hold a running task; they begin with the container's name.
fn holders(cluster: &Cluster) -> HashSet<String> {
    let tasks = cluster.pelton(&parts::binary(), &["get", "tasks", "digits", "-o", "json"]).unwrap();
    let tasks: Value = serde_json::from_str(&tasks).unwrap();
    let running = tasks.as_array().unwrap().iter().filter(|task| task["state"] == "running");
    running.map(|task| task["worker"].as_str().unwrap().to_owned()).collect()
}

/// The results as they come in.
struct Results {
    consumer: BaseConsumer,
    /// The label of each id.
    labels: HashMap<u64, u64>,
    /// Results, those that came twice included.
    read: usize,
}

impl Results {
    fn of(kafka: &str) -> Results {
        let mut config = client(kafka);
        let consumer: BaseConsumer = config.set("group.id", "not used").create().unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset("labels", partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        Results { consumer, labels: HashMap::new(), read: 0 }
    }

    fn read_until(&mut self, enough: impl Fn(&Results) -> bool) {
        let begun = Instant::now();
        while !enough(self) {
            assert!(begun.elapsed() < LIMIT, "only {} ids within {LIMIT:?}", self.labels.len());
            // A broker that is not there for a moment is an error here and no reason to stop.
            let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let result: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            let (id, label) = (result["id"].as_u64().unwrap(), result["label"].as_u64().unwrap());
            assert!(result["score"].is_number() && result.get("pixels").is_none(), "{result}");
            let before = self.labels.insert(id, label);
            assert!(before.is_none_or(|before| before == label), "{id} is both {before:?} and {label}");
            self.read += 1;
        }
    }

    /// How many images have the right label in the first round.
    fn right_of(&self, truth: &HashMap<u64, u64>) -> usize {
        truth.iter().filter(|(id, label)| self.labels.get(&(*id * ROUNDS)) == Some(label)).count()
    }
}

/// Sends every image [`ROUNDS`] times, image `i` of round `r` under the id `i * ROUNDS + r`.
fn send(kafka: &str, images: &[(u64, Value)]) {
    let producer: BaseProducer = client(kafka).create().unwrap();
    for round in 0..ROUNDS {
        for (image, pixels) in images {
            let id = image * ROUNDS + round;
            let (key, value) =
                (id.to_string(), serde_json::json!({ "id": id, "pixels": pixels }).to_string());
            producer.send(BaseRecord::to("digits").key(&key).payload(&value)).unwrap();
        }
        // Paces the stream by what the broker takes.
        producer.flush(LIMIT).unwrap();
    }
}

fn client(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("message.timeout.ms", LIMIT.as_millis().to_string());
    config
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").canonicalize().unwrap()
}

/// The example without its feed, whose file is on this side.
fn pipeline_alone() -> String {
    let both = std::fs::read_to_string(example().join("pipeline.yaml")).unwrap();
    both.split("\n---\n").last().unwrap().to_owned()
}

fn images() -> Vec<(u64, Value)> {
    let text = std::fs::read_to_string(example().join("images.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|image| (image["id"].as_u64().unwrap(), image["pixels"].clone())).collect()
}

fn truth() -> HashMap<u64, u64> {
    let text = std::fs::read_to_string(example().join("truth.csv")).unwrap();
    let pairs = text.lines().skip(1).map(|line| line.split_once(',').unwrap());
    pairs.map(|(id, label)| (id.parse().unwrap(), label.parse().unwrap())).collect()
}
