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
fn the_custom_resource_of_the_chart_is_what_the_binary_prints() {
    let out = pelton(&root("."), &["operator", "crd"]);
    assert!(out.status.success());
    let path = root("deploy/helm/pelton/crds/pipelines.yaml");
    // The same for those who do without Helm.
    let copy = root("deploy/kustomize/crd.yaml");
    for path in [path, copy] {
        if blessing() {
            fs::write(&path, &out.stdout).unwrap();
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        let place = path.display();
        assert!(known == text(&out.stdout), "write it anew: pelton operator crd > {place}");
    }
}

/// What Kubernetes asks of a schema: a type everywhere but where anything may stand, and no word it does not know.
fn is_structural(place: &str, schema: &Value) {
    const KNOWN: [&str; 24] = [
        "type",
        "description",
        "properties",
        "additionalProperties",
        "items",
        "required",
        "enum",
        "nullable",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ];
    let anything = schema["x-kubernetes-preserve-unknown-fields"] == true;
    assert!(schema["type"].is_string() || anything, "{place} has no type");
    for key in schema.as_object().unwrap().keys() {
        let known = KNOWN.contains(&key.as_str()) || key == "x-kubernetes-preserve-unknown-fields";
        assert!(known, "{place} has {key}");
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        is_structural(&format!("{place}.{name}"), member);
    }
    if schema["type"] == "array" {
        is_structural(&format!("{place}[]"), &schema["items"]);
    }
    if schema["additionalProperties"].is_object() {
        is_structural(&format!("{place}.*"), &schema["additionalProperties"]);
    }
}

#[test]
fn the_schema_of_the_custom_resource_is_structural() {
    let definition = &documents(&root("deploy/helm/pelton/crds/pipelines.yaml"))[0];
    let version = &definition["spec"]["versions"][0];
    is_structural("", &version["schema"]["openAPIV3Schema"]);
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

/// What the schema says of each golden case that is YAML at all: a line of `refused NAME` or `taken NAME`. The mistakes of
/// the latter lie in programs and references, which a schema cannot see. `check.py` asks another validator.
#[test]
fn of_golden_cases_the_schema_refuses_those_whose_mistake_it_can_see() {
    let schema = jsonschema::validator_for(&published()).unwrap();
    let mut cases: Vec<_> = fs::read_dir(root("crates/pelton-config/tests/golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    cases.sort();
    let mut found = String::new();
    for path in cases {
        let text = fs::read_to_string(&path).unwrap();
        let Ok(documents) = serde_saphyr::from_multiple::<Value>(&text) else { continue };
        let refused = documents.iter().any(|document| !schema.is_valid(document));
        let name = path.file_stem().unwrap().to_str().unwrap();
        found.push_str(&format!("{} {name}\n", if refused { "refused" } else { "taken" }));
    }
    let path = root("deploy/schema/golden.txt");
    if blessing() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        found,
        "UPDATE_GOLDEN=1 writes {}",
        path.display()
    );
    for name in ["01-unknown-keys", "08-no-spec", "27-infer-options", "75-schema-types", "99-tests-misspelt"]
    {
        assert!(found.contains(&format!("refused {name}\n")), "{name} passes the schema");
    }
}
