//! Transactional producers against the embedded broker, and against the real Kafka that `PELTON_TEST_KAFKA` names.
#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::*;
use pelton_sdk::{ConnectorFactory, Durability, EndError, ErrorKind, Offsets, Producer, Sink};
use pelton_types::{Code, Partition};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::json;
use std::{task::Poll, time::Duration};

fn init(producer: &mut dyn Producer, throw_away: bool) -> Result<(), EndError> {
    producer.start_init(throw_away);
    until("the init", || ready(producer.poll_init()))
}

fn commit(producer: &mut dyn Producer, topic: &str, at: i64, text: &str) -> Result<bool, EndError> {
    producer.start_commit(&[(Partition::new(topic, 0), at)], text);
    until("the commit", || ready(producer.poll_commit()))
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

fn close(producer: &mut dyn Producer) {
    producer.start_close();
    until("the end", || ready(producer.poll_close()));
}

/// One task: where it reads from, what it writes to, and its producer.
struct Holder {
    executor: Executor,
    offsets: Box<dyn Offsets>,
    producer: Box<dyn Producer>,
    sink: Box<dyn Sink>,
    input: String,
}

impl Holder {
    fn new(cluster: &Cluster, input: &str, output: &str, predecessor: Option<&Holder>) -> Holder {
        let mut executor = cluster.executor();
        if let Some(other) = predecessor {
            executor.successor_of(&other.executor);
        }
        let offsets = executor.offsets(input, "earliest");
        let mut producer = executor.producer();
        let sink = producer.sink(&executor.sink_spec(output)).unwrap();
        Holder { executor, offsets, producer, sink, input: input.into() }
    }

    fn write(&mut self, values: &[&str]) {
        let pairs: Vec<_> = values.iter().map(|v| (Some("k"), Some(*v))).collect();
        push_all(&mut *self.sink, &batch_of(Partition::new("a file", 0), &pairs));
    }

    fn commit(&mut self, at: i64, text: &str) -> Result<bool, EndError> {
        commit(&mut *self.producer, &self.input, at, text)
    }

    fn committed(&mut self) -> (Option<i64>, Option<String>) {
        let found = committed(&mut *self.offsets, &[Partition::new(self.input.as_str(), 0)]).unwrap();
        (found[0].offset, found[0].metadata.clone())
    }
}

/// Values that a reader of committed records sees, up to a record written now.
fn values(cluster: &Cluster, topic: &str, count: usize) -> Vec<String> {
    let mut executor = cluster.executor();
    let mut source = executor.reading(topic, [0]);
    let text = |r: Seen| String::from_utf8(r.value.unwrap()).unwrap();
    read(&mut *source, count).into_iter().map(text).collect()
}

#[test]
fn outputs_and_offsets_become_visible_together_and_none_of_them_before() {
    for cluster in clusters() {
        let (input, output) = (cluster.topic("tx-in", 1), cluster.topic("tx-out", 1));
        let mut holder = Holder::new(&cluster, &input, &output, None);
        init(&mut *holder.producer, false).unwrap();
        assert!(holder.commit(0, "claim").unwrap(), "nothing went unanswered");
        holder.write(&["a", "b"]);
        assert_eq!(holder.committed(), (Some(0), Some("claim".into())));
        assert!(holder.commit(2, "work").unwrap());
        holder.write(&["c"]);
        assert_eq!(holder.committed(), (Some(2), Some("work".into())));
        holder.commit(3, "work").unwrap();
        assert_eq!(values(&cluster, &output, 3), ["a", "b", "c"]);
        close(&mut *holder.producer);
    }
}

#[test]
fn what_a_discarded_producer_wrote_never_happened() {
    for cluster in clusters() {
        let (input, output) = (cluster.topic("tx-in", 1), cluster.topic("tx-out", 1));
        let mut holder = Holder::new(&cluster, &input, &output, None);
        init(&mut *holder.producer, false).unwrap();
        holder.write(&["lost"]);
        holder.producer.discard();
        init(&mut *holder.producer, true).unwrap();
        holder.write(&["kept"]);
        holder.commit(1, "work").unwrap();
        assert_eq!(values(&cluster, &output, 1), ["kept"]);
        close(&mut *holder.producer);
    }
}

#[test]
fn a_later_init_fences_the_holder_before_it_whose_open_transaction_is_aborted() {
    for cluster in clusters() {
        let (input, output) = (cluster.topic("tx-in", 1), cluster.topic("tx-out", 1));
        let mut old = Holder::new(&cluster, &input, &output, None);
        init(&mut *old.producer, false).unwrap();
        old.commit(0, "e=1").unwrap();
        old.write(&["of the old one"]);
        let mut new = Holder::new(&cluster, &input, &output, Some(&old));
        new.producer.warm();
        init(&mut *new.producer, true).unwrap();
        assert_eq!(new.committed(), (Some(0), Some("e=1".into())));
        new.commit(0, "e=2").unwrap();
        let fenced = old.commit(1, "e=1").unwrap_err();
        assert_eq!(fenced.kind, ErrorKind::Fenced, "{fenced}");
        new.write(&["of the new one"]);
        new.commit(1, "e=2").unwrap();
        assert_eq!(values(&cluster, &output, 1), ["of the new one"]);
        assert_eq!(new.committed(), (Some(1), Some("e=2".into())));
        close(&mut *old.producer);
        close(&mut *new.producer);
    }
}

#[test]
fn a_holder_that_lets_go_leaves_no_transaction_that_readers_wait_for() {
    for cluster in clusters() {
        let (input, output) = (cluster.topic("tx-in", 1), cluster.topic("tx-out", 1));
        let mut holder = Holder::new(&cluster, &input, &output, None);
        init(&mut *holder.producer, false).unwrap();
        holder.write(&["half done"]);
        close(&mut *holder.producer);
        let mut other = cluster.executor();
        let mut sink = other.sink(&output);
        push_all(&mut *sink, &batch_of(Partition::new("a file", 0), &[(Some("k"), Some("after it"))]));
        flush(&mut *sink).unwrap();
        assert_eq!(values(&cluster, &output, 1), ["after it"]);
    }
}

#[test]
fn a_commit_without_an_init_fails_and_commits_nothing() {
    let cluster = Cluster::embedded();
    let (input, output) = (cluster.topic("tx-in", 1), cluster.topic("tx-out", 1));
    let mut holder = Holder::new(&cluster, &input, &output, None);
    let why = holder.commit(1, "work").unwrap_err();
    assert_eq!((why.kind, why.code), (ErrorKind::Retry, Code::CommitFailed), "{why}");
    assert_eq!(holder.committed(), (None, None));
}

#[test]
fn a_group_that_somebody_subscribes_with_is_refused_by_name_before_anything_is_done() {
    for cluster in clusters() {
        let (input, output) = (cluster.topic("tx-in", 1), cluster.topic("tx-out", 1));
        let mut holder = Holder::new(&cluster, &input, &output, None);
        let stray: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap())
            .set("group.id", holder.executor.group())
            .set("client.id", "a-stray")
            .create()
            .unwrap();
        stray.subscribe(&[&input]).unwrap();
        until("the stray takes part", || {
            let _ = stray.poll(Duration::from_millis(20));
            (stray.assignment().unwrap().count() > 0).then_some(())
        });
        let refused = init(&mut *holder.producer, false).unwrap_err();
        assert_eq!((refused.kind, refused.code), (ErrorKind::Stop, Code::GroupTaken), "{refused}");
        assert!(refused.message.contains("has members, the first is a-stray at"), "{refused}");
        drop(stray);
        until("the group is empty again", || init(&mut *holder.producer, false).ok());
        close(&mut *holder.producer);
    }
}

#[test]
fn the_catalog_says_how_many_copies_a_topic_has() {
    for cluster in clusters() {
        let topic = cluster.topic("durable", 2);
        let catalog = cluster.factory().catalog(&json!({})).unwrap();
        let single = Durability { replicas: 1, min_in_sync: 1 };
        assert_eq!(block_on(catalog.durability(&topic)).unwrap(), Some(single));
        assert_eq!(block_on(catalog.durability("no-such-topic")).unwrap(), None);
    }
}
