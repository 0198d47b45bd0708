//! Every end through the traits, as the runtime uses it.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_ends::{BlackholeFactory, FileFactory, GeneratorFactory, MAX_LINE, StdinFactory, StdoutFactory};
use pelton_sdk::{
    Budget, Committed, ConnectorFactory, EndError, Polled, Pushed, Scope, Sink, SinkSpec, Source, SourceSpec,
    Wake,
};
use pelton_types::{Batch, Code, Partition, PipelineName, Record, Span, TaskId};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

const BUDGET: Budget = Budget { records: 1000, bytes: 1 << 20 };

fn task() -> TaskId {
    let pipeline = PipelineName::new("default", "test");
    TaskId { pipeline, uuid: "0d9c".into(), stage: 0, generation: 1, index: 0 }
}

fn scope() -> Scope {
    Scope { wake: Wake::thread(thread::current()), executor: 0, queue_bytes: 1 << 20 }
}

fn spec(factory: &dyn ConnectorFactory, options: Value) -> SourceSpec {
    let topic = factory.check_source(&options).unwrap().topics[0].clone();
    SourceSpec { task: task(), name: "in".into(), options, partitions: vec![Partition::new(topic, 0)] }
}

/// A source that starts where its offsets say.
fn source(factory: &dyn ConnectorFactory, options: Value) -> Result<Box<dyn Source>, EndError> {
    let spec = spec(factory, options);
    let mut connector = factory.connect(scope());
    let mut source = connector.source(&spec)?;
    let at = committed(factory, &spec)?.into_iter().map(|c| (c.partition, c.start)).collect::<Vec<_>>();
    source.start(&at)?;
    Ok(source)
}

fn committed(factory: &dyn ConnectorFactory, spec: &SourceSpec) -> Result<Vec<Committed>, EndError> {
    let mut offsets = factory.connect(scope()).offsets(spec)?;
    offsets.start_read(&spec.partitions);
    match offsets.poll_read() {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("these offsets are read at once"),
    }
}

fn commit(factory: &dyn ConnectorFactory, options: Value, source: &mut dyn Source) {
    let mut offsets = factory.connect(scope()).offsets(&spec(factory, options)).unwrap();
    offsets.start_commit(&source.positions(), "epoch 7");
    assert_eq!(offsets.poll_commit(), Poll::Ready(Ok(())));
}

fn values(batch: &Batch) -> Vec<String> {
    batch.records.iter().map(|r| String::from_utf8(batch.value(r).unwrap().to_vec()).unwrap()).collect()
}

/// All that is left, waiting for wake-ups where nothing is there.
fn drain(source: &mut dyn Source, budget: Budget) -> Result<Vec<String>, EndError> {
    let mut all = Vec::new();
    loop {
        match source.poll(budget)? {
            Polled::Batch(batch) => all.extend(values(&batch)),
            Polled::Pending => thread::park(),
            Polled::End => return Ok(all),
        }
    }
}

fn sink(factory: &dyn ConnectorFactory, options: Value) -> Result<Box<dyn Sink>, EndError> {
    factory.check_sink(&options).unwrap();
    factory.connect(scope()).sink(&SinkSpec { task: task(), name: "out".into(), options })
}

fn batch(values: &[Option<&str>]) -> Batch {
    let mut batch = Batch::new(Partition::new("t", 0));
    for (i, value) in values.iter().enumerate() {
        let value = batch.put(value.map(str::as_bytes));
        let offset = i as i64;
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
    }
    batch
}

fn flush(sink: &mut dyn Sink) -> Result<(), EndError> {
    sink.start_flush();
    loop {
        match sink.poll_flush() {
            Poll::Ready(flushed) => return flushed,
            Poll::Pending => thread::park(),
        }
    }
}

fn files(dir: &Path) -> FileFactory {
    FileFactory::new(dir, dir.join("data"))
}

#[test]
fn a_file_ends_stays_ended_and_a_torn_last_line_is_a_record() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), "one\n\ntwo\r\nthree").unwrap();
    let mut source = source(&files(dir.path()), json!({"path": "in"})).unwrap();
    let Polled::Batch(batch) = source.poll(BUDGET).unwrap() else { panic!("there are lines") };
    let offsets: Vec<i64> = batch.records.iter().map(|r| r.offset).collect();
    // The last line comes once the end is certain.
    assert_eq!((values(&batch), offsets), (vec!["one".into(), "two".into()], vec![0, 5]));
    assert_eq!(drain(&mut *source, BUDGET).unwrap(), ["three"]);
    assert!(matches!(source.poll(BUDGET), Ok(Polled::End)));
    let lag = source.lag();
    assert_eq!((lag[0].position, lag[0].records()), (15, Some(0)));
    source.stop();
    assert!(matches!(source.poll(BUDGET), Ok(Polled::End)));
}

