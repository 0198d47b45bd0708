//! Consumers that subscribe.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;

use super::kit::*;

fn subscriber(broker: &Broker, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config: ClientConfig = broker.config();
    config
        .set("group.id", "g")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "300");
    settings.iter().for_each(|(name, value)| {
        config.set(*name, *value);
    });
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

fn assigned(consumer: &BaseConsumer) -> BTreeSet<i32> {
    consumer.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
}

/// Polls all consumers until `is_done`; gives the values seen.
fn poll_until(
    consumers: &[&BaseConsumer],
    what: &str,
    mut is_done: impl FnMut(&[String]) -> bool,
) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while !is_done(&seen) {
        assert!(Instant::now() < deadline, "{what} did not happen; seen {seen:?}");
        for consumer in consumers {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                seen.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
            }
        }
    }
    seen
}

fn all_assigned_once(consumers: &[&BaseConsumer], partitions: i32) -> bool {
    let shares: Vec<BTreeSet<i32>> = consumers.iter().map(|consumer| assigned(consumer)).collect();
    let total: usize = shares.iter().map(BTreeSet::len).sum();
    let union: BTreeSet<i32> = shares.iter().flatten().copied().collect();
    total == union.len() && union.len() == partitions as usize && shares.iter().all(|share| !share.is_empty())
}

#[test]
fn a_subscriber_reads_and_a_second_one_takes_half_under_every_strategy() {
    for strategy in ["range", "roundrobin", "cooperative-sticky"] {
        let broker = Broker::start();
        broker.create_topic("t", 4);
        let producer = broker.producer(&[]);
        (0..4).for_each(|partition| send(&producer, "t", partition, &["one"]));
        let settings = [("partition.assignment.strategy", strategy)];
        let first = subscriber(&broker, &settings);
        poll_until(&[&first], "four records", |seen| seen.len() == 4);
        assert!(all_assigned_once(&[&first], 4));
        let second = subscriber(&broker, &settings);
        poll_until(&[&first, &second], strategy, |_| all_assigned_once(&[&first, &second], 4));
        first.unsubscribe();
        drop(first);
        poll_until(&[&second], "the rest for the second", |_| all_assigned_once(&[&second], 4));
    }
}

/// Where the child of the next test finds its broker.
const BOOTSTRAP: &str = "PELTON_TEST_CHILD_BOOTSTRAP";

/// Not a test by itself: the process that the next test kills.
#[test]
fn a_child_that_subscribes_until_it_is_killed() {
    let Ok(bootstrap) = std::env::var(BOOTSTRAP) else { return };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "g").set("session.timeout.ms", "6000");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    // Ends by itself should nobody kill it.
    let deadline = Instant::now() + 4 * PATIENCE;
    while Instant::now() < deadline {
        let _ = consumer.poll(Duration::from_millis(100));
    }
}

#[test]
fn a_consumer_that_is_killed_is_out_when_its_session_ends() {
    let broker = Broker::start();
    broker.create_topic("t", 2);
    let first = subscriber(&broker, &[]);
    poll_until(&[&first], "the first share", |_| assigned(&first).len() == 2);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "groups::a_child_that_subscribes_until_it_is_killed"])
        .env(BOOTSTRAP, broker.running.as_ref().unwrap().bootstrap())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    poll_until(&[&first], "a share for the child", |_| assigned(&first).len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    poll_until(&[&first], "everything for the first", |_| assigned(&first).len() == 2);
}

#[test]
fn a_restart_of_the_broker_keeps_generation_and_offsets() {
    let mut broker = Broker::start();
    broker.create_topic("t", 1);
    send(&broker.producer(&[]), "t", 0, &["a", "b"]);
    let port = broker.running.as_ref().unwrap().addr().port();
    let consumer = subscriber(&broker, &[("reconnect.backoff.max.ms", "200")]);
    poll_until(&[&consumer], "two records", |seen| seen.len() == 2);
    consumer.commit_consumer_state(CommitMode::Sync).unwrap();
    broker.restart_on(port);
    send(&broker.producer(&[]), "t", 0, &["c"]);
    let seen = poll_until(&[&consumer], "the third", |seen| !seen.is_empty());
    assert_eq!(seen, ["c"], "went on where it was, without a rebalance that would read again");
    consumer.commit_consumer_state(CommitMode::Sync).unwrap();
    drop(consumer);
    send(&broker.producer(&[]), "t", 0, &["d"]);
    let next = subscriber(&broker, &[]);
    let seen = poll_until(&[&next], "the fourth", |seen| !seen.is_empty());
    assert_eq!(seen, ["d"]);
}

#[test]
fn groups_are_described_and_deleted_when_they_are_empty() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let consumer = subscriber(&broker, &[("client.id", "me"), ("group.instance.id", "one")]);
    poll_until(&[&consumer], "a share", |_| assigned(&consumer).len() == 1);
    let list = consumer.fetch_group_list(Some("g"), PATIENCE).unwrap();
    let group = &list.groups()[0];
    assert_eq!((group.state(), group.protocol_type(), group.protocol()), ("Stable", "consumer", "range"));
    let member = &group.members()[0];
    assert_eq!((member.client_id(), member.client_host()), ("me", "/127.0.0.1"));
    assert!(member.assignment().is_some_and(|bytes| !bytes.is_empty()));
    let delete = || block_on(broker.admin().delete_groups(&["g"], &admin_options())).unwrap().remove(0);
    assert_eq!(delete(), Err(("g".to_owned(), RDKafkaErrorCode::NonEmptyGroup)));
    consumer.unsubscribe();
    drop(consumer);
    // A static member stays until its session ends, though it has gone.
    let deadline = Instant::now() + PATIENCE;
    while delete().is_err() {
        assert!(Instant::now() < deadline, "the group did not become empty");
        std::thread::yield_now();
    }
}

#[test]
fn two_members_with_one_instance_name_are_not_both_in() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let old = subscriber(&broker, &[("group.instance.id", "one")]);
    poll_until(&[&old], "a share", |_| assigned(&old).len() == 1);
    let new = subscriber(&broker, &[("group.instance.id", "one")]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the older was not fenced");
        let _ = new.poll(Duration::from_millis(20));
        let polled = old.poll(Duration::from_millis(20));
        if old.client().fatal_error().is_some() || matches!(polled, Some(Err(_))) {
            break;
        }
    }
    let (code, _) = old.client().fatal_error().unwrap();
    assert_eq!(code, RDKafkaErrorCode::FencedInstanceId);
    poll_until(&[&new], "the share for the newer", |_| assigned(&new).len() == 1);
}
