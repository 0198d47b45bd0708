//! The image itself: what is in it, what it may do, and whom it reaches.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pelton_tests::docker::{Containers, until};
use pelton_tests::{acls, parts};
use rdkafka::ClientConfig;
use serde_json::Value;

/// Generous: the machine may be building something else.
const LIMIT: Duration = Duration::from_secs(120);
/// Every file of the image; folders are left out.
const FILES: [&str; 5] = [
    "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt",
    "pelton",
    "usr/share/doc/pelton/LICENSE",
    "usr/share/doc/pelton/sbom.cdx.json",
];
/// As a careful operator runs it.
const HARDENED: [&str; 8] =
    ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network"];

#[test]
fn the_image_holds_one_program_and_no_shell() {
    let Some(image) = parts::image() else { return };
    let files = files(&image);
    // The engine puts these into every container.
    let own: BTreeSet<&str> =
        files.iter().map(String::as_str).filter(|file| !is_of_the_engine(file)).collect();
    assert_eq!(own, FILES.into_iter().collect());
    let shell =
        docker(&["run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", &image, "-c", "true"]);
    assert!(!shell.status.success(), "a shell was started");
}

#[test]
fn the_image_says_what_it_is_and_runs_as_nobody() {
    let Some(image) = parts::image() else { return };
    let config: Value =
        serde_json::from_slice(&docker(&["inspect", "-f", "{{json .Config}}", &image]).stdout).unwrap();
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/pelton"]));
    for label in ["title", "description", "licenses", "version"] {
        let label = format!("org.opencontainers.image.{label}");
        assert!(config["Labels"][&label].as_str().is_some_and(|text| !text.is_empty()), "{label}: {config}");
    }
    let version = run(&image, "none", &["--version"]);
    let said = String::from_utf8_lossy(&version.stdout).into_owned();
    assert_eq!(
        said.trim().strip_prefix("pelton "),
        config["Labels"]["org.opencontainers.image.version"].as_str()
    );
}

#[test]
fn the_image_names_its_parts_with_their_versions() {
    let Some(image) = parts::image() else { return };
    let text = file(&image, "/usr/share/doc/pelton/sbom.cdx.json");
    let document: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(document["bomFormat"], "CycloneDX");
    let names: Vec<&str> = document["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    for part in ["tokio", "librdkafka", "openssl"] {
        assert!(names.contains(&part), "no {part} among {} parts", names.len());
    }
}

#[test]
fn a_container_finds_another_by_its_name() {
    let Some(image) = parts::image() else { return };
    let folder = tempfile::tempdir().unwrap();
    let containers = Containers::new(&image, folder.path()).unwrap();
    let name = format!("{}-broker-9", containers.network());
    let advertised = format!("{name}:9092");
    let listen =
        ["--listen", "0.0.0.0:9092", "--advertised", &advertised, "--allow-unsecured", "--data-dir", "/data"];
    containers.start("broker", 9, &listen).unwrap();
    let url = format!("kafka://{advertised}");
    let bench = ["bench", &url, "--duration", "1s", "--rate", "100", "--partitions", "1"];
    until(LIMIT, "a container measures the queue by its name", || {
        run(&image, containers.network(), &bench).status.success()
    })
    .unwrap();
}

#[test]
fn onnx_runtime_recognises_digits_in_its_image_and_the_static_one_refuses_it() {
    let (Some(image), Some(with_onnx)) = (parts::image(), parts::image_with_onnx()) else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits");
    let stage = stage();
    let pipeline = fs::read_to_string(examples.join("pipeline.yaml")).unwrap();
    for runtime in ["auto", "rten", "onnxruntime"] {
        let asked = pipeline
            .replace("model: digits.onnx", &format!("model: digits.onnx\n        runtime: {runtime}"));
        assert_ne!(asked, pipeline);
        fs::write(stage.path().join(format!("{runtime}.yaml")), asked).unwrap();
    }
    fs::copy(examples.join("digits.onnx"), stage.path().join("digits.onnx")).unwrap();
    let tested = |image: &str, runtime: &str| {
        let file = format!("/stage/{runtime}.yaml");
        in_stage(image, stage.path(), &[], &["test", &file])
    };
    for (image, runtime) in
        [(&with_onnx, "onnxruntime"), (&with_onnx, "auto"), (&image, "auto"), (&image, "rten")]
    {
        let output = tested(image, runtime);
        assert!(output.status.success(), "{runtime} in {image}: {}", said(&output));
    }
    let refused = tested(&image, "onnxruntime");
    assert_eq!(refused.status.code(), Some(78), "{}", said(&refused));
    let why = "there is no ONNX Runtime here: its library is not loaded: this pelton is one static file";
    assert!(said(&refused).contains(why), "{}", said(&refused));
}

