//! Malformed definitions and what their authors are told. `UPDATE_GOLDEN=1` writes the expected texts anew; read them
//! before you keep them.

mod common;

use std::{fs, path::Path};

#[test]
fn every_malformed_file_is_answered_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    names.sort();
    assert!(names.len() >= 30, "{} files", names.len());
    let mut wrong = Vec::new();
    for path in &names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let said = match common::read(&name, &fs::read_to_string(path).unwrap()) {
            Ok(_) => "no problem\n".to_owned(),
            Err(report) => format!("{report}\n"),
        };
        let expected = path.with_extension("expected");
        if update {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("--- {name}\n{said}"));
        }
        assert!(said != "no problem\n", "{name} is not malformed");
    }
    assert!(wrong.is_empty(), "answers differ from tests/golden/*.expected:\n{}", wrong.join("\n"));
}
