//! The steps of a run: what passed, what failed, what was skipped and why.

use std::fmt;
use std::time::{Duration, Instant};

/// How a step that did not fail went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Passed,
    /// This machine lacks a part for it: which, and how to get it.
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("ok"),
            Outcome::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

/// What the steps of a run came to.
#[derive(Debug)]
pub struct Report {
    strict: bool,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    result: Result<Outcome, String>,
    took: Duration,
}

impl Report {
    /// With `strict`, a step that is skipped counts as failed.
    pub fn new(strict: bool) -> Self {
        Report { strict, steps: Vec::new() }
    }

    /// Does a step and notes how it went; gives what it made, if it was done.
    pub fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<Done<T>, String>,
    ) -> Option<T> {
        println!("\n=== {name}");
        let begun = Instant::now();
        let (result, made) = match work() {
            Ok(Done::With(made)) => (Ok(Outcome::Passed), Some(made)),
            Ok(Done::Skipped(why)) => (Ok(Outcome::Skipped(why)), None),
            Err(problem) => (Err(problem), None),
        };
        let step = Step { name, result, took: begun.elapsed() };
        println!("=== {step}");
        self.steps.push(step);
        made
    }

    /// Whether nothing failed, and in a strict run nothing was skipped.
    pub fn is_good(&self) -> bool {
        self.steps.iter().all(|step| match &step.result {
            Ok(Outcome::Passed) => true,
            Ok(Outcome::Skipped(_)) => !self.strict,
            Err(_) => false,
        })
    }

    /// One line a step.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            text += &format!("{step}\n");
        }
        if self.strict && self.steps.iter().any(|step| matches!(step.result, Ok(Outcome::Skipped(_)))) {
            text += "a skipped step fails this run (CI=true or --no-skip)\n";
        }
        text
    }
}

/// What a step gives.
#[derive(Debug)]
pub enum Done<T> {
    /// It was done, and made this.
    With(T),
    /// It was not done, and why.
    Skipped(String),
}

impl From<Outcome> for Done<()> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Done::With(()),
            Outcome::Skipped(why) => Done::Skipped(why),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20} {:>5.0} s  ", self.name, self.took.as_secs_f64())?;
        match &self.result {
            Ok(outcome) => write!(f, "{outcome}"),
            Err(problem) => write!(f, "FAILED: {problem}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_good_when_nothing_failed_and_a_strict_one_when_nothing_was_skipped() {
        for (strict, good) in [(false, true), (true, false)] {
            let mut report = Report::new(strict);
            assert_eq!(report.step("lints", || Ok(Done::With(7))), Some(7));
            assert!(report.is_good());
            assert_eq!(report.step::<()>("kafka", || Ok(Done::Skipped("no java".into()))), None);
            assert_eq!(report.is_good(), good);
            assert!(report.summary().contains("skipped: no java"));
        }
    }

    #[test]
    fn a_step_that_fails_fails_the_run_and_the_next_is_done_all_the_same() {
        let mut report = Report::new(false);
        assert_eq!(report.step::<()>("format", || Err("3 files".into())), None);
        assert_eq!(report.step("lints", || Ok(Done::With(()))), Some(()));
        assert!(!report.is_good());
        let summary = report.summary();
        assert!(summary.contains("FAILED: 3 files") && summary.contains("lints"), "{summary}");
    }
}
