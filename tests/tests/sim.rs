//! Whole clusters on one thread: what must hold whatever is lost, and when.
//!
//! `PELTON_SIM_SEEDS=n` runs each scenario with n seeds; `PELTON_SEED=n` replays one.

use pelton_proto::v1::{
    self, ApplyRequest, DrainWorkerRequest, PipelineRef, cluster_client::ClusterClient,
    pipelines_client::PipelinesClient,
};
use pelton_tests::sim::{Builder, Faults, Random, Sabotage, SimCluster, cluster::PIPELINE, seeds};
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

#[test]
fn a_worker_that_is_parted_from_the_coordinator_steps_down_when_it_comes_back() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(9000, 600));
        cluster.partition("worker-1", "coordinator");
        cluster.until("the other worker runs every task", |c| c.owners().get("worker-2") == Some(&8));
        let before = cluster.commits_of("worker-1");
        cluster.pass(Duration::from_secs(2));
        assert!(cluster.commits_of("worker-1") > before, "it works on, because nobody told it otherwise");
        cluster.repair("worker-1", "coordinator");
        cluster.until("it is back and has tasks again", |c| {
            c.owners().get("worker-1") == Some(&4) && c.all_run()
        });
        let commits = cluster.commits_of("worker-1");
        cluster.until("it commits again", |c| c.commits_of("worker-1") > commits);
        cluster.finish_well();
    });
}

#[test]
fn workers_commit_while_the_coordinator_is_away() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(9000, 600));
        let epochs = cluster.epochs();
        cluster.crash("coordinator");
        for second in 0..8 {
            let before = ["worker-1", "worker-2"].map(|worker| cluster.commits_of(worker));
            cluster.pass(Duration::from_secs(1));
            let after = ["worker-1", "worker-2"].map(|worker| cluster.commits_of(worker));
            assert!(
                before.iter().zip(after).all(|(before, after)| after > *before),
                "nobody stops in second {second}"
            );
        }
        cluster.restart("coordinator");
        cluster.until("both workers are back", |c| c.attached().len() == 2 && c.all_run());
        cluster.finish_well();
        assert_eq!(cluster.epochs(), epochs, "nothing was granted anew");
        assert_eq!(cluster.auditor().copies(), 0, "and so nothing was done twice");
    });
}

#[test]
fn tasks_move_to_a_worker_that_joins_one_at_a_time_and_nothing_is_done_twice() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(1).load(6000, 600));
        let joined = cluster.add_worker();
        let mut most = 0;
        cluster.until("the newcomer has half of the tasks", |c| {
            let running: usize = c.owners().values().sum();
            most = most.max(8 - running);
            c.owners().get(&joined) == Some(&4) && c.all_run()
        });
        assert_eq!(most, 1, "one task is on the way at a time");
        let account = cluster.finish_well();
        assert_eq!(cluster.auditor().copies(), 0);
        assert_eq!(account.records_in, cluster.auditor().records_in());
    });
}

#[test]
fn a_drained_worker_hands_over_all_its_tasks() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(6000, 600));
        let request = DrainWorkerRequest { worker_id: "worker-1".into() };
        let drained = cluster.ask("worker-1 is drained", |channel| async move {
            ClusterClient::new(channel).drain_worker(request).await
        });
        assert_eq!(drained.expect("it is attached").into_inner().tasks, 4);
        cluster.until("the other worker runs every task", |c| c.owners().get("worker-2") == Some(&8));
        let account = cluster.finish_well();
        assert_eq!(cluster.auditor().copies(), 0);
        assert_eq!(account.records_in, cluster.auditor().records_in());
    });
}

#[test]
fn a_worker_that_is_asked_to_end_commits_hands_over_and_ends() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(6000, 600));
        cluster.terminate("worker-1");
        cluster.until("it has ended", |c| !c.runs("worker-1"));
        cluster.until("the other worker runs every task", |c| c.owners().get("worker-2") == Some(&8));
        let account = cluster.finish_well();
        assert_eq!(cluster.auditor().copies(), 0);
        assert_eq!(account.records_in, cluster.auditor().records_in());
    });
}

#[test]
fn a_paused_pipeline_stops_at_a_commit_and_goes_on_there() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(6000, 600));
        let paused = cluster.ask("the pipeline is paused", |channel| async move {
            PipelinesClient::new(channel).pause(pipeline()).await
        });
        assert_eq!(paused.expect("it exists").into_inner().phase, "paused");
        cluster.until("no task runs", |c| c.owners().is_empty());
        let (stored, commits) = (cluster.auditor().records_out(), cluster.kafka().commits());
        cluster.pass(Duration::from_secs(3));
        assert_eq!((cluster.auditor().records_out(), cluster.kafka().commits()), (stored, commits));
        let resumed = cluster.ask("the pipeline is resumed", |channel| async move {
            PipelinesClient::new(channel).resume(pipeline()).await
        });
        resumed.expect("it exists");
        let account = cluster.finish_well();
        assert_eq!(cluster.auditor().copies(), 0);
        assert_eq!(account.records_in, cluster.auditor().records_in());
    });
}

