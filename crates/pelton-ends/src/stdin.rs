//! `stdin`: lines of standard input. A thread reads them, because reading may block; it ends with the input.

use crate::{
    lines::{Cutter, MAX_LINE, add_value},
    no_sink,
    positions::NoOffsets,
};
use pelton_sdk::{
    Budget, Connector, ConnectorFactory, EndError, Lag, Offsets, OptionError, Polled, Scope, Sink, SinkSpec,
    Source, SourceShape, SourceSpec, TopicCatalog, Wake, parse_options,
};
use pelton_types::{Batch, Code, Offset, Partition};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender, TryRecvError},
    },
    thread,
};

/// Bytes in one read.
const CHUNK: usize = 64 << 10;
/// Reads that wait for the executor at most; then the thread waits, and whoever writes to the pipe.
const WAITING: usize = 16;

/// Nothing to choose: `stdin: {}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StdinOptions {}

/// Makes the `stdin` source. A process has one standard input: one source reads it at a time, and one that follows
/// (after a pause, say) goes on behind it.
#[derive(Clone)]
pub struct StdinFactory(Arc<Mutex<Input>>);

enum Input {
    /// Nobody asked yet.
    Unread(Box<dyn Read + Send>),
    /// In the hands of a source.
    Taken,
    /// Given back by a source that stopped.
    Idle(Reading),
}

struct Reading {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Whom the thread wakes; changes hands with the input.
    wake: Arc<Mutex<Wake>>,
    cutter: Cutter,
    ended: bool,
    /// Lines handed out so far.
    delivered: Offset,
}

impl StdinFactory {
    /// Of this process.
    pub fn new() -> Self {
        Self::with_input(io::stdin())
    }

    /// Of something else that can be read.
    pub fn with_input(input: impl Read + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Input::Unread(Box::new(input)))))
    }
}

impl Default for StdinFactory {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for StdinFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StdinFactory")
    }
}

impl ConnectorFactory for StdinFactory {
    fn name(&self) -> &'static str {
        "stdin"
    }

    fn summary(&self) -> &'static str {
        "reads lines of standard input until it ends"
    }

    fn source_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(StdinOptions))
    }

    fn sink_schema(&self) -> Option<schemars::Schema> {
        None
    }

    fn check_source(&self, options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        parse_options::<StdinOptions>(options)?;
        Ok(SourceShape { topics: vec!["stdin".into()], partitions: Some(1), bounded: true })
    }

    fn check_sink(&self, _options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Err(vec![OptionError::at("", "standard input takes no records").hint("use `stdout`")])
    }

    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }

    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(StdinConnector { input: self.0.clone(), wake: scope.wake })
    }
}

struct StdinConnector {
    input: Arc<Mutex<Input>>,
    wake: Wake,
}

impl Connector for StdinConnector {
    fn source(&mut self, _spec: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        Ok(Box::new(StdinSource { input: self.input.clone(), wake: self.wake.clone(), running: None }))
    }

    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        no_sink("stdin", spec)
    }

    fn offsets(&mut self, _spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        Ok(Box::new(NoOffsets::default()))
    }
}

struct StdinSource {
    input: Arc<Mutex<Input>>,
    wake: Wake,
    running: Option<(Partition, Reading)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(why: impl std::fmt::Display) -> EndError {
    EndError::stop(Code::SourceFailed, format!("standard input: {why}"))
}

fn begin(input: Box<dyn Read + Send>, wake: Wake) -> Result<Reading, EndError> {
    let (send, chunks) = mpsc::sync_channel(WAITING);
    let wake = Arc::new(Mutex::new(wake));
    let waker = wake.clone();
    let started = thread::Builder::new().name("stdin".into()).spawn(move || read_all(input, &send, &waker));
    started.map_err(|e| failed(format!("no thread: {e}")))?;
    Ok(Reading { chunks, wake, cutter: Cutter::default(), ended: false, delivered: 0 })
}

fn read_all(mut input: Box<dyn Read + Send>, send: &SyncSender<io::Result<Vec<u8>>>, wake: &Mutex<Wake>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = match input.read(&mut chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read,
        };
        let last = !matches!(read, Ok(1..));
        let sent = send.send(read.map(|n| {
            chunk.truncate(n);
            chunk
        }));
        lock(wake).wake();
        if last || sent.is_err() {
            return;
        }
    }
}

impl Source for StdinSource {
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        let Some((partition, at)) = at.first() else { return Ok(()) };
        let mut reading = match std::mem::replace(&mut *lock(&self.input), Input::Taken) {
            Input::Unread(input) => begin(input, self.wake.clone())?,
            Input::Idle(reading) => {
                *lock(&reading.wake) = self.wake.clone();
                reading
            }
            Input::Taken => return Err(failed("another source reads it already")),
        };
        reading.delivered = reading.delivered.max(*at);
        self.running = Some((partition.clone(), reading));
        Ok(())
    }

    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        let Some((partition, reading)) = &mut self.running else { return Ok(Polled::End) };
        let mut batch = Batch::new(partition.clone());
        let mut bytes = 0;
        let mut more = true;
        while batch.len() < budget.records.max(1) && bytes < budget.bytes.max(1) {
            match reading.cutter.next(reading.ended) {
                Ok(Some((_, line))) => {
                    bytes += line.len();
                    add_value(&mut batch, reading.delivered, line);
                    reading.delivered += 1;
                }
                Ok(None) if !more || reading.ended => break,
                Ok(None) => match reading.chunks.try_recv() {
                    Ok(Ok(chunk)) if chunk.is_empty() => reading.ended = true,
                    Ok(Ok(chunk)) => reading.cutter.push(&chunk),
                    Ok(Err(e)) => return Err(failed(e)),
                    Err(TryRecvError::Empty) => more = false,
                    Err(TryRecvError::Disconnected) => reading.ended = true,
                },
                Err(_) if !batch.is_empty() => break,
                Err(_) => {
                    let line = reading.delivered + 1;
                    return Err(failed(format!("line {line} is longer than {MAX_LINE} bytes; break it up")));
                }
            }
        }
        if batch.is_empty() {
            return Ok(if reading.ended { Polled::End } else { Polled::Pending });
        }
        batch.mark_origin();
        Ok(Polled::Batch(batch))
    }

    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        self.running.iter().map(|(partition, reading)| (partition.clone(), reading.delivered)).collect()
    }

    fn lag(&mut self) -> Vec<Lag> {
        let lag = |(partition, reading): &(Partition, Reading)| Lag {
            partition: partition.clone(),
            position: reading.delivered,
            end: reading.ended.then_some(reading.delivered),
        };
        self.running.iter().map(lag).collect()
    }

    fn stop(&mut self) {
        if let Some((_, reading)) = self.running.take() {
            *lock(&self.input) = Input::Idle(reading);
        }
    }
}

impl Drop for StdinSource {
    fn drop(&mut self) {
        self.stop();
    }
}
