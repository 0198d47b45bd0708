//! What `split` makes of arrays.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_sdk::testing::{batch, context, golden_cases, processed, values};
use pelton_split::SplitFactory;
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&SplitFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

fn element() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        proptest::collection::btree_map("[a-c]", any::<bool>(), 0..3).prop_map(|members| json!(members)),
        proptest::collection::vec(any::<u8>(), 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn all_elements_come_out_in_order_and_the_books_balance(
        records in proptest::collection::vec(proptest::collection::vec(element(), 0..6), 0..6),
    ) {
        let texts: Vec<String> = records.iter().map(|items| json!({ "id": 1, "items": items }).to_string()).collect();
        let sent: Vec<_> = texts.iter().map(|text| Some(text.as_str())).collect();
        let options = json!({ "field": ".items", "keep": [".id"], "into": "item" });
        let out = processed(&SplitFactory, &options, batch(&sent));
        let found: Vec<(i64, Value)> = out
            .emitted
            .iter()
            .flat_map(|(_, batch)| values(batch))
            .map(|(offset, text)| (offset, serde_json::from_str(text).unwrap()))
            .collect();
        let expected: Vec<(i64, Value)> = records
            .iter()
            .enumerate()
            .flat_map(|(n, items)| items.iter().map(move |item| (n as i64, json!({ "id": 1, "item": item }))))
            .collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(out.settled(), records.len() as u64);
    }
}
