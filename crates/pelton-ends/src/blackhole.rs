//! `blackhole`: takes every record and keeps none, to measure what comes before it.

use crate::no_source;
use pelton_sdk::{
    Connector, ConnectorFactory, EndError, Offsets, OptionError, Pushed, Scope, Sink, SinkSpec, Source,
    SourceShape, SourceSpec, TopicCatalog, parse_options,
};
use pelton_types::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::{sync::Arc, task::Poll};

/// Nothing to choose: `blackhole: {}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BlackholeOptions {}

/// Makes `blackhole` sinks.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlackholeFactory;

impl ConnectorFactory for BlackholeFactory {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn summary(&self) -> &'static str {
        "takes every record and keeps none"
    }

    fn source_schema(&self) -> Option<schemars::Schema> {
        None
    }

    fn sink_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(BlackholeOptions))
    }

    fn check_source(&self, _options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        Err(vec![
            OptionError::at("", "nothing comes out of a blackhole")
                .hint("use `generator` for made-up records"),
        ])
    }

    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        parse_options::<BlackholeOptions>(options).map(|_| Vec::new())
    }

    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        None
    }

    fn connect(&self, _scope: Scope) -> Box<dyn Connector> {
        Box::new(BlackholeConnector)
    }
}

struct BlackholeConnector;

impl Connector for BlackholeConnector {
    fn source(&mut self, spec: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        no_source("blackhole", spec)
    }

    fn sink(&mut self, _spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        Ok(Box::new(BlackholeSink { flushing: false }))
    }

    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        no_source("blackhole", spec)
    }
}

struct BlackholeSink {
    flushing: bool,
}

impl Sink for BlackholeSink {
    fn push(&mut self, batch: &Batch, from: usize) -> Result<Pushed, EndError> {
        Ok(Pushed { taken: batch.len().saturating_sub(from), rejected: None })
    }

    fn start_flush(&mut self) {
        self.flushing = true;
    }

    fn poll_flush(&mut self) -> Poll<Result<(), EndError>> {
        if std::mem::take(&mut self.flushing) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
