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
            if let Some(line) = problem.line.checked_sub(1).and_then(|at| lines.get(at)) {
                let number = problem.line.to_string();
                let line: String = line.chars().take(160).map(|c| if c == '\t' { ' ' } else { c }).collect();
                let margin = " ".repeat(number.len());
                let indent = " ".repeat(problem.column.saturating_sub(1).min(160));
                out.push_str(&format!("  {number} | {line}\n  {margin} | {indent}^\n"));
            }
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Report {}