#[test]
fn a_file_goes_on_where_it_was_committed_whatever_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..50).map(|i| format!("line {i}")).collect();
    fs::write(dir.path().join("in"), lines.join("\n")).unwrap();
    let (factory, options) = (files(dir.path()), json!({"path": "in"}));
    let mut all = Vec::new();
    for records in 1.. {
        let mut source = source(&factory, options.clone()).unwrap();
        let polled = loop {
            match source.poll(Budget { records, bytes: 1 << 20 }).unwrap() {
                Polled::Pending => thread::park(),
                polled => break polled,
            }
        };
        let Polled::Batch(batch) = polled else { break };
        all.extend(values(&batch));
        commit(&factory, options.clone(), &mut *source);
    }
    assert_eq!(all, lines);
    let kept = committed(&factory, &spec(&factory, options)).unwrap();
    assert_eq!(kept[0].metadata.as_deref(), Some("epoch 7"));
}

#[test]
fn a_position_behind_a_record_by_one_starts_at_the_next_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), "a\nbcd\nef\n").unwrap();
    let factory = files(dir.path());
    for (at, left) in [(1, vec!["bcd", "ef"]), (3, vec!["ef"]), (5, vec!["ef"]), (9, vec![])] {
        let spec = spec(&factory, json!({"path": "in"}));
        let mut source = factory.connect(scope()).source(&spec).unwrap();
        source.start(&[(spec.partitions[0].clone(), at)]).unwrap();
        assert_eq!(drain(&mut *source, BUDGET).unwrap(), left, "from byte {at}");
    }
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let (factory, at) = (files(dir.path()), dir.path().display().to_string());
    let missing = source(&factory, json!({"path": "gone"})).err().unwrap();
    assert_eq!(missing.message, format!("file {at}/gone: No such file or directory (os error 2)"));
    let directory = source(&factory, json!({"path": "."})).err().unwrap();
    assert_eq!(directory.message, format!("file {at}/.: it is not a regular file"));

    fs::write(dir.path().join("in"), "one\ntwo\n").unwrap();
    let options = json!({"path": "in"});
    let mut read = source(&factory, options.clone()).unwrap();
    drain(&mut *read, BUDGET).unwrap();
    commit(&factory, options.clone(), &mut *read);
    fs::write(dir.path().join("in"), "one\n").unwrap();
    let cut = source(&factory, options.clone()).err().unwrap();
    assert_eq!(cut.code, Code::OffsetOutOfRange);
    assert!(cut.message.contains("it has 4 bytes, and 8 were read of it before"), "{cut}");

    fs::write(dir.path().join("data/positions/pelton.default.test/in.0.json"), "{").unwrap();
    let damaged = source(&factory, options).err().unwrap();
    assert!(damaged.message.contains("delete it to read from the start"), "{damaged}");
}

#[test]
fn what_comes_before_an_endless_line_is_delivered_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = b"short\n".to_vec();
    text.resize(text.len() + MAX_LINE + 1, b'x');
    fs::write(dir.path().join("in"), text).unwrap();
    let mut source = source(&files(dir.path()), json!({"path": "in"})).unwrap();
    let Polled::Batch(first) = source.poll(BUDGET).unwrap() else { panic!("there is a line") };
    assert_eq!(values(&first), ["short"]);
    let error = drain(&mut *source, BUDGET).unwrap_err();
    assert!(
        error.message.ends_with("the line at byte 6 is longer than 8388608 bytes; break it up"),
        "{error}"
    );
}

#[test]
fn lines_are_appended_and_what_is_no_line_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let factory = files(dir.path());
    fs::write(dir.path().join("out"), "old\n").unwrap();
    let mut out = sink(&factory, json!({"path": "out"})).unwrap();
    let batch = batch(&[Some("skipped"), Some("a"), None, Some("b\nc"), Some("d")]);
    let refused = out.push(&batch, 1).unwrap();
    assert_eq!(refused.taken, 1);
    assert!(refused.rejected.unwrap().contains("no value"));
    assert!(out.push(&batch, 3).unwrap().rejected.unwrap().contains("line break"));
    assert_eq!(out.push(&batch, 4).unwrap(), Pushed { taken: 1, rejected: None });
    flush(&mut *out).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), "old\na\nd\n");
    assert!(sink(&factory, json!({"path": "nowhere/out"})).is_err());
}

#[test]
fn made_up_records_are_the_same_at_every_run_and_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let factory = GeneratorFactory::new(dir.path());
    let options = json!({"count": 100, "size": 64, "keys": 3});
    let whole = drain(&mut *source(&factory, options.clone()).unwrap(), BUDGET).unwrap();
    assert_eq!(whole.len(), 100);
    for (i, text) in whole.iter().enumerate() {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["id"], json!(i));
        assert!(["k0", "k1", "k2"].contains(&value["key"].as_str().unwrap()));
        assert_eq!(text.len(), 64);
    }
    let mut first = source(&factory, options.clone()).unwrap();
    let Polled::Batch(batch) = first.poll(Budget { records: 30, bytes: 1 << 20 }).unwrap() else { panic!() };
    assert_eq!(values(&batch), whole[..30]);
    let key = batch.key(&batch.records[0]).unwrap();
    assert!(whole[0].contains(std::str::from_utf8(key).unwrap()));
    commit(&factory, options.clone(), &mut *first);
    let rest = drain(&mut *source(&factory, options).unwrap(), BUDGET).unwrap();
    assert_eq!(rest, whole[30..]);
}

