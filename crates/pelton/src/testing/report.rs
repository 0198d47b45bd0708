//! What is said about the tests.

use super::run::Ran;
use serde_json::{Value, json};

/// The tests of one file.
#[derive(Debug)]
pub struct FileReport {
    /// The file.
    pub name: String,
    /// Its tests that ran.
    pub tests: Vec<Ran>,
}

/// Tests that ran, and how many of them failed.
pub fn counts(reports: &[FileReport]) -> (usize, usize) {
    let all = || reports.iter().flat_map(|file| &file.tests);
    (all().count(), all().filter(|test| !test.differences.is_empty()).count())
}

/// For people.
pub fn text(reports: &[FileReport]) -> String {
    let mut lines = Vec::new();
    for file in reports {
        for test in &file.tests {
            let took = test.took.as_millis();
            if test.differences.is_empty() {
                lines.push(format!("ok    {}: {} ({took} ms)", test.pipeline, test.name));
                continue;
            }
            let at = format!("{}:{}:{}", file.name, test.place.line, test.place.column);
            lines.push(format!("FAIL  {}: {} ({took} ms)", test.pipeline, test.name));
            lines.push(format!("      {at}"));
            lines.extend(test.differences.iter().map(|line| format!("      {line}")));
        }
    }
    let (ran, failed) = counts(reports);
    lines.push(format!("{ran} tests, {} passed, {failed} failed", ran - failed));
    lines.join("\n")
}

/// For programs.
pub fn json(reports: &[FileReport]) -> Value {
    let (ran, failed) = counts(reports);
    let test = |file: &FileReport, test: &Ran| {
        json!({
            "file": file.name,
            "line": test.place.line,
            "pipeline": test.pipeline,
            "name": test.name,
            "passed": test.differences.is_empty(),
            "seconds": test.took.as_secs_f64(),
            "differences": test.differences,
        })
    };
    let tests: Vec<Value> =
        reports.iter().flat_map(|file| file.tests.iter().map(move |one| test(file, one))).collect();
    json!({ "tests": ran, "passed": ran - failed, "failed": failed, "results": tests })
}
