//! Mistakes in what a user wrote, each with its place.

use std::fmt;

/// A place in a file: line and column, both counted from 1 in characters; line 0 when there is no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1; 0 when unknown.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// A place.
    pub fn new(line: usize, column: usize) -> Self {
        Self { line, column }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file; for settings also the name of the environment variable or the flag.
    pub file: String,
    /// Line, from 1; 0 when it has no place in a file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message)?,
            _ => write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Every mistake that was found, sorted by place. Never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The mistakes.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The report with the lines of the file drawn under each mistake; `text` is what was read.
    pub fn render(&self, text: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let mut out = String::new();
        for problem in &self.problems {
            let shown = problem.to_string();
            let (head, hint) = shown.split_once('\n').map_or((shown.as_str(), None), |(h, t)| (h, Some(t)));
            out.push_str(head);
            out.push('\n');
            draw(&mut out, &lines, Place::new(problem.line, problem.column));
            if let Some(hint) = hint {
                out.push_str(hint);
                out.push('\n');
            }
        }
        out.push_str(&self.summary());
        out
    }

    /// `1 problem` or `7 problems`.
    pub fn summary(&self) -> String {
        match self.problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        }
    }
}

/// What another process said of a file, each mistake as `FILE:LINE:COLUMN: ...`, with the lines of the file drawn under
/// them; `text` is what it was given.
pub fn with_lines(file: &str, text: &str, said: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let place = |line: &str| {
        let mut parts = line.strip_prefix(file)?.strip_prefix(':')?.splitn(3, ':');
        let place = Place::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next()?.starts_with(' ').then_some(place)
    };
    let mut out = String::with_capacity(said.len());
    for line in said.lines() {
        out.push_str(line);
        out.push('\n');
        draw(&mut out, &lines, place(line).unwrap_or_default());
    }
    out.truncate(out.trim_end().len());
    out
}

/// A line of the file with a mark under a column; nothing where there is no such line.
fn draw(out: &mut String, lines: &[&str], Place { line, column }: Place) {
    let Some(shown) = line.checked_sub(1).and_then(|at| lines.get(at)) else { return };
    let number = line.to_string();
    let shown: String = shown.chars().take(160).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(column.saturating_sub(1).min(160));
    out.push_str(&format!("  {number} | {shown}\n  {margin} | {indent}^\n"));
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_said_is_shown_with_the_lines_of_the_file() {
        let said = "a.yaml:2:3: unknown key `x`\n  hint: y\na.yaml:9:1: beyond\nb.yaml:1:1: another\na.yaml:1: no column";
        let shown = with_lines("a.yaml", "one\n  x: 1\n", said);
        let drawn = "a.yaml:2:3: unknown key `x`\n  2 |   x: 1\n    |   ^\n  hint: y\na.yaml:9:1: beyond\n";
        assert_eq!(shown, format!("{drawn}b.yaml:1:1: another\na.yaml:1: no column"));
        let problem = Problem { file: "a.yaml".into(), line: 2, column: 3, message: "m".into(), hint: None };
        let report = Report { problems: vec![problem] };
        assert_eq!(report.render("one\n  x: 1\n"), "a.yaml:2:3: m\n  2 |   x: 1\n    |   ^\n1 problem");
    }
}
