//! A byte that changed on the disk, and everything around it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::kit::*;

/// Changes a byte of the first segment of partition 0, `at` bytes from its start, while no broker runs.
fn damage(broker: &mut Broker, topic: usize, at: usize) {
    drop(broker.running.take());
    let path: PathBuf = broker.dir.path().join(format!("logs/{topic}/0/00000000000000000000.log"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
    broker.restart();
}

#[test]
fn a_reader_gets_what_lies_before_a_damaged_batch_and_another_what_lies_behind() {
    let mut broker = Broker::start();
    broker.create_topic("t", 1);
    let producer = broker.producer(&[]);
    let values = ["a", "b", "c", "d"];
    // Each in a batch of its own, all of the same length.
    values.iter().for_each(|value| send(&producer, "t", 0, &[value]));
    let length =
        std::fs::metadata(broker.dir.path().join("logs/0/0/00000000000000000000.log")).unwrap().len();
    damage(&mut broker, 0, length as usize / 4 * 2 + 65);
    let consumer = broker.consumer("g", "read_committed");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    for value in &values[..2] {
        let message = consumer.poll(PATIENCE).expect("a record").unwrap();
        assert_eq!(message.payload(), Some(value.as_bytes()));
    }
    let next = consumer.poll(Duration::from_millis(500));
    assert!(next.is_none_or(|event| event.is_err()), "the damaged record, or one behind it");
    assert_eq!(broker.read("t", 0, 3, "read_committed"), [(3, "d".to_owned())]);
}

#[test]
fn a_log_that_cannot_be_compacted_does_not_keep_others_from_it() {
    let mut broker = Broker::start();
    let value = "x".repeat(4000);
    for topic in ["a", "z"] {
        broker.create_topic(topic, 1);
        let producer = broker.producer(&[("batch.num.messages", "1")]);
        for _ in 0..40 {
            producer.send(BaseRecord::to(topic).partition(0).key("k").payload(&value)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
    damage(&mut broker, 1, 100);
    // Of two that are as much worth it, the last one comes first.
    for topic in ["z", "a"] {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "compact");
        let change = change.set("min.cleanable.dirty.ratio", "0");
        block_on(broker.admin().alter_configs([&change], &admin_options())).unwrap().remove(0).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while broker.read("a", 0, 0, "read_committed").len() > 20 {
        assert!(Instant::now() < deadline, "it is never compacted");
        std::thread::sleep(Duration::from_millis(50)); // between two questions
    }
}
