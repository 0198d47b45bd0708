//! A task that writes in transactions, without a pipeline.

use super::*;
use pelton_sdk::{EndError, Offsets, Producer, Sink};
use pelton_types::Partition;

pub fn init(producer: &mut dyn Producer, throw_away: bool) -> Result<(), EndError> {
    producer.start_init(throw_away);
    until("the init", || ready(producer.poll_init()))
}

pub fn close(producer: &mut dyn Producer) {
    producer.start_close();
    until("the end", || ready(producer.poll_close()));
}

/// One task: where it reads from, what it writes to, and its producer.
pub struct Holder {
    pub executor: Executor,
    pub offsets: Box<dyn Offsets>,
    pub producer: Box<dyn Producer>,
    pub sink: Box<dyn Sink>,
    pub input: String,
}

impl Holder {
    pub fn new(cluster: &Cluster, input: &str, output: &str, predecessor: Option<&Holder>) -> Holder {
        Holder::on(cluster.executor(), input, output, predecessor)
    }

    pub fn on(mut executor: Executor, input: &str, output: &str, predecessor: Option<&Holder>) -> Holder {
        if let Some(other) = predecessor {
            executor.successor_of(&other.executor);
        }
        let offsets = executor.offsets(input, "earliest");
        let mut producer = executor.producer();
        let sink = producer.sink(&executor.sink_spec(output)).unwrap();
        Holder { executor, offsets, producer, sink, input: input.into() }
    }

    pub fn write(&mut self, values: &[&str]) {
        let pairs: Vec<_> = values.iter().map(|v| (Some("k"), Some(*v))).collect();
        push_all(&mut *self.sink, &batch_of(Partition::new("a file", 0), &pairs));
    }

    pub fn commit(&mut self, at: i64, text: &str) -> Result<bool, EndError> {
        self.producer.start_commit(&[(Partition::new(self.input.as_str(), 0), at)], text);
        until("the commit", || ready(self.producer.poll_commit()))
    }

    pub fn committed(&mut self) -> (Option<i64>, Option<String>) {
        let found = committed(&mut *self.offsets, &[Partition::new(self.input.as_str(), 0)]).unwrap();
        (found[0].offset, found[0].metadata.clone())
    }
}

/// Values that a reader of committed records sees, up to a record written now.
pub fn values(cluster: &Cluster, topic: &str, count: usize) -> Vec<String> {
    let mut executor = cluster.executor();
    let mut source = executor.reading(topic, [0]);
    let text = |r: Seen| String::from_utf8(r.value.unwrap()).unwrap();
    read(&mut *source, count).into_iter().map(text).collect()
}
