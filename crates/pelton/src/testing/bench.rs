//! A chain on a bench: records are pushed in, time is moved by hand, and what comes out is kept.

use pelton_config::tests::TestRecord;
use pelton_runtime::chain::{Chain, LostRecords, Output};
use pelton_sdk::types::{Batch, Partition, Record, Span};
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Operators with threads of their own get this long, in real time, to give back what they hold.
const PATIENCE: Duration = Duration::from_secs(30);
/// Real time between two looks at such operators.
const LOOK: Duration = Duration::from_millis(2);

/// A record that came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    pub timestamp_ms: i64,
}

/// A record that was given up.
#[derive(Clone, Debug)]
pub struct Letter {
    pub operator: String,
    pub cause: String,
    /// As it was read.
    pub record: Got,
}

/// See the module.
pub struct Bench {
    pub chain: Chain,
    sinks: Vec<String>,
    start: Instant,
    now: Instant,
    /// Sent, but the chain has had no room yet.
    waiting: VecDeque<(usize, Batch)>,
    offsets: BTreeMap<usize, i64>,
    pub got: BTreeMap<String, Vec<Got>>,
    pub letters: Vec<Letter>,
}

impl Bench {
    pub fn new(chain: Chain, sinks: Vec<String>) -> Self {
        let start = Instant::now();
        let (waiting, offsets, got) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        Self { chain, sinks, start, now: start, waiting, offsets, got, letters: Vec::new() }
    }

    /// Send records of a source as one batch.
    pub fn send(&mut self, source: usize, name: &str, records: &[TestRecord]) -> Result<(), LostRecords> {
        let mut batch = Batch::new(Partition::new(name, 0));
        let offset = self.offsets.entry(source).or_default();
        let passed = i64::try_from((self.now - self.start).as_millis()).unwrap_or(i64::MAX);
        for record in records {
            let value = record.value.as_ref().map(bytes);
            let value = batch.put(value.as_deref());
            let key = batch.put(record.key.as_deref().map(str::as_bytes));
            let headers = record.headers.iter().map(|(name, text)| (name.as_str(), Some(text.as_bytes())));
            let headers = if record.headers.is_empty() { Span::NULL } else { batch.put_headers(headers) };
            let timestamp_ms = record.timestamp_ms.unwrap_or(passed);
            batch.records.push(Record { key, value, headers, timestamp_ms, offset: *offset });
            *offset += 1;
        }
        batch.mark_origin();
        if !batch.is_empty() {
            self.waiting.push_back((source, batch));
        }
        self.pump().map(drop)
    }

    /// Let time pass, stopping whenever an operator asked for it.
    pub fn advance(&mut self, time: Duration) -> Result<(), LostRecords> {
        let until = self.now + time;
        while let Some(at) = self.pump()?.filter(|at| *at > self.now && *at <= until) {
            self.now = at;
        }
        self.now = until;
        self.pump().map(drop)
    }

    /// Have everything finished that is under way, as a commit does. The records that are still held after it.
    pub fn finish(&mut self) -> Result<u64, LostRecords> {
        let patience = Instant::now() + PATIENCE;
        loop {
            self.chain.flush();
            let again = self.pump()?;
            if self.waiting.is_empty() && self.chain.held() == 0 {
                return Ok(0);
            }
            if Instant::now() > patience {
                let waiting: usize = self.waiting.iter().map(|(_, batch)| batch.len()).sum();
                return Ok(self.chain.held() + waiting as u64);
            }
            match again.filter(|at| *at > self.now) {
                Some(at) => self.now = at,
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// Run all that can run now; when to look again.
    fn pump(&mut self) -> Result<Option<Instant>, LostRecords> {
        loop {
            let mut out = Output::default();
            if self.chain.ready()
                && let Some((source, batch)) = self.waiting.pop_front()
            {
                self.chain.process(source, batch, self.now, &mut out)?;
                self.keep(out);
                continue;
            }
            let again = self.chain.poll(self.now, &mut out)?;
            if out.is_empty() {
                return Ok(again);
            }
            self.keep(out);
        }
    }

    fn keep(&mut self, out: Output) {
        for (sink, batch) in out.sinks {
            let name = self.sinks.get(sink).cloned().unwrap_or_default();
            self.got.entry(name).or_default().extend(batch.records.iter().map(|r| got(&batch, r)));
        }
        for rejected in out.rejected {
            let batch = &rejected.failed.record;
            let originals = batch.records.iter().map(|r| got(batch, batch.original(r.offset).unwrap_or(r)));
            self.letters.extend(originals.map(|record| Letter {
                operator: rejected.operator.clone(),
                cause: rejected.failed.cause.clone(),
                record,
            }));
        }
    }
}

/// A text stands for itself, anything else for its JSON.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn got(batch: &Batch, record: &Record) -> Got {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Got {
        key: batch.key(record).map(text),
        value: batch.value(record).map(<[u8]>::to_vec),
        headers: batch
            .headers(record)
            .map(|(name, value)| (name.to_owned(), value.map(text).unwrap_or_default()))
            .collect(),
        timestamp_ms: record.timestamp_ms,
    }
}
