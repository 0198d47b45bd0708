//! Health, metrics, traces, and the way out.

use crate::support::{
    cluster::{Cluster, copy},
    net, until,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use std::{collections::BTreeSet, sync::mpsc};
use tonic::{Request, Response, Status};

#[test]
fn every_role_tells_of_its_health_and_counts() {
    let cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    kafka.create("in", 2);
    kafka.create("out", 2);
    cluster.apply(&copy("copy", ".id >= 5")).ok();
    kafka.put_ids("in", 0..20);
    cluster.until_in("copy", 20);
    let names: [&[&str]; 3] = [
        &["pelton_broker_produced_records", "pelton_broker_connections"],
        &[
            "pelton_leader",
            "pelton_coordinator_term",
            "pelton_workers",
            "pelton_tasks_wanted",
            "pelton_tasks_unassigned",
            "pelton_tasks",
            "pelton_pipeline_lag_records",
            "pelton_task_granted_epoch",
        ],
        &[
            "pelton_records_in_total",
            "pelton_records_out_total",
            "pelton_records_dropped_total",
            "pelton_commits_total",
            "pelton_source_lag_records",
            "pelton_source_lag_seconds",
            "pelton_task_epoch",
            "pelton_task_busy_seconds_total",
            "pelton_task_backpressured_seconds_total",
            "pelton_e2e_latency_seconds",
            "pelton_operator_records_in_total",
            "pelton_operator_batch_duration_seconds",
        ],
    ];
    for (http, names) in cluster.http.iter().zip(names) {
        net::until_status(http, "/livez", 200);
        net::until_status(http, "/readyz", 200);
        let page = net::get(http, "/metrics").1;
        for name in names.iter().chain(&["pelton_build_info", "process_cpu_seconds_total"]) {
            assert!(page.contains(&format!("# TYPE {name} ")), "no {name} in {page}");
        }
    }
    until("twenty records in the worker's counters", || {
        let page = net::get(&cluster.http[2], "/metrics").1;
        let of = |name: &str| -> f64 {
            let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        (of("pelton_records_dropped_total") == 5.0 && of("pelton_commits_total") > 0.0).then_some(())
    });
}

#[test]
fn a_worker_that_is_told_to_end_finishes_commits_and_lets_go() {
    let mut cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    kafka.create("in", 2);
    kafka.create("out", 2);
    // No commit but the last would come within the test.
    cluster.apply(&copy("copy", "true").replace("200ms", "10m")).ok();
    kafka.put_ids("in", 0..1000);
    kafka.until_ids("out", 1000);
    cluster.workers[0].terminate();
    let worker = cluster.workers.remove(0).said();
    assert_eq!(worker.code, 0, "{worker:#?}");
    let committed: i64 = (0..2).filter_map(|p| kafka.committed("pelton.default.copy", "in", p)).sum();
    assert_eq!(committed, 1000);
    let left = cluster.until("copy", "nobody holds a task", |p| {
        p["tasks"].as_array().unwrap().iter().all(|t| t["worker"] == "")
    });
    assert_eq!((&left["account"]["recordsOut"], &left["pending"]), (&1000.into(), &0.into()), "{left}");
    for child in [cluster.broker.take().unwrap(), cluster.coordinator] {
        child.terminate();
        let said = child.said();
        assert_eq!(said.code, 0, "{said:#?}");
    }
}

struct Receiver(mpsc::Sender<ExportTraceServiceRequest>);

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

#[test]
fn a_worker_exports_a_span_for_each_batch() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Receiver(sender)));
    runtime.spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));

    let cluster = Cluster::with(1, &[("PELTON__TELEMETRY__OTLP__ENDPOINT", &endpoint)]);
    let kafka = cluster.kafka();
    kafka.create("in", 2);
    kafka.create("out", 2);
    cluster.apply(&copy("copy", "true")).ok();
    kafka.put_ids("in", 0..100);
    cluster.until_in("copy", 100);
    let mut names = BTreeSet::new();
    until("a span of the batch", || {
        let export = received.try_recv().ok()?;
        let spans = export.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        names.extend(spans.map(|span| span.name.clone()));
        names.contains("process in").then_some(())
    });
}
