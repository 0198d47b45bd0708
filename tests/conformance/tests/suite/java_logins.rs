//! Kafka's own tools through TLS and logins.

use std::path::{Path, PathBuf};

use pelton_conformance::tools::{Java, Said};
use pelton_conformance::{Target, conform};

conform!(
    java secured:
    the_console_tools_pass_records_on_over_sasl_ssl,
    users_are_managed_by_kafka_configs,
);

const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// A tool of Kafka through a listener; nothing where there is no Java.
fn tool(target: &Target, listener: &str, class: &str, arguments: &[&str], input: &str) -> Option<Said> {
    let java = Java::find(env!("CARGO_TARGET_TMPDIR"))?;
    let through = target.through(listener, &[]);
    let connected = [&["--bootstrap-server", through.bootstrap()], arguments].concat();
    Some(java.finish(class, &connected, input, target.patience))
}

/// The settings of a client that logs in with SCRAM over TLS.
fn settings(target: &Target, dir: &Path, user: &str, password: &str) -> PathBuf {
    let file = dir.join(format!("{user}.properties"));
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    let text = format!(
        "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
         sasl.mechanism=SCRAM-SHA-256\n\
         sasl.jaas.config={module} required username=\"{user}\" password=\"{password}\";\n",
        target.certificate("ca.pem")
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn the_console_tools_pass_records_on_over_sasl_ssl(target: &Target) {
    let (topic, dir) = (target.topic("t", 1), tempfile::tempdir().unwrap());
    let file = settings(target, dir.path(), "alice", "alice-secret");
    let common = ["--topic", &topic, "--command-config", file.to_str().unwrap()];
    let Some(said) = tool(target, "SASL_SSL", PRODUCER, &common, "a\nb\n") else { return };
    said.ok();
    let all = [&common[..], &["--from-beginning", "--max-messages", "2"]].concat();
    assert_eq!(tool(target, "SASL_SSL", CONSUMER, &all, "").unwrap().ok(), "a\nb\n");
}

fn users_are_managed_by_kafka_configs(target: &Target) {
    let of_bob = |more: &[&str]| {
        let arguments = [&["--entity-type", "users", "--entity-name", "bob"], more].concat();
        tool(target, "PLAINTEXT", CONFIGS, &arguments, "").map(Said::ok)
    };
    let Some(_) = of_bob(&["--alter", "--add-config", "SCRAM-SHA-256=[password=bob-secret]"]) else { return };
    assert!(of_bob(&["--describe"]).unwrap().contains("SCRAM-SHA-256=iterations=4096"));
    let dir = tempfile::tempdir().unwrap();
    let file = settings(target, dir.path(), "bob", "bob-secret");
    let all = ["--entity-type", "users", "--describe", "--command-config", file.to_str().unwrap()];
    let described = tool(target, "SASL_SSL", CONFIGS, &all, "").unwrap().ok();
    assert!(described.contains("'alice'") && described.contains("'bob'"), "{described}");
    of_bob(&["--alter", "--delete-config", "SCRAM-SHA-256"]);
    assert!(!of_bob(&["--describe"]).unwrap().contains("SCRAM"));
    let refused = tool(target, "SASL_SSL", CONFIGS, &all, "").unwrap();
    assert!(!refused.status.success(), "{}", refused.out);
    assert!(
        refused.err.contains("SaslAuthenticationException")
            || refused.out.contains("SaslAuthenticationException")
    );
}
