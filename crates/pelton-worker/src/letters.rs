//! Dead letters of a pipeline, read back from the queue: listed, replayed, discarded.
//!
//! A queue cannot forget single records, so what was dealt with is kept beside it, in the pipeline's own group: the
//! committed offset of a partition of the dead-letter topic is the oldest letter that nobody dealt with, and the text
//! committed with it names the later ones that somebody did ([`Settled`]). Lag tools therefore show the letters that
//! wait. A replay writes letters back to the partition they were read from, without the headers that say why, and
//! settles them afterwards: a crash in between writes them again, never loses one.

use pelton_config::EndDef;
use pelton_proto::v1::{self, DeadLetterAction};
use pelton_runtime::dead_letter;
use pelton_sdk::{
    Budget, Connector, ConnectorFactory, EndError, ErrorKind, Offsets, Polled, Registry, Scope, Sink,
    SinkSpec, SourceSpec, Wake,
};
use pelton_types::{Batch, Offset, Partition, PipelineName, Record, TaskId};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

mod settled;
use settled::Settled;

/// Letters in one reply.
const LETTERS: usize = 100;
/// Letters settled by one commit.
const SETTLE_EVERY: u64 = 5_000;
/// Client queues while letters are read, bytes.
const QUEUE_BYTES: usize = 16 << 20;
/// What one poll may return.
const BUDGET: Budget = Budget { records: 500, bytes: 4 << 20 };
/// How long the queue may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest nap between polls; a wake-up ends it.
const NAP: Duration = Duration::from_millis(20);

type Replies = mpsc::Sender<v1::ServeReply>;

/// Answer a request and say that it is done, or why it is not.
pub(crate) async fn answer(registry: Registry, id: u64, request: v1::DeadLettersRequest, replies: Replies) {
    let (runtime, said) = (tokio::runtime::Handle::current(), replies.clone());
    // Connectors poll; that belongs on a thread that may wait.
    let work = tokio::task::spawn_blocking(move || {
        let say = |reply: v1::ServeReply| said.blocking_send(v1::ServeReply { id, ..reply }).is_ok();
        Desk::open(&registry, &request, &runtime)?.run(&request, &say)
    });
    let error = match work.await {
        Ok(Ok(())) => String::new(),
        Ok(Err(why)) => why,
        Err(e) => format!("reading the dead letters broke off: {e}"),
    };
    // The session has ended: so has the asker.
    let _ = replies.send(v1::ServeReply { id, done: true, error, ..Default::default() }).await;
}

/// Everything needed to deal with the letters of one pipeline.
struct Desk {
    connector: Box<dyn Connector>,
    spec: SourceSpec,
    offsets: Box<dyn Offsets>,
    /// The connector's options but for the topic, for sinks.
    options: Map<String, Value>,
    /// Topics that the pipeline reads: what a letter says beyond them is not believed.
    read: BTreeSet<String>,
    sinks: BTreeMap<String, Box<dyn Sink>>,
}

/// Options that say which cluster is meant.
const CLUSTER: [&str; 2] = ["brokers", "connection"];

