//! Help pages on a terminal: the small part of Markdown that they are written in.

use crate::output;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// The YAML examples of a page.
#[cfg(test)]
pub fn examples(page: &str) -> impl Iterator<Item = &str> {
    page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// A page with headings, tables, code and names set off.
pub fn render(page: &str) -> String {
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("# ").or_else(|| line.strip_prefix("## ")) {
            out.push_str(&format!("{BOLD}{heading}{PLAIN}\n"));
        } else if line.starts_with("```") {
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                out.push_str(&format!("    {CYAN}{code}{PLAIN}\n"));
            }
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            out.push_str(&table(rows));
        } else {
            out.push_str(&names(line));
            out.push('\n');
        }
    }
    out
}

/// The cells of a row; `\|` is a bar within one.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_matches('|').replace("\\|", "\0");
    row.split('|').map(|cell| cell.trim().replace('\0', "|").replace('`', "")).collect()
}

fn table(mut rows: Vec<Vec<String>>) -> String {
    let header = rows.remove(0);
    rows.retain(|row| !row.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':'))) || row.is_empty());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let text = output::render(&header, rows);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let rest: String = lines.map(|line| format!("  {line}\n")).collect();
    format!("  {DIM}{first}{PLAIN}\n{rest}")
}

/// `names` in colour instead of quotes.
fn names(line: &str) -> String {
    let mut out = String::new();
    for (n, part) in line.split('`').enumerate() {
        match n % 2 {
            0 => out.push_str(part),
            _ => out.push_str(&format!("{CYAN}{part}{PLAIN}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_well_on_a_terminal() {
        let page = "# key\n\nSets `it`.\n\n```yaml\na: 1\n```\n\n| option | value |\n|---|---|\n| `a` | one \\| two |\n";
        let plain = render(page).replace(BOLD, "*").replace(DIM, "-").replace(CYAN, "<").replace(PLAIN, ">");
        assert_eq!(plain, "*key>\n\nSets <it>.\n\n    <a: 1>\n\n  -option  value>\n  a       one | two\n");
    }
}
