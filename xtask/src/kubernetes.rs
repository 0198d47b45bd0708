//! `cargo xtask k8s` and `cargo xtask infra k8s`: a real Kubernetes cluster from tests/infra/k8s, and our chart on it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};

use crate::report::Done;
use crate::{image, shell};

/// Programs of Debian packages that the kit runs, and the packages.
const NEEDED: [(&str, &str); 8] = [
    ("go", "golang (1.25 or newer)"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("python3", "python3"),
];
/// Where Debian puts the network plugins.
const PLUGINS: &str = "/usr/lib/cni/bridge";
/// What the kit is built from, below tests/infra/k8s.
const SOURCES: [&str; 4] = ["build.sh", "onebinary", "coredns", "images"];

/// What `cargo xtask k8s` may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Take this binary instead of building a static one; its shared libraries come along.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// A cluster to try things on.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Switch {
    /// Starts a cluster and prints how to reach it; one that runs is left as it is.
    Up {
        /// Real nodes.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
    },
    /// Stops it and removes its data.
    Down,
}

/// `cargo xtask k8s`: builds what is needed and runs the tests on a cluster.
pub fn run(options: &Options) -> Result<(), String> {
    let kit = match kit()? {
        Done::With(kit) => kit,
        Done::Skipped(why) => return Err(why),
    };
    match &options.binary {
        Some(binary) => test(&kit, binary),
        None => {
            image::build(&image::Options {
                context_only: true,
                ..image::Options::release("localhost/pelton:test")
            })?;
            test(&kit, &from_image())
        }
    }
}

/// The step of `cargo xtask ci`: the same with the image that was built before, where this machine can.
pub fn step() -> Result<Done<()>, String> {
    match kit()? {
        Done::With(kit) => test(&kit, &from_image()).map(Done::With),
        Done::Skipped(why) => Ok(Done::Skipped(why)),
    }
}

/// The binary as it is in the image.
fn from_image() -> PathBuf {
    shell::target().join("image/root/pelton")
}

/// The tests on a cluster. Of the whole workspace, so that nothing is compiled with other features than for all tests.
fn test(kit: &Path, binary: &Path) -> Result<(), String> {
    let images = packed(binary, kit)?;
    let mut test = shell::cargo(["test", "--workspace", "--locked", "--test", "kubernetes", "--"]);
    test.args(["--nocapture", "--test-threads=1"]);
    shell::run(test.env("PELTON_TEST_KUBERNETES", variable(kit, &images)))
}

/// `cargo xtask infra k8s up|down`
pub fn switch(switch: Switch) -> Result<(), String> {
    let script = |name: &str| {
        let mut command = shell::program(scripts().join(name));
        command.arg(shell::target().join("k8s-cluster")).env("BIN", bin());
        command
    };
    match switch {
        Switch::Up { nodes } => {
            if let Done::Skipped(why) = kit()? {
                return Err(why);
            }
            let mut up = script("k8s-up.sh");
            shell::run(up.env("NODES", nodes.to_string()))?;
            println!("export PATH={}:$PATH", bin().display());
            Ok(())
        }
        Switch::Down => shell::run(script("k8s-down.sh").arg("--purge")),
    }
}

/// The value of `PELTON_TEST_KUBERNETES`.
fn variable(kit: &Path, images: &[PathBuf]) -> String {
    let all = std::iter::once(kit).chain(images.iter().map(PathBuf::as_path));
    all.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

/// The folder with the kit's programs. They are built once: `tests/infra/k8s/NOTES.md` says what that costs.
fn kit() -> Result<Done<PathBuf>, String> {
    if shell::output(shell::program("id").arg("-u")).is_ok_and(|user| user != "0") {
        return Ok(Done::Skipped("a Kubernetes cluster needs root, for the namespaces of its nodes".into()));
    }
    let missing = NEEDED.iter().find(|(program, _)| !shell::have(program));
    let missing = missing.map(|(_, package)| *package);
    let missing = missing.or_else(|| (!Path::new(PLUGINS).exists()).then_some("containernetworking-plugins"));
    if let Some(package) = missing {
        return Ok(Done::Skipped(format!("a Kubernetes cluster needs the package {package}")));
    }
    let bin = bin();
    let stamp = bin.join("built-from");
    let now = sources()?;
    if fs::read_to_string(&stamp).is_ok_and(|built| built == now) {
        return Ok(Done::With(bin));
    }
    fs::create_dir_all(&bin).map_err(|cause| format!("{}: {cause}", bin.display()))?;
    shell::run(shell::program(scripts().join("build.sh")).env("BIN", &bin))?;
    fs::write(&stamp, now).map_err(|cause| format!("{}: {cause}", stamp.display()))?;
    Ok(Done::With(bin))
}

/// A number that changes with what the kit is built from.
fn sources() -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    let mut rest: Vec<PathBuf> = SOURCES.iter().map(|name| scripts().join(name)).collect();
    let mut files = Vec::new();
    while let Some(path) = rest.pop() {
        let failed = |cause| format!("{}: {cause}", path.display());
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                rest.push(entry.map_err(failed)?.path());
            }
        } else {
            files.push((path.clone(), fs::read(&path).map_err(failed)?));
        }
    }
    files.sort();
    for (_, content) in files {
        content.hash(&mut hasher);
    }
    Ok(format!("{:x}", hasher.finish()))
}

/// Our image under the two names that the tests use, a tar each, made of a binary without a Docker engine.
fn packed(binary: &Path, kit: &Path) -> Result<Vec<PathBuf>, String> {
    let binary = std::path::absolute(binary).map_err(|cause| format!("{}: {cause}", binary.display()))?;
    let authorities = "/etc/ssl/certs/ca-certificates.crt";
    ["test", "next"]
        .into_iter()
        .map(|tag| {
            let tar = kit.join(format!("pelton-{tag}.tar"));
            let mut pack: Command = shell::program(scripts().join("mkimage.py"));
            pack.arg(format!("localhost/pelton:{tag}"))
                .arg(&tar)
                .arg(&binary)
                .arg(authorities.to_owned() + ":" + authorities);
            shell::run(pack.args(["--libs", "--user", "65532"]))?;
            Ok(tar)
        })
        .collect()
}

fn scripts() -> PathBuf {
    shell::top().join("tests/infra/k8s")
}

fn bin() -> PathBuf {
    shell::target().join("k8s")
}