#[test]
fn a_rate_follows_the_clock_and_wakes_for_the_next_record() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = now.clone();
    let factory = GeneratorFactory::new(dir.path()).with_clock(move || *clock.lock().unwrap());
    let mut source = source(&factory, json!({"rate": 100.0})).unwrap();
    let due = |source: &mut dyn Source| match source.poll(BUDGET).unwrap() {
        Polled::Batch(batch) => batch.len(),
        Polled::Pending => 0,
        Polled::End => panic!("without a count it never ends"),
    };
    assert_eq!((due(&mut *source), due(&mut *source)), (1, 0));
    // The alarm runs on real time; the records on the clock that was given.
    thread::park();
    *now.lock().unwrap() += Duration::from_millis(95);
    assert_eq!((due(&mut *source), due(&mut *source)), (9, 0));
}

#[test]
fn wrong_options_are_found_together() {
    let factory = GeneratorFactory::new("/nowhere");
    let errors = factory.check_source(&json!({"rate": 0.0, "keys": 0})).unwrap_err();
    let pointers: Vec<&str> = errors.iter().map(|e| e.pointer.as_str()).collect();
    assert_eq!(pointers, ["/rate", "/keys"]);
    assert!(
        factory.check_source(&json!({"cuont": 1})).unwrap_err()[0].message.contains("unknown field `cuont`")
    );
    assert!(FileFactory::new("/", "/").check_source(&json!({"path": ""})).is_err());
    assert!(BlackholeFactory.check_sink(&json!({"a": 1})).is_err());
}

/// Gives what it is sent; ends when the sender is dropped.
struct Pipe(mpsc::Receiver<Vec<u8>>);

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.recv().unwrap_or_default();
        out[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[test]
fn standard_input_waits_without_blocking_and_passes_from_source_to_source() {
    let (send, pipe) = mpsc::channel();
    let factory = StdinFactory::with_input(Pipe(pipe));
    let mut first = source(&factory, json!({})).unwrap();
    assert!(matches!(first.poll(BUDGET), Ok(Polled::Pending)));
    assert!(source(&factory, json!({})).err().unwrap().message.contains("another source reads it"));
    send.send(b"one\ntw".to_vec()).unwrap();
    let batch = loop {
        match first.poll(BUDGET).unwrap() {
            Polled::Batch(batch) => break batch,
            _ => thread::park(),
        }
    };
    assert_eq!(values(&batch), ["one"]);
    first.stop();
    let mut second = source(&factory, json!({})).unwrap();
    send.send(b"o\nthree".to_vec()).unwrap();
    drop(send);
    assert_eq!(drain(&mut *second, BUDGET).unwrap(), ["two", "three"]);
    assert!(matches!(second.poll(BUDGET), Ok(Polled::End)));
    assert_eq!(second.positions()[0].1, 3);
}

/// Writes when it is told to; then fails.
struct Gate(mpsc::Receiver<bool>, Arc<Mutex<Vec<u8>>>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.recv() {
            Ok(true) => self.1.lock().unwrap().write(bytes),
            _ => Err(io::Error::new(io::ErrorKind::BrokenPipe, "closed")),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn standard_output_never_blocks_the_executor_and_says_when_it_is_closed() {
    let (open, gate) = mpsc::channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let factory = StdoutFactory::with_output(Gate(gate, written.clone()));
    let mut out = sink(&factory, json!({})).unwrap();
    let long = "x".repeat(600_000);
    let batch = batch(&[Some(&long), Some(&long), Some("small")]);
    // The reader is slow: what does not fit is left to the runtime.
    assert_eq!(out.push(&batch, 0).unwrap().taken, 2);
    assert_eq!(out.push(&batch, 2).unwrap().taken, 0);
    out.start_flush();
    assert_eq!(out.poll_flush(), Poll::Pending);
    open.send(true).unwrap();
    open.send(true).unwrap();
    flush(&mut *out).unwrap();
    assert_eq!(written.lock().unwrap().len(), 2 * 600_001);
    assert_eq!(out.push(&batch, 2).unwrap().taken, 1);
    drop(open);
    assert_eq!(flush(&mut *out).unwrap_err().message, "standard output: closed");
}

#[test]
fn a_blackhole_takes_everything() {
    let mut out = sink(&BlackholeFactory, json!({})).unwrap();
    assert_eq!(
        out.push(&batch(&[Some("a"), None, Some("b")]), 1).unwrap(),
        Pushed { taken: 2, rejected: None }
    );
    flush(&mut *out).unwrap();
}
