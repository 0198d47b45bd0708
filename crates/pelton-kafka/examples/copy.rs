//! Copies a topic with the bare client library and through Pelton's source and sink, in turns, and compares; and the
//! single steps that `cargo xtask bench copy` compares whole pipelines with.
//!
//! `cargo run --release -p pelton-kafka --features bench --example copy -- BOOTSTRAP compare [RECORDS] [ROUNDS]`

use pelton_kafka::bench::{bare_copy, commits, create_topic, ends_copy, fill, median, unique};
use std::error::Error;

/// Partitions of all topics.
const PARTITIONS: u32 = 8;
/// Bytes of a value.
const VALUE_BYTES: usize = 282;
/// How it is called.
const USAGE: &str = "copy BOOTSTRAP compare [RECORDS] [ROUNDS] | create TOPIC | fill TOPIC RECORDS | bare FROM TO RECORDS | \
                     commits RECORDS PARTITIONS ROUNDS";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [bootstrap, "create", topic] => create_topic(bootstrap, topic, PARTITIONS),
        [bootstrap, "fill", topic, records] => {
            create_topic(bootstrap, topic, PARTITIONS)?;
            fill(bootstrap, topic, records.parse()?, VALUE_BYTES)
        }
        [bootstrap, "bare", from, to, records] => {
            create_topic(bootstrap, to, PARTITIONS)?;
            let figures = bare_copy(bootstrap, from, to, PARTITIONS, records.parse()?)?;
            println!("{}", figures.cpu_seconds);
            Ok(())
        }
        [bootstrap, "commits", records, partitions, rounds] => {
            let times = commits(bootstrap, records.parse()?, partitions.parse()?, rounds.parse()?)?;
            times.iter().for_each(|ms| println!("{ms:.3}"));
            Ok(())
        }
        [bootstrap, "compare", rest @ ..] => {
            let records = rest.first().map_or(Ok(2_000_000), |n| n.parse())?;
            compare(bootstrap, records, rest.get(1).map_or(Ok(5), |n| n.parse())?)
        }
        _ => Err(USAGE.into()),
    }
}

fn compare(bootstrap: &str, records: u64, rounds: usize) -> Result<(), Box<dyn Error>> {
    let from = unique("copy-from");
    create_topic(bootstrap, &from, PARTITIONS)?;
    fill(bootstrap, &from, records, VALUE_BYTES)?;
    let (mut bare, mut ends) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let to = [unique("copy-bare"), unique("copy-ends")];
        for topic in &to {
            create_topic(bootstrap, topic, PARTITIONS)?;
        }
        let a = bare_copy(bootstrap, &from, &to[0], PARTITIONS, records)?;
        let b = ends_copy(bootstrap, &from, &to[1], PARTITIONS, records)?;
        println!(
            "round {round}: bare {:.0} records per CPU-second ({:.1} s), source and sink {:.0} ({:.1} s), ratio {:.3}",
            a.per_cpu_second(),
            a.seconds,
            b.per_cpu_second(),
            b.seconds,
            b.per_cpu_second() / a.per_cpu_second()
        );
        bare.push(a.per_cpu_second());
        ends.push(b.per_cpu_second());
    }
    let (bare, ends) = (median(bare), median(ends));
    println!("median: bare {bare:.0}, source and sink {ends:.0}, ratio {:.3}", ends / bare);
    Ok(())
}
