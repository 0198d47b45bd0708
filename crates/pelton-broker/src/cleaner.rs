//! Compaction of the broker's logs: chosen and finished under its lock, carried out without.

use std::collections::HashSet;

use crate::broker::Broker;
use crate::code::Code;
use crate::core::compaction::{Compaction, Known, MAX_KEYS};
use crate::core::config::TopicSettings;
use crate::core::{Effect, Entry, LogId, Plan};
use crate::store::{Done, FileStore, Job, SegmentStore};

impl Broker<FileStore> {
    /// The compaction that is most worth it now, if any is: that of the log with the largest share of records
    /// that were not compacted, those left out that could not be.
    #[must_use]
    pub fn begin_compaction(&self, left_out: &HashSet<LogId>, now_ms: i64) -> Option<Job> {
        let compacts =
            |(log, settings): &(LogId, TopicSettings)| settings.compacts && !left_out.contains(log);
        let logs = self.limited_logs().into_iter().filter(compacts);
        let worth = |(log, settings): (LogId, TopicSettings)| {
            let limit = self.compaction_limit(log, &settings, now_ms)?;
            let from = self.state().partition(log)?.compacted_to();
            let segments = self.store().segments(log);
            let full = segments.iter().filter(|segment| segment.next <= limit);
            let overdue_ms = now_ms.saturating_sub(settings.max_compaction_lag_ms);
            let (mut all, mut dirty, mut is_overdue) = (0, 0, false);
            for segment in full {
                all += segment.bytes;
                if segment.next > from {
                    dirty += segment.bytes;
                    is_overdue |= segment.first_ms.is_some_and(|ms| ms <= overdue_ms);
                }
            }
            let percent = if is_overdue { 100 } else { (dirty * 100).checked_div(all)? };
            let is_worth_it = dirty > 0 && percent >= u64::from(settings.min_dirty_percent);
            is_worth_it.then_some((percent, log, settings, limit))
        };
        let (_, log, settings, limit) = logs.filter_map(worth).max_by_key(|(percent, ..)| *percent)?;
        let core = self.state().partition(log)?;
        let segments = self.store().full_segments(log, limit);
        let known = Known {
            aborted: core.aborted_between(0, i64::MAX),
            last_of_producers: core.last_of_producers(),
            last_offset: segments.last()?.next() - 1,
            now_ms,
            delete_retention_ms: settings.delete_retention_ms,
        };
        let compaction = Compaction::new(known, MAX_KEYS);
        Some(Job { log, segments, from: core.compacted_to(), compaction })
    }

    /// Full segments up to here may be compacted: all of it is decided, and old enough.
    fn compaction_limit(&self, log: LogId, settings: &TopicSettings, now_ms: i64) -> Option<i64> {
        let stable = self.state().partition(log)?.stable_offset();
        let segments = self.store().segments(log);
        let (_, full) = segments.split_last()?;
        let is_old = |newest_ms: Option<i64>| {
            newest_ms.is_none_or(|ms| ms <= now_ms.saturating_sub(settings.min_compaction_lag_ms))
        };
        let ready = full.iter().take_while(|segment| segment.next <= stable && is_old(segment.newest_ms));
        ready.last().map(|segment| segment.next)
    }

    /// Puts compacted segments in their places.
    ///
    /// # Errors
    /// The store refused; what is in place is complete, and the rest is compacted again later.
    pub fn finish_compaction(&mut self, done: Done) -> Result<(), Code> {
        for segment in done.segments {
            self.store_mut().swap_segment(done.log, segment).map_err(|error| {
                tracing::error!(%error, log = ?done.log, "could not put a compacted segment in its place");
                Code::KafkaStorageError
            })?;
        }
        let (topic, partition) = (done.log.topic, done.log.partition);
        let compacted = Entry::Compacted { topic, partition, to: done.to };
        self.run(Plan::new(vec![Effect::Journal(compacted)], ()), Code::KafkaStorageError)
    }
}
