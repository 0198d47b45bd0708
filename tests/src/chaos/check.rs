//! Judges an output topic against its input topic, from their records alone.

use super::record::Record;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many examples a verdict names.
const EXAMPLES: usize = 5;

/// What the pipeline promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Delivery {
    /// Records may come again.
    AtLeastOnce,
    /// They may not.
    ExactlyOnce,
}

impl Delivery {
    /// As definitions write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::ExactlyOnce => "exactly-once",
        }
    }
}

/// What the records of the two topics say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Different ids in the input.
    pub ids: usize,
    /// Records in the output.
    pub written: usize,
    /// Records in the output whose id came before. At-least-once allows them.
    pub duplicates: usize,
    /// Ids of the input that the output lacks.
    pub lost: Vec<u64>,
    /// Ids of the output that the input lacks.
    pub invented: Vec<u64>,
    /// First occurrences that came after one of the same key with a higher sequence number.
    pub disordered: Vec<Record>,
    /// Keys found in more than one partition of the output.
    pub scattered: Vec<u64>,
}

impl Verdict {
    /// What must not be under a delivery, one line each.
    pub fn faults(&self, delivery: Delivery) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |what: &str, count: usize, examples: String| {
            if count > 0 {
                faults.push(format!("{count} {what}, for example {examples}"));
            }
        };
        fault("ids of the input are not in the output", self.lost.len(), first(&self.lost));
        fault("ids of the output are not in the input", self.invented.len(), first(&self.invented));
        fault(
            "first occurrences come after a later one of their key",
            self.disordered.len(),
            first(&self.disordered),
        );
        fault("keys are in more than one partition", self.scattered.len(), first(&self.scattered));
        if delivery == Delivery::ExactlyOnce && self.duplicates > 0 {
            faults.push(format!("{} records of the output came before", self.duplicates));
        }
        if self.ids == 0 {
            faults.push("the input is empty: nothing was shown".into());
        }
        faults
    }
}

fn first(all: &[impl std::fmt::Debug]) -> String {
    format!("{:?}", &all[..all.len().min(EXAMPLES)])
}

/// Compare: every id of the input is in the output, and per key the first occurrences rise.
///
/// The records of a partition must come in the order of their offsets.
pub fn check(input: &[Record], output: &[Record]) -> Verdict {
    let wanted: HashSet<u64> = input.iter().map(|r| r.id).collect();
    let mut verdict = Verdict { ids: wanted.len(), written: output.len(), ..Verdict::default() };
    let mut seen = HashSet::with_capacity(wanted.len());
    let mut homes: BTreeMap<u64, HashSet<i32>> = BTreeMap::new();
    let mut newest: HashMap<u64, u64> = HashMap::new();
    for record in output {
        homes.entry(record.key).or_default().insert(record.partition);
        if !seen.insert(record.id) {
            verdict.duplicates += 1;
            continue;
        }
        if !wanted.contains(&record.id) {
            verdict.invented.push(record.id);
        }
        let newest = newest.entry(record.key).or_insert(record.sequence);
        if record.sequence < *newest {
            verdict.disordered.push(*record);
        }
        *newest = record.sequence.max(*newest);
    }
    verdict.lost = wanted.difference(&seen).copied().collect();
    verdict.lost.sort_unstable();
    verdict.scattered = homes.into_iter().filter(|(_, homes)| homes.len() > 1).map(|(key, _)| key).collect();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::record::place;

    /// 10,000 records, keys by partition.
    fn good() -> Vec<Record> {
        let record = |id| {
            let (key, sequence) = place(id);
            let partition = i32::try_from(key % 8).unwrap();
            Record { partition, timestamp_ms: 0, id, key, sequence }
        };
        (0..10_000).map(record).collect()
    }

    #[test]
    fn a_faithful_copy_has_no_fault() {
        let verdict = check(&good(), &good());
        assert_eq!(verdict.faults(Delivery::AtLeastOnce), Vec::<String>::new());
        assert_eq!((verdict.ids, verdict.written, verdict.duplicates), (10_000, 10_000, 0));
    }

    #[test]
    fn what_is_written_again_from_a_commit_on_is_counted_and_no_fault() {
        let mut output = good();
        let again: Vec<_> = output[2_000..3_000].to_vec();
        output.splice(5_000..5_000, again);
        let verdict = check(&good(), &output);
        assert_eq!(verdict.faults(Delivery::AtLeastOnce), Vec::<String>::new());
        assert_eq!(verdict.duplicates, 1_000);
        assert_eq!(verdict.faults(Delivery::ExactlyOnce), ["1000 records of the output came before"]);
    }

    #[test]
    fn one_lost_record_is_found() {
        let mut output = good();
        output.remove(4_321);
        assert_eq!(check(&good(), &output).lost, [4_321]);
        assert!(check(&good(), &output).faults(Delivery::AtLeastOnce)[0].contains("[4321]"));
    }

    #[test]
    fn a_lost_record_is_found_behind_a_duplicate_that_keeps_the_count_right() {
        let mut output = good();
        output[4_321] = output[4_320];
        let verdict = check(&good(), &output);
        assert_eq!((verdict.lost, verdict.written, verdict.duplicates), (vec![4_321], 10_000, 1));
    }

    #[test]
    fn first_occurrences_of_a_key_out_of_order_are_found_and_late_duplicates_are_not_taken_for_it() {
        let (earlier, later) = (4_000 + 7, 4_400 + 7);
        let mut output = good();
        output.swap(earlier, later);
        let verdict = check(&good(), &output);
        assert_eq!(verdict.disordered.iter().map(|r| r.id).collect::<Vec<_>>(), [earlier as u64]);
        assert_eq!(verdict.faults(Delivery::AtLeastOnce).len(), 1);

        let mut output = good();
        let duplicate = output[earlier];
        output.push(duplicate);
        assert_eq!(check(&good(), &output).faults(Delivery::AtLeastOnce), Vec::<String>::new());
    }

    #[test]
    fn a_record_nobody_sent_and_a_key_in_two_partitions_are_found() {
        let mut output = good();
        output.push(Record { id: 99_999, ..output[0] });
        assert_eq!(check(&good(), &output).invented, [99_999]);
        let mut output = good();
        output[800].partition = 5;
        assert_eq!(check(&good(), &output).scattered, [0]);
    }

    #[test]
    fn an_empty_input_shows_nothing_and_is_a_fault() {
        assert_eq!(check(&[], &[]).faults(Delivery::AtLeastOnce).len(), 1);
    }
}
