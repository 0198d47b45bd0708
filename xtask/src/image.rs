//! `cargo xtask image`: a static binary, a build context that holds all the image needs, and the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::shell;

mod context;
mod onnx;
mod sbom;

/// What an image may weigh, MB. The profile `ship` keeps it; `release`, which CI builds in a tenth of the time, does
/// not.
const BAR_MB: f64 = 50.0;

/// What `cargo xtask image` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What it can run models with.
    #[arg(long, value_enum, default_value = "static")]
    pub flavour: Flavour,
    /// Name of the image; `localhost/pelton:dev` or `localhost/pelton-onnx:dev` unless given.
    #[arg(long)]
    pub tag: Option<String>,
    /// Cargo profile: `release` (fast to build) or `ship` (thin link-time optimisation, stripped).
    #[arg(long, default_value = "release")]
    pub profile: String,
    /// Take this binary instead of building one. It must be static, or dynamic for `onnx`.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Prepare target/image only, for another builder than Docker.
    #[arg(long)]
    pub context_only: bool,
}

/// What an image can run models with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// `pelton`: one static binary, which has a runtime of its own.
    #[default]
    Static,
    /// `pelton-onnx`: a dynamic binary, ONNX Runtime, and the libraries that both need.
    Onnx,
}

impl Flavour {
    /// Its build context, below target.
    fn context(self) -> PathBuf {
        shell::target().join(if self == Flavour::Static { "image" } else { "image-onnx" })
    }

    /// Where its binary is kept, below target.
    fn binary(self) -> PathBuf {
        shell::target().join(if self == Flavour::Static { "pelton-static" } else { "pelton-onnx" })
    }
}

impl Options {
    /// An image of the profile that is quick to build.
    pub fn release(tag: &str) -> Options {
        Options {
            flavour: Flavour::Static,
            tag: Some(tag.to_owned()),
            profile: "release".into(),
            binary: None,
            context_only: false,
        }
    }

    /// The name of the image.
    pub fn tag(&self) -> &str {
        let default = if self.flavour == Flavour::Static {
            "localhost/pelton:dev"
        } else {
            "localhost/pelton-onnx:dev"
        };
        self.tag.as_deref().unwrap_or(default)
    }
}

/// Why there is no engine to build with, if so.
pub fn engine_missing() -> Option<String> {
    if !shell::have("docker") {
        return Some("no docker: on Debian `apt-get install docker.io`".into());
    }
    let info = shell::output(shell::program("docker").args(["info", "--format", "{{.ServerVersion}}"]));
    info.err().map(|why| format!("no Docker engine answers ({why})"))
}

/// Builds and says what was built.
pub fn build(options: &Options) -> Result<String, String> {
    let flavour = options.flavour;
    let binary = match &options.binary {
        Some(binary) => {
            std::path::absolute(binary).map_err(|cause| format!("{}: {cause}", binary.display()))?
        }
        None => compiled(&options.profile, flavour)?,
    };
    let fits = fs::read(&binary).map_err(|cause| format!("{}: {cause}", binary.display()))?;
    match (flavour, is_static(&fits)) {
        (Flavour::Static, false) => {
            return Err(format!("{} asks for a dynamic loader; the image has none", binary.display()));
        }
        (Flavour::Onnx, true) => {
            return Err(format!("{} is static: it would crash as it loads ONNX Runtime", binary.display()));
        }
        _ => {}
    }
    let context = flavour.context();
    println!("{}", context::prepare(&context, &binary, flavour)?);
    if options.context_only {
        return Ok(format!("{} is ready for a build", context.display()));
    }
    if let Some(why) = engine_missing() {
        return Err(format!("{why}; `--context-only` prepares the build context without it"));
    }
    build_context(&context, options.tag())?;
    let size =
        shell::output(shell::program("docker").args(["image", "inspect", "-f", "{{.Size}}", options.tag()]))?;
    let bytes: f64 = size.parse().map_err(|_| format!("docker gave `{size}` as the image's size"))?;
    Ok(format!("{} is built, {}", options.tag(), weighed(bytes / 1e6, flavour)))
}

/// The size, and how to get below the bar where it is not kept. Of the other flavour ONNX Runtime alone is 35 MB.
fn weighed(mb: f64, flavour: Flavour) -> String {
    let hint = if flavour == Flavour::Onnx || mb < BAR_MB {
        String::new()
    } else {
        format!("; `--profile ship` keeps it below {BAR_MB} MB")
    };
    format!("{mb:.1} MB{hint}")
}

/// The engine's build of a context, from its first step.
fn build_context(context: &Path, tag: &str) -> Result<(), String> {
    let mut docker = shell::program("docker");
    docker.args(["build", "--quiet", "--no-cache", "--tag", tag]);
    docker.args(["--build-arg", &format!("VERSION={}", env!("CARGO_PKG_VERSION"))]);
    docker.args(["--build-arg", &format!("REVISION={}", revision())]);
    docker.arg("--file").arg(shell::top().join("deploy/docker/Dockerfile")).arg(context);
    without_buildkit_where_it_is_missing(&mut docker);
    shell::run(&mut docker)
}

