//! The chart, the custom resource and the operator on a real Kubernetes cluster of two nodes.
//!
//! One test, because a cluster takes its time: installed, a pipeline applied, digits recognised, scaled, upgraded under
//! load, a node powered off, one cut off and healed, uninstalled. Each part sends records with ids of its own while it
//! happens, and then looks whether each of them was recognised.

#![allow(clippy::unwrap_used)] // helpers of tests

mod manifests;
mod story;

use std::fs;
use std::process::Command;
use std::time::Instant;

use pelton_tests::kubernetes::{Cluster, repository};
use pelton_tests::parts;
use story::Story;

#[test]
fn the_base_of_kustomize_is_the_chart_with_its_defaults() {
    let Some(kit) = parts::kubernetes() else { return };
    let chart = repository().join("deploy/helm/pelton");
    let helm = |more: &[&str]| {
        let mut helm = Command::new(kit.bin.join("helm"));
        helm.args(["template", "pelton", "-n", "pelton", "--kube-version", "1.33.0"]).arg(&chart).args(more);
        let output = helm.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (good, rendered, why) = helm(&["--set", "kafka.bootstrap=kafka:9092", "--no-hooks"]);
    assert!(good, "{why}");
    let base = repository().join("deploy/kustomize/pelton.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&base, &rendered).unwrap();
    }
    let known = fs::read_to_string(&base).unwrap_or_default();
    assert!(known == rendered, "deploy/kustomize/pelton.yaml is stale: UPDATE_GOLDEN=1 cargo xtask k8s");

    let (_, _, why) = helm(&[]);
    assert!(why.contains("no queue: give kafka.bootstrap"), "{why}");
    let (good, _, why) = helm(&["--set", "kafka.bootstrap=kafka:9092,worker.replica=3"]);
    assert!(!good && why.contains("replica"), "an unknown value is refused: {why}");

    // The chart has a link to the rules that every Prometheus uses.
    let alerts = [
        "--set",
        "kafka.bootstrap=kafka:9092,prometheusRule.enabled=true",
        "-s",
        "templates/prometheusrule.yaml",
    ];
    let (good, rendered, why) = helm(&alerts);
    let rules = fs::read_to_string(repository().join("deploy/prometheus/rules.yaml")).unwrap();
    let (shipped, shown) = (rules.matches("- alert: ").count(), rendered.matches("- alert: ").count());
    assert!(good && shown > 0 && shown == shipped, "{shown} of {shipped} alerts: {why}\n{rendered}");
}

#[test]
fn a_pipeline_lives_on_kubernetes_through_scaling_upgrades_and_lost_nodes() {
    let Some(kit) = parts::kubernetes() else { return };
    let home = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&kit, home.path()).unwrap();
    let mut story = Story::of(&cluster);

    timed("chart installed", || story.install("test"));
    timed("invalid resources refused", || story.refuses_invalid_resources());
    timed("pipeline applied and ready", || story.applies());
    timed("digits recognised", || story.recognises_digits());
    timed("scaled 2 -> 4 -> 1 under load", || story.scales());
    timed("upgraded under load", || story.upgrades());
    timed("node powered off and on", || story.loses_a_node("kill", "start"));
    timed("node cut off and healed", || story.loses_a_node("cut", "heal"));
    timed("pipeline deleted, chart uninstalled", || story.ends());
    story.the_operator_may_do_what_it_does_and_no_more();
}

fn timed(what: &str, act: impl FnOnce()) {
    let begun = Instant::now();
    act();
    println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
}
