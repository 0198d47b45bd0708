//! Real parts that a test may need: where they are, or that this run goes without.
//!
//! `cargo xtask ci` starts the parts and sets the variables. A test begins with
//! `let Some(kafka) = parts::kafka() else { return };`. Under `PELTON_TEST_REQUIRE_ALL=1` a missing part fails the
//! test instead, so that a complete run cannot pass by skipping.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Bootstrap address of a real Apache Kafka, from `PELTON_TEST_KAFKA`.
pub fn kafka() -> Option<String> {
    part("PELTON_TEST_KAFKA", "`cargo xtask infra kafka up` starts one")
}

/// Folder with the certificates of that Kafka, the addresses of its secured listeners in the file `listeners`, from
/// `PELTON_TEST_KAFKA_SECURE`. `tests/infra/kafka/README.md` says what is in it.
pub fn kafka_secure() -> Option<PathBuf> {
    part("PELTON_TEST_KAFKA_SECURE", "`cargo xtask infra kafka up --secure` prints it").map(PathBuf::from)
}

/// Name of our image on a Docker engine that answers, from `PELTON_TEST_IMAGE`.
pub fn image() -> Option<String> {
    part("PELTON_TEST_IMAGE", "`cargo xtask image` builds it")
}

/// Name of the image with ONNX Runtime on that engine, from `PELTON_TEST_IMAGE_ONNX`.
pub fn image_with_onnx() -> Option<String> {
    part("PELTON_TEST_IMAGE_ONNX", "`cargo xtask image --flavour onnx` builds it")
}

/// What a Kubernetes cluster is started from.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// Folder that `tests/infra/k8s/build.sh` filled.
    pub bin: PathBuf,
    /// Tars of our image as `localhost/pelton:test` and `localhost/pelton:next`.
    pub images: Vec<PathBuf>,
}

/// From `PELTON_TEST_KUBERNETES`: the folder of the kit, and behind a colon each tar of our image.
pub fn kubernetes() -> Option<Kubernetes> {
    let given =
        part("PELTON_TEST_KUBERNETES", "`cargo xtask k8s` builds what it needs and runs these tests")?;
    let mut parts = given.split(':').map(PathBuf::from);
    Some(Kubernetes { bin: parts.next()?, images: parts.collect() })
}

/// The `pelton` binary: from `PELTON_TEST_BINARY`, else the one that cargo built beside this test.
pub fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("PELTON_TEST_BINARY") {
        return given.into();
    }
    beside()
}

fn beside() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // target/PROFILE/deps/TEST -> target/PROFILE/pelton
    let beside = test.ancestors().nth(2).map(|profile| profile.join("pelton")).unwrap_or_default();
    assert!(beside.is_file(), "no {}: `cargo build -p pelton`, or set PELTON_TEST_BINARY", beside.display());
    beside
}

/// A `pelton` with fail points: [`binary`] if it has them, else the one of the same build as this test.
pub fn binary_with_points() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let given = std::env::var_os("PELTON_TEST_BINARY").map(PathBuf::from);
        given.filter(|given| has_points(given)).unwrap_or_else(beside)
    };
    FOUND.get_or_init(find).clone()
}

fn has_points(binary: &Path) -> bool {
    let bytes = std::fs::read(binary).unwrap_or_default();
    memchr::memmem::find(&bytes, FAIL_POINTS.as_bytes()).is_some()
}

/// What a binary with fail points has in it: the variable that names their folder.
pub const FAIL_POINTS: &str = "PELTON_FAIL_POINTS";

/// Whether a program is on the path; a complete run may not go without it.
pub fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(found || !nothing_may_be_skipped(), "no {name} on the path, and this run may skip nothing");
    if !found {
        eprintln!("skipped: no {name} on the path");
    }
    found
}

fn nothing_may_be_skipped() -> bool {
    std::env::var("PELTON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1")
}

fn part(variable: &str, how: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(!nothing_may_be_skipped(), "{variable} is not set, and this run may skip nothing");
        eprintln!("skipped: {variable} is not set; {how}");
    }
    value
}
