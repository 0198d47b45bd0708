//! Transactional producers against the embedded broker, and against the real Kafka that `PELTON_TEST_KAFKA` names.
#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{holder::*, *};
use pelton_sdk::{ConnectorFactory, Durability, ErrorKind};
use pelton_types::{Code, Partition};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::json;
use std::time::Duration;

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
