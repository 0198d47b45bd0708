//! What we ship for Prometheus and Grafana, on a real Prometheus: it finds the workers through the coordinator, every panel
//! of the dashboards has data, and alerts fire when what they are for is done to the cluster.

#![allow(clippy::unwrap_used)] // helpers of tests

mod cluster;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster::{Cluster, Flow};
use pelton_tests::{docker, parts};
use serde_json::Value;
use server::{Server, WINDOW, number, shipped};

/// Generous: the machine may be building something else.
const LIMIT: Duration = Duration::from_secs(120);
const DASHBOARDS: [&str; 3] = ["overview", "pipeline", "worker"];

/// Waits for a condition.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    let waited = docker::until(LIMIT, what, || {
        found = condition();
        found.is_some()
    });
    waited.unwrap_or_else(|why| panic!("{why}"));
    found.unwrap()
}

#[test]
fn promtool_accepts_the_settings_and_the_rules_and_each_alert_fires_when_it_should() {
    if !parts::program("promtool") {
        return;
    }
    for (check, file) in [
        ("check config", "prometheus.yaml"),
        ("check rules", "rules.yaml"),
        ("test rules", "rules.test.yaml"),
    ] {
        let mut promtool = Command::new("promtool");
        promtool.args(check.split(' ')).arg(file).current_dir(shipped("prometheus"));
        let said = promtool.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            said.status.success(),
            "promtool {check} {file}:\n{}{}",
            text(&said.stdout),
            text(&said.stderr)
        );
    }
    let tests = fs::read_to_string(shipped("prometheus/rules.test.yaml")).unwrap();
    for alert in alerts() {
        let cases = tests.matches(&format!("alertname: {alert}\n")).count();
        assert!(cases > 0, "no test makes {alert} fire");
        assert!(
            tests.contains(&format!("alertname: {alert}, eval_time: 25m, exp_alerts: []")),
            "{alert} is never silent"
        );
    }
}

#[test]
fn alerts_have_a_page_that_says_what_to_do() {
    let rules = fs::read_to_string(shipped("prometheus/rules.yaml")).unwrap();
    let pages: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert_eq!(pages.len(), alerts().len());
    for page in pages.iter().map(|page| page.trim_matches('\'')) {
        // One of each code.
        let (file, place) = page.split_once('#').unwrap_or((page, ""));
        let file = file.replace("{{ $labels.code }}", "PLT0101");
        let text = fs::read_to_string(shipped("..").join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let headings = text.lines().filter_map(|line| line.strip_prefix("##"));
        let anchors: Vec<String> =
            headings.map(|h| h.trim_matches(['#', ' ']).to_lowercase().replace(' ', "-")).collect();
        assert!(place.is_empty() || anchors.iter().any(|a| a == place), "no #{place} in {file}: {anchors:?}");
    }
    let table = fs::read_to_string(shipped("../docs/watch.md")).unwrap();
    let missing: Vec<_> =
        alerts().into_iter().filter(|alert| !table.contains(&format!("`{alert}`"))).collect();
    assert!(missing.is_empty(), "docs/watch.md does not tell of {missing:?}");
}

#[test]
fn dashboards_and_alerts_ask_only_for_metrics_that_there_are() {
    let page = fs::read_to_string(shipped("../docs/metrics.md")).unwrap();
    let known: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut asked: BTreeSet<String> = names(&fs::read_to_string(shipped("prometheus/rules.yaml")).unwrap());
    for expression in DASHBOARDS.into_iter().flat_map(|name| queries(&dashboard(name))) {
        asked.extend(names(&expression));
    }
    let is_known = |name: &str| {
        let parts = ["", "_bucket", "_sum", "_count"];
        parts.iter().filter_map(|part| name.strip_suffix(part)).any(|name| known.contains(name))
    };
    let unknown: Vec<_> = asked.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    assert!(asked.len() > 20, "they ask for {asked:?}");
}

#[test]
fn dashboards_have_a_choice_of_data_source_and_only_panels_that_grafana_brings_along() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let board = dashboard(name);
        assert!(uids.insert(board["uid"].to_string()), "{name}: another has its uid");
        let chosen = &board["templating"]["list"][0];
        assert_eq!(
            (&chosen["name"], &chosen["type"]),
            (&"datasource".into(), &"datasource".into()),
            "{name}"
        );
        let panels = board["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: two panels have one id");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let (kind, title) = (panel["type"].as_str().unwrap(), panel["title"].as_str().unwrap());
            assert!(["stat", "timeseries", "table"].contains(&kind), "{name}, {title}: a {kind}");
            let sources = panel["targets"].as_array().unwrap().iter().map(|t| &t["datasource"]["uid"]);
            let sources: Vec<_> = sources.chain([&panel["datasource"]["uid"]]).collect();
            assert!(sources.iter().all(|uid| **uid == "${datasource}"), "{name}, {title}: {sources:?}");
        }
    }
}