impl Desk {
    fn open(
        registry: &Registry,
        request: &v1::DeadLettersRequest,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Desk, String> {
        let json: Value = serde_json::from_str(&request.definition).map_err(|e| e.to_string())?;
        let document = pelton_config::from_json(&json).map_err(|report| report.to_string())?;
        let end: &EndDef = document.spec.on_error.dead_letter.as_ref().ok_or(
            "the pipeline keeps no dead letters: it has no `onError.deadLetter`, so a record that cannot be processed \
             stops its task",
        )?;
        let factory: &Arc<dyn ConnectorFactory> = registry
            .find_connector(&end.connector)
            .ok_or_else(|| format!("this worker has no connector `{}`", end.connector))?;
        let topics = factory
            .check_sink(&end.options)
            .map_err(|errors| errors.iter().map(|e| e.message.clone()).collect::<Vec<_>>().join("; "))?;
        let (Some(topic), Some(catalog)) = (topics.first(), factory.catalog(&end.options)) else {
            return Err(format!(
                "dead letters kept by `{}` cannot be read back by a worker; look where it writes them",
                end.connector
            ));
        };
        let partitions = runtime.block_on(catalog.partitions(topic)).map_err(|e| e.to_string())?.unwrap_or(0);
        let options: Map<String, Value> = CLUSTER
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), end.options.get(key)?.clone())))
            .collect();
        let scope = Scope { wake: Wake::thread(thread::current()), executor: 0, queue_bytes: QUEUE_BYTES };
        let mut connector = factory.connect(scope);
        let spec = SourceSpec {
            task: task(document.name()),
            name: "dead letters".into(),
            options: with(&options, "topics", json!([topic])),
            partitions: (0..partitions).map(|i| Partition::new(topic.as_str(), i as i32)).collect(),
        };
        let offsets = connector.offsets(&spec).map_err(|e| e.to_string())?;
        Ok(Desk {
            connector,
            spec,
            offsets,
            options,
            read: document.spec.topics().read,
            sinks: BTreeMap::new(),
        })
    }

    /// Go through the letters that are not settled, oldest first.
    fn run(
        &mut self,
        request: &v1::DeadLettersRequest,
        say: &dyn Fn(v1::ServeReply) -> bool,
    ) -> Result<(), String> {
        let mut settled = self.read_settled()?;
        let at: Vec<_> = settled.iter().map(|(p, s)| (p.clone(), s.next())).collect();
        let mut source = self.connector.source(&self.spec).map_err(|e| e.to_string())?;
        source.start(&at).map_err(|e| e.to_string())?;
        let (mut listed, mut held, mut taken, mut done) = (Vec::new(), Vec::new(), 0u64, 0u64);
        let mut open = Wanted::new(request);
        let mut patience = Instant::now() + PATIENCE;
        while open.some_left() {
            let batch = match source.poll(BUDGET) {
                Ok(Polled::Batch(batch)) => batch,
                Ok(Polled::End) => break,
                Err(e) if e.kind != ErrorKind::Retry => return Err(e.to_string()),
                nothing => {
                    if source.lag().iter().all(|l| l.end.is_some_and(|end| l.position >= end)) {
                        break;
                    }
                    wait(&mut patience, nothing.err())?;
                    continue;
                }
            };
            patience = Instant::now() + PATIENCE;
            let known =
                settled.get_mut(&batch.partition).ok_or("a partition was read that nobody asked for")?;
            for index in 0..batch.len() {
                let record = batch.records[index];
                known.saw(record.offset);
                if known.has(record.offset) {
                    continue;
                }
                let letter = letter(&batch, &record);
                if !open.takes(&letter) {
                    known.keep(record.offset);
                    continue;
                }
                match request.action() {
                    // Named ones wait until all of them were found.
                    DeadLetterAction::Replay if !request.letters.is_empty() => {
                        held.push((batch.clone(), record, letter));
                    }
                    DeadLetterAction::Replay => self.replay(&batch, &record, &letter)?,
                    DeadLetterAction::Discard => {}
                    _ => listed.push(letter),
                }
                known.settle(record.offset);
                taken += 1;
            }
            if request.action() == DeadLetterAction::List {
                if !send(&mut listed, say) {
                    return Ok(());
                }
            } else if request.letters.is_empty() && taken - done >= SETTLE_EVERY {
                self.settle(&settled)?;
                done = taken;
                say(v1::ServeReply { settled: done, ..Default::default() });
            }
        }
        if request.action() != DeadLetterAction::List {
            open.check_found()?;
            for (batch, record, letter) in &held {
                self.replay(batch, record, letter)?;
            }
            if taken > done {
                self.settle(&settled)?;
            }
            say(v1::ServeReply { settled: taken, ..Default::default() });
        }
        Ok(())
    }

    /// What is settled of every partition.
    fn read_settled(&mut self) -> Result<BTreeMap<Partition, Settled>, String> {
        self.offsets.start_read(&self.spec.partitions);
        let mut patience = Instant::now() + PATIENCE;
        let committed = loop {
            match self.offsets.poll_read() {
                Poll::Ready(Ok(committed)) => break committed,
                Poll::Ready(Err(e)) if e.kind != ErrorKind::Retry => return Err(e.to_string()),
                Poll::Ready(Err(e)) => {
                    wait(&mut patience, Some(e))?;
                    self.offsets.start_read(&self.spec.partitions);
                }
                Poll::Pending => wait(&mut patience, None)?,
            }
        };
        committed
            .into_iter()
            .map(|c| {
                let text = c.metadata.as_deref().unwrap_or_default();
                let settled = Settled::read(c.offset.unwrap_or(c.start), text).ok_or_else(|| {
                    format!("{} carries a text that Pelton did not commit: {text:?}", c.partition)
                })?;
                Ok((c.partition, settled))
            })
            .collect()
    }

    /// What was replayed is stored; now the letters are settled.
    fn settle(&mut self, settled: &BTreeMap<Partition, Settled>) -> Result<(), String> {
        for sink in self.sinks.values_mut() {
            sink.start_flush();
            let mut patience = Instant::now() + PATIENCE;
            loop {
                match sink.poll_flush() {
                    Poll::Ready(Ok(())) => break,
                    Poll::Ready(Err(e)) => return Err(e.to_string()),
                    Poll::Pending => wait(&mut patience, None)?,
                }
            }
        }
        for (partition, settled) in settled.iter().filter(|(_, s)| s.changed()) {
            let (offset, text) = settled.write()?;
            self.offsets.start_commit(&[(partition.clone(), offset)], &text);
            let mut patience = Instant::now() + PATIENCE;
            loop {
                match self.offsets.poll_commit() {
                    Poll::Ready(Ok(())) => break,
                    Poll::Ready(Err(e)) => return Err(e.to_string()),
                    Poll::Pending => wait(&mut patience, None)?,
                }
            }
        }
        Ok(())
    }

    /// Write a letter back to where it was read.
    fn replay(&mut self, batch: &Batch, record: &Record, letter: &v1::DeadLetter) -> Result<(), String> {
        let here = format!("the dead letter at {}:{}", batch.partition.index, record.offset);
        let source = letter.source.as_ref().ok_or_else(|| {
            format!("{here} does not say where it was read; discard it, or write it back by hand")
        })?;
        if !self.read.contains(&source.topic) {
            return Err(format!(
                "{here} was read from {}, which this pipeline does not read (it reads {}); discard it, or write it \
                 back by hand",
                source.topic,
                self.read.iter().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        let mut back = Batch::new(Partition::new(source.topic.as_str(), source.index));
        let (key, value) = (back.put(batch.key(record)), back.put(batch.value(record)));
        let headers = back.put_headers(batch.headers(record).filter(|(name, _)| !is_ours(name)));
        back.records.push(Record { key, value, headers, ..*record });
        let sink = match self.sinks.entry(source.topic.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                let options = with(&self.options, "topic", source.topic.clone().into());
                let spec = SinkSpec { task: self.spec.task.clone(), name: "replay".into(), options };
                none.insert(self.connector.sink(&spec).map_err(|e| e.to_string())?)
            }
        };
        let mut patience = Instant::now() + PATIENCE;
        loop {
            let pushed = sink.push(&back, 0).map_err(|e| e.to_string())?;
            if let Some(why) = pushed.rejected {
                return Err(format!("{here} cannot be written back: {why}"));
            }
            if pushed.taken == 1 {
                return Ok(());
            }
            wait(&mut patience, None)?;
        }
    }
}

/// Which letters are meant.
struct Wanted<'a> {
    request: &'a v1::DeadLettersRequest,
    /// Named ones that were not met yet.
    named: BTreeSet<(i32, Offset)>,
    left: Option<u32>,
}

