//! `file`: lines of a local file in, lines appended to one out.

use crate::{
    lines::{Cutter, MAX_LINE, TooLong, add_value, put_line},
    positions::FileOffsets,
};
use pelton_sdk::{
    Budget, Connector, ConnectorFactory, EndError, Lag, Offsets, OptionError, Polled, Pushed, Scope, Sink,
    SinkSpec, Source, SourceShape, SourceSpec, TopicCatalog, Wake, parse_options,
};
use pelton_types::{Batch, Code, Offset, Partition};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    task::Poll,
};

/// Bytes read in one poll at most: about a tenth of a millisecond from the page cache.
const CHUNK: usize = 256 << 10;
/// Bytes a sink holds that the file system did not take yet.
const PENDING: usize = 1 << 20;

/// A file of lines, one record each.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileOptions {
    /// Where it is; relative paths count from the directory of the pipeline's definition.
    path: String,
}

/// Makes `file` sources and sinks.
#[derive(Clone, Debug)]
pub struct FileFactory {
    base_dir: PathBuf,
    data_dir: PathBuf,
}

impl FileFactory {
    /// Relative paths count from `base_dir`; positions of sources are kept in `data_dir`.
    pub fn new(base_dir: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self { base_dir: base_dir.into(), data_dir: data_dir.into() }
    }
}

fn options(options: &Value) -> Result<FileOptions, Vec<OptionError>> {
    let options: FileOptions = parse_options(options)?;
    if options.path.is_empty() || options.path.contains('\0') {
        let error = OptionError::at("/path", format!("{:?} is not a path", options.path));
        return Err(vec![error.hint("name a file, such as images.jsonl")]);
    }
    Ok(options)
}

impl ConnectorFactory for FileFactory {
    fn name(&self) -> &'static str {
        "file"
    }

    fn summary(&self) -> &'static str {
        "reads the lines of a file to its end, or appends lines to one"
    }

    fn source_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(FileOptions))
    }

    fn sink_schema(&self) -> Option<schemars::Schema> {
        self.source_schema()
    }

    fn check_source(&self, given: &Value) -> Result<SourceShape, Vec<OptionError>> {
        let FileOptions { path } = options(given)?;
        Ok(SourceShape { topics: vec![path], partitions: Some(1), bounded: true })
    }

    fn check_sink(&self, given: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        options(given).map(|_| Vec::new())
    }

    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }

    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(FileConnector { factory: self.clone(), wake: scope.wake })
    }
}

struct FileConnector {
    factory: FileFactory,
    wake: Wake,
}

impl FileConnector {
    fn path(&self, given: &Value) -> Result<PathBuf, EndError> {
        match options(given) {
            Ok(options) => Ok(self.factory.base_dir.join(options.path)),
            Err(errors) => {
                let why: Vec<String> = errors.into_iter().map(|e| e.message).collect();
                Err(EndError::stop(Code::BadPipeline, format!("file options: {}", why.join("; "))))
            }
        }
    }
}

impl Connector for FileConnector {
    fn source(&mut self, spec: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        Ok(Box::new(FileSource::new(self.path(&spec.options)?, self.wake.clone())))
    }

    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        Ok(Box::new(FileSink::open(self.path(&spec.options)?)?))
    }

    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        Ok(Box::new(FileOffsets::new(&self.factory.data_dir, spec)))
    }
}

struct Open {
    partition: Partition,
    file: File,
    cutter: Cutter,
    ended: bool,
    /// The position was inside a line: that line was delivered, the rest of it is skipped.
    skip: bool,
    start: Offset,
}

struct FileSource {
    path: PathBuf,
    wake: Wake,
    open: Option<Open>,
    chunk: Vec<u8>,
}

impl FileSource {
    fn new(path: PathBuf, wake: Wake) -> Self {
        Self { path, wake, open: None, chunk: Vec::new() }
    }
}

fn source_error(path: &Path, why: &str) -> EndError {
    EndError::stop(Code::SourceFailed, format!("file {}: {why}", path.display()))
}

fn open_at(path: &Path, partition: &Partition, at: Offset) -> Result<Open, EndError> {
    let failed = |e: io::Error| source_error(path, &e.to_string());
    // Opening a pipe would block, so look before.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(source_error(path, "it is not a regular file"));
    }
    let start = u64::try_from(at).unwrap_or(0);
    if start > about.len() {
        let message = format!(
            "file {}: it has {} bytes, and {start} were read of it before; it was cut or replaced, give it another name",
            path.display(),
            about.len()
        );
        return Err(EndError::stop(Code::OffsetOutOfRange, message));
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut skip = false;
    if start > 0 {
        let mut before = [0];
        file.seek(SeekFrom::Start(start - 1)).and_then(|_| file.read_exact(&mut before)).map_err(failed)?;
        skip = before != *b"\n";
    }
    Ok(Open {
        partition: partition.clone(),
        file,
        cutter: Cutter::at(at.max(0)),
        ended: false,
        skip,
        start: at.max(0),
    })
}

