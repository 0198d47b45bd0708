//! `generator`: made-up records, the same at every run; a record's offset is its number.

use crate::{lines::MAX_LINE, no_sink, positions::FileOffsets};
use pelton_sdk::{
    Budget, Connector, ConnectorFactory, EndError, Lag, Offsets, OptionError, Polled, Scope, Sink, SinkSpec,
    Source, SourceShape, SourceSpec, TopicCatalog, Wake, parse_options,
};
use pelton_types::{Batch, Code, Offset, Partition, Record, Span};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

/// Made-up records `{"id":0,"key":"k4"}`; the record key is the text of `key`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GeneratorOptions {
    /// Records in all; without it they never end.
    #[schemars(range(min = 0))]
    count: Option<u64>,
    /// Records in a second; without it as fast as they are taken.
    #[schemars(range(min = 0.001, max = 1e9))]
    rate: Option<f64>,
    /// Bytes of a value at least; a member `pad` fills it up.
    #[serde(default)]
    size: usize,
    /// Distinct keys.
    #[serde(default = "default_keys")]
    #[schemars(range(min = 1))]
    keys: u64,
}

fn default_keys() -> u64 {
    1000
}

/// Tells the time; a test gives its own.
type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Makes `generator` sources.
#[derive(Clone)]
pub struct GeneratorFactory {
    data_dir: PathBuf,
    clock: Clock,
}

impl GeneratorFactory {
    /// Positions are kept in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), clock: Arc::new(Instant::now) }
    }

    /// With a clock of one's own, for `rate`.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }
}

impl std::fmt::Debug for GeneratorFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratorFactory").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

fn options(given: &Value) -> Result<GeneratorOptions, Vec<OptionError>> {
    let options: GeneratorOptions = parse_options(given)?;
    let mut errors = Vec::new();
    if let Some(rate) = options.rate.filter(|rate| !(0.001..=1e9).contains(rate)) {
        errors.push(OptionError::at(
            "/rate",
            format!("{rate} is not between 0.001 and 1000000000 records a second"),
        ));
    }
    if options.count.is_some_and(|count| i64::try_from(count).is_err()) {
        errors.push(OptionError::at("/count", "more records than offsets can count"));
    }
    if options.size > MAX_LINE {
        errors.push(OptionError::at("/size", format!("{} is more than {MAX_LINE} bytes", options.size)));
    }
    if options.keys == 0 {
        errors.push(OptionError::at("/keys", "at least one key is needed"));
    }
    if errors.is_empty() { Ok(options) } else { Err(errors) }
}

impl ConnectorFactory for GeneratorFactory {
    fn name(&self) -> &'static str {
        "generator"
    }

    fn summary(&self) -> &'static str {
        "makes up numbered records, the same at every run"
    }

    fn source_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(GeneratorOptions))
    }

    fn sink_schema(&self) -> Option<schemars::Schema> {
        None
    }

    fn check_source(&self, given: &Value) -> Result<SourceShape, Vec<OptionError>> {
        let bounded = options(given)?.count.is_some();
        Ok(SourceShape { topics: vec!["generator".into()], partitions: Some(1), bounded })
    }

    fn check_sink(&self, _options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Err(vec![
            OptionError::at("", "a generator takes no records").hint("use `blackhole` to throw records away"),
        ])
    }

    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }

    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(GeneratorConnector { factory: self.clone(), wake: scope.wake })
    }
}

struct GeneratorConnector {
    factory: GeneratorFactory,
    wake: Wake,
}

impl Connector for GeneratorConnector {
    fn source(&mut self, spec: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        let options = options(&spec.options).map_err(|errors| {
            let why: Vec<String> =
                errors.into_iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect();
            EndError::stop(Code::BadPipeline, format!("generator options: {}", why.join("; ")))
        })?;
        let alarm = options.rate.is_some().then(|| Alarm::new(self.wake.clone())).transpose()?;
        Ok(Box::new(Generator { options, clock: self.factory.clock.clone(), alarm, running: None }))
    }

    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        no_sink("generator", spec)
    }

    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        Ok(Box::new(FileOffsets::new(&self.factory.data_dir, spec)))
    }
}

