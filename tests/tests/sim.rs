//! Whole clusters on one thread: what must hold whatever is lost, and when.
//!
//! `PELTON_SIM_SEEDS=n` runs each scenario with n seeds; `PELTON_SEED=n` replays one.

use pelton_proto::v1::{
    self, ApplyRequest, DrainWorkerRequest, PipelineRef, cluster_client::ClusterClient,
    pipelines_client::PipelinesClient,
};
use pelton_tests::sim::{Builder, Faults, Sabotage, SimCluster, cluster::PIPELINE, seeds};
use std::time::Duration;

/// The pipeline of every scenario; `map` is where revisions differ.
fn definition(map: &str) -> String {
    format!(
        r#"
apiVersion: pelton.dev/v1
kind: Pipeline
metadata: {{ name: {PIPELINE} }}
spec:
  delivery: at-least-once
  commitInterval: 200ms
  sources:
    in: {{ kafka: {{ topics: [in] }}, decode: json }}
  operators:
    - {{ name: kept, filter: ".keep == true" }}
    - {{ name: marked, map: "{map}" }}
  sinks:
    out: {{ kafka: {{ topic: out }} }}
"#
    )
}

fn apply(cluster: &mut SimCluster, map: &str) -> v1::Applied {
    let request = ApplyRequest { definition: definition(map), ..ApplyRequest::default() };
    let answer = cluster.ask("the definition is applied", |channel| async move {
        PipelinesClient::new(channel).apply(request).await
    });
    answer.expect("the definition is good").into_inner().applied.remove(0)
}

fn pipeline() -> PipelineRef {
    PipelineRef { namespace: "default".into(), name: PIPELINE.into() }
}

/// A cluster that works on its load.
fn at_work(settings: Builder) -> SimCluster {
    let mut cluster = settings.start();
    apply(&mut cluster, ".revision = 1");
    cluster.until("every task runs", |c| c.all_run());
    cluster.open_load();
    cluster.until("work is under way", |c| c.auditor().records_out() > 300);
    cluster
}

fn each_seed(mut scenario: impl FnMut(u64)) {
    seeds().into_iter().for_each(&mut scenario);
}

#[test]
fn a_lost_worker_loses_no_record() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).faults(Faults { lost_permille: 2 }));
        assert_eq!(cluster.owners().len(), 2, "both workers have tasks: {:?}", cluster.owners());
        cluster.crash("worker-1");
        cluster.until("the other worker runs every task", |c| c.owners().get("worker-2") == Some(&8));
        cluster.finish_well();
    });
}

#[test]
fn an_undisturbed_run_delivers_each_record_once() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2));
        let account = cluster.finish_well();
        let auditor = cluster.auditor();
        assert_eq!(auditor.copies(), 0);
        assert_eq!((account.records_in, account.filtered), (auditor.records_in(), auditor.to_filter()));
    });
}
