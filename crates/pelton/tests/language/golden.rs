//! Malformed definitions and what `pelton validate` tells their authors. `UPDATE_GOLDEN=1` writes the texts anew; read
//! them as somebody who has never seen Pelton before you keep them.

use crate::{blessing, pelton, root, text};
use std::{fs, path::PathBuf, thread};

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(root("crates/pelton-config/tests/golden")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files
}

#[test]
fn every_malformed_file_is_answered_as_expected() {
    let folder = root("crates/pelton-config/tests/golden");
    let files = files();
    assert!(files.len() >= 100, "{} files", files.len());
    let check = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let out = pelton(&folder, &["validate", "--models", "../../../../examples/digits", name]);
        let said = text(&out.stderr);
        let expected = path.with_extension("txt");
        if blessing() {
            fs::write(&expected, &said).unwrap();
        }
        let known = fs::read_to_string(&expected).unwrap_or_default();
        let mut wrong = Vec::new();
        if out.status.code() != Some(78) {
            wrong.push(format!("{name} ends with {}", out.status));
        }
        if known != said {
            wrong.push(format!("--- {name}, expected:\n{known}--- found:\n{said}"));
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let parts: Vec<_> = files.chunks(files.len().div_ceil(4)).collect();
        let handles: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || part.iter().flat_map(check).collect::<Vec<_>>()))
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "answers differ from tests/golden/*.txt:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_beyond_a_limit_is_refused_with_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: big }\nspec:\n  sources: { in: { file: { path: a } } }\n  sinks: { out: { stdout: {} } }\n";
    let operators = "    - { name: a, filter: \"true\" }\n".repeat(1001);
    let regex = format!(
        "    - {{ name: a, filter: \"match(string!(.a), r'{}')\" }}\n",
        "(x{1,100}){1,100}".repeat(200)
    );
    for (what, file, wanted) in [
        ("size", format!("{head}# {}\n", "x".repeat(1 << 20)), "the limit is 1048576 (1 MiB)"),
        (
            "operators",
            format!("{head}  operators:\n{operators}"),
            "`operators` has 1001 entries, the limit is 1000",
        ),
        ("regex", format!("{head}  operators:\n{regex}"), "ompiled regex exceeds size limit"),
        ("documents", "---\na: 1\n".repeat(101), "the limit is 100"),
    ] {
        fs::write(folder.path().join("big.yaml"), file).unwrap();
        let out = pelton(folder.path(), &["validate", "big.yaml"]);
        assert_eq!(out.status.code(), Some(78), "{what}");
        assert!(text(&out.stderr).contains(wanted), "{what}: {}", text(&out.stderr));
    }
}
