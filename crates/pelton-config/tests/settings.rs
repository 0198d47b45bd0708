//! Defaults < file < environment < flags.

use pelton_config::settings::{Driver, KEYS, Layers, LogFormat, Origin, Settings, load};
use pelton_sdk::{
    Secret,
    connection::{Given, Mechanism, Sasl, Tls},
};
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
  hint: known here: `broker`, `connections`, `coordinator`, `log`, `operator`, `telemetry` and `worker`
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

const CONNECTIONS: &str = "connections:
  default:
    brokers: kafka-1.example:9096,kafka-2.example:9096
    tls: {}
    sasl: { mechanism: SCRAM-SHA-512, username: orders, password: { env: KAFKA_PASSWORD } }
  archive:
    brokers: [archive:9093]
    tls: { ca: /etc/ca.pem, certificate: /etc/c.crt, key: /etc/c.key, keyPassword: { file: /run/secrets/key } }
    properties: { message.max.bytes: 2000000 }
  cloud:
    brokers: cloud:9093
    tls:
    sasl:
      mechanism: OAUTHBEARER
      tokenEndpoint: { url: \"https://idp.example/token\", clientId: { env: ID }, clientSecret: { file: /s }, scope: kafka }
  plain: { brokers: \"edge:9092\" }
";

fn loaded(file: &str, env: &[(&str, &str)]) -> Result<Settings, String> {
    let env = pairs(env);
    let layers = Layers { file: Some(("node.yaml", file)), env: &env, ..Layers::default() };
    load(&layers).map_err(|report| report.to_string())
}

#[test]
fn connections_are_read_with_secrets_as_references() {
    let settings = loaded(CONNECTIONS, &[]).unwrap();
    let all = settings.connections("worker.kafka");
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), ["archive", "cloud", "default", "plain"]);
    let default = &all["default"];
    assert_eq!(default.brokers, "kafka-1.example:9096,kafka-2.example:9096");
    assert_eq!(default.tls, Some(Tls::default()), "the system's authorities");
    let sasl = Sasl::Password {
        mechanism: Mechanism::ScramSha512,
        username: Given::Text("orders".into()),
        password: Secret::Env("KAFKA_PASSWORD".into()),
    };
    assert_eq!(default.sasl, Some(sasl));
    let tls = all["archive"].tls.clone().unwrap();
    assert_eq!(tls.key_password, Some(Secret::File("/run/secrets/key".into())));
    assert_eq!(all["archive"].properties["message.max.bytes"], "2000000");
    assert_eq!(all["cloud"].tls, Some(Tls::default()));
    assert!(
        matches!(&all["cloud"].sasl, Some(Sasl::TokenEndpoint(e)) if e.scope.as_deref() == Some("kafka"))
    );
    assert_eq!((&all["plain"].tls, &all["plain"].sasl), (&None, &None));
    let shown = settings.show();
    let value = |name: &str| &shown.iter().find(|row| row.name == name).unwrap().value;
    assert_eq!(value("connections.default.sasl.password"), "<from the environment variable KAFKA_PASSWORD>");
    assert_eq!(value("connections.default.tls.ca"), "<the system's>");
    assert_eq!(value("connections.cloud.sasl.tokenEndpoint.clientSecret"), "<from the file /s>");
}

#[test]
fn a_flag_or_the_environment_replaces_the_default_connection_as_a_whole() {
    let settings = loaded(CONNECTIONS, &[("PELTON__WORKER__KAFKA", "here:9092")]).unwrap();
    let default = &settings.connections("worker.kafka")["default"];
    assert_eq!((default.brokers.as_str(), &default.tls, &default.sasl), ("here:9092", &None, &None));
    assert!(settings.has_default_connection("coordinator.kafka"));
    assert!(!settings.has_default_connection("worker.kafka"));
    let settings = loaded("worker: { kafka: \"a:1\" }", &[]).unwrap();
    assert_eq!(settings.connections("worker.kafka")["default"].brokers, "a:1");
    let twice = loaded(&format!("{CONNECTIONS}worker: {{ kafka: \"a:1\" }}\n"), &[]).unwrap_err();
    assert!(twice.contains("`worker.kafka` and `connections.default` both say"), "{twice}");
    let env = loaded("", &[("PELTON__CONNECTIONS__DEFAULT__BROKERS", "a:1")]).unwrap_err();
    assert!(env.contains("connections are set in the file of `--config`"), "{env}");
}

#[test]
fn a_secret_that_is_written_out_is_refused_and_not_repeated() {
    let file = "connections:
  a:
    brokers: a:9093
    tls: { ca: \"-----BEGIN CERTIFICATE-----hunter2\", key: /k, keyPassword: 42424242 }
    sasl: { mechanism: PLAIN, username: u, password: hunter2 }
  b: { brokers: \"b:1\", sasl: { mechanism: PLAIN, username: u, password: { value: hunter2 } } }
  c: { brokers: \"c:1\", sasl: { mechanism: PLAIN, username: u, password: \"${hunter2}\" } }
  d: { brokers: \"d:1\", sasl: { mechanism: OAUTHBEARER, token: hunter2 } }
  e: { brokers: \"e:1\", sasl: { mechanism: OAUTHBEARER, tokenEndpoint: { url: \"https://u:hunter2@idp/t\", clientId: i, clientSecret: hunter2 } } }
";
    let report = loaded(file, &[]).unwrap_err();
    assert!(!report.contains("hunter2") && !report.contains("42424242"), "{report}");
    for said in [
        "node.yaml:4:16: `connections.a.tls.ca` is written out; name the file it is in: `ca: PATH`",
        "node.yaml:5:54: `connections.a.sasl.password` is a secret and must not be written out here
  hint: put it into the environment or a file, and say where: `password: { env: NAME }` or `password: { file: PATH }`",
        "`connections.a.tls` has no `certificate`",
        "`connections.a.tls.keyPassword` is a secret",
        "`connections.b.sasl.password` must be `password: { env: NAME }` or `password: { file: PATH }`",
        "`connections.c.sasl.password` is a secret",
        "`connections.d.sasl.token` is a secret",
        "`connections.e.sasl.tokenEndpoint.url` is not a URL",
        "`connections.e.sasl.tokenEndpoint.clientSecret` is a secret",
    ] {
        assert!(report.contains(said), "{said}\nis not in\n{report}");
    }
}

#[test]
fn every_mistake_in_a_connection_is_named() {
    let file = "connections:
  a: { tls: { serverName: x, insecureSkipVerify: maybe } }
  b: { brokers: nowhere, sasl: { mechanism: GSSAPI } }
  c: { brokers: \"c:1\", sasl: { mechanism: PLAIN, token: { env: T } } }
  d: { brokers: \"${KAFKA}:9092\", sasl: { mechanism: OAUTHBEARER } }
  \"e f\": { brokers: \"e:1\" }
";
    let report = loaded(file, &[]).unwrap_err();
    for said in [
        "`connections.a` has no `brokers`",
        "unknown key `serverName` in `connections.a.tls`",
        "`connections.a.tls.insecureSkipVerify` must be true or false, found the text \"maybe\"",
        "`connections.b.brokers`: \"nowhere\" is not an address",
        "`connections.b.sasl.mechanism` must be `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`",
        "`connections.c.sasl.token` does not belong to this mechanism",
        "`connections.c.sasl` has no `username`",
        "settings do not substitute `${...}`",
        "`connections.d.sasl` needs `token` or `tokenEndpoint`, one of them",
        "\"e f\" is not a valid name of a connection",
    ] {
        assert!(report.contains(said), "{said}\nis not in\n{report}");
    }
}
