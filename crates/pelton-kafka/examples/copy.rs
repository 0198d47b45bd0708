//! Copies a topic with the bare client library and through Pelton's source and sink, in turns, and compares.
//!
//! `cargo run --release -p pelton-kafka --features bench --example copy -- BOOTSTRAP [RECORDS] [ROUNDS]`

use pelton_kafka::bench::{bare_copy, create_topic, ends_copy, fill, median, unique};
use std::error::Error;

/// Partitions of both topics.
const PARTITIONS: u32 = 8;
/// Bytes of a value.
const VALUE_BYTES: usize = 280;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().ok_or("say which broker: host:port")?;
    let records: u64 = arguments.next().map_or(Ok(2_000_000), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |n| n.parse())?;
    let from = unique("copy-from");
    create_topic(&bootstrap, &from, PARTITIONS)?;
    fill(&bootstrap, &from, records, VALUE_BYTES)?;
    let (mut bare, mut ends) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let to = [unique("copy-bare"), unique("copy-ends")];
        for topic in &to {
            create_topic(&bootstrap, topic, PARTITIONS)?;
        }
        let a = bare_copy(&bootstrap, &from, &to[0], PARTITIONS, records)?;
        let b = ends_copy(&bootstrap, &from, &to[1], PARTITIONS, records)?;
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
