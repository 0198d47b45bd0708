//! What the binary is made of: a CycloneDX document, and the list that `cargo audit bin` reads out of a binary.
//!
//! Both come from `cargo metadata`, which knows the resolved graph. The tools that make the same (`cargo-cyclonedx`,
//! `cargo-auditable`) would each cost a build of a minute or more in every run of the checks, and add nothing: the
//! section `.dep-v0` is zlib over a short JSON list (github.com/rust-secure-code/cargo-auditable, PARSING.md).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};
use serde_json::{Value, json};

use super::{Flavour, onnx};
use crate::shell;

/// Libraries in C that crates bring along and no list of crates names: crate, library, licence, and where the crate's
/// version says the library's.
const IN_C: [(&str, &str, &str); 6] = [
    ("rdkafka-sys", "librdkafka", "BSD-2-Clause"),
    ("openssl-src", "openssl", "Apache-2.0"),
    ("zstd-sys", "zstd", "BSD-3-Clause"),
    ("libz-sys", "zlib", "Zlib"),
    ("libmimalloc-sys", "mimalloc", "MIT"),
    ("onig_sys", "oniguruma", "BSD-2-Clause"),
];

/// A crate of the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    version: String,
    licence: String,
    /// From the registry, not of this repository.
    foreign: bool,
    /// Used by build scripts and macros alone.
    build: bool,
    /// Places of what it uses.
    uses: Vec<usize>,
}

/// The crates of `pelton`, itself first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// Asks cargo.
    pub fn of_pelton() -> Result<Parts, String> {
        let metadata = shell::output(&mut shell::cargo([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ]))?;
        let metadata = serde_json::from_str(&metadata).map_err(|cause| format!("cargo metadata: {cause}"))?;
        parts(&metadata, "pelton").ok_or_else(|| "cargo metadata has another form than expected".to_owned())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// A CycloneDX 1.5 document. Without a serial number and a time, so that two builds give the same.
    pub fn cyclonedx(&self, flavour: Flavour) -> String {
        let reference = |part: &Part| format!("pkg:cargo/{}@{}", part.name, part.version);
        let component = |part: &Part| {
            json!({
                "type": "library", "name": part.name, "version": part.version, "purl": reference(part),
                "bom-ref": reference(part), "scope": if part.build { "excluded" } else { "required" },
                "licenses": [{ "expression": part.licence }],
            })
        };
        let mut components: Vec<Value> = self.0.iter().skip(1).map(component).collect();
        components.extend(self.0.iter().filter_map(in_c));
        components.extend((flavour == Flavour::Onnx).then(onnx::component));
        let uses = |part: &Part| {
            let on: Vec<String> = part.uses.iter().map(|at| reference(&self.0[*at])).collect();
            json!({ "ref": reference(part), "dependsOn": on })
        };
        let dependencies: Vec<Value> = self.0.iter().map(uses).collect();
        let root = self.0.first().map(|part| {
            json!({
                "type": "application", "name": part.name, "version": part.version, "bom-ref": reference(part),
                "licenses": [{ "expression": part.licence }],
            })
        });
        let document = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": { "component": root }, "components": components, "dependencies": dependencies,
        });
        format!("{document:#}\n")
    }

    /// Contents of the section `.dep-v0`.
    pub fn auditable(&self) -> Result<Vec<u8>, String> {
        let package = |(at, part): (usize, &Part)| {
            let mut package = json!({
                "name": part.name, "version": part.version,
                "source": if part.foreign { "crates.io" } else { "local" },
                "kind": if part.build { "build" } else { "runtime" }, "dependencies": part.uses,
            });
            if at == 0 {
                package["root"] = true.into();
            }
            package
        };
        let packages: Vec<Value> = self.0.iter().enumerate().map(package).collect();
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
        let written = packed.write_all(json!({ "packages": packages }).to_string().as_bytes());
        written.and_then(|()| packed.finish()).map_err(|cause| format!("zlib: {cause}"))
    }
}

/// The library in C of a crate.
fn in_c(part: &Part) -> Option<Value> {
    let (_, library, licence) = IN_C.iter().find(|(name, _, _)| *name == part.name)?;
    // `4.10.0+2.12.1` is the crate's version and the library's.
    let version = part.version.split_once('+').map_or(part.version.as_str(), |(_, own)| own);
    let purl = format!("pkg:generic/{library}@{version}");
    Some(json!({
        "type": "library", "name": library, "version": version, "purl": purl, "bom-ref": purl, "scope": "required",
        "licenses": [{ "expression": licence }], "description": format!("compiled in by {} {}", part.name, part.version),
    }))
}

