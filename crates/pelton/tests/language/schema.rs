//! The published JSON Schema: up to date, takes every example, and refuses what a schema can see.

use crate::{blessing, pelton, root, text};
use serde_json::Value;
use std::{fs, path::Path};

fn documents(path: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

fn published() -> Value {
    serde_json::from_str(&fs::read_to_string(root("deploy/schema/pipeline.schema.json")).unwrap()).unwrap()
}

#[test]
fn the_published_schema_is_what_the_binary_prints() {
    let out = pelton(&root("."), &["schema"]);
    assert!(out.status.success());
    let path = root("deploy/schema/pipeline.schema.json");
    if blessing() {
        fs::write(&path, &out.stdout).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text(&out.stdout), "write it anew: pelton schema > deploy/schema/pipeline.schema.json");
    assert!(jsonschema::meta::is_valid(&published()));
}

#[test]
fn every_example_is_valid() {
    let schema = jsonschema::validator_for(&published()).unwrap();
    let mut seen = 0;
    for folder in fs::read_dir(root("examples")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                for document in documents(&path) {
                    seen += 1;
                    let errors: Vec<_> = schema.iter_errors(&document).map(|e| e.to_string()).collect();
                    assert!(errors.is_empty(), "{}: {errors:?}", path.display());
                }
            }
        }
    }
    assert!(seen >= 4);
}

/// Golden cases whose mistake shows without compiling a program or following a reference.
const SEEN: [&str; 20] = [
    "01-unknown-keys",
    "02-wrong-types",
    "03-unknown-names",
    "07-nothing-in-it",
    "08-no-spec",
    "10-delivery-misspelt",
    "12-bad-names",
    "15-two-connectors",
    "24-other-resource",
    "27-infer-options",
    "30-key-paths",
    "32-on-error",
    "35-file-options",
    "38-route-options",
    "75-schema-types",
    "77-schema-lists",
    "79-schema-no-mapping",
    "90-decode-misspelt",
    "98-tests-wrong-types",
    "99-tests-misspelt",
];

#[test]
fn what_a_schema_can_see_is_refused_by_it() {
    let schema = jsonschema::validator_for(&published()).unwrap();
    for name in SEEN {
        let path = root("crates/pelton-config/tests/golden").join(format!("{name}.yaml"));
        let refused = documents(&path).iter().any(|document| !schema.is_valid(document));
        assert!(refused, "{name} passes the schema");
    }
}
