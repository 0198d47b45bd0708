//! What the image is made from: `root.tar`, the same for the same binary and commit.
//!
//! `COPY` would give the folders it makes the time of the build; an archive that `ADD` unpacks has times of its own.

use std::fs;
use std::path::Path;

use super::sbom::Parts;
use super::{Flavour, onnx};
use crate::shell;

/// Where Debian and most others keep the certificates of public authorities.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The user of the image: nobody's number, as distroless images have it.
const USER: &str = "65532";

/// Writes `root.tar` into the folder, which is made new, and says what each part costs.
pub fn prepare(context: &Path, binary: &Path, flavour: Flavour) -> Result<String, String> {
    let root = context.join("root");
    let parts = Parts::of_pelton()?;
    let make = || -> std::io::Result<()> {
        if context.exists() {
            fs::remove_dir_all(context)?;
        }
        for folder in ["data", "etc/ssl/certs", "usr/share/doc/pelton"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // The engine is sent the archive alone.
        fs::write(context.join(".dockerignore"), "*\n!root.tar\n")?;
        fs::copy(CERTIFICATES, root.join("etc/ssl/certs/ca-certificates.crt"))?;
        fs::write(root.join("etc/passwd"), format!("pelton:x:{USER}:{USER}::/data:/sbin/nologin\n"))?;
        fs::copy(shell::top().join("LICENSE"), root.join("usr/share/doc/pelton/LICENSE"))?;
        fs::write(root.join("usr/share/doc/pelton/sbom.cdx.json"), parts.cyclonedx(flavour))
    };
    make().map_err(|cause| format!("{}: {cause} ({CERTIFICATES} must exist)", context.display()))?;
    with_list(binary, &root.join("pelton"), &parts, context)?;
    if flavour == Flavour::Onnx {
        onnx::add(&root, binary)?;
    }
    archive(context, &root)?;
    Ok(costs(&root, &parts))
}

/// The binary without symbols and with the list of its crates in the section that scanners look for.
fn with_list(binary: &Path, into: &Path, parts: &Parts, context: &Path) -> Result<(), String> {
    let list = context.join("dep-v0");
    fs::write(&list, parts.auditable()?).map_err(|cause| format!("{}: {cause}", list.display()))?;
    let mut objcopy = shell::program("objcopy");
    objcopy.arg("--strip-all").arg("--add-section").arg(format!(".dep-v0={}", list.display()));
    objcopy.args(["--set-section-flags", ".dep-v0=readonly,noload"]).arg(binary).arg(into);
    shell::output(&mut objcopy).map(drop)
}

fn archive(context: &Path, root: &Path) -> Result<(), String> {
    // The time of the commit; none outside of a repository.
    let time = shell::output(shell::program("git").args(["log", "-1", "--format=@%ct"]));
    let time = time.ok().filter(|time| time.len() > 1).unwrap_or_else(|| "@0".into());
    let tar = context.join("root.tar");
    let add = |how: &str, owner: &str, names: &[&str]| {
        let mut command = shell::program("tar");
        command.arg(how).arg("--file").arg(&tar).arg("--directory").arg(root);
        command.args(["--sort=name", "--format=ustar", "--numeric-owner", "--mode=u+rwX,go+rX,go-w"]);
        command.arg(format!("--mtime={time}"));
        command.args([format!("--owner={owner}"), format!("--group={owner}")]);
        shell::output(command.args(names)).map(drop)
    };
    // Belongs to the user, so that a new named volume at /data does as well.
    add("--create", USER, &["data"])?;
    let listed = fs::read_dir(root).map_err(|cause| format!("{}: {cause}", root.display()))?;
    let names = listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "data").collect();
    names.sort();
    add("--append", "0", &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Bytes by file, and of the binary by section.
fn costs(root: &Path, parts: &Parts) -> String {
    let mb = |bytes: f64| bytes / 1e6;
    let size = |name: &str| fs::metadata(root.join(name)).map_or(f64::NAN, |file| mb(file.len() as f64));
    let mut lines = vec![format!("{:>8.2} MB  pelton, {} crates", size("pelton"), parts.count())];
    let sections =
        shell::output(shell::program("size").arg("-Ad").arg(root.join("pelton"))).unwrap_or_default();
    let mut sections: Vec<(f64, &str)> = sections.lines().filter_map(section).collect();
    sections.sort_by(|one, other| other.0.total_cmp(&one.0));
    lines.extend(sections.iter().take(6).map(|(bytes, name)| format!("{:>8.2}       {name}", mb(*bytes))));
    for name in ["usr/share/doc/pelton/sbom.cdx.json", "etc/ssl/certs/ca-certificates.crt"] {
        lines.push(format!("{:>8.2} MB  /{name}", size(name)));
    }
    let libraries = onnx::libraries_of(root);
    lines.extend(libraries.iter().map(|name| format!("{:>8.2} MB  /{name}", size(name))));
    lines.join("\n")
}

/// Size and name of a section, from a line of `size -A`; what takes no place in the file is left out.
fn section(line: &str) -> Option<(f64, &str)> {
    let mut words = line.split_whitespace();
    let name = words.next().filter(|name| name.starts_with('.') && !name.ends_with("bss"))?;
    Some((words.next()?.parse().ok()?, name))
}
