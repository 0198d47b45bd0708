"""Check the published JSON Schema and the examples with a validator that is not ours.

Needs the packages `jsonschema` and `pyyaml`; `cargo xtask ci` brings them.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Golden cases whose mistake a schema can see; the same list is in crates/pelton/tests/language/schema.rs.
REFUSED = ["01-unknown-keys", "02-wrong-types", "08-no-spec", "15-two-connectors", "75-schema-types", "90-decode-misspelt"]


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def main():
    schema = json.loads((ROOT / "deploy/schema/pipeline.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    wrong = []
    examples = sorted((ROOT / "examples").glob("*/*.yaml"))
    for path in examples:
        for document in documents(path):
            wrong += [f"{path}: {error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    for name in REFUSED:
        path = ROOT / f"crates/pelton-config/tests/golden/{name}.yaml"
        if all(validator.is_valid(document) for document in documents(path)):
            wrong.append(f"{path} should be refused")
    print("\n".join(wrong) or f"schema: {len(examples)} examples are valid, {len(REFUSED)} malformed files are refused")
    return 1 if wrong or not examples else 0


sys.exit(main())
