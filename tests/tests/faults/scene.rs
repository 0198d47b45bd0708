//! A coordinator and workers as processes, each worker behind a proxy of its own, on the embedded broker or a real one.

use crate::kit::{Cluster, batch_of, flush, push_all, unique};
use pelton_tests::{
    chaos::{
        fleet::{Fleet, worker},
        topics::{client, open_transactions, read_values},
    },
    docker, parts,
    proxy::Proxy,
};
use pelton_types::Partition;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, Producer},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Nothing here takes longer unless it hangs: a lease is 3 s, a socket's timeout 5 s, a transaction's 15 s.
pub const GUARD: Duration = Duration::from_secs(90);
const TICK: Duration = Duration::from_millis(100);
/// For one answer of a broker.
const ANSWER: Duration = Duration::from_secs(30);

/// What the pipelines of a scene have in common.
pub struct Scene<'a> {
    pub cluster: &'a Cluster,
    pub fleet: Fleet,
    pub proxies: Vec<Proxy>,
    dir: TempDir,
}

/// One pipeline and its topics.
pub struct Pipeline {
    pub name: String,
    pub input: String,
    output: String,
    letters: String,
    partitions: i32,
    shape: Shape,
    pub delivery: &'static str,
    pub tasks: u32,
}

/// What a pipeline does.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Looks at each record and keeps it.
    Plain,
    /// Asks a server for each record.
    Asks(String),
    /// One in ten cannot be processed and becomes a dead letter.
    DeadLetters,
}

/// Wait for something, and say for what in vain.
#[track_caller]
pub fn until(what: &str, so: impl FnMut() -> bool) {
    docker::until(GUARD, what, so).unwrap_or_else(|why| panic!("{why}"));
}