/// Builds the image of the binary that was built last once more, from the start, and fails unless its layers are those
/// of `tag`. The image's own digest may differ: see the Dockerfile.
pub fn same_again(tag: &str) -> Result<(), String> {
    let layers = |tag: &str| {
        let inspect = ["image", "inspect", "-f", "{{.RootFS.Layers}}", tag];
        shell::output(shell::program("docker").args(inspect))
    };
    let context = shell::target().join("image-again");
    context::prepare(&context, &Flavour::Static.binary(), Flavour::Static)?;
    let again = format!("{tag}-again");
    build_context(&context, &again)?;
    let (first, second) = (layers(tag)?, layers(&again)?);
    shell::output(shell::program("docker").args(["image", "rm", &again]))?;
    fs::remove_dir_all(&context).map_err(|cause| format!("{}: {cause}", context.display()))?;
    if first == second { Ok(()) } else { Err(format!("two builds differ: layers {first} and {second}")) }
}

/// The commit that is built; empty outside of a repository.
fn revision() -> String {
    shell::output(shell::program("git").args(["rev-parse", "HEAD"])).unwrap_or_default()
}

/// Builds the binary of a flavour and leaves what `cargo build` put at its place as it was.
///
/// The flag for a static one goes to the binary alone, so no dependency is compiled again for it. Cargo writes all kinds
/// to one path: the usual one is set aside and put back, for whoever runs it.
fn compiled(profile: &str, flavour: Flavour) -> Result<PathBuf, String> {
    // Cargo's `dev` profile builds to `debug`.
    let folder = shell::target().join(if profile == "dev" { "debug" } else { profile });
    let (built, aside) = (folder.join("pelton"), folder.join("pelton.aside"));
    let fixed = flavour.binary();
    let problem = |path: &Path, cause: std::io::Error| format!("{}: {cause}", path.display());
    // One from an earlier run that was ended midway is stale.
    if aside.exists() {
        fs::remove_file(&aside).map_err(|cause| problem(&aside, cause))?;
    }
    let was_there = built.exists();
    if was_there {
        fs::hard_link(&built, &aside).map_err(|cause| problem(&aside, cause))?;
    }
    let mut cargo =
        shell::cargo(["rustc", "--locked", "--package", "pelton", "--bin", "pelton", "--profile", profile]);
    let compiled = shell::run(match flavour {
        Flavour::Static => cargo.args(["--", "-C", "target-feature=+crt-static"]),
        Flavour::Onnx => &mut cargo,
    });
    // Cargo links anew rather than writing into the file, so the copy behind `aside` is still the old one.
    let moved = compiled.and_then(|()| fs::copy(&built, &fixed).map_err(|cause| problem(&fixed, cause)));
    if was_there {
        fs::rename(&aside, &built).map_err(|cause| problem(&built, cause))?;
        // Nothing was built: both names are one file, which a rename leaves alone.
        let _ = fs::remove_file(&aside);
    }
    moved.map(|_| fixed)
}

/// Docker falls over its own default where the buildx plugin is not installed, as in Debian's package.
fn without_buildkit_where_it_is_missing(docker: &mut Command) {
    if !shell::succeeds(shell::program("docker").args(["buildx", "version"])) {
        docker.env("DOCKER_BUILDKIT", "0");
    }
}

/// Whether a 64-bit little-endian ELF file has no PT_INTERP header, that is, starts without a dynamic loader.
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    // Offsets of e_phoff, e_phentsize and e_phnum in the file header; p_type is the first word of an entry.
    let (Some(table), Some(entry), Some(entries)) = (u64_at(32), u16_at(54), u16_at(56)) else {
        return false;
    };
    let is_elf64 = elf.starts_with(b"\x7fELF\x02\x01");
    let place =
        |index: u16| usize::try_from(table).ok()?.checked_add(usize::from(index) * usize::from(entry));
    is_elf64 && (0..entries).all(|index| place(index).and_then(u32_at).is_some_and(|kind| kind != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_binary_is_told_from_a_static_one() {
        let this_test = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&this_test), "cargo's test programs are dynamic");
        // The same file with its PT_INTERP entries turned into PT_NULL asks for no loader.
        let mut patched = this_test.clone();
        let table = usize::try_from(u64::from_le_bytes(patched[32..40].try_into().unwrap())).unwrap();
        for entry in 0..usize::from(u16::from_le_bytes(patched[56..58].try_into().unwrap())) {
            let at = table + entry * 56;
            if patched[at..at + 4] == [3, 0, 0, 0] {
                patched[at..at + 4].fill(0);
            }
        }
        assert!(is_static(&patched));
        assert!(!is_static(b"#!/bin/sh\n"), "a script is no binary");
        assert!(!is_static(&this_test[..60]), "a file cut short is no binary");
    }
}
