//! How long a partition of the output was silent, from the times the broker appended its records at.

use super::record::Record;
use std::collections::BTreeMap;

/// A stretch of time, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its begin.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
}

impl Span {
    /// Milliseconds from begin to end.
    pub fn length_ms(self) -> i64 {
        self.to_ms - self.from_ms
    }
}

/// When records were appended, by partition and in order.
#[derive(Clone, Debug)]
pub struct Times(Vec<Vec<i64>>);

impl Times {
    /// Of an output with so many partitions.
    pub fn of(output: &[Record], partitions: i32) -> Times {
        let mut times = vec![Vec::new(); usize::try_from(partitions).unwrap_or(0)];
        for record in output {
            if let Some(of) = usize::try_from(record.partition).ok().and_then(|p| times.get_mut(p)) {
                of.push(record.timestamp_ms);
            }
        }
        times.iter_mut().for_each(|of| of.sort_unstable());
        Times(times)
    }

    /// By partition, the longest stretch within `window` in which it got no record; the window's edges count as records.
    pub fn longest(&self, window: Span) -> impl Iterator<Item = Span> {
        self.0.iter().map(move |times| {
            let from = times.partition_point(|t| *t < window.from_ms);
            let to = times.partition_point(|t| *t <= window.to_ms).max(from);
            let mut longest = Span { from_ms: window.from_ms, to_ms: window.from_ms };
            let mut from_ms = window.from_ms;
            for to_ms in times[from..to].iter().copied().chain([window.to_ms]) {
                let gap = Span { from_ms, to_ms };
                longest = if gap.length_ms() > longest.length_ms() { gap } else { longest };
                from_ms = to_ms;
            }
            longest
        })
    }

    /// By partition, when it got its first record from this moment on, if it did.
    pub fn first_since(&self, from_ms: i64) -> Vec<i64> {
        let first = |times: &Vec<i64>| times.get(times.partition_point(|at| *at < from_ms)).copied();
        self.0.iter().filter_map(first).collect()
    }

    /// The longest of them all, milliseconds.
    pub fn longest_of_any(&self, window: Span) -> i64 {
        self.longest(window).map(Span::length_ms).max().unwrap_or_default()
    }
}

/// By what was done, how long any partition was silent from then until the next was done, milliseconds in order.
pub fn after(times: &Times, deeds: &[(&'static str, i64)], end_ms: i64) -> BTreeMap<&'static str, Vec<i64>> {
    let mut silent: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (at, (name, from_ms)) in deeds.iter().enumerate() {
        let to_ms = deeds.get(at + 1).map_or(end_ms, |(_, next)| *next);
        silent.entry(*name).or_default().push(times.longest_of_any(Span { from_ms: *from_ms, to_ms }));
    }
    silent.values_mut().for_each(|lengths| lengths.sort_unstable());
    silent
}

/// The value below which lies this share of values in order (nearest rank).
pub fn quantile(sorted: &[i64], share: f64) -> i64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// Why the output did not go on while the coordinator was away, if so.
///
/// A worker that waits for the coordinator is silent to the end of the outage and beyond; one that goes on is silent for
/// no longer than a slow machine makes it. Half of the outage tells them apart.
pub fn stopped(times: &Times, outage: Span) -> Option<String> {
    let gaps = times.longest(outage).map(Span::length_ms).enumerate();
    let (partition, silent) = gaps.max_by_key(|(_, silent)| *silent)?;
    (silent * 2 > outage.length_ms()).then(|| {
        format!(
            "partition {partition} was silent for {silent} ms of the {} ms that the coordinator was away",
            outage.length_ms()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, times: impl IntoIterator<Item = i64>) -> Vec<Record> {
        let record = |timestamp_ms| Record { partition, timestamp_ms, id: 0, key: 0, sequence: 0 };
        times.into_iter().map(record).collect()
    }

    #[test]
    fn the_longest_silence_is_found_also_at_the_edges_and_per_partition() {
        let window = Span { from_ms: 100, to_ms: 1_000 };
        let mut output = at(0, (0..=1_100).step_by(10).filter(|t| !(300..500).contains(t)));
        output.extend(at(1, [120, 110]));
        let longest: Vec<_> = Times::of(&output, 3).longest(window).collect();
        assert_eq!(longest, [Span { from_ms: 290, to_ms: 500 }, Span { from_ms: 120, to_ms: 1_000 }, window]);
        assert_eq!(Times::of(&output, 2).longest_of_any(window), 880);
        assert_eq!(Times::of(&output, 3).first_since(115), [120, 120], "the third has none");
    }

    #[test]
    fn silence_belongs_to_what_was_done_last_before_it() {
        let mut output = at(0, [0, 50, 110, 400, 450, 900]);
        output.extend(at(1, (0..=1_000).step_by(10)));
        let deeds = [("kill", 100), ("stop", 420), ("kill", 890)];
        let silent = after(&Times::of(&output, 2), &deeds, 1_000);
        assert_eq!(silent, BTreeMap::from([("kill", vec![100, 290]), ("stop", vec![440])]));
        assert_eq!([0.5, 0.99].map(|share| quantile(&silent["kill"], share)), [100, 290]);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn an_output_that_stops_with_the_coordinator_is_told_from_one_that_goes_on() {
        let outage = Span { from_ms: 10_000, to_ms: 15_000 };
        let goes_on: Vec<_> = (0..2).flat_map(|p| at(p, (9_000..16_000).step_by(50))).collect();
        assert_eq!(stopped(&Times::of(&goes_on, 2), outage), None);
        let mut one_stops = at(0, (9_000..16_000).step_by(50));
        one_stops.extend(at(1, (9_000..10_100).step_by(50)));
        one_stops.extend(at(1, (15_200..16_000).step_by(50)));
        let why = stopped(&Times::of(&one_stops, 2), outage).unwrap();
        assert!(why.contains("partition 1 was silent for 4950 ms"), "{why}");
    }
}
