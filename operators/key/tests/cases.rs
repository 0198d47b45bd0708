//! Which key `key` gives a record.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_key::KeyFactory;
use pelton_sdk::{
    Collector, OperatorFactory,
    testing::{batch, context, failures, golden_cases, values},
    types::Batch,
};
use serde_json::json;
use std::time::Instant;

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&KeyFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

fn keys(batch: &Batch) -> Vec<(i64, &str)> {
    batch.records.iter().map(|r| (r.offset, std::str::from_utf8(batch.key(r).unwrap()).unwrap())).collect()
}

#[test]
fn the_key_is_the_text_of_the_field() {
    let records = [
        Some(r#"{"id":"a\u00e9"}"#),
        Some(r#"{"id":1.50}"#),
        Some(r#"{"id":true}"#),
        Some(r#"{"id":null}"#),
        Some(r#"{"id":[1]}"#),
        None,
        Some("{"),
        Some(r#"{"id":""}"#),
    ];
    for options in [json!(".id"), json!({ "field": ".id" })] {
        let mut key = KeyFactory.build(&options, &context()).unwrap();
        let mut out = Collector::new(Instant::now());
        key.process(batch(&records), &mut out);
        let (port, keyed) = &out.emitted[0];
        assert_eq!((*port, keys(keyed)), (0, vec![(0, "aé"), (1, "1.50"), (2, "true"), (7, "")]));
        assert!(keyed.rekeyed);
        assert_eq!(values(keyed)[1], (1, r#"{"id":1.50}"#));
        let causes = [
            (3, "field .id is missing or null, so the record has no key"),
            (4, "field .id is an array; only a string, a number or a boolean has a text"),
            (5, "the record has no value, so no field .id"),
            (6, "truncated JSON: the record ends at byte 1, expected a key in quotes"),
        ];
        assert_eq!(failures(&out), causes);
        assert_eq!(out.settled(), 8);
    }
}

#[test]
fn records_that_have_the_key_already_are_not_placed_anew() {
    let mut key = KeyFactory.build(&json!(".id"), &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    key.process(batch(&[Some(r#"{"id":"k"}"#), Some(r#"{"id":"k"}"#)]), &mut out);
    assert!(!out.emitted[0].1.rekeyed);
    key.process(batch(&[Some(r#"{"id":"k"}"#), Some(r#"{"id":"other"}"#)]), &mut out);
    assert!(out.emitted[1].1.rekeyed);
    assert_eq!(keys(&out.emitted[1].1), [(0, "k"), (1, "other")]);
}

#[test]
fn mistakes_are_found_with_their_place() {
    assert!(KeyFactory.check(&json!(".id"), &context()).unwrap().rekeys);
    let errors = KeyFactory.check(&json!({ "field": "id", "fied": 1 }), &context()).unwrap_err();
    let places: Vec<_> = errors.iter().map(|e| (e.pointer.as_str(), e.span.clone())).collect();
    assert_eq!(places, [("/fied", None), ("/field", Some(0..2))]);
    for wrong in [json!(5), json!({}), json!({ "field": 5 }), json!("")] {
        assert!(KeyFactory.check(&wrong, &context()).is_err(), "{wrong}");
    }
}
