//! `docs/metrics.md` is made from what the roles register.

use super::{broker, operator};
use pelton_telemetry::{Described, Metrics};
use std::{fmt::Write, fs, path::Path};

const TOP: &str = "# Metrics

Every role shows its metrics at `/metrics` of its HTTP port, in the text format of Prometheus. [watch.md](watch.md) says how to
collect them, and which dashboards and alerts there are. Beside these each role has the usual `process_*` of its process.

Labels are names of pipelines, operators and tasks and words of fixed lists; never a key, an offset or a text of an error. A metric
has at most 10,000 series in a process: what goes beyond is counted as `_other`, and `pelton_metric_series_folded_total` rises.
What is not known is not shown: there is no 0 or -1 in its place, except where the table says so. Counts of a process begin at 0 with
it, and count records that are read again after a failure again.

This page is made from the code: `UPDATE_GOLDEN=1 cargo test -p pelton metrics_page` writes it anew.
";

/// Metrics of every role, with its title.
fn roles() -> Vec<(&'static str, Vec<Described>)> {
    let of = |register: &dyn Fn(&Metrics)| {
        let metrics = Metrics::new("page");
        register(&metrics);
        metrics.described()
    };
    let worker = of(&|metrics| drop(pelton_runtime::Metrics::register(metrics).unwrap()));
    let coordinator = of(&|metrics| drop(pelton_coordinator::metrics::Gauges::new(metrics).unwrap()));
    let operator = of(&|metrics| drop(operator::leads(metrics).unwrap()));
    let broker = of(&|metrics| drop(broker::Gauges::new(metrics).unwrap()));
    let all = of(&|_| ());
    let own = |mut described: Vec<Described>| {
        described.retain(|metric| !all.contains(metric));
        described
    };
    vec![
        ("Workers, and `pelton run`", own(worker)),
        ("Coordinator", own(coordinator)),
        ("Operator for Kubernetes", own(operator)),
        ("Embedded broker", own(broker)),
        ("Every role", all),
    ]
}

fn page() -> String {
    let mut page = TOP.to_owned();
    for (title, metrics) in roles() {
        let _ = write!(page, "\n## {title}\n| name | kind | labels | what it tells |\n|---|---|---|---|\n");
        for Described { name, kind, labels, help } in metrics {
            let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
    }
    page
}

#[test]
fn the_page_of_metrics_is_what_the_roles_register() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(known == page, "docs/metrics.md is stale: UPDATE_GOLDEN=1 cargo test -p pelton metrics_page");
}

#[test]
fn no_metric_has_a_key_an_offset_or_a_text_as_label() {
    let known = [
        "namespace",
        "pipeline",
        "stage",
        "task",
        "operator",
        "state",
        "code",
        "reason",
        "result",
        "cause",
        "metric",
        "version",
        "commit",
        "role",
    ];
    for metric in roles().into_iter().flat_map(|(_, metrics)| metrics) {
        let odd: Vec<_> = metric.labels.iter().filter(|label| !known.contains(label)).collect();
        assert!(odd.is_empty(), "{} has {odd:?}: is their number bounded?", metric.name);
    }
}
