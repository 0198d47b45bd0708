//! A million producers that send once and go: what is remembered of them is bounded, and goes too.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use pelton_broker::batch::Batch;
use pelton_broker::core::retention::SegmentInfo;
use pelton_broker::core::{Entry, LogId, TopicConfig};
use pelton_broker::records::{self, NewRecord};
use pelton_broker::store::{Located, Replayed, SegmentStore, Wanted};
use pelton_broker::{Broker, Code, Settings};

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Takes everything and keeps nothing, so that only the state is measured.
#[derive(Debug)]
struct Nowhere;

impl SegmentStore for Nowhere {
    type Range = Bytes;
    fn replay(&mut self, _: &mut dyn FnMut(Replayed)) -> io::Result<()> {
        Ok(())
    }
    fn append(&mut self, _: LogId, _: &Batch) -> io::Result<()> {
        Ok(())
    }
    fn journal(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
    fn journal_is_long(&self) -> bool {
        false
    }
    fn rewrite_journal(&mut self, _: &[Entry]) -> io::Result<()> {
        Ok(())
    }
    fn locate(&self, _: LogId, wanted: Wanted) -> Located<Bytes> {
        Located::nothing(wanted.from)
    }
    fn locate_time(&self, _: LogId, _: i64, _: i64) -> Option<(Bytes, i64)> {
        None
    }
    fn newest_record_ms(&self, _: LogId) -> Option<i64> {
        None
    }
    fn segments(&self, _: LogId) -> Vec<SegmentInfo> {
        Vec::new()
    }
    fn roll(&mut self, _: LogId) -> io::Result<()> {
        Ok(())
    }
}

const PRODUCERS: i64 = 1_000_000;
const DAY_MS: i64 = 24 * 3_600_000;
/// They come evenly over so many days.
const DAYS: i64 = 20;

#[test]
fn a_million_producers_that_send_once_leave_nothing_behind() {
    let mut broker = Broker::open(Nowhere, Settings::default(), 0).unwrap();
    let plan = broker.state().plan_create_topic("t", 1, TopicConfig::new()).unwrap();
    broker.run(plan, Code::KafkaStorageError).unwrap();
    let record = NewRecord { value: Some(Bytes::from_static(b"x")), ..NewRecord::default() };
    let mut batch = records::encode(&[record]).unwrap();
    let step_ms = DAYS * DAY_MS / PRODUCERS;
    let (before, mut most) = (IN_USE.load(Relaxed), 0);
    for at in 0..PRODUCERS {
        let now_ms = at * step_ms;
        let id = broker.new_producer_id().unwrap();
        (batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence) = (id, 0, 0);
        batch.header.max_timestamp = now_ms;
        let plan = broker.state().plan_produce(("t", 0), None, batch.clone(), now_ms).unwrap();
        broker.run(plan, Code::KafkaStorageError).unwrap();
        broker.take_touched();
        if at % 1000 == 0 {
            broker.expire_transactions(now_ms);
            most = most.max(IN_USE.load(Relaxed) - before);
        }
    }
    // A day's producers, at most 400 bytes each while their table grows.
    let of_a_day = usize::try_from(PRODUCERS / DAYS).unwrap();
    assert!(most < 400 * of_a_day, "{most} bytes for {of_a_day} producers a day");
    broker.expire_transactions((DAYS + 2) * DAY_MS);
    assert!(broker.state().find("t", 0).unwrap().1.producers().is_empty());
    let left = IN_USE.load(Relaxed).saturating_sub(before);
    assert!(left < 100_000, "{left} bytes are left, of {most}");
}