impl Source for FileSource {
    fn start(&mut self, at: &[(Partition, Offset)]) -> Result<(), EndError> {
        self.open = at.first().map(|(partition, at)| open_at(&self.path, partition, *at)).transpose()?;
        Ok(())
    }

    fn poll(&mut self, budget: Budget) -> Result<Polled, EndError> {
        let Some(open) = &mut self.open else { return Ok(Polled::End) };
        let mut batch = Batch::new(open.partition.clone());
        let mut bytes = 0;
        let mut reads = 0;
        while batch.len() < budget.records.max(1) && bytes < budget.bytes.max(1) {
            match open.cutter.next(open.ended) {
                // What is left of the line the position was in; nothing, when it was the line break alone.
                Ok(Some((offset, _))) if std::mem::take(&mut open.skip) && offset == open.start => {}
                Ok(Some((offset, line))) => {
                    bytes += line.len();
                    add_value(&mut batch, offset, line);
                }
                Ok(None) if open.ended => break,
                Ok(None) if reads > 0 => break,
                Ok(None) => {
                    reads += 1;
                    self.chunk.resize(CHUNK, 0);
                    let n = match open.file.read(&mut self.chunk) {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        read => read.map_err(|e| source_error(&self.path, &e.to_string()))?,
                    };
                    open.ended = n == 0;
                    open.cutter.push(&self.chunk[..n]);
                }
                // Deliver what came before it first.
                Err(_) if !batch.is_empty() => break,
                Err(TooLong(at)) => {
                    let why = format!("the line at byte {at} is longer than {MAX_LINE} bytes; break it up");
                    return Err(source_error(&self.path, &why));
                }
            }
        }
        if !batch.is_empty() {
            batch.mark_origin();
            return Ok(Polled::Batch(batch));
        }
        if open.ended && open.cutter.waiting() == 0 {
            return Ok(Polled::End);
        }
        // Only a part of a long line was read, or empty ones. There is more: a local file is always ready.
        self.wake.wake();
        Ok(Polled::Pending)
    }

    fn positions(&mut self) -> Vec<(Partition, Offset)> {
        self.open.iter().map(|open| (open.partition.clone(), open.cutter.position())).collect()
    }

    /// In bytes, as the positions are.
    fn lag(&mut self) -> Vec<Lag> {
        let lag = |open: &Open| Lag {
            partition: open.partition.clone(),
            position: open.cutter.position(),
            end: open.file.metadata().ok().and_then(|about| Offset::try_from(about.len()).ok()),
        };
        self.open.iter().map(lag).collect()
    }

    fn stop(&mut self) {
        self.open = None;
    }
}

struct FileSink {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
    flushing: bool,
}

impl FileSink {
    fn open(path: PathBuf) -> Result<Self, EndError> {
        let failed = |why: &str| EndError::stop(Code::SinkFailed, format!("file {}: {why}", path.display()));
        if std::fs::metadata(&path).is_ok_and(|about| !about.is_file()) {
            return Err(failed("it is not a regular file"));
        }
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        match opened {
            Ok(file) => Ok(Self { path, file, pending: Vec::new(), flushing: false }),
            Err(e) => Err(failed(&e.to_string())),
        }
    }

    /// Write all that waits; what was not taken stays, so that no line is torn or doubled by trying again.
    fn write_out(&mut self) -> Result<(), EndError> {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(n) if n > 0 => drop(self.pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    let why = failed.err().map_or("it takes no bytes".to_owned(), |e| e.to_string());
                    return Err(EndError::retry(
                        Code::SinkFailed,
                        format!("file {}: {why}", self.path.display()),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        let mut pushed = Pushed::default();
        for record in batch.records.iter().skip(from) {
            if self.pending.len() >= PENDING {
                self.write_out()?;
            }
            match put_line(batch.value(record), &mut self.pending) {
                Ok(()) => pushed.taken += 1,
                Err(why) => {
                    pushed.rejected = Some(why.to_owned());
                    break;
                }
            }
        }
        Ok(pushed)
    }

    fn start_flush(&mut self) {
        self.flushing = true;
    }

    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        if !self.flushing {
            return Poll::Pending;
        }
        // After an error the flush goes on: asking again tries again.
        let written = self.write_out();
        self.flushing = written.is_err();
        Poll::Ready(written)
    }
}