impl Scene<'_> {
    /// A coordinator, and nothing else yet.
    pub fn new(cluster: &Cluster) -> Scene<'_> {
        Scene::of(cluster, &parts::binary())
    }

    /// The same, of processes with fail points.
    pub fn with_points(cluster: &Cluster) -> Scene<'_> {
        Scene::of(cluster, &parts::binary_with_points())
    }

    fn of<'a>(cluster: &'a Cluster, binary: &Path) -> Scene<'a> {
        let dir = TempDir::new().unwrap();
        let mut fleet = Fleet::new(binary, dir.path(), cluster.bootstrap()).unwrap();
        fleet.start_coordinator().unwrap();
        Scene { cluster, fleet, proxies: Vec::new(), dir }
    }

    /// One more worker, behind a proxy of its own.
    pub fn worker(&mut self) -> usize {
        let index = self.proxies.len();
        self.proxies.push(Proxy::start("127.0.0.1:0", self.cluster.bootstrap()).unwrap());
        self.restart(index);
        index
    }

    pub fn restart(&mut self, index: usize) {
        self.fleet.start_worker(index, &self.proxies[index].address()).unwrap();
    }

    pub fn kill(&mut self, index: usize) {
        self.fleet.kill(&worker(index)).unwrap();
    }

    pub fn signal(&self, index: usize, signal: &str) {
        self.fleet.signal(&worker(index), signal).unwrap();
    }

    /// What a worker has said so far.
    pub fn log(&self, index: usize) -> String {
        self.log_of(&worker(index))
    }

    /// What a process has said so far.
    pub fn log_of(&self, process: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{process}.log"))).unwrap()
    }

    /// Initialise the transactional id of the pipeline's first task, as nobody may.
    pub fn steal(&self, pipeline: &Pipeline) {
        let text = self.committed(pipeline).remove(0).1;
        let uuid = text.split(';').find_map(|part| part.strip_prefix("u=")).unwrap();
        let id = format!("pelton.default.{uuid}.0.g1.t0");
        let thief: BaseProducer =
            client(self.cluster.bootstrap()).set("transactional.id", id).create().unwrap();
        thief.init_transactions(ANSWER).unwrap();
    }

    pub fn pipeline(&self, shape: Shape, partitions: u32) -> Pipeline {
        Pipeline {
            name: unique("faults"),
            input: self.cluster.topic("faults-in", partitions),
            output: self.cluster.topic("faults-out", partitions),
            letters: self.cluster.topic("faults-letters", partitions),
            partitions: i32::try_from(partitions).unwrap(),
            shape,
            delivery: "exactly-once",
            tasks: 1,
        }
    }

    /// Give the topics of a pipeline more partitions.
    pub fn grow(&self, pipeline: &mut Pipeline, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = client(self.cluster.bootstrap()).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let count = usize::try_from(partitions).unwrap();
        let topics = [&pipeline.input, &pipeline.output, &pipeline.letters];
        let more = topics.map(|topic| NewPartitions::new(topic, count));
        let grown = runtime.block_on(admin.create_partitions(&more, &AdminOptions::new())).unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
        pipeline.partitions = partitions;
        // A broker hears of them after its controller has answered; a producer that asks before writes to the old ones.
        let watcher = self.watcher(pipeline);
        until("the broker knows the new partitions", || {
            let known = watcher.fetch_metadata(Some(&pipeline.input), ANSWER);
            known.is_ok_and(|known| known.topics()[0].partitions().len() == count)
        });
    }

    pub fn apply(&self, pipeline: &Pipeline) {
        let mut refused = String::new();
        until("the definition is taken", || match self.fleet.apply_definition(&pipeline.definition()) {
            Ok(()) => true,
            Err(why) => {
                if refused != why.to_string() {
                    refused = why.to_string();
                    eprintln!("{refused}");
                }
                false
            }
        });
    }

    /// Write records with these ids.
    pub fn put(&self, pipeline: &Pipeline, ids: Range<u64>) {
        let mut executor = self.cluster.executor();
        let mut sink = executor.sink(&pipeline.input);
        push_all(&mut *sink, &records(ids));
        flush(&mut *sink).unwrap();
    }

    /// How often each id is in the output and the dead letters.
    pub fn found(&self, pipeline: &Pipeline) -> BTreeMap<u64, usize> {
        let mut found = BTreeMap::new();
        for topic in [&pipeline.output, &pipeline.letters] {
            for value in read_values(self.cluster.bootstrap(), topic, pipeline.partitions).unwrap() {
                let text = String::from_utf8(value.bytes).unwrap();
                *found.entry(id_in(&text)).or_default() += 1;
            }
        }
        found
    }

    /// Wait until so many different ids are there.
    #[track_caller]
    pub fn until_found(&self, pipeline: &Pipeline, ids: usize) {
        let mut found = 0;
        let begun = Instant::now();
        while found < ids {
            assert!(begun.elapsed() < GUARD, "{}: {found} of {ids} ids after {GUARD:?}", pipeline.name);
            std::thread::sleep(TICK);
            found = self.found(pipeline).len();
        }
    }

    /// All ids came, everything is committed, and how often each is there.
    #[track_caller]
    pub fn settled(&self, pipeline: &Pipeline, ids: u64) -> BTreeMap<u64, usize> {
        self.until_found(pipeline, usize::try_from(ids).unwrap());
        until("everything is committed", || self.lag(pipeline) == 0);
        self.found(pipeline)
    }

    /// Each id is there once.
    #[track_caller]
    pub fn each_once(&self, pipeline: &Pipeline, ids: u64) {
        let found = self.settled(pipeline, ids);
        let wrong: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
        assert!(
            wrong.is_empty(),
            "{}: {} ids are there more than once: {wrong:?}",
            pipeline.name,
            wrong.len()
        );
        assert_eq!(found.len() as u64, ids, "{}", pipeline.name);
    }

    /// Offsets of the input that are not committed: the last stable one is the end.
    pub fn lag(&self, pipeline: &Pipeline) -> i64 {
        let ends = (0..pipeline.partitions)
            .map(|p| self.watcher(pipeline).fetch_watermarks(&pipeline.input, p, ANSWER).unwrap().1);
        let committed: i64 = self.committed(pipeline).into_iter().map(|(at, _)| at).sum();
        ends.sum::<i64>() - committed
    }

    /// Committed offsets with their metadata.
    pub fn committed(&self, pipeline: &Pipeline) -> Vec<(i64, String)> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&pipeline.input, 0, pipeline.partitions - 1);
        let consumer = self.watcher(pipeline);
        let mut committed = consumer.committed_offsets(list.clone(), ANSWER);
        let begun = Instant::now();
        while committed.is_err() && begun.elapsed() < GUARD {
            std::thread::sleep(TICK);
            committed = consumer.committed_offsets(list.clone(), ANSWER);
        }
        let offset = |o| if let Offset::Offset(at) = o { at } else { 0 };
        committed.unwrap().elements().iter().map(|e| (offset(e.offset()), e.metadata().to_owned())).collect()
    }

    /// Whether a transaction is open in the output.
    pub fn is_open(&self, pipeline: &Pipeline) -> bool {
        let bootstrap = self.cluster.bootstrap();
        !open_transactions(bootstrap, &pipeline.output, pipeline.partitions).unwrap().is_empty()
    }

    /// Epochs that the committed metadata names.
    pub fn epochs(&self, pipeline: &Pipeline) -> Vec<u64> {
        let named = |text: &str| text.split(';').find_map(|part| part.strip_prefix("e=")?.parse().ok());
        self.committed(pipeline).iter().filter_map(|(_, text)| named(text)).collect()
    }

    /// A client that reads and writes offsets of the pipeline's group, and joins it no more than Pelton does.
    pub fn watcher(&self, pipeline: &Pipeline) -> BaseConsumer {
        let mut config = client(self.cluster.bootstrap());
        config.set("group.id", format!("pelton.default.{}", pipeline.name));
        config.set("enable.auto.commit", "false").create().unwrap()
    }
}

