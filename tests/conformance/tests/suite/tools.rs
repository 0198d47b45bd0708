//! Kafka's own command-line tools.

use pelton_conformance::client::COMMITTED;
use pelton_conformance::tools::{Java, Said};
use pelton_conformance::{Target, conform};
use rdkafka::Offset;
use rdkafka::producer::Producer;

conform!(
    java:
    the_console_producer_and_consumer_pass_records_on,
    the_verifiable_producer_and_consumer_agree,
    topics_are_made_described_grown_and_deleted,
    settings_are_altered_and_described,
    consumer_groups_are_listed_described_reset_and_deleted,
    transactions_are_listed_and_described,
    offsets_of_a_topic_are_told,
    records_are_deleted_by_a_file,
);

/// Runs a tool of Kafka; nothing where there is no Java.
pub fn tool(target: &Target, class: &str, arguments: &[&str], input: &str) -> Option<Said> {
    let java = Java::find(env!("CARGO_TARGET_TMPDIR"))?;
    let connected = [&["--bootstrap-server", target.bootstrap()], arguments].concat();
    Some(java.finish(class, &connected, input, target.patience))
}

macro_rules! tool {
    ($target:expr, $class:expr, $arguments:expr) => {
        tool!($target, $class, $arguments, "")
    };
    ($target:expr, $class:expr, $arguments:expr, $input:expr) => {
        match tool($target, $class, &$arguments, $input) {
            Some(said) => said.ok(),
            None => return,
        }
    };
}

const CONSOLE_PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
pub const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";

/// The words of the line that has this one in it.
fn line<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let found = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    found.into_iter().find(|words| words.contains(&word)).unwrap_or_else(|| panic!("no {word} in {text}"))
}

