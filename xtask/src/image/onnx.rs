//! ONNX Runtime for the image `pelton-onnx`: its library out of its maker's Python package, whose hash is checked, and
//! the system's libraries that it and the binary ask for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::shell;

/// What is fetched, for pip: `onnxruntime==VERSION --hash=...` under a remark.
const REQUIREMENTS: &str = include_str!("../../../deploy/docker/onnxruntime.txt");
/// Where the loader looks by itself.
const PLACE: &str = "usr/lib/libonnxruntime.so";
/// Its licence, and those of what is in it.
const NOTICES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

/// Puts the library, its licences and all that it and the binary are linked to into the root of an image.
pub fn add(root: &Path, binary: &Path) -> Result<(), String> {
    let package = package()?;
    let library = package.join(format!("capi/libonnxruntime.so.{}", version()));
    copy(&library, &root.join(PLACE))?;
    for notice in NOTICES {
        copy(&package.join(notice), &root.join("usr/share/doc/onnxruntime").join(notice))?;
    }
    for needed in linked(binary)?.union(&linked(&library)?) {
        copy(needed, &root.join(needed.strip_prefix("/").unwrap_or(needed)))?;
    }
    Ok(())
}

/// The package's version, as the requirements name it.
fn version() -> &'static str {
    let named = REQUIREMENTS.lines().find_map(|line| line.strip_prefix("onnxruntime=="));
    named.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default()
}

/// The library as a part of the image.
pub fn component() -> Value {
    let purl = format!("pkg:pypi/onnxruntime@{}", version());
    json!({
        "type": "library", "name": "onnxruntime", "version": version(), "purl": purl, "bom-ref": purl,
        "scope": "required", "licenses": [{ "expression": "MIT" }],
    })
}

/// Shared libraries in the root of an image, by their paths within.
pub fn libraries_of(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["lib", "lib64", "usr/lib"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(within) = path.strip_prefix(root) {
                found.push(within.display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The folder of the unpacked package, fetched once.
fn package() -> Result<PathBuf, String> {
    let folder = shell::target().join(format!("onnxruntime-{}", version()));
    let package = folder.join("onnxruntime");
    if package.join(NOTICES[0]).exists() {
        return Ok(package);
    }
    let mut fetch = shell::program("python3");
    fetch.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    // One file, whatever Python fetches it: only the library in it is taken.
    fetch.args(["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]);
    fetch.args(["--require-hashes", "--requirement"]).arg(shell::top().join("deploy/docker/onnxruntime.txt"));
    shell::run(fetch.arg("--dest").arg(&folder))?;
    let failed = |cause| format!("{}: {cause}", folder.display());
    let mut files = fs::read_dir(&folder).map_err(failed)?.flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel.ok_or_else(|| format!("{}: no wheel is there", folder.display()))?;
    shell::run(shell::program("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder))?;
    fs::remove_file(&wheel).map_err(failed)?;
    Ok(package)
}

/// Paths of the libraries, the loader among them, that a program or library asks for.
fn linked(file: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let listed = shell::output(shell::program("ldd").arg(file))?;
    if let Some(missing) = listed.lines().find(|line| line.contains("not found")) {
        return Err(format!("{}: {}", file.display(), missing.trim()));
    }
    Ok(listed.lines().filter_map(path_of).collect())
}

/// The path in a line of `ldd`: `libm.so.6 => /lib/libm.so.6 (0x7f...)`, or `/lib64/ld-linux-x86-64.so.2 (0x7f...)`.
fn path_of(line: &str) -> Option<PathBuf> {
    let named = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
    let path = named.split_whitespace().next()?;
    path.starts_with('/').then(|| path.into())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().unwrap_or(to);
    let done = fs::create_dir_all(folder).and_then(|()| fs::copy(from, to).map(drop));
    done.map_err(|cause| format!("{} to {}: {cause}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requirements_name_a_version() {
        assert!(version().split('.').all(|part| part.parse::<u32>().is_ok()), "`{}`", version());
    }

    #[test]
    fn what_a_program_is_linked_to_is_read_from_the_lists_of_ldd() {
        let path = |line: &str| path_of(line).map(|path| path.display().to_string());
        assert_eq!(
            path("\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1)").as_deref(),
            Some("/lib/x86_64-linux-gnu/libm.so.6")
        );
        assert_eq!(
            path("\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)").as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(path("\tlinux-vdso.so.1 (0x00007ffd)"), None, "the kernel's own is no file");
    }
}
