//! The span of one batch: its attributes by the messaging conventions of OpenTelemetry, and its links to producers.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What a batch span says. The names it gets are the conventions' (still in development there), kept here alone.
#[derive(Clone, Copy, Debug)]
pub struct BatchSpan<'a> {
    /// Pipeline the batch belongs to.
    pub pipeline: &'a str,
    /// Task that processes it.
    pub task: &'a str,
    /// Epoch of the task.
    pub epoch: u64,
    /// Kind of queue: `kafka`.
    pub system: &'a str,
    /// Topic it was read from.
    pub topic: &'a str,
    /// Partition it was read from.
    pub partition: i32,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Records in it.
    pub records: usize,
}

impl BatchSpan<'_> {
    /// Opens the span. It costs one check where no exporter and no log filter wants it.
    pub fn open(&self) -> Span {
        let span = tracing::info_span!(
            target: "pelton::batch",
            "process",
            otel.name = tracing::field::Empty,
            otel.kind = "consumer",
            pipeline = self.pipeline,
            task = self.task,
            epoch = self.epoch,
            "messaging.system" = self.system,
            "messaging.operation.name" = "process",
            "messaging.operation.type" = "process",
            "messaging.destination.name" = self.topic,
            "messaging.destination.partition.id" = self.partition,
            "messaging.kafka.offset" = self.first_offset,
            "messaging.batch.message_count" = self.records,
        );
        if !span.is_disabled() {
            span.record("otel.name", format!("process {}", self.topic));
        }
        span
    }
}

/// Links `span` to the span that a record's `traceparent` header names. Returns whether the header was well formed.
///
/// A batch has many producers, so they are links and not parents.
pub fn link_producer(span: &Span, traceparent: &[u8]) -> bool {
    let Some(producer) = parse_traceparent(traceparent) else { return false };
    span.add_link(producer);
    true
}

/// Reads a W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`, all lower case, ids not zero. Later versions may add
/// fields after another `-`; version `ff` does not exist.
pub fn parse_traceparent(header: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(header).ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let extra = parts.next().is_some();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let shaped = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    if !shaped || version == "ff" || (version == "00" && extra) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_formed_traceparent_names_its_span() {
        let context = parse_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
        let later = parse_traceparent(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more");
        assert!(!later.unwrap().is_sampled(), "a later version may carry more fields");
    }

    #[test]
    fn a_malformed_traceparent_is_no_link() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(parse_traceparent(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse_traceparent(b"\xff\xfe").is_none());
    }
}
