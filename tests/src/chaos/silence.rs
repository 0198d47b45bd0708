//! How long a partition of the output was silent, from the times the broker appended its records at.

use super::record::Record;

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

/// The longest stretch within `window` in which this partition got no record; its edges count as records.
pub fn longest(output: &[Record], partition: i32, window: Span) -> Span {
    let mut times: Vec<i64> = output
        .iter()
        .filter(|r| r.partition == partition)
        .map(|r| r.timestamp_ms)
        .filter(|t| (window.from_ms..=window.to_ms).contains(t))
        .collect();
    times.extend([window.from_ms, window.to_ms]);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| Span { from_ms: pair[0], to_ms: pair[1] });
    gaps.max_by_key(|gap| gap.length_ms()).unwrap_or(window)
}

/// Why the output did not go on while the coordinator was away, if so.
///
/// A worker that waits for the coordinator is silent to the end of the outage and beyond; one that goes on is silent for
/// no longer than a slow machine makes it. Half of the outage tells them apart.
pub fn stopped(output: &[Record], partitions: i32, outage: Span) -> Option<String> {
    let gaps = (0..partitions).map(|p| (p, longest(output, p, outage).length_ms()));
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
        let mut output = at(0, (100..=1_000).step_by(10).filter(|t| !(300..500).contains(t)));
        output.extend(at(1, [110, 120]));
        assert_eq!(longest(&output, 0, window), Span { from_ms: 290, to_ms: 500 });
        assert_eq!(longest(&output, 1, window), Span { from_ms: 120, to_ms: 1_000 });
        assert_eq!(longest(&output, 2, window), window);
    }

    #[test]
    fn an_output_that_stops_with_the_coordinator_is_told_from_one_that_goes_on() {
        let outage = Span { from_ms: 10_000, to_ms: 15_000 };
        let goes_on: Vec<_> = (0..2).flat_map(|p| at(p, (9_000..16_000).step_by(50))).collect();
        assert_eq!(stopped(&goes_on, 2, outage), None);
        let mut one_stops = at(0, (9_000..16_000).step_by(50));
        one_stops.extend(at(1, (9_000..10_100).step_by(50)));
        one_stops.extend(at(1, (15_200..16_000).step_by(50)));
        assert!(stopped(&one_stops, 2, outage).unwrap().contains("partition 1 was silent for 4950 ms"));
    }
}
