//! Defaults < file < environment < flags.

use pelton_config::settings::{Driver, KEYS, Layers, LogFormat, Origin, Settings, load};
use std::time::Duration;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

const FILE: &str = "coordinator:\n  grpc: 0.0.0.0:7461\n  lease: 5s\n  driver: process\nworker:\n  executors: 2\n  memoryBudget: 512MiB\n  kafka: a:9092,b:9092\nlog: { format: json }\n";

#[test]
fn without_anything_the_defaults_hold() {
    let settings = load(&Layers::default()).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.coordinator.grpc, "127.0.0.1:7461");
    assert_eq!(settings.coordinator.http, "127.0.0.1:7462");
    assert_eq!(settings.worker.http, "127.0.0.1:7463");
    assert_eq!(settings.broker.listen, "127.0.0.1:9092");
    assert_eq!(settings.worker.executors, None);
    assert_eq!(settings.worker.drain_timeout, Duration::from_secs(30));
    assert_eq!(settings.telemetry.otlp_endpoint, None);
}

#[test]
fn the_stronger_layer_wins_and_its_origin_is_kept() {
    let env = pairs(&[
        ("PELTON__WORKER__EXECUTORS", "3"),
        ("PELTON__COORDINATOR__LEASE", "7s"),
        ("PELTON__worker__drainTimeout", "10s"),
        ("PELTON_COORDINATOR", "http://elsewhere:1"),
        ("HOME", "/"),
    ]);
    let flags = pairs(&[("worker.executors", "4"), ("coordinator.dataDir", "/data")]);
    let settings = load(&Layers { file: Some(("pelton.yaml", FILE)), env: &env, flags: &flags }).unwrap();
    assert_eq!(settings.worker.executors, Some(4));
    assert_eq!(settings.coordinator.lease, Duration::from_secs(7));
    assert_eq!(settings.worker.drain_timeout, Duration::from_secs(10));
    assert_eq!(settings.worker.memory_budget, Some(512 << 20));
    assert_eq!((settings.coordinator.driver, settings.log.format), (Driver::Process, LogFormat::Json));
    assert_eq!(settings.coordinator.data_dir.to_str(), Some("/data"));
    let origin = |name: &str| settings.origin(name).unwrap().to_string();
    assert_eq!(origin("worker.executors"), "flag");
    assert_eq!(origin("coordinator.lease"), "PELTON__COORDINATOR__LEASE");
    assert_eq!(origin("coordinator.grpc"), "pelton.yaml:2:9");
    assert_eq!(settings.origin("coordinator.http"), Some(&Origin::Default));
    assert_eq!(settings.origin("coordinator.htp"), None);
}

#[test]
fn every_mistake_of_every_layer_is_named() {
    let file = "worker:\n  drainTimout: 30s\n  executors: 0\n  http: [7463]\nlog: verbose\nserver: {}\n";
    let env =
        pairs(&[("PELTON__WORKER__EXECUTOR", "3"), ("PELTON__BROKER__LISTEN", "9092"), ("PELTON__X", "")]);
    let flags = pairs(&[("worker.coordinator", "127.0.0.1:7461")]);
    let report = load(&Layers { file: Some(("p.yaml", file)), env: &env, flags: &flags }).unwrap_err();
    assert_eq!(
        report.to_string(),
        "p.yaml:2:3: unknown key `worker.drainTimout`
  hint: did you mean `drainTimeout`?
p.yaml:3:14: `worker.executors`: \"0\" is not a whole number from 1 to 65536
p.yaml:4:9: `worker.http` must be an address such as `127.0.0.1:7461`, found a list
p.yaml:5:6: `log` must be a mapping, found the text \"verbose\"
p.yaml:6:1: unknown key `server`
  hint: known here: `broker`, `connections`, `coordinator`, `log`, `telemetry` and `worker`
PELTON__WORKER__EXECUTOR: there is no setting `WORKER.EXECUTOR`
  hint: did you mean `PELTON__WORKER__EXECUTORS`?
PELTON__BROKER__LISTEN: \"9092\" is not listeners such as `127.0.0.1:9092,SASL_SSL://0.0.0.0:9093`
PELTON__X: there is no setting `X`
  hint: `pelton config show` lists all settings
flag for worker.coordinator: \"127.0.0.1:7461\" is not a URL such as `http://127.0.0.1:7461`
9 problems"
    );
}

#[test]
fn secrets_are_used_but_never_shown() {
    let env = pairs(&[
        ("PELTON__TELEMETRY__OTLP__HEADERS", "authorization=Bearer hunter2, x=y"),
        ("PELTON__TELEMETRY__OTLP__ENDPOINT", "http://me:hunter2@collector:4317"),
    ]);
    let settings = load(&Layers { env: &env, ..Layers::default() }).unwrap();
    assert_eq!(settings.telemetry.otlp_headers[0], ("authorization".to_owned(), "Bearer hunter2".to_owned()));
    assert!(settings.telemetry.otlp_endpoint.as_deref().is_some_and(|url| url.contains("hunter2")));
    let shown = settings.show();
    assert_eq!(shown.len(), KEYS.len());
    assert!(shown.iter().any(|s| s.value == "http://<redacted>@collector:4317"));
    assert!(!format!("{settings:?}{shown:?}").contains("hunter2"));
}

#[test]
fn every_default_is_a_value_of_its_setting() {
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        let flags = pairs(&[(key.name, key.default)]);
        load(&Layers { flags: &flags, ..Layers::default() }).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn addresses_and_urls_are_told_from_other_texts() {
    let fits = |name: &str, value: &str| {
        load(&Layers { flags: &pairs(&[(name, value)]), ..Layers::default() }).is_ok()
    };
    for address in ["localhost:0", "[::1]:7461", "kafka-1.example:9092"] {
        assert!(fits("coordinator.grpc", address), "{address}");
    }
    for address in ["", ":1", "localhost", "localhost:99999", "a b:1", "http://a:1"] {
        assert!(!fits("coordinator.grpc", address), "{address}");
    }
    assert!(fits("worker.kafka", "a:1, b:2") && !fits("worker.kafka", "a:1,"));
    assert!(fits("worker.coordinator", "https://pelton.example") && !fits("worker.coordinator", "ftp://a:1"));
}
