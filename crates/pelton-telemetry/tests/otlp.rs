//! Spans reach an OTLP receiver: one test, because a process has one subscriber.
// Helpers of tests may unwrap as tests may.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use pelton_telemetry::batch::{BatchSpan, link_producer};
use pelton_telemetry::{LogFormat, LogOptions, Options, TraceOptions};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

struct Receiver(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::cancelled("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receiver() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::unbounded_channel();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Receiver(sender)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (endpoint, received)
}

/// An attribute as text, whatever its type.
fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|have| have.key == name);
    let found = found.unwrap_or_else(|| panic!("no attribute {name} in {attributes:?}"));
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text.clone(),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_becomes_one_span_at_the_receiver_with_its_attributes_and_links() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (endpoint, mut received) = receiver().await;
    let started = pelton_telemetry::start(&Options {
        log: LogOptions { format: LogFormat::Json, filter: "warn".into() },
        trace: TraceOptions {
            endpoint: Some(endpoint),
            sampling_ratio: 1.0,
            service: "pelton-worker".into(),
            instance: "w1".into(),
        },
    })
    .unwrap();

    // Executors are plain threads outside the runtime.
    let executor = std::thread::spawn(|| {
        tracing::info_span!("somebody else's span").in_scope(|| ());
        let batch = BatchSpan {
            pipeline: "orders",
            task: "orders.0/3",
            epoch: 17,
            system: "kafka",
            topic: "orders",
            partition: 5,
            first_offset: 4_000,
            records: 500,
        };
        let span = batch.open();
        assert!(link_producer(&span, b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        span.in_scope(|| tracing::info!("an event is no span"));
    });
    executor.join().unwrap();
    started.shutdown().await;

    let export = tokio::time::timeout(Duration::from_secs(30), received.recv()).await.unwrap().unwrap();
    let resource = export.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name"), "pelton-worker");
    assert_eq!(attribute(&resource.attributes, "service.instance.id"), "w1");
    let spans: Vec<_> =
        export.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans).collect();
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["process orders"]);
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders"),
        ("messaging.destination.partition.id", "5"),
        ("messaging.kafka.offset", "4000"),
        ("messaging.batch.message_count", "500"),
        ("pipeline", "orders"),
        ("task", "orders.0/3"),
        ("epoch", "17"),
    ] {
        assert_eq!(attribute(&spans[0].attributes, name), value, "{name}");
    }
    let producers: Vec<String> = spans[0]
        .links
        .iter()
        .map(|link| link.trace_id.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    assert_eq!(producers, ["4bf92f3577b34da6a3ce929d0e0e4736"]);
    assert_eq!(received.try_recv().ok(), None, "nothing but the batch is exported");
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_with_what_to_write() {
    let refused = |trace: TraceOptions, filter: &str| {
        let log = LogOptions { filter: filter.into(), ..LogOptions::default() };
        pelton_telemetry::start(&Options { log, trace }).unwrap_err().to_string()
    };
    let endpoint =
        |endpoint: &str| TraceOptions { endpoint: Some(endpoint.into()), ..TraceOptions::default() };
    let bad = refused(endpoint("not a url"), "info");
    assert!(bad.contains("`not a url`") && bad.contains("http://127.0.0.1:4317"), "{bad}");
    let bad = refused(TraceOptions { sampling_ratio: 1.5, ..endpoint("http://127.0.0.1:1") }, "info");
    assert!(bad.contains("1.5") && bad.contains("between 0 and 1"), "{bad}");
    let bad = refused(TraceOptions::default(), "pelton=loud");
    assert!(bad.contains("pelton=loud"), "{bad}");
}
