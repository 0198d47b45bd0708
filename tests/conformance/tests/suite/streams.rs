//! A Kafka Streams program with exactly-once processing, killed in the middle.

use std::collections::BTreeMap;

use pelton_conformance::client::COMMITTED;
use pelton_conformance::tools::{Java, Started};
use pelton_conformance::{Target, conform};
use rdkafka::Offset;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

conform!(java: words_are_counted_exactly_once_although_the_program_is_killed);

const LINES: usize = 400;
const WORDS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The counts written for each word, in order.
fn counts(target: &Target, topic: &str) -> BTreeMap<String, Vec<usize>> {
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for partition in 0..2 {
        let reader = target.reader(topic, partition, Offset::Beginning, COMMITTED);
        target.poll(&reader, "the end", |event| match event {
            Ok(message) => {
                let word = text(message.key().unwrap());
                counts.entry(word).or_default().push(text(message.payload().unwrap()).parse().unwrap());
                None
            }
            Err(KafkaError::PartitionEOF(_)) => Some(()),
            Err(error) => panic!("{error}"),
        });
    }
    counts
}

fn words_are_counted_exactly_once_although_the_program_is_killed(target: &Target) {
    let Some(java) = Java::find(env!("CARGO_TARGET_TMPDIR")) else { return };
    let (input, output) = (target.topic("lines", 2), target.topic("counts", 2));
    let application = target.unique("words");
    let state = tempfile::tempdir().unwrap();
    let start = || -> Started {
        let state = state.path().to_str().unwrap();
        java.start(
            "dev.pelton.conformance.WordCount",
            &[target.bootstrap(), &application, &input, &output, state],
        )
    };
    let producer = target.producer(&[]);
    let send = |lines: std::ops::Range<usize>| {
        for at in lines {
            // Every line has each word once.
            target.send(&producer, &input, i32::try_from(at % 2).unwrap(), &[&WORDS.join(" ")]);
        }
    };
    let written = || counts(target, &output).values().map(Vec::len).sum::<usize>();
    let mut program = start();
    send(0..LINES / 4);
    target.until("the first counts", || {
        assert!(program.runs(), "the program ended");
        (written() > 0).then_some(())
    });
    send(LINES / 4..LINES / 2);
    program.kill();
    send(LINES / 2..LINES);
    let mut program = start();
    target.until("all counts", || {
        assert!(program.runs(), "the program ended");
        (written() >= LINES * WORDS.len()).then_some(())
    });
    program.finish("", target.patience).ok();
    let all: Vec<usize> = (1..=LINES).collect();
    assert_eq!(counts(target, &output), WORDS.map(|word| (word.to_owned(), all.clone())).into());
}
