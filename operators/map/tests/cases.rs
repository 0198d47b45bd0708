//! What `map` changes, leaves, drops and fails.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_map::MapFactory;
use pelton_sdk::{
    Collector, OperatorFactory,
    testing::{batch, context, failures, golden_cases, values},
};
use serde_json::json;
use std::time::Instant;

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&MapFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

#[test]
fn records_are_changed_left_dropped_or_fail_as_they_came() {
    let program = "if .skip == true { abort }\n.eur = int!(.price) * 2\ndel(.extra)";
    let mut map = MapFactory.build(&json!(program), &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    let records = [
        Some(r#"{"price": 1, "extra": [1, 2], "z": 1.0}"#),
        Some(r#"{"skip": true}"#),
        Some(r#"{"price": "x"}"#),
        None,
        Some(r#"{"price": 4"#),
        Some(r#"{"price": 5}"#),
    ];
    map.process(batch(&records), &mut out);
    let (port, changed) = &out.emitted[0];
    let want = vec![(0, r#"{"price": 1,"z": 1.0,"eur":2}"#), (3, "(null)"), (5, r#"{"price": 5,"eur":10}"#)];
    assert_eq!((*port, values(changed)), (0, want));
    assert_eq!(out.filtered, 1);
    let failed = failures(&out);
    assert_eq!(failed.iter().map(|f| f.0).collect::<Vec<_>>(), [2, 4]);
    assert!(
        failed[0].1.starts_with("function call error for \"int\" at line 2, column 8 of the program"),
        "{failed:?}"
    );
    assert_eq!(values(&out.failed[0].record), vec![(2, r#"{"price": "x"}"#)]);
    assert_eq!(out.settled(), 6);
}

#[test]
fn unchanged_records_take_no_new_bytes() {
    let mut map = MapFactory.build(&json!("del(.missing)"), &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    let before = batch(&[Some(r#"{"a": 1}"#), Some("[1]")]);
    let spans: Vec<_> = before.records.clone();
    map.process(before, &mut out);
    assert_eq!(out.emitted[0].1.records, spans);
}

#[test]
fn maps_follow_each_other_and_key_and_time_stay() {
    let build = |program: &str| MapFactory.build(&json!(program), &context()).unwrap();
    let (mut first, mut second) = (build(".b = 1"), build(".c = .b\ndel(.a)"));
    let mut out = Collector::new(Instant::now());
    first.process(batch(&[Some(r#"{"a":0}"#), Some("{}")]), &mut out);
    let (_, between) = out.emitted.remove(0);
    second.process(between, &mut out);
    let (_, last) = &out.emitted[0];
    assert_eq!(values(last), vec![(0, r#"{"b":1,"c":1}"#), (1, r#"{"b":1,"c":1}"#)]);
    assert_eq!(last.key(&last.records[0]), Some(&b"k"[..]));
    assert_eq!((last.records[0].timestamp_ms, last.rekeyed), (7, false));
    let original = *last.original(0).unwrap();
    assert_eq!(last.value(&original), Some(&br#"{"a":0}"#[..]));
}

#[test]
fn a_program_must_handle_its_errors() {
    let errors = MapFactory.check(&json!(".a = .b * 2\n.c = foo(.d)"), &context()).unwrap_err();
    assert_eq!(errors.iter().map(|e| e.span.clone().unwrap()).collect::<Vec<_>>(), [5..11, 17..20]);
    assert!(errors[0].hint.as_ref().unwrap().contains("??"));
    assert!(MapFactory.check(&json!({ "program": ".a = 1" }), &context()).is_err());
    assert!(MapFactory.check(&json!("del(.pixels)"), &context()).is_ok());
}
