//! How `throttle` shapes a flow.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_sdk::{
    testing::{Bench, Given, batch_of, context, golden_cases},
    types::Partition,
};
use pelton_throttle::ThrottleFactory;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&ThrottleFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

#[test]
fn the_lowest_offset_that_waits_holds_commits_back() {
    let (left, right) = (Partition::new("in", 0), Partition::new("in", 1));
    let mut bench = Bench::new(&ThrottleFactory, &json!({ "records": 1, "burst": 1 }), &context());
    bench.send(batch_of(&left, 5, &[Some("a"), Some("b")]));
    bench.send(batch_of(&right, 9, &[Some("c")]));
    assert_eq!((bench.floor(&left), bench.floor(&right)), (Some(6), Some(9)));
    bench.advance(Duration::from_millis(1010));
    assert_eq!((bench.floor(&left), bench.floor(&right)), (None, Some(9)));
}

/// When records passed: the time and the offset of each.
fn passed(given: &Given, at: Duration, all: &mut Vec<(Duration, i64)>) {
    for (_, batch) in &given.emitted {
        all.extend(batch.records.iter().map(|record| (at, record.offset)));
    }
}

proptest! {
    #[test]
    fn no_stretch_of_time_passes_more_than_its_share_and_nothing_is_lost(
        rate in 1u64..50,
        burst in 1u64..20,
        sends in proptest::collection::vec((0u64..400, 0usize..12), 1..20),
    ) {
        let options = json!({ "records": rate, "burst": burst });
        let mut bench = Bench::new(&ThrottleFactory, &options, &context());
        let partition = Partition::new("in", 0);
        let (mut sent, mut times) = (0, Vec::new());
        // As the runtime does: at every wish of the operator, and when records come.
        let until = |bench: &mut Bench, end: Duration, times: &mut Vec<_>| {
            while let Some(at) = bench.again().filter(|at| *at <= end) {
                let given = bench.advance(at);
                passed(&given, at, times);
            }
            bench.advance(end);
        };
        for (pause, count) in sends {
            let at = bench.now() + Duration::from_millis(pause);
            until(&mut bench, at, &mut times);
            let values = vec![Some("x"); count];
            let given = bench.send(batch_of(&partition, sent, &values));
            sent += count as i64;
            passed(&given, at, &mut times);
        }
        let end = bench.now() + Duration::from_secs(1 + sent as u64 / rate);
        until(&mut bench, end, &mut times);
        prop_assert_eq!(bench.held(), 0, "all have passed by then");
        let offsets: Vec<_> = times.iter().map(|(_, offset)| *offset).collect();
        prop_assert_eq!(offsets, (0..sent).collect::<Vec<_>>(), "all, once, in order");
        for (first, (from, _)) in times.iter().enumerate() {
            for (last, (to, _)) in times.iter().enumerate().skip(first) {
                let most = burst as f64 + (*to - *from).as_secs_f64() * rate as f64;
                prop_assert!((last - first + 1) as f64 <= most + 1e-3, "{first}..={last} in {:?}", *to - *from);
            }
        }
    }
}
