//! What commands print: tables for people, JSON and YAML for programs.

use crate::{cli::Format, exit::Failure};
use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;
use std::io::{self, Write};

/// Print rows under a header: aligned columns, no lines, so that `awk` can read them too.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) {
    print(&render(header, rows));
}

/// What was done: in words, or as a value for programs. Empty words are not printed.
///
/// # Errors
/// As [`value`].
pub fn done(format: Format, found: Value, words: impl FnOnce() -> String) -> Result<(), Failure> {
    if matches!(format, Format::Json | Format::Yaml) {
        return value(&found, format);
    }
    let words = words();
    if !words.is_empty() {
        print(&words);
    }
    Ok(())
}

/// A number of things: `1 task`, `2 tasks`.
pub fn many(n: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { more })
}

/// The text of [`table`].
pub fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A table whose rows come one after another: the columns widen when they must.
pub struct Growing {
    widths: Vec<usize>,
    header: Option<Vec<&'static str>>,
}

impl Growing {
    /// With this header, printed before the first row.
    pub fn new(header: Vec<&'static str>) -> Self {
        Self { widths: header.iter().map(|name| name.len()).collect(), header: Some(header) }
    }

    /// Print rows that are known at one time.
    pub fn rows(&mut self, rows: &[&[String]]) {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(*row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if let Some(header) = self.header.take_if(|_| !rows.is_empty()) {
            print(&self.line(header.iter().copied()));
        }
        for row in rows {
            print(&self.line(row.iter().map(String::as_str)));
        }
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let padded: Vec<String> =
            cells.zip(&self.widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    }
}

/// Print a value as JSON or YAML.
///
/// # Errors
/// When the value cannot be written as YAML.
pub fn value(value: &Value, format: Format) -> Result<(), Failure> {
    match format {
        Format::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|e| Failure::unexpected(e.to_string()))?;
            print(text.trim_end());
        }
        _ => print(&serde_json::to_string_pretty(value).unwrap_or_default()),
    }
    Ok(())
}

/// Print a line. A reader that went away (`| head`) ends the process quietly.
pub fn print(text: &str) {
    if let Err(e) = writeln!(io::stdout(), "{text}") {
        if e.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: cannot write to standard output: {e}");
        std::process::exit(1);
    }
}

/// A count for people: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_marks() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn columns_are_aligned_and_plain() {
        let text =
            render(&["NAME", "N"], vec![vec!["a".into(), "1".into()], vec!["longer".into(), "2".into()]]);
        assert_eq!(text, "NAME    N\na       1\nlonger  2");
    }
}
