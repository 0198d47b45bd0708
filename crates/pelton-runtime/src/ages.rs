//! How old records are: those whose output is out, and those that wait to be read.

use pelton_sdk::Lag;
use pelton_types::{Partition, Record};
use std::{collections::BTreeMap, time::Instant};

/// Records of one run whose timestamps are looked at; each stands for its neighbours.
const PER_RUN: usize = 16;

/// Seconds, and how many records are of that age.
pub(crate) type Age = (f64, u32);

/// Timestamps of records that a sink took, each with the number of records it stands for.
#[derive(Debug, Default)]
pub(crate) struct Stamps(Vec<(i64, u32)>);

impl Stamps {
    /// Note a run of records. A record without a timestamp has no age.
    pub(crate) fn note(&mut self, run: &[Record]) {
        for part in run.chunks(run.len().div_ceil(PER_RUN).max(1)) {
            let stamp = part[part.len() / 2].timestamp_ms;
            if stamp >= 0 {
                self.0.push((stamp, part.len() as u32));
            }
        }
    }

    /// Take others along.
    pub(crate) fn append(&mut self, mut others: Stamps) {
        self.0.append(&mut others.0);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forget them: their output will not come out.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Their ages at a moment, milliseconds since 1970; none is left.
    pub(crate) fn ages(&mut self, now_ms: i64) -> impl Iterator<Item = Age> {
        self.0.drain(..).map(move |(stamp, records)| (seconds_between(stamp, now_ms), records))
    }
}

/// What is known of when the records that wait were written.
#[derive(Debug, Default)]
pub(crate) struct Waits(BTreeMap<Partition, Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Timestamp of the last record read: the next one is not older, as queues go.
    read_ms: Option<i64>,
    /// When nothing waited: what waits now was written after it.
    at_end: Option<Instant>,
}

impl Waits {
    /// The last record of a batch was read.
    pub(crate) fn read(&mut self, partition: &Partition, timestamp_ms: i64) {
        if timestamp_ms < 0 {
            return;
        }
        // No copy of the name for one that is known.
        match self.0.get_mut(partition) {
            Some(known) => known.read_ms = Some(timestamp_ms),
            None => {
                self.0.insert(partition.clone(), Known { read_ms: Some(timestamp_ms), at_end: None });
            }
        }
    }

    /// Reading begins anew somewhere else.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How long the oldest record that waits has waited at most, of all partitions; `None` while that is not known of
    /// one of them.
    pub(crate) fn longest(&mut self, lag: &[Lag], now: Instant, now_ms: i64) -> Option<f64> {
        let mut longest = None;
        for of_one in lag {
            let records = of_one.records()?;
            let known = self.0.entry(of_one.partition.clone()).or_default();
            let waits = if records == 0 {
                known.at_end = Some(now);
                0.0
            } else {
                let by_read = known.read_ms.map(|stamp| seconds_between(stamp, now_ms));
                let by_end = known.at_end.map(|at| now.saturating_duration_since(at).as_secs_f64());
                by_read.into_iter().chain(by_end).reduce(f64::min)?
            };
            longest = Some(f64::max(waits, longest.unwrap_or(0.0)));
        }
        longest
    }
}

/// A clock that is behind that of who wrote the record makes it no younger than now.
fn seconds_between(stamp_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(stamp_ms).max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_types::{Offset, Span};
    use std::time::Duration;

    fn record(timestamp_ms: i64) -> Record {
        let (key, value, headers) = (Span::NULL, Span::NULL, Span::NULL);
        Record { key, value, headers, timestamp_ms, offset: 0 }
    }

    fn lag(position: Offset, end: Option<Offset>) -> Lag {
        Lag { partition: Partition::new("in", 0), position, end }
    }

    #[test]
    fn a_few_records_of_a_run_stand_for_all_of_it() {
        let run: Vec<_> = (0..1_000).map(record).collect();
        let mut stamps = Stamps::default();
        stamps.note(&run);
        stamps.note(&[record(-1), record(7)]);
        let ages: Vec<Age> = stamps.ages(2_000).collect();
        assert!(ages.len() <= PER_RUN + 1, "{}", ages.len());
        assert_eq!(ages.iter().map(|(_, records)| records).sum::<u32>(), 1_001, "one has no timestamp");
        let sum: f64 = ages.iter().map(|(age, records)| age * f64::from(*records)).sum();
        assert!((sum / 1_001.0 - 1.5).abs() < 0.01, "the mean age is about 1.5 s: {ages:?}");
        assert!(stamps.is_empty());
    }

    #[test]
    fn a_record_of_the_future_is_of_no_age() {
        let mut stamps = Stamps::default();
        stamps.note(&[record(5_000)]);
        assert_eq!(stamps.ages(2_000).collect::<Vec<_>>(), [(0.0, 1)]);
    }

    #[test]
    fn how_long_records_wait_is_told_by_what_was_read_and_by_when_nothing_waited() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut waits = Waits::default();
        assert_eq!(waits.longest(&[lag(0, Some(9))], start, 0), None, "nothing was read yet");
        waits.read(&Partition::new("in", 0), 1_000);
        assert_eq!(
            waits.longest(&[lag(5, Some(9))], start, 61_000),
            Some(60.0),
            "the last one read is so old"
        );
        assert_eq!(waits.longest(&[lag(9, Some(9))], after(10), 71_000), Some(0.0), "nothing waits");
        // The last one read is 90 s old, but what waits came after the moment when nothing did.
        assert_eq!(waits.longest(&[lag(9, Some(10))], after(12), 91_000), Some(2.0));
        assert_eq!(waits.longest(&[lag(9, None)], after(12), 91_000), None, "the end is not known");
        waits.clear();
        assert_eq!(waits.longest(&[lag(3, Some(10))], after(12), 91_000), None, "it began anew");
        assert_eq!(waits.longest(&[], start, 0), None, "a source without partitions has no lag");
    }
}