fn the_console_producer_and_consumer_pass_records_on(target: &Target) {
    let topic = target.topic("t", 1);
    let keyed =
        ["--topic", &topic, "--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
    tool!(target, CONSOLE_PRODUCER, keyed, "k:v\nl:w\n");
    assert_eq!(target.values(&topic, 0, COMMITTED), ["v", "w"]);
    let all = [
        "--topic",
        &topic,
        "--from-beginning",
        "--max-messages",
        "2",
        "--formatter-property",
        "print.key=true",
    ];
    assert_eq!(tool!(target, CONSOLE_CONSUMER, all), "k\tv\nl\tw\n");
}

fn the_verifiable_producer_and_consumer_agree(target: &Target) {
    let (topic, group) = (target.topic("t", 2), target.unique("g"));
    let sent =
        tool!(target, VERIFIABLE_PRODUCER, ["--topic", &topic, "--max-messages", "2000", "--acks", "-1"]);
    assert!(sent.contains(r#""sent":2000,"acked":2000"#), "{}", sent.lines().last().unwrap_or_default());
    let arguments =
        ["--topic", &topic, "--group-id", &group, "--max-messages", "2000", "--reset-policy", "earliest"];
    let read = tool!(target, VERIFIABLE_CONSUMER, arguments);
    let count = |line: &str| -> Option<u64> {
        let rest =
            line.split_once(r#""name":"records_consumed""#).map(|_| line)?.split_once(r#""count":"#)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    assert_eq!(read.lines().filter_map(count).sum::<u64>(), 2000, "{read}");
    assert!(read.contains(r#""name":"offsets_committed""#) && read.contains(r#""success":true"#), "{read}");
}

fn topics_are_made_described_grown_and_deleted(target: &Target) {
    let topic = target.unique("made");
    tool!(
        target,
        TOPICS,
        ["--create", "--topic", &topic, "--partitions", "2", "--config", "retention.ms=123456789"]
    );
    target.wait_for_topic(&topic, 2);
    let described = tool!(target, TOPICS, ["--describe", "--topic", &topic]);
    assert!(
        described.contains("PartitionCount: 2") && described.contains("ReplicationFactor: 1"),
        "{described}"
    );
    assert!(described.contains("retention.ms=123456789"), "{described}");
    tool!(target, TOPICS, ["--alter", "--topic", &topic, "--partitions", "3"]);
    target.wait_for_topic(&topic, 3);
    assert!(tool!(target, TOPICS, ["--list"]).lines().any(|line| line == topic));
    tool!(target, TOPICS, ["--delete", "--topic", &topic]);
    target.until("the topic is gone", || {
        let list = tool(target, TOPICS, &["--list"], "").unwrap().ok();
        (!list.lines().any(|line| line == topic)).then_some(())
    });
}

fn settings_are_altered_and_described(target: &Target) {
    let topic = target.topic("t", 1);
    let of_topic = |more: &[&'static str]| {
        let arguments = [&["--entity-type", "topics", "--entity-name", topic.as_str()], more].concat();
        tool(target, CONFIGS, &arguments, "").map(Said::ok)
    };
    let Some(_) = of_topic(&["--alter", "--add-config", "retention.ms=123456789,cleanup.policy=compact"])
    else {
        return;
    };
    let described =
        target.until("the settings", || of_topic(&["--describe"]).filter(|text| text.contains("123456789")));
    assert!(described.contains("cleanup.policy=compact"), "{described}");
    of_topic(&["--alter", "--delete-config", "retention.ms"]);
    target.until("the default", || of_topic(&["--describe"]).filter(|text| !text.contains("123456789")));
    assert!(of_topic(&["--describe", "--all"]).unwrap().contains("max.message.bytes="));
    let of_broker = ["--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"];
    assert!(tool!(target, CONFIGS, of_broker).contains("num.partitions="));
}

fn consumer_groups_are_listed_described_reset_and_deleted(target: &Target) {
    let (topic, group) = (target.topic("t", 1), target.unique("g"));
    target.send(&target.producer(&[]), &topic, 0, &["a", "b", "c"]);
    let consumer = target.consumer(&[("group.id", &group)]);
    target.commit(&consumer, &topic, 0, 2, "");
    assert!(tool!(target, GROUPS, ["--list"]).lines().any(|line| line == group));
    let described = tool!(target, GROUPS, ["--describe", "--group", &group]);
    let words = line(&described, &topic);
    // Group, topic, partition, current offset, end, lag.
    assert_eq!(words[words.len().min(2)..6], ["0", "2", "3", "1"], "{described}");
    let reset = ["--group", &group, "--topic", &topic, "--reset-offsets", "--to-earliest", "--execute"];
    tool!(target, GROUPS, reset);
    assert_eq!(target.committed(&consumer, &topic, 0).0, Offset::Offset(0));
    tool!(target, GROUPS, ["--group", &group, "--topic", &topic, "--delete-offsets"]);
    assert_eq!(target.committed(&consumer, &topic, 0).0, Offset::Invalid);
    target.commit(&consumer, &topic, 0, 2, "");
    let members = ["--describe", "--group", &group, "--state"];
    assert!(line(&tool!(target, GROUPS, members), &group).contains(&"Empty"));
    tool!(target, GROUPS, ["--group", &group, "--delete"]);
    assert_eq!(target.committed(&consumer, &topic, 0).0, Offset::Invalid);
}

fn transactions_are_listed_and_described(target: &Target) {
    let topic = target.topic("t", 1);
    let producer = target.transactional("tx");
    let id = target.unique("tx");
    producer.begin_transaction().unwrap();
    target.send(&producer, &topic, 0, &["open"]);
    assert!(line(&tool!(target, TRANSACTIONS, ["list"]), &id).contains(&"Ongoing"));
    let described = tool!(target, TRANSACTIONS, ["describe", "--transactional-id", &id]);
    assert!(line(&described, &id).contains(&"Ongoing"), "{described}");
    let producers =
        tool!(target, TRANSACTIONS, ["describe-producers", "--topic", &topic, "--partition", "0"]);
    assert!(
        producers.lines().nth(1).is_some_and(|line| line.split_whitespace().last() == Some("0")),
        "{producers}"
    );
    let filtered = ["list", "--duration-filter", "3600000"];
    assert!(!tool!(target, TRANSACTIONS, filtered).contains(&id), "it is not open for an hour");
}

fn offsets_of_a_topic_are_told(target: &Target) {
    let topic = target.topic("t", 2);
    target.send(&target.producer(&[]), &topic, 1, &["a", "b", "c"]);
    let latest = tool!(target, OFFSETS, ["--topic", &topic, "--time", "latest"]);
    assert_eq!(latest, format!("{topic}:0:0\n{topic}:1:3\n"));
    let earliest = tool!(target, OFFSETS, ["--topic", &topic, "--time", "earliest"]);
    assert_eq!(earliest, format!("{topic}:0:0\n{topic}:1:0\n"));
}

fn records_are_deleted_by_a_file(target: &Target) {
    let topic = target.topic("t", 1);
    target.send(&target.producer(&[]), &topic, 0, &["a", "b", "c"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let asked = format!(r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":2}}],"version":1}}"#);
    std::fs::write(file.path(), asked).unwrap();
    let said = tool!(target, DELETE_RECORDS, ["--offset-json-file", file.path().to_str().unwrap()]);
    assert!(said.contains("low_watermark: 2"), "{said}");
    assert_eq!(target.read(&topic, 0, 2, COMMITTED), [(2, "c".to_owned())]);
}
