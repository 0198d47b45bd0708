//! Whether a batch goes into a log.

use super::config::TopicSettings;
use super::partition::Admission;
use super::{Effect, Plan, State};
use crate::batch::{Batch, BatchHeader};
use crate::code::Code;
use crate::records::{self, RawRecord, RecordError};

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
        let settings = &self.topics().get(topic).ok_or(Code::UnknownTopicOrPartition)?.settings;
        check_batch(&batch, settings, now_ms)?;
        if batch.header.is_transactional() {
            self.check_in_transaction((topic, partition), transactional_id, &batch.header)?;
        }
        if settings.compacts {
            check_keys(&batch)?;
        }
        match core.admit(&batch.header)? {
            Admission::Repeat(base_offset) => Ok(Plan::reply((base_offset, None))),
            Admission::Append(base_offset) => {
                if let Some(codec) = settings.codec {
                    let most = settings.max_message_bytes;
                    batch =
                        records::recompress(batch, codec, settings.level, most).map_err(RecordError::code)?;
                    check_length(&batch, settings)?;
                }
                let stamp = settings.stamps_append_time.then_some(now_ms);
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
fn check_batch(batch: &Batch, settings: &TopicSettings, now_ms: i64) -> Result<(), Code> {
    check_length(batch, settings)?;
    if settings.stamps_append_time {
        return Ok(());
    }
    let header = &batch.header;
    if header.max_timestamp.saturating_sub(now_ms) > settings.ahead_max_ms {
        return Err(Code::InvalidTimestamp);
    }
    // Of the earliest time the header says nothing: the records are looked at, where a topic sets a limit.
    if settings.behind_max_ms == i64::MAX {
        return Ok(());
    }
    let is_behind = |ms: i64| ms >= 0 && now_ms.saturating_sub(ms) > settings.behind_max_ms;
    check_each(batch, Code::InvalidTimestamp, |record| !is_behind(record.timestamp_ms))
}

fn check_length(batch: &Batch, settings: &TopicSettings) -> Result<(), Code> {
    if batch.header.length > settings.max_message_bytes { Err(Code::MessageTooLarge) } else { Ok(()) }
}

/// Every record of a compacted topic needs a key.
fn check_keys(batch: &Batch) -> Result<(), Code> {
    check_each(batch, Code::InvalidRecord, |record| record.key.is_some())
}

/// Refuses with this code if there is a record that is not fine.
fn check_each(batch: &Batch, refusal: Code, is_fine: impl Fn(&RawRecord) -> bool) -> Result<(), Code> {
    for record in records::raw_of(batch).map_err(RecordError::code)? {
        if !is_fine(&record.map_err(RecordError::code)?) {
            return Err(refusal);
        }
    }
    Ok(())
}