/// A batch of records with these ids.
fn records(ids: Range<u64>) -> pelton_types::Batch {
    let texts: Vec<_> = ids.map(|id| (format!("k{}", id % 23), format!(r#"{{"id":{id}}}"#))).collect();
    let pairs: Vec<_> = texts.iter().map(|(key, value)| (Some(key.as_str()), Some(value.as_str()))).collect();
    batch_of(Partition::new("a file", 0), &pairs)
}

fn id_in(text: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value["id"].as_u64().unwrap_or_else(|| panic!("no id in {text}"))
}

impl Pipeline {
    /// Where it writes.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// As it is submitted.
    pub fn definition(&self) -> String {
        let Pipeline { name, input, output, letters, delivery, tasks, .. } = self;
        let (operator, on_error) = match &self.shape {
            Shape::Plain => ("{ name: all, filter: \"to_int!(.id) >= 0\" }".to_owned(), String::new()),
            Shape::Asks(url) => (
                format!("{{ name: ask, enrich: {{ url: \"{url}/{{.id}}\", into: .answer }} }}"),
                String::new(),
            ),
            Shape::DeadLetters => (
                "{ name: most, filter: \"assert!(mod(int!(.id), 10) != 3)\" }".to_owned(),
                format!("  onError: {{ deadLetter: {{ kafka: {{ topic: {letters} }} }} }}\n"),
            ),
        };
        format!(
            "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n  \
             delivery: {delivery}\n  commitInterval: 50ms\n  tasks: {tasks}\n  \
             sources: {{ in: {{ kafka: {{ topics: [{input}], start: earliest }}, decode: json }} }}\n  \
             operators: [{operator}]\n  \
             sinks: {{ out: {{ kafka: {{ topic: {output} }} }} }}\n{on_error}"
        )
    }
}
