//! Two who watch while the faults are on: a reader of the output, and one that looks at the committed offsets.

use super::{
    ear::Ear,
    topics::{Reading, Trouble, Value, client},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Time between two looks at the committed offsets.
const LOOK: Duration = Duration::from_millis(250);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// For the reader to come to the end once the load has ended.
const CATCH_UP: Duration = Duration::from_secs(120);

/// What came out of one partition: how many records, and a sum over their offsets and values in the order they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Records.
    pub records: u64,
    sum: u64,
    last: Option<i64>,
    /// Records whose offset was not above the one before.
    pub back: u64,
}

impl Trace {
    /// Of so many partitions, nothing read yet.
    pub fn none(partitions: i32) -> Vec<Trace> {
        vec![Trace::default(); usize::try_from(partitions).unwrap_or(0)]
    }

    /// One more record.
    pub fn add(traces: &mut [Trace], value: &Value) {
        let Some(trace) = usize::try_from(value.partition).ok().and_then(|p| traces.get_mut(p)) else {
            return;
        };
        trace.back += u64::from(trace.last.is_some_and(|last| last >= value.offset));
        trace.last = Some(value.offset);
        trace.records += 1;
        // FNV-1a (Fowler, Noll, Vo).
        for byte in value.offset.to_be_bytes().iter().chain(&value.bytes) {
            trace.sum = (trace.sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What must not be: a reader that read during the faults saw something else than one that reads now.
pub fn disagreements(during: &[Trace], now: &[Trace]) -> Vec<String> {
    let pairs = during.iter().zip(now).enumerate();
    let differs = |(p, (during, now)): (usize, (&Trace, &Trace))| {
        let same = during == now && during.back == 0;
        (!same).then(|| {
            format!("partition {p}: a reader during the faults saw {during:?}, now there is {now:?}")
        })
    };
    pairs.filter_map(differs).collect()
}

/// A reader of committed records.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Trace>, String>>,
}

impl Reader {
    /// Read a topic from its begin, until told.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Result<Reader, Trouble> {
        let mut reading = Reading::start(bootstrap, topic, partitions)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || {
            let mut traces = Trace::none(partitions);
            let mut add = |value: &Value| Trace::add(&mut traces, value);
            while !told.load(Ordering::Relaxed) {
                // A broker that is away is an error for a while.
                if let Ok(Some(value)) = reading.poll() {
                    add(&value);
                }
            }
            reading.to_end(CATCH_UP, &mut add).map_err(|e| e.to_string())?;
            Ok(traces)
        })?;
        Ok(Reader { stop, thread })
    }

    /// Read to the end as it is now, and say what was seen.
    ///
    /// # Errors
    /// It does not come to the end.
    pub fn stop(self) -> Result<Vec<Trace>, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the reader panicked")??)
    }
}

/// Looks at committed offsets and the metadata with them.
#[derive(Debug)]
pub struct Auditor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Audit>,
}

/// What it saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Looks that were answered.
    pub looks: u64,
    /// Offsets, generations and epochs that went back.
    pub faults: Vec<String>,
    seen: BTreeMap<i32, (i64, (u64, u64))>,
}

impl Audit {
    /// What is committed now.
    fn see_all(&mut self, committed: &TopicPartitionList) {
        self.looks += 1;
        for element in committed.elements() {
            if let Offset::Offset(at) = element.offset() {
                self.see(element.partition(), at, element.metadata());
            }
        }
    }

    /// One partition as it is committed now.
    fn see(&mut self, partition: i32, offset: i64, metadata: &str) {
        let number = |name: &str| metadata.split(';').find_map(|part| part.strip_prefix(name)?.parse().ok());
        let owner = (number("g=").unwrap_or(0), number("e=").unwrap_or(0));
        let (before, owner_before) = self.seen.get(&partition).copied().unwrap_or((offset, owner));
        if offset < before {
            self.faults
                .push(format!("partition {partition}: the committed offset went from {before} to {offset}"));
        }
        if owner < owner_before {
            self.faults.push(format!(
                "partition {partition}: committed by generation and epoch {owner_before:?}, and then by {owner:?}"
            ));
        }
        self.seen.insert(partition, (offset, owner));
    }
}

impl Auditor {
    /// Look at a group's offsets of a topic, until told.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn start(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Result<Auditor, Trouble> {
        let mut config = client(bootstrap);
        let consumer: BaseConsumer =
            config.set("group.id", group).set("enable.auto.commit", "false").create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let stop = Arc::new(AtomicBool::new(false));
        let (told, mut ear) = (stop.clone(), Ear::new(bootstrap));
        let thread = std::thread::Builder::new().name("auditor".into()).spawn(move || {
            let mut audit = Audit::default();
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match consumer.committed_offsets(list.clone(), ANSWER) {
                    Ok(committed) => {
                        ear.heard();
                        audit.see_all(&committed);
                    }
                    Err(_) => ear.strain(consumer.client()),
                }
                std::thread::sleep(LOOK.saturating_sub(begun.elapsed()));
            }
            audit
        })?;
        Ok(Auditor { stop, thread })
    }

    /// What it saw.
    ///
    /// # Errors
    /// It panicked.
    pub fn stop(self) -> Result<Audit, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the auditor panicked")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(values: &[Value]) -> Vec<Trace> {
        let mut traces = Trace::none(1);
        values.iter().for_each(|value| Trace::add(&mut traces, value));
        traces
    }

    fn value(offset: i64, text: &str) -> Value {
        Value { partition: 0, offset, timestamp_ms: 0, bytes: text.into() }
    }

    #[test]
    fn readers_agree_when_they_saw_the_same_in_the_same_order() {
        let both = [value(0, "a"), value(2, "b")];
        assert_eq!(disagreements(&traces(&both), &traces(&both)), Vec::<String>::new());
        for other in [&[value(0, "a")][..], &[value(0, "a"), value(2, "c")], &[value(0, "a"), value(3, "b")]]
        {
            assert_eq!(disagreements(&traces(&both), &traces(other)).len(), 1, "{other:?}");
        }
        let twice = [value(0, "a"), value(0, "a")];
        assert_eq!(disagreements(&traces(&twice), &traces(&twice)).len(), 1, "read again");
    }

    #[test]
    fn an_offset_or_an_owner_that_goes_back_is_seen_and_a_new_generation_is_not_one() {
        let mut audit = Audit::default();
        audit.see(0, 10, "p1;u=x;g=1;e=3;b=");
        audit.see(0, 12, "p1;u=x;g=2;e=0;b=");
        audit.see(1, 5, "p1;u=x;g=1;e=1;b=");
        assert_eq!(audit.faults, Vec::<String>::new());
        audit.see(0, 11, "p1;u=x;g=2;e=0;b=");
        audit.see(1, 6, "p1;u=x;g=0;e=9;b=");
        assert_eq!(audit.faults.len(), 2, "{audit:?}");
    }
}
