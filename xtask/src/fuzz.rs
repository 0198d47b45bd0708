//! `cargo xtask fuzz`: libFuzzer on the decoders of the embedded broker, and on the language; the targets are in `fuzz/`.
//!
//! Coverage comes from LLVM's sanitizer pass, which the stable compiler passes on: no nightly, and no `cargo-fuzz`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

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

/// Set where cargo calls this program in front of the compiler.
const WRAPPER: &str = "PELTON_FUZZ_WRAPPER";

/// If cargo calls this program in front of the compiler: compile, the language and its target with counters.
pub fn compile() -> Option<ExitCode> {
    std::env::var_os(WRAPPER)?;
    let mut arguments = std::env::args_os().skip(1);
    let mut compiler = Command::new(arguments.next()?);
    let arguments: Vec<_> = arguments.collect();
    let name = arguments.iter().skip_while(|argument| *argument != "--crate-name").nth(1);
    let counted = name.is_some_and(|name| name == "pelton_expr" || name == "expr");
    let status = compiler.args(arguments).args(COVERAGE.iter().filter(|_| counted)).status();
    Some(if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

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
    /// Records for programs, with and without VRL.
    Expr,
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
    cargo.env("CARGO_TARGET_DIR", &folder);
    if target == "expr" {
        // Of VRL only its answers count; with counters it would take minutes more to compile, and run slower.
        let this = std::env::current_exe().map_err(|cause| format!("the path of this program: {cause}"))?;
        cargo.args(["--features", "expr"]).env("RUSTC_WRAPPER", this).env(WRAPPER, "1");
    } else {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    }
    shell::run(&mut cargo)?;
    Ok(folder.join(host).join("release").join(target))
}