#[test]
fn a_changed_pipeline_goes_on_where_the_old_one_committed() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(6000, 600));
        let changed = apply(&mut cluster, ".revision = 2");
        assert_eq!((changed.revision, changed.outcome.as_str()), (2, "changed"));
        let account = cluster.finish_well();
        assert_eq!(cluster.auditor().copies(), 0);
        assert_eq!(account.records_in, cluster.auditor().records_in());
        let revisions = cluster.values_of("revision");
        let first_of_second =
            revisions.iter().map(|all| all.iter().position(|r| *r == 2).expect("the new revision wrote"));
        for (all, from) in revisions.iter().zip(first_of_second) {
            assert!(
                all[from..].iter().all(|r| *r == 2),
                "the old revision wrote nothing after the new one: {all:?}"
            );
        }
    });
}

#[test]
fn a_queue_that_does_not_answer_is_waited_for() {
    each_seed(|seed| {
        let mut cluster = at_work(SimCluster::seeded(seed).workers(2).load(4000, 400));
        ["worker-1", "worker-2"].iter().for_each(|worker| cluster.cut_from_broker(worker, true));
        let commits = cluster.kafka().commits();
        cluster.pass(Duration::from_secs(8));
        assert_eq!(cluster.kafka().commits(), commits);
        ["worker-1", "worker-2"].iter().for_each(|worker| cluster.cut_from_broker(worker, false));
        cluster.finish_well();
    });
}

#[test]
fn whatever_happens_in_whatever_order_nothing_is_lost() {
    each_seed(|seed| {
        let settings = SimCluster::seeded(seed).workers(3).load(6000, 400);
        let mut cluster = at_work(settings.faults(Faults { lost_permille: 10 }));
        let mut random = Random::new(seed);
        for _ in 0..5 {
            let worker = format!("worker-{}", 1 + random.below(3));
            let time = random.between(Duration::from_millis(100), Duration::from_secs(6));
            match random.below(5) {
                0 => {
                    cluster.crash(&worker);
                    cluster.pass(time);
                    cluster.restart(&worker);
                }
                1 => {
                    cluster.crash("coordinator");
                    cluster.pass(time);
                    cluster.restart("coordinator");
                }
                2 => {
                    cluster.partition(&worker, "coordinator");
                    cluster.pass(time);
                    cluster.repair(&worker, "coordinator");
                }
                3 => {
                    cluster.cut_from_broker(&worker, true);
                    cluster.pass(time);
                    cluster.cut_from_broker(&worker, false);
                }
                _ => {
                    cluster.terminate(&worker);
                    cluster.until("it has ended", |c| !c.runs(&worker));
                    cluster.restart(&worker);
                }
            }
            cluster.pass(random.between(Duration::ZERO, Duration::from_secs(1)));
        }
        cluster.finish_well();
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut cluster =
            at_work(SimCluster::seeded(seed).workers(2).load(1500, 600).faults(Faults { lost_permille: 20 }));
        cluster.crash("worker-1");
        cluster.pass(Duration::from_secs(1));
        cluster.restart("worker-1");
        cluster.finish_well();
        cluster.kafka().trace()
    };
    let seed = seeds()[0];
    let (first, second) = (run(seed), run(seed));
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{:?}\n{:?}", differs.map(|at| &first[at]), differs.map(|at| &second[at]));
    assert_eq!(first.len(), second.len());
    assert_ne!(first, run(seed + 1));
}

/// What the checks say of a run with an error in it.
fn caught(sabotage: Sabotage) -> String {
    let mut cluster = at_work(SimCluster::seeded(seeds()[0]).workers(2).sabotage(sabotage));
    cluster.finish().expect_err("the checks see it")
}

#[test]
fn a_sink_that_drops_a_batch_is_caught() {
    let wrong = caught(Sabotage::DropsABatch);
    assert!(wrong.contains("is not stored"), "{wrong}");
}

#[test]
fn a_flush_that_lies_is_caught() {
    let wrong = caught(Sabotage::FlushesEarly);
    assert!(wrong.contains("is not stored"), "{wrong}");
}

#[test]
fn a_commit_ahead_of_the_output_is_caught() {
    let wrong = caught(Sabotage::CommitsAhead);
    assert!(wrong.contains("is not stored"), "{wrong}");
}

#[test]
fn a_sink_that_reorders_a_key_is_caught() {
    let wrong = caught(Sabotage::Reorders);
    assert!(wrong.contains("out of order"), "{wrong}");
}
