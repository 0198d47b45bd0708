//! `stdout`: a line for each record. A thread writes them, because a pipe with a slow reader blocks.

use crate::{lines::put_line, no_source};
use pelton_sdk::{
    Connector, ConnectorFactory, EndError, Offsets, OptionError, Pushed, Scope, Sink, SinkSpec, Source,
    SourceShape, SourceSpec, TopicCatalog, Wake, parse_options,
};
use pelton_types::{Batch, Code};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    task::Poll,
    thread,
};

/// Bytes that wait for the thread at most (a record more, if it is bigger).
const WAITING: usize = 1 << 20;
/// Bytes of a chunk handed to the thread at about most.
const CHUNK: usize = 64 << 10;

/// Nothing to choose: `stdout: {}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StdoutOptions {}

type Output = Arc<Mutex<dyn Write + Send>>;

/// Makes `stdout` sinks. Several may write: lines stay whole.
#[derive(Clone)]
pub struct StdoutFactory(Output);

impl StdoutFactory {
    /// Of this process.
    pub fn new() -> Self {
        Self::with_output(io::stdout())
    }

    /// Of something else that can be written.
    pub fn with_output(output: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }
}

impl Default for StdoutFactory {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for StdoutFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StdoutFactory")
    }
}

impl ConnectorFactory for StdoutFactory {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn summary(&self) -> &'static str {
        "writes a line for each record to standard output"
    }

    fn source_schema(&self) -> Option<schemars::Schema> {
        None
    }

    fn sink_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(StdoutOptions))
    }

    fn check_source(&self, _options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        Err(vec![OptionError::at("", "standard output gives no records").hint("use `stdin`")])
    }

    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        parse_options::<StdoutOptions>(options).map(|_| Vec::new())
    }

    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }

    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(StdoutConnector { output: self.0.clone(), wake: scope.wake })
    }
}

struct StdoutConnector {
    output: Output,
    wake: Wake,
}

impl Connector for StdoutConnector {
    fn source(&mut self, spec: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        no_source("stdout", spec)
    }

    fn sink(&mut self, _spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        let (chunks, inbox) = mpsc::channel();
        let (done, written) = mpsc::channel();
        let (output, wake) = (self.output.clone(), self.wake.clone());
        let started = thread::Builder::new()
            .name("stdout".into())
            .spawn(move || write_all(&output, &inbox, &done, &wake));
        started.map_err(|e| EndError::stop(Code::SinkFailed, format!("standard output: no thread: {e}")))?;
        Ok(Box::new(StdoutSink {
            chunks,
            written,
            chunk: Vec::new(),
            waiting: 0,
            flushing: false,
            failed: None,
        }))
    }

    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        no_source("stdout", spec)
    }
}

/// Until the sink is dropped; says how many bytes of each chunk were written.
fn write_all(output: &Output, inbox: &Receiver<Vec<u8>>, done: &Sender<io::Result<usize>>, wake: &Wake) {
    while let Ok(chunk) = inbox.recv() {
        let written = {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.write_all(&chunk).and_then(|()| output.flush()).map(|()| chunk.len())
        };
        let gone = done.send(written).is_err();
        wake.wake();
        if gone {
            return;
        }
    }
}

struct StdoutSink {
    chunks: Sender<Vec<u8>>,
    written: Receiver<io::Result<usize>>,
    /// Lines not handed to the thread yet.
    chunk: Vec<u8>,
    /// Bytes with the thread.
    waiting: usize,
    flushing: bool,
    failed: Option<EndError>,
}

impl StdoutSink {
    fn hand_over(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.waiting += chunk.len();
        if self.chunks.send(chunk).is_err() {
            self.fail("its thread ended");
        }
    }

    /// What the thread did meanwhile. A failed write is final: nobody knows how much of it went out.
    fn settle(&mut self) -> Result<(), EndError> {
        while let Ok(written) = self.written.try_recv() {
            match written {
                Ok(bytes) => self.waiting = self.waiting.saturating_sub(bytes),
                Err(e) => self.fail(&e.to_string()),
            }
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, why: &str) {
        let error = EndError::stop(Code::SinkFailed, format!("standard output: {why}"));
        self.failed.get_or_insert(error);
    }
}

impl Sink for StdoutSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        self.settle()?;
        let mut pushed = Pushed::default();
        for record in batch.records.iter().skip(from) {
            if self.waiting + self.chunk.len() >= WAITING {
                break;
            }
            match put_line(batch.value(record), &mut self.chunk) {
                Ok(()) => pushed.taken += 1,
                Err(why) => {
                    pushed.rejected = Some(why.to_owned());
                    break;
                }
            }
            if self.chunk.len() >= CHUNK {
                self.hand_over();
            }
        }
        // A line is shown when it is there, not when a chunk is full.
        self.hand_over();
        Ok(pushed)
    }

    fn start_flush(&mut self) {
        self.flushing = true;
    }

    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        if !self.flushing {
            return Poll::Pending;
        }
        let settled = self.settle();
        if settled.is_ok() && self.waiting > 0 {
            return Poll::Pending;
        }
        self.flushing = false;
        Poll::Ready(settled)
    }
}
