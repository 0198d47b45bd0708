//! Whatever stands in a file, reading it ends with an answer.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use pelton_config::Report;
use proptest::prelude::*;
use std::{fs, path::Path, sync::LazyLock};

static FILES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
});

/// What YAML and programs are made of.
const PIECES: [&str; 24] = [
    "\n", "  ", "\t", "\r\n", ":", "- ", "? ", "{", "}", "[", "]", "\"", "'", "|\n", ">-\n", "&a ", "*a",
    "<<: ", "---\n", "${X:1}", "#", "é", "\u{feff}", "BAD",
];

fn answered(text: &str) {
    if let Err(Report { problems }) = common::read("any.yaml", text) {
        let report = Report { problems };
        assert!(!report.render(text).is_empty());
        let lines = text.split('\n').count();
        assert!(report.problems.iter().all(|p| p.line <= lines + 1), "{report}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_file_that_was_tampered_with_is_answered(
        file in 0..1000_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..10_usize, 0..PIECES.len()), 1..6),
    ) {
        let mut text = FILES[file % FILES.len()].clone();
        for (at, remove, put) in edits {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let from = at.index(ends.len());
            let to = (from + remove).min(ends.len() - 1);
            text.replace_range(ends[from]..ends[to], PIECES[put]);
        }
        answered(&text);
    }

    #[test]
    fn any_text_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        answered(&String::from_utf8_lossy(&bytes));
    }
}
