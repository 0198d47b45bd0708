//! Which records are too old, or too many.

use super::config::TopicSettings;

/// A segment as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First offset.
    pub base: i64,
    /// Offset after the last record.
    pub next: i64,
    /// Size on the disk.
    pub bytes: u64,
    /// Time of its oldest batch, milliseconds since 1970; `None` without records.
    pub first_ms: Option<i64>,
    /// Time of its newest record; `None` without records.
    pub newest_ms: Option<i64>,
}

/// The offset the log shall begin at, if that is later than now: whole segments go, from the oldest on. A
/// segment goes by time when its newest record is too old, and by size when what stays is still enough.
#[must_use]
pub fn new_start(segments: &[SegmentInfo], settings: &TopicSettings, now_ms: i64) -> Option<i64> {
    if !settings.deletes {
        return None;
    }
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut start = None;
    for segment in segments.iter().filter(|segment| segment.next > segment.base) {
        let is_old = |limit_ms: i64| {
            segment.newest_ms.is_some_and(|newest_ms| newest_ms < now_ms.saturating_sub(limit_ms))
        };
        let is_too_old = settings.retention_ms.is_some_and(is_old);
        let is_too_much =
            settings.retention_bytes.is_some_and(|limit| bytes.saturating_sub(segment.bytes) >= limit);
        if !(is_too_old || is_too_much) {
            break;
        }
        bytes -= segment.bytes;
        start = Some(segment.next);
    }
    start
}

/// Whether the segment in use is left although it has room: for its age, or because it must be compacted soon.
#[must_use]
pub fn is_time_to_roll(segments: &[SegmentInfo], settings: &TopicSettings, now_ms: i64) -> bool {
    let first_ms = segments.last().and_then(|segment| segment.first_ms);
    let lag_ms = if settings.compacts { settings.max_compaction_lag_ms } else { i64::MAX };
    let limit_ms = settings.segment_ms.min(lag_ms);
    first_ms.is_some_and(|first_ms| now_ms.saturating_sub(first_ms) >= limit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::TopicConfig;

    fn segments() -> Vec<SegmentInfo> {
        let segment = |(at, newest_ms): (i64, i64)| SegmentInfo {
            base: at * 10,
            next: at * 10 + 10,
            bytes: 100,
            first_ms: Some(newest_ms - 5),
            newest_ms: Some(newest_ms),
        };
        [(0, 1000), (1, 2000), (2, 3000)].into_iter().map(segment).collect()
    }

    fn settings(pairs: &[(&str, &str)]) -> TopicSettings {
        let config: TopicConfig = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TopicSettings::of(&config)
    }

    #[test]
    fn segments_go_when_their_newest_record_is_too_old() {
        let by_time = settings(&[("retention.ms", "500")]);
        let start = |now_ms| new_start(&segments(), &by_time, now_ms);
        assert_eq!(start(1500), None);
        assert_eq!(start(1501), Some(10));
        assert_eq!(start(2501), Some(20));
        assert_eq!(start(3501), Some(30), "the one in use too");
    }

    #[test]
    fn segments_go_while_the_others_are_enough() {
        let start = |limit| new_start(&segments(), &settings(&[("retention.bytes", limit)]), 0);
        assert_eq!(start("300"), None);
        assert_eq!(start("200"), Some(10));
        assert_eq!(start("199"), Some(10));
        assert_eq!(start("100"), Some(20));
        assert_eq!(start("-1"), None);
    }

    #[test]
    fn nothing_goes_without_limits_or_from_a_topic_that_only_compacts() {
        assert_eq!(new_start(&segments(), &settings(&[]), i64::MAX), None);
        let compacts = settings(&[("cleanup.policy", "compact"), ("retention.ms", "0")]);
        assert_eq!(new_start(&segments(), &compacts, i64::MAX), None);
    }

    #[test]
    fn a_segment_is_left_when_its_first_record_is_old() {
        let settings = settings(&[("segment.ms", "100")]);
        assert!(!is_time_to_roll(&segments(), &settings, 3094));
        assert!(is_time_to_roll(&segments(), &settings, 3095));
    }
}