/// Writes records to a topic that it makes.
const FEED: &str = "apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: feed }
spec:
  sources: { numbers: { generator: { count: 20, rate: 1000 } } }
  sinks: { out: { kafka: { topic: TOPIC } } }
";
/// Where the image has the certificates of public authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

#[test]
fn a_container_reaches_a_real_kafka_over_tls_and_believes_only_the_authorities_of_its_image() {
    let (Some(image), Some(secure)) = (parts::image(), parts::kafka_secure()) else { return };
    let stage = stage();
    let listeners = fs::read_to_string(secure.join("listeners")).unwrap();
    let broker = listeners.lines().find_map(|line| line.strip_prefix("SSL ")).unwrap();
    let topic = format!("image-tls-{}", std::process::id());
    acls::create_topics(
        ClientConfig::new().set("bootstrap.servers", parts::kafka().unwrap()),
        std::slice::from_ref(&topic),
    );
    fs::write(stage.path().join("feed.yaml"), FEED.replace("TOPIC", &topic)).unwrap();
    // No `ca`: what the image trusts counts.
    let settings = format!("connections: {{ default: {{ brokers: \"{broker}\", tls: {{}} }} }}\n");
    fs::write(stage.path().join("node.yaml"), settings).unwrap();
    let feed =
        ["--config", "/stage/node.yaml", "run", "/stage/feed.yaml", "--until-idle", "2s", "-o", "json"];

    // It tries again and again, as with any broker that cannot be reached.
    let stranger = format!("pelton-test-stranger-{}", std::process::id());
    in_stage(&image, stage.path(), &["--detach", "--name", &stranger], &feed);
    let why = "the broker's certificate is from an authority that is not trusted here";
    let told = until(LIMIT, "a stranger's certificate is refused", || {
        said(&docker(&["logs", &stranger])).contains(why)
    });
    let log = said(&docker(&["logs", &stranger]));
    docker(&["rm", "--force", &stranger]);
    told.map_err(|late| format!("{late}\n{log}")).unwrap();

    // The same file of the image, with the tests' authority in it.
    let authorities = format!("{}:{AUTHORITIES}:ro", secure.join("ca.pem").display());
    let known = in_stage(&image, stage.path(), &["--volume", &authorities], &feed);
    assert!(known.status.success(), "{}", said(&known));
    assert!(said(&known).contains("\"emitted\":20"), "{}", said(&known));
}

/// A folder that the image's user may read.
fn stage() -> tempfile::TempDir {
    let stage = tempfile::tempdir().unwrap();
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o755)).unwrap();
    stage
}

/// A hardened container that shares the machine's network, as the real Kafka listens on the loopback address alone.
fn in_stage(image: &str, stage: &Path, more: &[&str], arguments: &[&str]) -> Output {
    let stage = format!("{}:/stage:ro", stage.display());
    let place = ["host", "--tmpfs", "/data:uid=65532", "--workdir", "/data", "--volume", &stage];
    docker(&[&HARDENED[..], &place, more, &[image], arguments].concat())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_of_the_engine(file: &str) -> bool {
    ["dev/", "proc/", "sys/"].iter().any(|folder| file.starts_with(folder))
        || [".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"].contains(&file)
}

/// `pelton ARGUMENTS` in a hardened container.
fn run(image: &str, network: &str, arguments: &[&str]) -> Output {
    docker(&[&HARDENED[..], &[network], &[image], arguments].concat())
}

/// All files of a container that was made and not started.
fn files(image: &str) -> Vec<String> {
    let id = String::from_utf8(docker(&["create", image, "--version"]).stdout).unwrap();
    let pipe = format!("docker export {0} | tar -t; docker rm {0} >/dev/null", id.trim());
    let listed = Command::new("sh").args(["-c", &pipe]).stdin(Stdio::null()).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().filter(|line| !line.ends_with('/')).map(str::to_owned).collect()
}

fn file(image: &str, path: &str) -> Vec<u8> {
    let id = String::from_utf8(docker(&["create", image, "--version"]).stdout).unwrap();
    let pipe = format!("docker cp {0}:{path} - | tar -xO; docker rm {0} >/dev/null", id.trim());
    Command::new("sh").args(["-c", &pipe]).stdin(Stdio::null()).output().unwrap().stdout
}

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap()
}
