"""Check the published JSON Schema, the examples and the golden cases with a validator that is not ours.

Needs the packages `jsonschema` and `pyyaml`; `cargo xtask ci` brings them.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "crates/pelton-config/tests/golden"


class Loader(yaml.SafeLoader):
    """Reads what has a tag of its own as what it is without, as Pelton does."""


Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))


def documents(path):
    return [document for document in yaml.load_all(path.read_text(), Loader) if document is not None]


def golden():
    """What the test of `crates/pelton/tests/language/schema.rs` wrote down: the verdict on each case that is YAML."""
    for line in (ROOT / "deploy/schema/golden.txt").read_text().splitlines():
        verdict, name = line.split()
        yield verdict, GOLDEN / f"{name}.yaml"


def main():
    schema = json.loads((ROOT / "deploy/schema/pipeline.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    wrong = []
    examples = sorted((ROOT / "examples").glob("*/*.yaml"))
    for path in examples:
        for document in documents(path):
            wrong += [f"{path}: {error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    # PyYAML reads YAML 1.1, to which a few of our cases are none: `{ price: float?, note?: string }`.
    counts = {"refused": 0, "taken": 0, "unread": 0}
    for verdict, path in golden():
        try:
            read = documents(path)
        except yaml.YAMLError:
            counts["unread"] += 1
            continue
        counts[verdict] += 1
        found = "taken" if all(validator.is_valid(document) for document in read) else "refused"
        if found != verdict:
            wrong.append(f"{path} is {found} here, and {verdict} in deploy/schema/golden.txt")
    good = f"schema: {len(examples)} examples are valid; of the golden cases {counts['refused']} are refused and " \
        f"{counts['taken']}, whose mistakes are none of the schema, are taken; {counts['unread']} are no YAML 1.1"
    print("\n".join(wrong) or good)
    return 1 if wrong or not examples or counts["refused"] < 30 or counts["unread"] > 10 else 0


sys.exit(main())
