#![doc = include_str!("../README.md")]

mod options;

use options::Rule;
use pelton_expr::{KeyExpr, Scratch};
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Verdicts,
    types::{Batch, Partition},
};
use serde_json::Value;
use siphasher::sip::SipHasher13;
use std::{collections::HashMap, hash::Hasher};

/// Makes `sample` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleFactory;

impl OperatorFactory for SampleFactory {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn summary(&self) -> &'static str {
        "keeps a share of the records"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let output = context.input.clone();
        options::parse(options, context).map(|_| OperatorShape { output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let rule = match options::parse(options, context)? {
            Rule::Every(every) => Judge::Every { every, counts: HashMap::new() },
            Rule::Share { rate, seed, key } => Judge::Share(Box::new(Share {
                limit: limit(rate),
                seed,
                key,
                scratch: Scratch::default(),
                text: Vec::new(),
            })),
        };
        Ok(Box::new(Sample { judge: rule, verdicts: Verdicts::default() }))
    }
}

struct Sample {
    judge: Judge,
    verdicts: Verdicts,
}

enum Judge {
    Every {
        every: u64,
        /// Records seen by partition, modulo `every`.
        counts: HashMap<Partition, u64>,
    },
    Share(Box<Share>),
}

/// Keeps what hashes below a limit.
struct Share {
    limit: u64,
    seed: u64,
    key: Option<KeyExpr>,
    scratch: Scratch,
    text: Vec<u8>,
}

/// The hash that a share of all hashes is at most.
fn limit(rate: f64) -> u64 {
    // A conversion of a float saturates, so that 1.0 keeps all.
    (rate * u64::MAX as f64) as u64
}

impl Share {
    fn judge(&mut self, batch: &Batch, index: usize) -> Result<bool, String> {
        let record = &batch.records[index];
        // SipHash-1-3 with this key is defined by its algorithm, not by this program: the answer stays the same.
        let mut hasher = SipHasher13::new_with_keys(self.seed, 0);
        match &self.key {
            None => {
                hasher.write(batch.partition.topic.as_bytes());
                hasher.write(&batch.partition.index.to_le_bytes());
                hasher.write(&record.offset.to_le_bytes());
            }
            Some(key) => {
                self.text.clear();
                if !key.write(&mut self.scratch, batch.value(record), &mut self.text)? {
                    return Err("the record has no key".to_owned());
                }
                hasher.write(&self.text);
            }
        }
        Ok(hasher.finish() <= self.limit)
    }
}

impl Operator for Sample {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        for index in 0..batch.len() {
            self.verdicts.note(match &mut self.judge {
                Judge::Every { every, counts } => Ok(count(*every, counts, &batch.partition)),
                Judge::Share(share) => share.judge(&batch, index),
            });
        }
        self.verdicts.settle(batch, out);
    }
}

/// Whether the next record of a partition is the first of so many.
fn count(every: u64, counts: &mut HashMap<Partition, u64>, partition: &Partition) -> bool {
    let count = match counts.get_mut(partition) {
        Some(count) => count,
        None => counts.entry(partition.clone()).or_default(),
    };
    let first = *count == 0;
    *count = (*count + 1) % every;
    first
}