#[test]
fn a_real_prometheus_finds_the_workers_fills_every_panel_and_alerts_on_what_is_done_to_the_cluster() {
    if !parts::program("prometheus") {
        return;
    }
    let mut cluster = Cluster::start();
    let letters = "  onError: { deadLetter: { kafka: { topic: orders.dlq } } }\n";
    let keep = "  operators: [{ name: keep, filter: \".id != 7\" }, { name: mark, map: \".seen = true\" }]\n";
    cluster.apply("orders", &format!("{keep}{letters}"));
    cluster.apply("strict", &format!("  delivery: exactly-once\n{keep}"));
    cluster.apply("slow", "  operators: [{ name: gently, throttle: { records: 1, buffer: 10 } }]\n");
    let writer = cluster.writer();
    let server = Server::start(&cluster);
    let flow = Flow::start(cluster.writer(), &["orders", "strict"]);

    timed("the workers are found", || workers_are_found(&server));
    timed("every panel has data", || panels_have_data(&server));
    timed("five hundred keys make no series", || series_do_not_grow_with_keys(&server, &flow));
    timed("the rules are understood and silent", || rules_are_understood_and_silent(&server));

    // A record that cannot be read: set aside where there is a place for it, else the end of its task.
    let poison = |topic: &str| {
        writer.send(topic, "k", "no JSON");
        writer.flush();
    };
    alert_on(&server, "PeltonDeadLetters", Some("orders"), || poison("orders"));
    alert_on(&server, "PeltonTaskStopped", Some("strict"), || poison("strict"));
    // More records than an operator takes.
    alert_on(&server, "PeltonBackpressured", Some("slow"), || {
        (0..200).for_each(|id| writer.send("slow", &id.to_string(), &format!("{{\"id\":{id}}}")));
        writer.flush();
    });
    alert_on(&server, "PeltonWorkerLost", None, || cluster.workers[1].kill());
    until("the lost worker is asked no more", || (workers(&server) == ["w0"]).then_some(()));
    alert_on(&server, "PeltonTasksUnassigned", None, || cluster.workers[0].kill());
    alert_on(&server, "PeltonCoordinatorDown", None, || cluster.coordinator.kill());
}

/// Does what an alert is for: once it is silent, and it fires then.
fn alert_on(server: &Server, alert: &str, pipeline: Option<&str>, fault: impl FnOnce()) {
    until(&format!("{alert} is silent"), || (!server.fires(alert, pipeline)).then_some(()));
    fault();
    timed(alert, || until(&format!("{alert} fires"), || server.fires(alert, pipeline).then_some(())));
}

fn timed(what: &str, act: impl FnOnce()) {
    let begun = Instant::now();
    act();
    println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
}

/// Names of the workers that Prometheus reaches.
fn workers(server: &Server) -> Vec<String> {
    let targets = server.ask("/api/v1/targets?state=active").unwrap();
    let active = targets["activeTargets"].as_array().unwrap();
    let up = active.iter().filter(|t| t["labels"]["job"] == "pelton-workers" && t["health"] == "up");
    let mut names: Vec<_> = up.map(|t| t["labels"]["worker"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn workers_are_found(server: &Server) {
    until("both workers are found through the coordinator", || {
        (workers(server) == ["w0", "w1"]).then_some(())
    });
    until("coordinator and broker are up", || {
        (server.value("sum(up{job=~\"pelton-(coordinator|broker)\"})") == 2.0).then_some(())
    });
}

fn panels_have_data(server: &Server) {
    for name in DASHBOARDS {
        for query in queries(&dashboard(name)) {
            let query = chosen(&query);
            until(&format!("{name} has data for {query}"), || {
                let found = server.query(&query).unwrap_or_else(|e| panic!("{name}: {query}: {e}"));
                found.iter().any(|series| number(series).is_finite()).then_some(())
            });
        }
    }
}

/// A query as Grafana sends it, with everything chosen.
fn chosen(query: &str) -> String {
    let one = [("$__rate_interval", WINDOW), ("$pipeline", "orders"), ("$instance", ".*")];
    let query = query.replace("=~\"$namespace\"", "=~\".*\"").replace("=\"$namespace\"", "=\"default\"");
    let query = one.iter().fold(query, |query, (name, value)| query.replace(name, value));
    assert!(!query.contains('$'), "an unknown variable in {query}");
    query
}

fn series_do_not_grow_with_keys(server: &Server, flow: &Flow) {
    const OURS: &str = "count({__name__=~\"pelton_.+\",job=\"pelton-workers\"})";
    let read = || server.value("sum(pelton_records_in_total{pipeline=\"orders\"})");
    let (series, before) = (server.value(OURS), read());
    until("five hundred keys more", || (read() >= before + 500.0).then_some(()));
    let after = server.value(OURS);
    assert!(after <= series, "{series} series have become {after} after {} keys", flow.written());

    let labels = server.ask("/api/v1/labels?match[]=%7B__name__%3D~%22pelton_.%2B%22%7D").unwrap();
    let known = "__name__ cause code commit instance job le metric namespace operator pipeline reason result role stage state \
                 task version worker";
    let known: BTreeSet<&str> = known.split_whitespace().collect();
    let labels = labels.as_array().unwrap().iter().map(|label| label.as_str().unwrap());
    let odd: Vec<_> = labels.filter(|label| !known.contains(label)).collect();
    assert!(odd.is_empty(), "{odd:?}: is the number of their values bounded?");
}

fn rules_are_understood_and_silent(server: &Server) {
    let wanted = alerts();
    until("every alert was evaluated", || {
        let groups = server.ask("/api/v1/rules").unwrap();
        let rules =
            groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        let (mut names, mut good) = (Vec::new(), true);
        for rule in rules {
            assert_ne!(rule["health"], "err", "{rule:#}");
            good &= rule["health"] == "ok" && rule["state"] == "inactive";
            names.push(rule["name"].as_str().unwrap().to_owned());
        }
        assert_eq!(names, wanted);
        good.then_some(())
    });
}

/// Names of the alerts that we ship.
fn alerts() -> Vec<String> {
    let rules = fs::read_to_string(shipped("prometheus/rules.yaml")).unwrap();
    rules.lines().filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned())).collect()
}

fn dashboard(name: &str) -> Value {
    let path = shipped(&format!("grafana/{name}.json"));
    read(&path)
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The queries of all panels.
fn queries(board: &Value) -> Vec<String> {
    let panels = board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("pelton_")).map(str::to_owned).collect()
}