/// The crates that `root` uses, directly or not, tests and examples left out.
fn parts(metadata: &Value, root: &str) -> Option<Parts> {
    let packages: BTreeMap<&str, &Value> =
        metadata["packages"].as_array()?.iter().filter_map(|p| Some((p["id"].as_str()?, p))).collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()?
        .iter()
        .filter_map(|n| Some((n["id"].as_str()?, n)))
        .collect();
    let own = |p: &&&Value| p["name"] == root && p["source"].is_null();
    let root = packages.values().find(own)?["id"].as_str()?;
    // What is reached without a build script is part of the binary; the rest of what is reached is used to build it.
    let runtime = reached(root, &nodes, false);
    let all = reached(root, &nodes, true);
    let mut order: Vec<&str> = all.iter().copied().filter(|id| *id != root).collect();
    order.sort_by_key(|id| (packages[id]["name"].as_str(), packages[id]["version"].as_str()));
    order.insert(0, root);
    let places: BTreeMap<&str, usize> = order.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let part = |id: &&str| {
        let package = packages.get(id)?;
        let text = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let mut uses: Vec<usize> =
            edges(nodes.get(id)?, true).filter_map(|to| places.get(to).copied()).collect();
        uses.sort_unstable();
        Some(Part {
            name: text("name"),
            version: text("version"),
            licence: text("license").replace('/', " OR "),
            foreign: !package["source"].is_null(),
            build: !runtime.contains(id),
            uses,
        })
    };
    order.iter().map(part).collect::<Option<Vec<_>>>().map(Parts)
}

fn reached<'a>(root: &'a str, nodes: &BTreeMap<&str, &'a Value>, with_build: bool) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::from([root]), VecDeque::from([root]));
    while let Some(id) = open.pop_front() {
        for to in nodes.get(id).into_iter().flat_map(|node| edges(node, with_build)) {
            if found.insert(to) {
                open.push_back(to);
            }
        }
    }
    found
}

/// Ids of what a node uses; kinds are `null`, `build` and `dev`.
fn edges(node: &Value, with_build: bool) -> impl Iterator<Item = &str> {
    let wanted = move |kind: &Value| kind["kind"].is_null() || (with_build && kind["kind"] == "build");
    let all = node["deps"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(move |to| {
        let kinds = to["dep_kinds"].as_array()?;
        kinds.iter().any(wanted).then(|| to["pkg"].as_str()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn graph() -> Value {
        let package = |id: &str, source: Option<&str>| json!({ "id": id, "name": id.split('#').next(), "version": "4.10.0+2.12.1", "license": "MIT/Apache-2.0", "source": source });
        let to = |id: &str, kind: Option<&str>| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        json!({
            "packages": [package("pelton", None), package("rdkafka-sys", Some("r")), package("cc", Some("r")), package("proptest", Some("r"))],
            "resolve": { "nodes": [
                { "id": "pelton", "deps": [to("rdkafka-sys", None), to("proptest", Some("dev"))] },
                { "id": "rdkafka-sys", "deps": [to("cc", Some("build"))] },
                { "id": "cc", "deps": [] }, { "id": "proptest", "deps": [] },
            ]},
        })
    }

    #[test]
    fn what_is_linked_is_told_from_what_builds_and_tests_are_left_out() {
        let Parts(all) = parts(&graph(), "pelton").unwrap();
        let shown: Vec<_> = all.iter().map(|part| (part.name.as_str(), part.build)).collect();
        assert_eq!(shown, [("pelton", false), ("cc", true), ("rdkafka-sys", false)]);
        assert_eq!(all[0].uses, [2]);
    }

    #[test]
    fn the_document_names_libraries_in_c_by_their_own_version() {
        let document = parts(&graph(), "pelton").unwrap().cyclonedx(Flavour::Static);
        let document: Value = serde_json::from_str(&document).unwrap();
        let components = document["components"].as_array().unwrap();
        assert!(components.iter().any(|c| c["purl"] == "pkg:generic/librdkafka@2.12.1"), "{document:#}");
        assert_eq!(document["metadata"]["component"]["name"], "pelton");
    }

    #[test]
    fn the_section_is_a_packed_list_with_one_root() {
        let packed = parts(&graph(), "pelton").unwrap().auditable().unwrap();
        let mut text = String::new();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let packages = list["packages"].as_array().unwrap();
        assert_eq!(packages.iter().filter(|p| p["root"] == true).count(), 1);
        assert_eq!(
            packages[1],
            json!({ "name": "cc", "version": "4.10.0+2.12.1", "source": "crates.io", "kind": "build", "dependencies": [] })
        );
    }
}
