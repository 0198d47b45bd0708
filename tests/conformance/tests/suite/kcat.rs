//! kcat, as a user types it.

use std::process::Command;

use pelton_conformance::client::COMMITTED;
use pelton_conformance::tools::Started;
use pelton_conformance::{Target, conform, parts};

conform!(
    kcat_produces_and_consumes_keys_and_headers,
    kcat_lists_the_brokers_and_topics,
    kcat_finds_an_offset_by_time,
    kcat_consumes_as_a_group,
);

fn kcat(target: &Target, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("kcat");
    command.args(["-b", target.bootstrap()]).args(arguments);
    Started::new(&mut command).finish(input, target.patience).ok()
}

fn kcat_produces_and_consumes_keys_and_headers(target: &Target) {
    if !parts::program("kcat") {
        return;
    }
    let topic = target.topic("t", 1);
    kcat(target, &["-P", "-t", &topic, "-K:", "-H", "h=1", "-H", "i=2", "-z", "gzip"], "k:v\nl:w\n");
    let read = kcat(target, &["-C", "-t", &topic, "-e", "-q", "-f", "%o %k %s %h\n"], "");
    assert_eq!(read, "0 k v h=1,i=2\n1 l w h=1,i=2\n");
    assert_eq!(target.values(&topic, 0, COMMITTED), ["v", "w"]);
}

fn kcat_lists_the_brokers_and_topics(target: &Target) {
    if !parts::program("kcat") {
        return;
    }
    let topic = target.topic("listed", 3);
    let list = kcat(target, &["-L"], "");
    assert!(list.contains(&format!("broker 1 at {} (controller)", target.bootstrap())), "{list}");
    assert!(list.contains(&format!("topic \"{topic}\" with 3 partitions:")), "{list}");
    assert!(list.contains("partition 2, leader 1, replicas: 1, isrs: 1"), "{list}");
}

fn kcat_finds_an_offset_by_time(target: &Target) {
    if !parts::program("kcat") {
        return;
    }
    let topic = target.topic("t", 1);
    kcat(target, &["-P", "-t", &topic], "a\nb\n");
    assert_eq!(kcat(target, &["-Q", "-t", &format!("{topic}:0:-1")], ""), format!("{topic} [0] offset 2\n"));
    assert_eq!(
        kcat(target, &["-Q", "-t", &format!("{topic}:0:1000")], ""),
        format!("{topic} [0] offset 0\n")
    );
}

fn kcat_consumes_as_a_group(target: &Target) {
    if !parts::program("kcat") {
        return;
    }
    let (topic, group) = (target.topic("t", 2), target.unique("g"));
    kcat(target, &["-P", "-t", &topic, "-p", "1"], "a\nb\nc\n");
    let consume = ["-G", &group, "-q", "-e", "-X", "auto.offset.reset=earliest", "-f", "%p %s\n", &topic];
    assert_eq!(kcat(target, &consume, ""), "1 a\n1 b\n1 c\n");
    kcat(target, &["-P", "-t", &topic, "-p", "1"], "d\n");
    assert_eq!(kcat(target, &consume, ""), "1 d\n", "it committed when it ended");
}
