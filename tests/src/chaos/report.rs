//! What a run came to, for people.

use super::{
    check::{Delivery, Verdict},
    record::Record,
    silence::{Span, longest, stopped},
};
use std::{collections::BTreeMap, fmt};

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    delivery: Delivery,
    verdict: Verdict,
    window: Span,
    /// The longest silence of each partition.
    silences: Vec<Span>,
    /// Each time without a coordinator, with the longest silence of any partition in it.
    outages: Vec<(Span, i64)>,
    stopped: Vec<String>,
    unread: Option<String>,
    /// How often each thing was done.
    deeds: BTreeMap<&'static str, usize>,
    /// What those saw who watched meanwhile, and what else must not be.
    other: Vec<String>,
}

impl Report {
    /// A report on these records: `window` is the time under load, `outages` the times without a coordinator, `sent` the
    /// number of records that the load had acknowledged.
    pub fn new(
        delivery: Delivery,
        verdict: Verdict,
        output: &[Record],
        partitions: i32,
        window: Span,
        outages: Vec<Span>,
        sent: u64,
    ) -> Report {
        let in_outage = |outage: &Span| {
            let silent = (0..partitions).map(|p| longest(output, p, *outage).length_ms()).max();
            (*outage, silent.unwrap_or_default())
        };
        let unread = (verdict.ids as u64 != sent)
            .then(|| format!("the input has {} ids, but the load wrote {sent}", verdict.ids));
        Report {
            delivery,
            verdict,
            window,
            silences: (0..partitions).map(|p| longest(output, p, window)).collect(),
            stopped: outages.iter().filter_map(|o| stopped(output, partitions, *o)).collect(),
            outages: outages.iter().map(in_outage).collect(),
            unread,
            deeds: BTreeMap::new(),
            other: Vec::new(),
        }
    }

    /// With what was done, and what else must not be.
    #[must_use]
    pub fn with(self, deeds: BTreeMap<&'static str, usize>, other: Vec<String>) -> Report {
        Report { deeds, other, ..self }
    }

    /// What must not be, one line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.verdict.faults(self.delivery);
        faults.extend(self.stopped.iter().cloned());
        faults.extend(self.unread.clone());
        faults.extend(self.other.iter().cloned());
        faults
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { ids, written, duplicates, lost, disordered, .. } = &self.verdict;
        let seconds = |ms: i64| ms as f64 / 1e3;
        writeln!(
            f,
            "ids sent {ids}, records written {written}, lost {}, out of order {}",
            lost.len(),
            disordered.len()
        )?;
        writeln!(f, "duplicates {duplicates} ({:.2} %)", *duplicates as f64 * 100.0 / (*ids).max(1) as f64)?;
        let deeds: Vec<_> = self.deeds.iter().map(|(deed, times)| format!("{times} x {deed}")).collect();
        writeln!(f, "done: {}", deeds.join(", "))?;
        writeln!(
            f,
            "under load for {:.1} s; longest silence by partition:",
            seconds(self.window.length_ms())
        )?;
        for (partition, gap) in self.silences.iter().enumerate() {
            let at = seconds(gap.from_ms - self.window.from_ms);
            writeln!(f, "  {partition:>3}  {:6.3} s, {at:.1} s into the run", seconds(gap.length_ms()))?;
        }
        for (outage, silent) in &self.outages {
            let (at, away) = (seconds(outage.from_ms - self.window.from_ms), seconds(outage.length_ms()));
            writeln!(
                f,
                "without a coordinator for {away:.2} s, {at:.1} s into the run: longest silence of any partition {:.3} s",
                seconds(*silent)
            )?;
        }
        self.faults().iter().try_for_each(|fault| writeln!(f, "FAULT: {fault}"))
    }
}
