//! How long a commit takes: outputs and offsets in one transaction of a task's producer, as a task uses it.

use super::{Outcome, connect, create_topic, factory, push_all, task, unique};
use pelton_sdk::{Producer, ProducerSpec, SinkSpec, SourceSpec};
use pelton_types::{Batch, Partition, Record, Span};
use serde_json::json;
use std::{
    task::Poll,
    time::{Duration, Instant},
};

/// Bytes of a value.
const VALUE_BYTES: usize = 200;
/// Transactions before those that are measured: connections, leaders, the broker's transaction log.
const WARM_UP: usize = 20;
/// Rest between two, as a short commit interval has it: the end of a transaction is answered before its marks are written,
/// and one that follows at once waits for them.
const REST: Duration = Duration::from_millis(50);

/// Commit so many records over so many partitions, so many times: milliseconds from the request to its outcome, in order.
/// The records were handed to the client just before, so that the request waits for most of them to be stored.
pub fn commits(bootstrap: &str, records: usize, partitions: u32, rounds: usize) -> Outcome<Vec<f64>> {
    let (name, from, to) = (unique("commit"), unique("commit-from"), unique("commit-to"));
    create_topic(bootstrap, &from, partitions)?;
    create_topic(bootstrap, &to, partitions)?;
    let mut connector = connect(&factory(bootstrap)?);
    let spec = SourceSpec {
        task: task(&name),
        name: "in".into(),
        options: json!({ "topics": [from] }),
        partitions: (0..partitions.cast_signed()).map(|p| Partition::new(&*from, p)).collect(),
    };
    // The producer joins the consumer of its task's source.
    let _source = connector.source(&spec)?;
    let options = json!({ "topic": to });
    let of =
        ProducerSpec { task: task(&name), options: options.clone(), commit_interval: Duration::from_secs(1) };
    let mut producer = connector.producer(&of)?;
    let mut sink = producer.sink(&SinkSpec { task: task(&name), name: "out".into(), options })?;
    producer.start_init(false);
    wait(|| producer.poll_init().map(|done| done.map(|()| true)))?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..WARM_UP + rounds {
        let at = i64::try_from(round + 1)?;
        let positions: Vec<_> = spec.partitions.iter().map(|p| (p.clone(), at)).collect();
        push_all(&mut *sink, &batch(records))?;
        let begun = Instant::now();
        producer.start_commit(&positions, "bench");
        if !wait(|| producer.poll_commit())? {
            return Err("a request of the commit went unanswered".into());
        }
        if round >= WARM_UP {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        std::thread::sleep(REST);
    }
    close(&mut *producer);
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn batch(records: usize) -> Batch {
    let mut batch =
        Batch::with_capacity(Partition::new("generated", 0), records, records * (VALUE_BYTES + 8));
    for offset in 0..records {
        let key = batch.put(Some(format!("{offset:08}").as_bytes()));
        let value = batch.put(Some(&[b'x'; VALUE_BYTES]));
        batch.records.push(Record {
            key,
            value,
            headers: Span::NULL,
            timestamp_ms: -1,
            offset: offset as i64,
        });
    }
    batch
}

fn wait<T>(mut poll: impl FnMut() -> Poll<Result<T, pelton_sdk::EndError>>) -> Outcome<T> {
    loop {
        if let Poll::Ready(done) = poll() {
            return Ok(done?);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn close(producer: &mut dyn Producer) {
    producer.start_close();
    while producer.poll_close().is_pending() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
