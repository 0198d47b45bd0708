#![doc = include_str!("../README.md")]

mod options;
mod seen;

use options::{Missing, Settings};
use pelton_expr::{KeyExpr, Scratch};
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Verdicts, types::Batch,
};
use seen::Seen;
use serde_json::Value;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Makes `dedupe` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct DedupeFactory;

impl OperatorFactory for DedupeFactory {
    fn name(&self) -> &'static str {
        "dedupe"
    }

    fn summary(&self) -> &'static str {
        "drops records whose key was seen before; forgets when it starts"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let output = context.input.clone();
        let settings = options::parse(options, context)?;
        let note = format!(
            "forgets what it saw when it starts anew: a repeat of an earlier record passes once more; it takes up to {} MB \
             a task",
            (settings.max_keys * BYTES_PER_KEY).div_ceil(1_000_000)
        );
        Ok(OperatorShape { output, notes: vec![note], ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let settings = options::parse(options, context)?;
        tracing::info!(
            within_seconds = settings.within.as_secs(),
            max_keys = settings.max_keys,
            "dedupe starts with nothing seen: a repeat of an earlier record passes once more"
        );
        Ok(Box::new(Dedupe::new(settings)))
    }
}

struct Dedupe {
    key: Option<KeyExpr>,
    missing: Missing,
    seen: Seen,
    hasher: SipHasher13,
    scratch: Scratch,
    /// The key of the record in hand.
    text: Vec<u8>,
    verdicts: Verdicts,
}

impl Dedupe {
    fn new(settings: Settings) -> Self {
        // No result depends on it: it only keeps others from making two keys with one hash.
        let secret = RandomState::new();
        let hasher = SipHasher13::new_with_keys(secret.hash_one(0), secret.hash_one(1));
        Self {
            key: settings.key,
            missing: settings.missing,
            seen: Seen::new(settings.within, settings.max_keys),
            hasher,
            scratch: Scratch::default(),
            text: Vec::new(),
            verdicts: Verdicts::default(),
        }
    }

    /// Whether a record has a key that was not seen; `None`: it has no key.
    fn judge(&mut self, batch: &Batch, index: usize) -> Result<Option<bool>, String> {
        let record = &batch.records[index];
        let key = match &self.key {
            None => batch.key(record),
            Some(key) => {
                self.text.clear();
                key.write(&mut self.scratch, batch.value(record), &mut self.text)?.then_some(&self.text[..])
            }
        };
        let Some(key) = key else { return Ok(None) };
        let mut hasher = self.hasher;
        // What is one key in one partition is another in the next: it does not depend on which tasks share a worker.
        hasher.write_i32(batch.partition.index);
        hasher.write(key);
        Ok(Some(self.seen.is_new(hasher.finish128().as_u128())))
    }
}

impl Operator for Dedupe {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        self.seen.forget(out.now());
        self.verdicts.begin();
        for index in 0..batch.len() {
            let judged = self.judge(&batch, index);
            self.verdicts.note(judged.and_then(|new| match (new, self.missing) {
                (Some(new), _) => Ok(new),
                (None, Missing::Pass) => Ok(true),
                (None, Missing::Drop) => Ok(false),
                (None, Missing::Fail) => Err("the record has no key".to_owned()),
            }));
        }
        self.verdicts.settle(batch, out);
    }
}

/// 24 in the queue, and up to 48 in the set: 17 for each place of a table that is at least 7/16 full.
const BYTES_PER_KEY: usize = 72;
/// The longest time a key may be remembered: beyond a month a memory is the wrong place.
const MAX_WITHIN: Duration = Duration::from_secs(31 * 86_400);
