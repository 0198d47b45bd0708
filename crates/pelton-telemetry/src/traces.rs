//! Spans, one for each batch, exported by OTLP over gRPC when an endpoint is configured.
//!
//! Only spans with the target [`TARGET`] are exported: what a library or a log line opens is not a user's trace.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::StartError;
use crate::logs::BoxedLayer;

/// Target of the spans that are exported.
pub const TARGET: &str = "pelton::batch";

/// How long the end of a process waits for the last spans: less than a drain, and a collector that is away costs it
/// only once.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// One export may take this long before its spans are given up.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where spans go, if anywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceOptions {
    /// OTLP over gRPC, `http://host:4317`; none means no traces, at no cost.
    pub endpoint: Option<String>,
    /// Share of batches that are traced, 0 to 1. A batch whose parent was decided upstream follows it.
    pub sampling_ratio: f64,
    /// `service.name` of the spans.
    pub service: String,
    /// `service.instance.id` of the spans: the worker's name.
    pub instance: String,
}

impl Default for TraceOptions {
    fn default() -> Self {
        TraceOptions {
            endpoint: None,
            sampling_ratio: 1.0,
            service: "pelton".into(),
            instance: String::new(),
        }
    }
}

/// The exporter that the options ask for.
pub(crate) fn provider(options: &TraceOptions) -> Result<Option<SdkTracerProvider>, StartError> {
    let Some(endpoint) = &options.endpoint else { return Ok(None) };
    if !(0.0..=1.0).contains(&options.sampling_ratio) {
        return Err(StartError::Ratio(options.sampling_ratio));
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|cause| StartError::Endpoint { endpoint: endpoint.clone(), cause: cause.to_string() })?;
    let resource = Resource::builder()
        .with_service_name(options.service.clone())
        .with_attribute(KeyValue::new("service.instance.id", options.instance.clone()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sampling_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

/// The layer that turns our batch spans into exported ones.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("pelton"))
        .with_filter(filter_fn(|meta| meta.is_span() && meta.target() == TARGET))
        .boxed()
}
