//! `cargo xtask ci`: all checks and tests that this machine has the parts for.
//!
//! Every step is done even after another failed, unless it needs what that one makes. The tests come last, so that
//! cargo's totals are what the run ends with.

use std::process::ExitCode;

use clap::Args;

use crate::report::{Done, Report};
use crate::totals::Totals;
use crate::{chaos, deny, first_run, image, infra, kubernetes, schema, shell};

/// What `cargo xtask ci` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A step that has to be skipped fails the run. So does `CI=true`.
    #[arg(long)]
    no_skip: bool,
    /// Also goes through what can happen to the chart on a real Kubernetes cluster, which is built once (`cargo xtask
    /// k8s`); without it that step is not there.
    #[arg(long)]
    kubernetes: bool,
}

/// Parts that tests can use.
#[derive(Debug, Default)]
struct Parts {
    kafka: Option<infra::Kafka>,
    image: Option<String>,
    image_with_onnx: Option<String>,
    binary: bool,
}

/// Runs all steps.
pub fn run(options: &Options) -> ExitCode {
    let strict = options.no_skip || std::env::var("CI").is_ok_and(|value| value == "true");
    let mut report = Report::new(strict);
    static_checks(&mut report);
    let tests_built = report.step("lints and build of the tests", || {
        shell::lint_dev_builds()?;
        shell::run(&mut shell::cargo(["test", "--workspace", "--locked", "--no-run"])).map(Done::With)
    });
    let parts = shipped_binary(&mut report);
    if options.kubernetes && parts.binary && tests_built.is_some() {
        report.step("Kubernetes", kubernetes::step);
    }
    let mut totals = Totals::default();
    if tests_built.is_some() {
        report.step("tests", || tests(&parts, strict, &mut totals).map(Done::With));
    }
    // Stop what was started before the last lines.
    drop(parts);
    print!("\n{}\n{totals}\n", report.summary());
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn static_checks(report: &mut Report) {
    report.step("format", || shell::run(&mut shell::cargo(["fmt", "--all", "--check"])).map(Done::With));
    report.step("published schema", schema::run);
    report.step("dependency rules", || deny::check().map(Done::from));
}

/// Everything that uses the binary as users get it.
fn shipped_binary(report: &mut Report) -> Parts {
    let built = report.step("release build", || first_run::build().map(Done::With));
    let mut parts = Parts { binary: built.is_some(), ..Parts::default() };
    if parts.binary {
        report.step("first command", || first_run::run().map(Done::With));
        parts.image = report.step("image", ci_image);
        parts.image_with_onnx = report.step("image with ONNX Runtime", image_with_onnx);
    }
    parts.kafka = report.step("real Kafka", infra::Kafka::start);
    if let (true, Some(kafka)) = (parts.binary, &parts.kafka) {
        let options = chaos::Options::five_minutes(&kafka.bootstrap);
        report.step("chaos, five minutes", || chaos::run(&options).map(Done::With));
    }
    report.step("kcat", || {
        let missing = || Done::Skipped("no kcat: on Debian `apt-get install kcat`".into());
        Ok(if shell::have("kcat") { Done::With(()) } else { missing() })
    });
    report.step("Prometheus", || {
        let missing = || Done::Skipped("no prometheus: on Debian `apt-get install prometheus`".into());
        Ok(if shell::have("prometheus") { Done::With(()) } else { missing() })
    });
    report.step("Chromium", || {
        let missing = || Done::Skipped("no chromium: on Debian `apt-get install chromium`".into());
        Ok(if shell::have("chromium") { Done::With(()) } else { missing() })
    });
    parts
}

fn ci_image() -> Result<Done<String>, String> {
    if let Some(why) = image::engine_missing() {
        return Ok(Done::Skipped(why));
    }
    let tag = "localhost/pelton:ci".to_owned();
    let options = image::Options::release(&tag);
    println!("{}", image::build(&options)?);
    image::same_again(&tag)?;
    Ok(Done::With(tag))
}

/// The release binary again, with the library beside it.
fn image_with_onnx() -> Result<Done<String>, String> {
    if let Some(why) = image::engine_missing() {
        return Ok(Done::Skipped(why));
    }
    let tag = "localhost/pelton-onnx:ci".to_owned();
    let binary = Some(shell::target().join("release/pelton"));
    let options = image::Options { flavour: image::Flavour::Onnx, binary, ..image::Options::release(&tag) };
    println!("{}", image::build(&options)?);
    Ok(Done::With(tag))
}

fn tests(parts: &Parts, strict: bool, totals: &mut Totals) -> Result<(), String> {
    let mut cargo = shell::cargo(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if let Some(kafka) = &parts.kafka {
        cargo.env("PELTON_TEST_KAFKA", &kafka.bootstrap).env("PELTON_TEST_KAFKA_SECURE", &kafka.secure);
    }
    if let Some(image) = &parts.image {
        cargo.env("PELTON_TEST_IMAGE", image);
    }
    if let Some(image) = &parts.image_with_onnx {
        cargo.env("PELTON_TEST_IMAGE_ONNX", image);
    }
    if parts.binary {
        cargo.env("PELTON_TEST_BINARY", shell::target().join("release/pelton"));
    }
    if strict {
        cargo.env("PELTON_TEST_REQUIRE_ALL", "1");
    }
    shell::follow(&mut cargo, |line| totals.add(line))?;
    if totals.any() { Ok(()) } else { Err("no test ran".into()) }
}
