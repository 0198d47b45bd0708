//! Pipelines on a real Kafka with TLS, logins and ACLs, through the command line.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pelton_broker::server;
use pelton_tests::{acls, parts};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const RECORDS: usize = 40;

/// The secured listeners, and a folder for settings and definitions.
struct Stage {
    dir: TempDir,
    secure: PathBuf,
}

impl Stage {
    fn new() -> Option<Stage> {
        Some(Stage { secure: parts::kafka_secure()?, dir: tempfile::tempdir().unwrap() })
    }

    fn at(&self, listener: &str) -> String {
        let all = std::fs::read_to_string(self.secure.join("listeners")).unwrap();
        let found = all.lines().find_map(|line| line.strip_prefix(listener)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no listener {listener} in {all}")).to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// Settings with a default connection over TLS, and this login.
    fn settings(&self, name: &str, sasl: &str) -> String {
        let text = format!(
            "connections:\n  default:\n    brokers: {}\n    tls: {{ ca: {} }}\n    sasl: {sasl}\n  nearby: {{ brokers: \"{}\" }}\n",
            self.at("SASL_SSL"),
            self.secure.join("ca.pem").display(),
            self.at("PLAINTEXT"),
        );
        self.write(name, &text)
    }

    /// As a super user.
    fn admin(&self) -> ClientConfig {
        client(&self.at("PLAINTEXT"))
    }

    /// JSON records with a number `total` each, but for every tenth.
    fn fill(&self, topic: &str) {
        let producer: BaseProducer = self.admin().create().unwrap();
        for i in 0..RECORDS {
            let total = if i % 10 == 9 { "\"none\"".to_owned() } else { i.to_string() };
            let value = format!("{{\"total\":{total}}}");
            producer.send(BaseRecord::to(topic).key(&i.to_string()).payload(&value)).unwrap();
        }
        producer.flush(LIMIT).unwrap();
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("message.timeout.ms", "30000");
    config
}

/// How many records a topic holds.
fn count(config: &ClientConfig, topic: &str) -> i64 {
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
    let ends = metadata.topics()[0].partitions().iter().map(|p| {
        let (first, end) = consumer.fetch_watermarks(topic, p.id(), LIMIT).unwrap();
        end - first
    });
    ends.sum()
}

fn pelton(arguments: &[&str]) -> Command {
    let mut pelton = Command::new(parts::binary());
    pelton.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    pelton
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A token of this user that the tests' Kafka accepts: unsigned.
fn token(user: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = format!("{{\"sub\":\"{user}\",\"iat\":{},\"exp\":{}}}", now - 1, now + 3600);
    format!("{}.{}.", base64url("{\"alg\":\"none\"}"), base64url(&claims))
}

fn base64url(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits =
        |chunk: &[u8]| chunk.iter().fold(0u32, |all, b| all << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
    let letters = |chunk: &[u8]| -> String {
        let bits = bits(chunk);
        (0..=chunk.len()).map(|i| char::from(LETTERS[(bits >> (18 - 6 * i)) as usize & 63])).collect()
    };
    text.as_bytes().chunks(3).map(letters).collect()
}

/// A right as `docs/security.md` has it: operation, kind of resource, its name.
type Right = (String, String, String);

/// The definition and the rights that the documentation shows together.
fn documented() -> (String, Vec<Right>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, page) = page.split_once("## The least rights").unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (definition, rest) = rest.split_once("```").unwrap();
    let right = |line: &str| -> Option<Right> {
        let (_, line) = line.strip_prefix("kafka-acls ")?.split_once("--operation ")?;
        let mut words = line.split_whitespace();
        let operation = words.next()?.to_owned();
        let kind = words.next()?.strip_prefix("--")?.to_owned();
        Some((operation, kind, words.next()?.to_owned()))
    };
    (definition.to_owned(), rest.lines().filter_map(right).collect())
}

#[test]
fn a_pipeline_runs_with_exactly_the_documented_rights_and_names_the_one_that_is_missing() {
    let Some(stage) = Stage::new() else { return };
    let (definition, rights) = documented();
    assert_eq!(rights.len(), 5, "{rights:?}");
    let exactly_once = definition.replace("spec:\n", "spec:\n  delivery: exactly-once\n");
    take_away(&stage, "rights", &definition, &rights[..4]);
    take_away(&stage, "once", &exactly_once, &rights);
}

/// The pipeline under as many users as there are rights and one more: user i lacks right i, the last one lacks none.
fn take_away(stage: &Stage, prefix: &str, definition: &str, rights: &[Right]) {
    let id = format!("{prefix}{}", std::process::id());
    // Names of this run: topics are shared, the pipeline, its group and its transactional ids are each user's own.
    let topic = |name: &str| format!("{id}.{name}");
    let resource = |user: usize, (_, kind, name): &Right| match kind.as_str() {
        "group" => (acls::Resource::Group, format!("pelton.default.{id}-{user}")),
        "transactional-id" => (acls::Resource::TransactionalIds, format!("{name}local.{id}-{user}.")),
        _ => (acls::Resource::Topic, topic(name)),
    };
    let topics = ["orders", "totals", "orders.dlq"].map(topic);
    acls::create_topics(&stage.admin(), &topics);
    stage.fill(&topics[0]);
    // What nobody has a right on would be open to all.
    let mut granted = Vec::new();
    for user in 0..=rights.len() {
        for (i, right) in rights.iter().enumerate() {
            let (kind, name) = resource(user, right);
            granted.push(acls::Grant::new("User:nobody", &right.0, kind, &name));
            if i != user {
                granted.push(acls::Grant::new(&format!("User:{id}-{user}"), &right.0, kind, &name));
            }
        }
    }
    acls::grant(&stage.admin(), &granted);
    let mut running = Vec::new();
    for user in 0..=rights.len() {
        let name = format!("{id}-{user}");
        let token = stage.write(&format!("{name}.token"), &token(&name));
        let sasl = format!("{{ mechanism: OAUTHBEARER, token: {{ file: {token} }} }}");
        let settings = stage.settings(&format!("{name}.settings.yaml"), &sasl);
        let text = definition
            .replace("name: orders", &format!("name: {name}"))
            .replace("[orders]", &format!("[{}]", topics[0]))
            .replace("topic: totals", &format!("topic: {}", topics[1]))
            .replace("topic: orders.dlq", &format!("topic: {}", topics[2]));
        let file = stage.write(&format!("{name}.yaml"), &text);
        let data = stage.dir.path().join(&name).display().to_string();
        let mut run =
            pelton(&["--config", &settings, "run", &file, "--until-idle", "2s", "--executors", "1"]);
        running.push(run.args(["--data-dir", &data]).spawn().unwrap());
    }
    for (user, child) in running.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let said = said(&output);
        let Some(right) = rights.get(user) else {
            assert!(output.status.success(), "with all rights: {}\n{said}", output.status);
            continue;
        };
        let (_, name) = resource(user, right);
        assert!(!output.status.success(), "without {right:?} it ended well:\n{said}");
        assert!(said.contains("PLT0210"), "without {right:?}:\n{said}");
        let command = format!("--operation {} --{} {name}", right.0, right.1);
        assert!(said.contains(&command), "without {right:?}, `{command}` is not in:\n{said}");
    }
    // The one that had all rights wrote its part; others may have written theirs before they stopped.
    assert!(count(&stage.admin(), &topics[1]) >= 36 && count(&stage.admin(), &topics[2]) >= 4);
}

const COPY: &str = "apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: NAME }
spec:
  commitInterval: 100ms
  sources: { in: { kafka: { topics: [FROM] } } }
  sinks: { out: { kafka: { topic: TO, connection: CONNECTION } } }
";

fn copy(name: &str, from: &str, to: &str, connection: &str) -> String {
    let text = COPY.replace("NAME", name).replace("FROM", from);
    text.replace("TO", to).replace("CONNECTION", connection)
}

#[test]
fn a_source_and_a_sink_may_be_at_two_clusters_and_no_output_ever_shows_a_secret() {
    let Some(stage) = Stage::new() else { return };
    let id = format!("two{}", std::process::id());
    let data = tempfile::tempdir().unwrap();
    let broker = server::serve(server::Options::new("127.0.0.1:0".to_owned(), data.path())).unwrap();
    let elsewhere = client(&broker.bootstrap());
    let from = format!("{id}-in");
    acls::create_topics(&stage.admin(), std::slice::from_ref(&from));
    stage.fill(&from);
    let sasl = "{ mechanism: PLAIN, username: alice, password: { env: SHOP_SECRET } }";
    let settings = stage.settings("node.yaml", sasl);
    let text = std::fs::read_to_string(&settings).unwrap();
    let settings =
        stage.write("node.yaml", &format!("{text}  archive: {{ brokers: \"{}\" }}\n", broker.bootstrap()));
    let to = "archived".to_owned();
    acls::create_topics(&elsewhere, std::slice::from_ref(&to));
    let file = stage.write("copy.yaml", &copy(&id, &from, &to, "archive"));
    let lost = stage.write("lost.yaml", &copy(&id, &from, &to, "archve"));
    let data = stage.dir.path().join("data").display().to_string();
    let run = [
        "--config",
        &settings,
        "--log-level",
        "trace",
        "run",
        &file,
        "--until-idle",
        "2s",
        "--data-dir",
        &data,
    ];
    let with =
        |arguments: &[&str], secret: &str| pelton(arguments).env("SHOP_SECRET", secret).output().unwrap();

    let good = with(&run, "alice-secret");
    assert!(good.status.success(), "{}", said(&good));
    assert_eq!(count(&elsewhere, &to), RECORDS as i64, "every record is at the other cluster, once");

    let wrong = with(&run, "hunter2-is-not-it");
    assert_eq!(wrong.status.code(), Some(77), "{}", said(&wrong));
    assert!(said(&wrong).contains("PLT0209") && said(&wrong).contains("user or password is wrong"));
    let unset = pelton(&run).env_remove("SHOP_SECRET").output().unwrap();
    assert_eq!(unset.status.code(), Some(78));
    assert!(said(&unset).contains("the environment variable SHOP_SECRET is not set"), "{}", said(&unset));
    let shown = with(&["--config", &settings, "config", "show", "--origin", "-o", "json"], "alice-secret");
    assert!(said(&shown).contains("<from the environment variable SHOP_SECRET>"), "{}", said(&shown));
    let fine = with(&["--config", &settings, "validate", &file], "alice-secret");
    assert!(fine.status.success(), "{}", said(&fine));
    let misnamed = with(&["--config", &settings, "validate", &lost], "alice-secret");
    assert_eq!(misnamed.status.code(), Some(78));
    assert!(said(&misnamed).contains("there is no connection `archve`"), "{}", said(&misnamed));
    assert!(
        pelton(&["validate", &lost]).output().unwrap().status.success(),
        "names are unknown without settings"
    );
    for output in [&good, &wrong, &unset, &shown, &fine, &misnamed] {
        let said = said(output);
        assert!(!said.contains("alice-secret") && !said.contains("hunter2"), "a secret is shown:\n{said}");
    }
}
