//! Whether a batch goes into a log.

use super::config::TopicSettings;
use super::partition::Admission;
use super::{Effect, Plan, State};
use crate::batch::{Batch, BatchHeader};
use crate::code::Code;
use crate::records;

impl State {
    /// Decides about one batch for one partition; the reply is its base offset, and the broker's time if the
    /// topic stamps it.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn plan_produce(
        &self,
        (topic, partition): (&str, i32),
        transactional_id: Option<&str>,
        mut batch: Batch,
        now_ms: i64,
    ) -> Result<Plan<(i64, Option<i64>)>, Code> {
        let (log, core) = self.find(topic, partition)?;
        let settings = self.topics().get(topic).map(|topic| &topic.settings);
        if let Some(settings) = settings {
            check_batch(&batch.header, settings, now_ms)?;
        }
        if batch.header.is_transactional() {
            self.check_in_transaction((topic, partition), transactional_id, &batch.header)?;
        }
        if settings.is_some_and(|settings| settings.compacts) {
            check_keys(&batch)?;
        }
        match core.admit(&batch.header)? {
            Admission::Repeat(base_offset) => Ok(Plan::reply((base_offset, None))),
            Admission::Append(base_offset) => {
                let stamp = settings.is_some_and(|settings| settings.stamps_append_time).then_some(now_ms);
                batch.place(base_offset, stamp);
                Ok(Plan::new(vec![Effect::Append { log, batch }], (base_offset, stamp)))
            }
        }
    }

    /// A batch of a transaction must speak for its current epoch, and its partition must be part of it: a late
    /// batch after an abort would otherwise open a transaction nobody ends. On Produce a fenced epoch is
    /// always `INVALID_PRODUCER_EPOCH`.
    fn check_in_transaction(
        &self,
        (topic, partition): (&str, i32),
        transactional_id: Option<&str>,
        header: &BatchHeader,
    ) -> Result<(), Code> {
        let id = transactional_id.ok_or(Code::InvalidRequest)?;
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        let txn = self.transactions().open_for(id, producer_id, epoch, Code::InvalidProducerEpoch)?;
        if !txn.partitions.contains(&(topic.to_owned(), partition)) {
            return Err(Code::InvalidTxnState);
        }
        Ok(())
    }
}

/// What a topic's settings say about a batch.
fn check_batch(header: &BatchHeader, settings: &TopicSettings, now_ms: i64) -> Result<(), Code> {
    if header.length > settings.max_message_bytes {
        return Err(Code::MessageTooLarge);
    }
    let is_ahead = header.max_timestamp.saturating_sub(now_ms) > settings.ahead_max_ms;
    let is_behind = now_ms.saturating_sub(header.base_timestamp) > settings.behind_max_ms;
    let has_time = header.base_timestamp >= 0 && !settings.stamps_append_time;
    if has_time && (is_ahead || is_behind) { Err(Code::InvalidTimestamp) } else { Ok(()) }
}

/// Every record of a compacted topic needs a key.
fn check_keys(batch: &Batch) -> Result<(), Code> {
    let records = records::raw(&batch.to_bytes()).map_err(|_| Code::CorruptMessage)?;
    if records.iter().all(|record| record.key.is_some()) { Ok(()) } else { Err(Code::InvalidRecord) }
}
