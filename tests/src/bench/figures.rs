//! Figures beside their bars.

use serde_json::{Value, json};
use std::fmt::Write;

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// At least so much.
    AtLeast(f64),
    /// Less than so much.
    Below(f64),
    /// There is none: it is printed to be known.
    None,
}

/// One row.
#[derive(Clone, Debug)]
struct Figure {
    name: String,
    bar: Bar,
    pelton: Vec<f64>,
    kafka: Vec<f64>,
}

/// All rows of a run.
#[derive(Clone, Debug)]
pub struct Figures {
    load: String,
    rows: Vec<Figure>,
}

impl Figures {
    /// Nothing yet; `load` is the machine's load average as the run begins.
    pub(super) fn new(load: String) -> Figures {
        Figures { load, rows: Vec::new() }
    }

    /// Add one measurement of a figure, of `pelton` or `kafka`; the bar is for `pelton`.
    pub(super) fn add(&mut self, name: &str, bar: Bar, whose: &str, value: f64) {
        eprintln!("{name}, {whose}: {}", shown(value));
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Figure { name: name.into(), bar, pelton: Vec::new(), kafka: Vec::new() });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        if whose == "kafka" { row.kafka.push(value) } else { row.pelton.push(value) }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "load average at the begin: {}\n{:<46} {:>10} {:>11} {:<6} {:>11} {:>8}\n",
            self.load, "median of the rounds", "bar", "pelton", "", "kafka", "ratio"
        );
        for row in &self.rows {
            let bar = match row.bar {
                Bar::AtLeast(bar) => format!(">= {}", shown(bar)),
                Bar::Below(bar) => format!("< {}", shown(bar)),
                Bar::None => String::new(),
            };
            let kafka = median(&row.kafka).map_or(String::new(), shown);
            let ratio = row.ratio().map_or(String::new(), |ratio| format!("{ratio:.3}"));
            let pelton = median(&row.pelton).map_or(String::new(), shown);
            let held = row.held().map_or("", |held| if held { "held" } else { "MISSED" });
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "{:<46} {bar:>10} {pelton:>11} {held:<6} {kafka:>11} {ratio:>8}", row.name);
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let (at_least, below) = match row.bar {
                Bar::AtLeast(bar) => (Some(bar), None),
                Bar::Below(bar) => (None, Some(bar)),
                Bar::None => (None, None),
            };
            json!({ "figure": row.name, "atLeast": at_least, "below": below, "held": row.held(),
                "pelton": row.pelton, "kafka": row.kafka, "ratio": row.ratio() })
        });
        json!({ "load": self.load, "figures": rows.collect::<Vec<_>>() })
    }
}

impl Figure {
    fn held(&self) -> Option<bool> {
        let own = median(&self.pelton)?;
        match self.bar {
            Bar::AtLeast(bar) => Some(own >= bar),
            Bar::Below(bar) => Some(own < bar),
            Bar::None => None,
        }
    }

    /// Median of the ratios within a round, where both had the same machine.
    fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.pelton.iter().zip(&self.kafka).map(|(own, kafka)| own / kafka).collect();
        median(&ratios).filter(|ratio| ratio.is_finite())
    }
}

/// The middle one; of an even number the higher of the two.
fn median(all: &[f64]) -> Option<f64> {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Four digits that say something.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 || value == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_median_its_verdict_and_the_ratio_within_rounds() {
        let mut figures = Figures::new("0.1".into());
        for (own, kafka) in [(5e6, 1e6), (7e6, 7e5), (1e6, 1e6)] {
            figures.add("produce", Bar::AtLeast(5e6), "pelton", own);
            figures.add("produce", Bar::AtLeast(5e6), "kafka", kafka);
        }
        figures.add("p99 ms", Bar::Below(1.0), "pelton", 1.5);
        let table = figures.table();
        let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(row("produce").contains("5.00 M held") && row("produce").ends_with("5.000"), "{table}");
        assert!(row("p99").contains("1.500 MISSED"), "{table}");
        assert_eq!(figures.json()["figures"][1]["held"], false);
    }
}
