//! What a run came to, for people.

use super::{
    check::{Delivery, Verdict},
    growth::Growth,
    silence::{Span, Times, after, quantile, stopped},
};
use std::{collections::BTreeMap, fmt};

/// What happened in a run.
#[derive(Clone, Debug)]
pub struct Course {
    /// The time under load.
    pub window: Span,
    /// The times without a coordinator.
    pub outages: Vec<Span>,
    /// What was done, and when, milliseconds since 1970.
    pub deeds: Vec<(&'static str, i64)>,
    /// Records that the load had acknowledged.
    pub sent: u64,
    /// What a worker that was never killed took, in a run of minutes.
    pub growth: Option<Growth>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    delivery: Delivery,
    verdict: Verdict,
    window: Span,
    /// The longest silence of each partition.
    silences: Vec<Span>,
    /// By what was done, the silences that followed, milliseconds in order.
    after: BTreeMap<&'static str, Vec<i64>>,
    /// Each time without a coordinator, with the longest silence of any partition in it.
    outages: Vec<(Span, i64)>,
    growth: Option<Growth>,
    /// What must not be, beside what the verdict says.
    other: Vec<String>,
}

impl Report {
    /// A report on what came out, and when. `other`: what those saw who watched meanwhile, and what else must not be.
    pub fn new(
        delivery: Delivery,
        verdict: Verdict,
        times: &Times,
        course: Course,
        other: Vec<String>,
    ) -> Report {
        let Course { window, outages, deeds, sent, growth } = course;
        let unread = (verdict.ids as u64 != sent)
            .then(|| format!("the input has {} ids, but the load wrote {sent}", verdict.ids));
        let stopped = outages.iter().filter_map(|outage| stopped(times, *outage));
        Report {
            delivery,
            verdict,
            window,
            silences: times.longest(window).collect(),
            after: after(times, &deeds, window.to_ms),
            other: stopped.chain(unread).chain(other).collect(),
            growth,
            outages: outages.into_iter().map(|outage| (outage, times.longest_of_any(outage))).collect(),
        }
    }

    /// What must not be, one line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.verdict.faults(self.delivery);
        faults.extend(self.other.iter().cloned());
        faults
    }

    /// How often each thing was done, and what it cost.
    fn deeds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "longest silence of any partition until the next was done, seconds:")?;
        writeln!(f, "  {:<24} {:>5} {:>7} {:>7} {:>7}", "done", "times", "p50", "p99", "longest")?;
        for (deed, silent) in &self.after {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|share| seconds(quantile(silent, share)));
            writeln!(f, "  {deed:<24} {:>5} {half:>7.3} {most:>7.3} {all:>7.3}", silent.len())?;
        }
        Ok(())
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { ids, written, duplicates, lost, disordered, .. } = &self.verdict;
        writeln!(
            f,
            "ids sent {ids}, records written {written}, lost {}, out of order {}",
            lost.len(),
            disordered.len()
        )?;
        writeln!(f, "duplicates {duplicates} ({:.2} %)", *duplicates as f64 * 100.0 / (*ids).max(1) as f64)?;
        self.deeds(f)?;
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
        if let Some(growth) = &self.growth {
            let ([memory, descriptors], Growth { first, last }) = (growth.percent(), growth);
            writeln!(
                f,
                "a worker that was never killed, quiet at the begin and at the end: resident {:.1} and {:.1} MB ({memory:+.1} \
                 %), descriptors {:.0} and {:.0} ({descriptors:+.1} %)",
                first.resident / 1e6,
                last.resident / 1e6,
                first.descriptors,
                last.descriptors
            )?;
        }
        self.faults().iter().try_for_each(|fault| writeln!(f, "FAULT: {fault}"))
    }
}
