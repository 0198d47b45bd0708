//! `cargo xtask fuzz`: libFuzzer on the embedded broker's decoders; the targets are in `fuzz/`.
//!
//! Coverage comes from LLVM's sanitizer pass, which the stable compiler passes on: no nightly, and no `cargo-fuzz`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::shell;

/// Flags that put counters on every edge, a table of their places, and a look into comparisons.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What is given any bytes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Frames on a connection, through decoding and the broker's core.
    Request,
    /// Batches of records in every codec.
    Records,
    /// A data directory.
    Log,
    /// Frames of somebody who logs in, or does not.
    Login,
}

/// What `cargo xtask fuzz` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What to fuzz.
    target: Target,
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// An input that failed, to be run once instead.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Builds the target and runs it on what earlier runs collected.
pub fn run(options: &Options) -> Result<(), String> {
    let target =
        options.target.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let built = build(&target)?;
    let mut fuzzer = shell::program(built);
    if let Some(input) = &options.input {
        return shell::run(fuzzer.arg(input));
    }
    let folder = shell::target().join("fuzz");
    let [corpus, seeds] = ["corpus", "seeds"].map(|kind| folder.join(kind).join(&target));
    let found = shell::top().join("fuzz/found").join(&target);
    for folder in [&corpus, &seeds, &found] {
        std::fs::create_dir_all(folder).map_err(|cause| format!("{}: {cause}", folder.display()))?;
    }
    // The fuzzer writes the seeds before it reads them.
    fuzzer.env("PELTON_FUZZ_SEEDS", &seeds);
    fuzzer.arg(format!("-max_total_time={}", options.seconds)).arg("-print_final_stats=1");
    fuzzer.args(["-max_len=32768", "-len_control=20", "-timeout=20", "-rss_limit_mb=4096"]);
    // What fails stays with the sources: `cargo test` replays it from then on.
    fuzzer.arg(format!("-artifact_prefix={}/", found.display()));
    shell::run(fuzzer.arg(&corpus).arg(&seeds).arg(&found))
}

fn build(target: &str) -> Result<PathBuf, String> {
    let host = shell::output(shell::program("rustc").args(["--print", "host-tuple"]))?;
    let folder = shell::target().join("fuzz/build");
    // With a target of its own, build scripts and macros are compiled without the counters.
    let options =
        ["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &host, "--bin", target];
    let mut cargo = shell::cargo(options);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")).env("CARGO_TARGET_DIR", &folder);
    shell::run(&mut cargo)?;
    Ok(folder.join(host).join("release").join(target))
}
