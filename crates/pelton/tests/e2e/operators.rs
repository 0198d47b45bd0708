//! Operators in a real pipeline, and their pages.

use crate::support::said;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

const CHAIN: &str = r#"
apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: chain }
spec:
  sources: { in: { file: { path: in.jsonl }, decode: json } }
  operators:
    - { name: access, parse: { nginx: combined, onMismatch: drop } }
    - { name: fine, filter: ".status < 500" }
    - { name: once, dedupe: { key: .id, within: 1h } }
    - { name: all, sample: { rate: 1, key: .id } }
    - { name: short, map: "del(.message)" }
    - { name: tags, split: { field: .tags, keep: [.id, .status], into: tag } }
    - { name: byTag, key: .tag }
    - { name: gently, throttle: { records: 1000, burst: 10, buffer: 20 } }
    - { name: tens, batch: { records: 10, within: 1h, perKey: true } }
    - { name: sizes, route: { routes: [{ full: "length(array!(.)) == 10" }], else: rest } }
  sinks:
    full: { file: { path: full.jsonl }, inputs: [sizes.full] }
    rest: { file: { path: rest.jsonl }, inputs: [sizes.rest] }
"#;

/// Ids 0 to 49, each twice; every tenth failed at the server; and five lines that are no lines of nginx.
fn lines() -> String {
    let line = |id: u64| {
        let status = if id.is_multiple_of(10) { 503 } else { 200 };
        let message =
            format!(r#"10.0.0.1 - - [01/Apr/2021:12:02:31 +0000] "GET /{id} HTTP/1.1" {status} 5 "-" "-""#);
        json!({ "id": id, "message": message, "tags": ["a", "b"] }).to_string()
    };
    let noise = (0..5).map(|n| json!({ "id": 100 + n, "message": "x" }).to_string());
    (0..50).chain(0..50).map(line).chain(noise).map(|line| line + "\n").collect()
}

#[test]
fn a_chain_of_all_of_them_gives_what_it_should_and_the_books_balance() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chain.yaml");
    fs::write(&file, CHAIN).unwrap();
    fs::write(dir.path().join("in.jsonl"), lines()).unwrap();
    let (file, data) = (file.display().to_string(), dir.path().join("data").display().to_string());

    let account = said(["run", &file, "--executors", "1", "--data-dir", &data, "-o", "json"]).account();

    let count = |name: &str| account[name].as_u64().unwrap_or_default();
    // Filtered: 5 that nginx did not write, 10 that failed, 45 repeats. 45 records have two tags each.
    let counts = ["recordsIn", "expanded", "filtered", "held", "deadLettered", "pending"].map(count);
    assert_eq!(counts, [105, 45, 60, 0, 0, 0], "{account}");
    assert_eq!(count("emitted") + count("merged"), 90, "{account}");
    let read = |name: &str| -> Vec<Vec<Value>> {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // How many there are in one at the end depends on how the throttle lets them through while the task ends.
    let (full, rest) = (read("full.jsonl"), read("rest.jsonl"));
    assert!(!full.is_empty() && full.iter().all(|list| list.len() == 10), "{full:?}");
    assert!(rest.iter().all(|list| list.len() < 10), "{rest:?}");
    assert_eq!((full.len() + rest.len()) as u64, count("emitted"));
    for tag in ["a", "b"] {
        let own = |list: &&Vec<Value>| list.iter().all(|item| item["tag"] == tag);
        let items: Vec<&Value> = full.iter().chain(&rest).filter(own).flatten().collect();
        let mut ids: Vec<u64> = items.iter().map(|item| item["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..50).filter(|id| id % 10 != 0).collect::<Vec<u64>>(), "each once");
        let members: BTreeSet<&str> =
            items.iter().flat_map(|item| item.as_object().unwrap().keys()).map(String::as_str).collect();
        assert_eq!(members, BTreeSet::from(["id", "status", "tag"]));
    }
}

#[test]
fn operators_are_listed_and_each_has_a_page() {
    let listed = said(["operators", "-o", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed.out).unwrap();
    let names: Vec<&str> = listed.iter().filter_map(|entry| entry["name"].as_str()).collect();
    let promised = [
        "batch", "decode", "dedupe", "encode", "enrich", "filter", "infer", "key", "map", "parse", "route",
        "sample", "split", "throttle",
    ];
    assert_eq!(names, promised);
    for name in names {
        let page = said(["operators", "show", name]).out;
        let title = page.lines().next().unwrap_or_default();
        assert!(title.contains(name) && page.contains("| option") && page.contains("```yaml"), "{page}");
    }
    let none = said(["operators", "show", "fliter"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("there is no operator `fliter`: did you mean `filter`?"), "{}", none.err);
}
