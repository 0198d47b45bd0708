//! The image itself: what is in it, what it may do, and whom it reaches.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pelton_tests::docker::{Containers, until};
use pelton_tests::parts;
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
