//! What must hold of a run, seen by one who reads the topics and nothing else.

use pelton_broker::{inproc::InProcBroker, records::StoredRecord};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One record of the load, as its value tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    id: u64,
    key: String,
    /// Its number among the records of its key.
    number: u64,
    keep: bool,
}

fn seen(stored: &StoredRecord) -> Seen {
    let value: Value = serde_json::from_slice(stored.record.value.as_deref().unwrap_or_default())
        .unwrap_or_else(|e| panic!("the record at {} is no JSON: {e}", stored.offset));
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {value}"));
    Seen {
        id: number("id"),
        key: String::from_utf8_lossy(stored.record.key.as_deref().unwrap_or_default()).into_owned(),
        number: number("n"),
        keep: value["keep"] == true,
    }
}

/// Reads a topic as it grows.
struct Reader {
    topic: &'static str,
    at: Vec<i64>,
}

impl Reader {
    fn new(topic: &'static str, partitions: u32) -> Self {
        Self { topic, at: vec![0; partitions as usize] }
    }

    fn read(&mut self, broker: &InProcBroker, mut each: impl FnMut(usize, Seen)) {
        for (index, at) in self.at.iter_mut().enumerate() {
            let partition = (self.topic, i32::try_from(index).unwrap_or(i32::MAX));
            if broker.end_offset(partition) == Ok(*at) {
                continue;
            }
            for stored in super::kafka::read_all(broker, partition, *at) {
                *at = stored.offset + 1;
                each(index, seen(&stored));
            }
        }
    }
}

/// Reads input, output and committed offsets, and says what is wrong with them.
pub struct Auditor {
    input: Reader,
    output: Reader,
    group: String,
    /// Ids by partition and offset of the input; `None` for those the pipeline filters.
    expected: Vec<Vec<Option<u64>>>,
    /// Offset up to which the committed part of a partition was found in the output.
    settled: Vec<usize>,
    /// How often each id is in the output.
    found: BTreeMap<u64, u32>,
    /// The newest first occurrence of each key.
    newest: BTreeMap<String, u64>,
}

impl Auditor {
    /// For a pipeline that reads `input`, writes `output` and commits as `group`.
    pub fn new(input: &'static str, output: &'static str, partitions: u32, group: &str) -> Self {
        Self {
            input: Reader::new(input, partitions),
            output: Reader::new(output, partitions),
            group: group.to_owned(),
            expected: vec![Vec::new(); partitions as usize],
            settled: vec![0; partitions as usize],
            found: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// Look at what is new. To be called after every commit.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn look(&mut self, broker: &InProcBroker) -> Result<(), String> {
        let expected = &mut self.expected;
        self.input.read(broker, |index, seen| expected[index].push(seen.keep.then_some(seen.id)));
        let (found, newest) = (&mut self.found, &mut self.newest);
        let mut wrong = None;
        self.output.read(broker, |_, seen| {
            let times = found.entry(seen.id).or_default();
            *times += 1;
            let before = newest.get(&seen.key).copied();
            if !seen.keep {
                wrong.get_or_insert(format!("record {} should have been filtered", seen.id));
            } else if *times == 1 && before.is_some_and(|before| seen.number < before) {
                wrong.get_or_insert(format!(
                    "key {} is out of order: number {} comes first after number {}",
                    seen.key,
                    seen.number,
                    before.unwrap_or_default()
                ));
            }
            if *times == 1 {
                newest.insert(seen.key, seen.number);
            }
        });
        wrong.map_or(Ok(()), Err)?;
        self.committed_is_stored(broker)
    }

    fn committed_is_stored(&mut self, broker: &InProcBroker) -> Result<(), String> {
        for (index, expected) in self.expected.iter().enumerate() {
            let committed = committed(broker, &self.group, self.input.topic, index);
            let committed = usize::try_from(committed).unwrap_or(0);
            let settled = &mut self.settled[index];
            for (offset, id) in expected.iter().enumerate().take(committed).skip(*settled) {
                if let Some(id) = id.filter(|id| !self.found.contains_key(id)) {
                    return Err(format!(
                        "{}[{index}] is committed up to {committed}, but record {id} at {offset} is not stored",
                        self.input.topic
                    ));
                }
            }
            *settled = (*settled).max(committed);
        }
        Ok(())
    }

    /// Whether every record of the input is committed.
    pub fn all_committed(&self, broker: &InProcBroker) -> bool {
        (0..self.expected.len()).all(|index| {
            let end = broker.end_offset((self.input.topic, i32::try_from(index).unwrap_or(i32::MAX)));
            end == Ok(committed(broker, &self.group, self.input.topic, index))
        })
    }

    /// Records of the input that never came out.
    pub fn lost(&self) -> BTreeSet<u64> {
        let wanted = self.expected.iter().flatten().flatten();
        wanted.filter(|id| !self.found.contains_key(id)).copied().collect()
    }

    /// Records of the input so far.
    pub fn records_in(&self) -> u64 {
        self.expected.iter().map(|partition| partition.len() as u64).sum()
    }

    /// Of these, how many the pipeline should filter.
    pub fn to_filter(&self) -> u64 {
        self.expected.iter().flatten().filter(|id| id.is_none()).count() as u64
    }

    /// Ids that came out, each counted once.
    pub fn records_out(&self) -> u64 {
        self.found.len() as u64
    }

    /// Records that came out more than once, with the extra copies counted.
    pub fn copies(&self) -> u64 {
        self.found.values().map(|times| u64::from(*times - 1)).sum()
    }
}

/// The committed offset of a partition, 0 for none.
pub fn committed(broker: &InProcBroker, group: &str, topic: &str, index: usize) -> i64 {
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    broker.committed(group, (topic, index)).map_or(0, |committed| committed.offset)
}