/// Wakes the executor at a time, from a thread of its own that ends with this.
struct Alarm(Sender<Duration>);

impl Alarm {
    fn new(wake: Wake) -> Result<Self, EndError> {
        let (set, inbox) = mpsc::channel::<Duration>();
        let ring = move || {
            while let Ok(mut wait) = inbox.recv() {
                // A later setting replaces an earlier one.
                loop {
                    match inbox.recv_timeout(wait) {
                        Ok(other) => wait = other,
                        Err(RecvTimeoutError::Timeout) => break wake.wake(),
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        };
        let started = thread::Builder::new().name("generator".into()).spawn(ring);
        started
            .map(|_| Self(set))
            .map_err(|e| EndError::retry(Code::SourceFailed, format!("generator: no thread: {e}")))
    }

    fn ring_in(&self, wait: Duration) {
        // The thread ends only after this sender.
        let _ = self.0.send(wait);
    }
}

struct Running {
    partition: Partition,
    next: u64,
    /// For `rate`: when it began, and with which record.
    began: Instant,
    first: u64,
}

struct Generator {
    options: GeneratorOptions,
    clock: Clock,
    alarm: Option<Alarm>,
    running: Option<Running>,
}

impl Source for Generator {
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        self.running = at.first().map(|(partition, at)| {
            let next = u64::try_from(*at).unwrap_or(0);
            Running { partition: partition.clone(), next, began: (self.clock)(), first: next }
        });
        Ok(())
    }

    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        let Some(running) = &mut self.running else { return Ok(Polled::End) };
        let end = self.options.count.unwrap_or(i64::MAX as u64);
        if running.next >= end {
            return Ok(Polled::End);
        }
        let mut until = end.min(running.next.saturating_add(budget.records.max(1) as u64));
        if let Some(rate) = self.options.rate {
            let now = (self.clock)();
            let passed = now.saturating_duration_since(running.began);
            // The first record is due at once, the others follow at even distances.
            let due = running.first.saturating_add((passed.as_secs_f64() * rate) as u64 + 1);
            if due <= running.next {
                let at = Duration::from_secs_f64((running.next - running.first) as f64 / rate);
                if let Some(alarm) = &self.alarm {
                    alarm.ring_in(at.saturating_sub(passed) + Duration::from_micros(1));
                }
                return Ok(Polled::Pending);
            }
            until = until.min(due);
        }
        let mut batch = Batch::new(running.partition.clone());
        let mut bytes = 0;
        while running.next < until && bytes < budget.bytes.max(1) {
            bytes += add_record(&mut batch, running.next, &self.options);
            running.next += 1;
        }
        batch.mark_origin();
        Ok(Polled::Batch(batch))
    }

    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        self.running.iter().map(|r| (r.partition.clone(), r.next as Offset)).collect()
    }

    fn lag(&mut self) -> Vec<Lag> {
        let end = self.options.count.map(|count| count as Offset);
        self.running
            .iter()
            .map(|r| Lag { partition: r.partition.clone(), position: r.next as Offset, end })
            .collect()
    }

    fn stop(&mut self) {
        self.running = None;
    }
}

/// Add record `n`; its bytes.
fn add_record(batch: &mut Batch, n: u64, options: &GeneratorOptions) -> usize {
    let key_text = format!("k{}", scatter(n) % options.keys.max(1));
    let mut text = format!("{{\"id\":{n},\"key\":\"{key_text}\"}}");
    // The member itself takes 9 bytes: ,"pad":""
    if let Some(pad) = options.size.checked_sub(text.len()).filter(|missing| *missing > 0) {
        text.pop();
        text.push_str(",\"pad\":\"");
        text.extend(std::iter::repeat_n('x', pad.saturating_sub(9)));
        text.push_str("\"}");
    }
    let key = batch.put(Some(key_text.as_bytes()));
    let value = batch.put(Some(text.as_bytes()));
    batch.records.push(Record { key, value, headers: Span::NULL, timestamp_ms: -1, offset: n as Offset });
    key_text.len() + text.len()
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): neighbours get keys that look unrelated.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