impl<'a> Wanted<'a> {
    fn new(request: &'a v1::DeadLettersRequest) -> Self {
        let named = request.letters.iter().map(|l| (l.partition, l.offset)).collect();
        Self { request, named, left: (request.limit > 0).then_some(request.limit) }
    }

    fn some_left(&self) -> bool {
        self.left != Some(0) && (self.request.letters.is_empty() || !self.named.is_empty())
    }

    fn takes(&mut self, letter: &v1::DeadLetter) -> bool {
        let index = letter.partition.as_ref().map_or(-1, |p| p.index);
        let named = self.request.letters.is_empty() || self.named.remove(&(index, letter.offset));
        let matches = (self.request.operator.is_empty() || self.request.operator == letter.operator)
            && letter.cause.contains(&self.request.cause);
        let takes = named && matches && self.left != Some(0);
        if takes && let Some(left) = &mut self.left {
            *left -= 1;
        }
        takes
    }

    /// Named letters must exist: a typing error must not look like success.
    fn check_found(&self) -> Result<(), String> {
        if self.named.is_empty() {
            return Ok(());
        }
        let named: Vec<_> = self.named.iter().map(|(p, o)| format!("{p}:{o}")).collect();
        Err(format!(
            "there is no such dead letter that waits: {}; nothing was done; `pelton dlq list` shows those that do",
            named.join(", ")
        ))
    }
}

