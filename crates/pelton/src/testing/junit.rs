//! JUnit's XML, as CI systems read it: <https://github.com/testmoapp/junitxml>.

use super::{report::FileReport, run::Ran};
use std::{fmt::Write, time::Duration};

/// The document.
pub fn xml(reports: &[FileReport]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (ran, failed) = super::report::counts(reports);
    let total: Duration = reports.iter().flat_map(|file| &file.tests).map(|test| test.took).sum();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"pelton\" tests=\"{ran}\" failures=\"{failed}\" errors=\"0\" time=\"{:.3}\">",
        total.as_secs_f64()
    );
    reports.iter().for_each(|file| suite(&mut out, file));
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, file: &FileReport) {
    let (ran, failed) = super::report::counts(std::slice::from_ref(file));
    let total: Duration = file.tests.iter().map(|test| test.took).sum();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{}\" tests=\"{ran}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\">",
        escaped(&file.name),
        total.as_secs_f64()
    );
    file.tests.iter().for_each(|test| case(out, &file.name, test));
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, file: &str, test: &Ran) {
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
        escaped(&test.pipeline),
        escaped(&test.name),
        escaped(file),
        test.place.line,
        test.took.as_secs_f64()
    );
    let Some(first) = test.differences.first() else { return out.push_str("/>\n") };
    let _ = writeln!(
        out,
        ">\n      <failure message=\"{}\" type=\"difference\">{}</failure>\n    </testcase>",
        escaped(first),
        escaped(&test.differences.join("\n"))
    );
}

/// A text as XML takes it; characters that XML 1.0 has no form for become `?`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
