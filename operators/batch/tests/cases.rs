//! What `batch` collects.

use pelton_batch::BatchFactory;
use pelton_sdk::{
    testing::{Bench, Given, batch_of, context, golden_cases},
    types::Partition,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&BatchFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

/// The numbers in the arrays that were handed on, and the sizes of those.
fn numbers(given: &Given, all: &mut Vec<i64>, sizes: &mut Vec<(usize, usize)>) {
    for (_, batch) in &given.emitted {
        for record in &batch.records {
            let text = batch.value(record).unwrap_or_default();
            let list: Vec<Value> = serde_json::from_slice(text).unwrap_or_default();
            sizes.push((list.len(), text.len()));
            all.extend(list.iter().filter_map(Value::as_i64));
            assert_eq!(
                list.first().and_then(Value::as_i64),
                Some(record.offset),
                "the lowest offset is its own"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order_and_limits_hold(
        records in 1usize..8,
        bytes in 8usize..60,
        steps in proptest::collection::vec((0u64..300, 0usize..10, any::<bool>()), 1..30),
    ) {
        let options = json!({ "records": records, "bytes": format!("{bytes}B"), "within": "200ms" });
        let mut bench = Bench::new(&BatchFactory, &options, &context());
        let partition = Partition::new("in", 0);
        let (mut next, mut all, mut sizes) = (0, Vec::new(), Vec::new());
        for (pause, count, flush) in steps {
            let at = bench.now() + Duration::from_millis(pause);
            numbers(&bench.advance(at), &mut all, &mut sizes);
            let texts: Vec<String> = (next..next + count as i64).map(|n| n.to_string()).collect();
            let values: Vec<_> = texts.iter().map(|text| Some(text.as_str())).collect();
            numbers(&bench.send(batch_of(&partition, next, &values)), &mut all, &mut sizes);
            next += count as i64;
            if flush {
                numbers(&bench.flush(), &mut all, &mut sizes);
                prop_assert_eq!(bench.held(), 0);
            }
            prop_assert_eq!(bench.floor(&partition), (bench.held() > 0).then_some(all.len() as i64));
            prop_assert!(bench.again().is_none_or(|at| at <= bench.now() + Duration::from_millis(200)));
        }
        numbers(&bench.flush(), &mut all, &mut sizes);
        prop_assert_eq!(all, (0..next).collect::<Vec<_>>());
        prop_assert!(sizes.iter().all(|(n, len)| *n <= records && *len <= bytes), "{sizes:?}");
    }
}