/// Not a task of anybody's: names the group that offsets are kept in.
fn task(pipeline: PipelineName) -> TaskId {
    TaskId { pipeline, uuid: "dead-letters".into(), stage: 0, generation: 0, index: 0 }
}

fn with(options: &Map<String, Value>, key: &str, value: Value) -> Value {
    let mut all = options.clone();
    all.insert(key.to_owned(), value);
    Value::Object(all)
}

fn is_ours(header: &str) -> bool {
    [
        dead_letter::CAUSE,
        dead_letter::OPERATOR,
        dead_letter::TOPIC,
        dead_letter::PARTITION,
        dead_letter::OFFSET,
    ]
    .contains(&header)
}

/// A record of the dead-letter topic, read as what it is.
fn letter(batch: &Batch, record: &Record) -> v1::DeadLetter {
    let why = |name: &str| {
        // The last one: those in front may be the record's own, from an earlier failure.
        let found = batch.headers(record).filter(|(n, _)| *n == name).last().and_then(|(_, value)| value);
        found.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let source = why(dead_letter::TOPIC).zip(why(dead_letter::PARTITION).and_then(|p| p.parse().ok()));
    let own = batch.headers(record).filter(|(name, _)| !is_ours(name));
    v1::DeadLetter {
        partition: Some((&batch.partition).into()),
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: batch.key(record).map(<[u8]>::to_vec),
        value: batch.value(record).map(<[u8]>::to_vec),
        headers: own
            .map(|(name, value)| v1::Header { name: name.to_owned(), value: value.map(<[u8]>::to_vec) })
            .collect(),
        cause: why(dead_letter::CAUSE).unwrap_or_default(),
        operator: why(dead_letter::OPERATOR).unwrap_or_default(),
        source: source.map(|(topic, index)| v1::Partition { topic, index }),
        source_offset: why(dead_letter::OFFSET).and_then(|o| o.parse().ok()).unwrap_or(-1),
    }
}

fn send(listed: &mut Vec<v1::DeadLetter>, say: &dyn Fn(v1::ServeReply) -> bool) -> bool {
    let all = std::mem::take(listed);
    all.chunks(LETTERS).all(|letters| say(v1::ServeReply { letters: letters.to_vec(), ..Default::default() }))
}

/// Sleep until woken, or for a moment; an error once patience is at its end.
fn wait(patience: &mut Instant, trouble: Option<EndError>) -> Result<(), String> {
    if Instant::now() >= *patience {
        let what = trouble.map_or_else(|| "it did not answer".to_owned(), |e| e.to_string());
        return Err(format!("gave up after {} s without progress: {what}", PATIENCE.as_secs()));
    }
    thread::park_timeout(NAP);
    Ok(())
}
