//! What `filter` keeps, drops and fails.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_filter::FilterFactory;
use pelton_sdk::{
    Collector, OperatorFactory,
    testing::{batch, context, failures, golden_cases, values},
};
use serde_json::json;
use std::time::Instant;

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&FilterFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

#[test]
fn records_pass_as_they_came_or_are_counted_or_fail_with_their_cause() {
    let mut filter = FilterFactory.build(&json!(".price > 1000"), &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    let large = r#"{ "price": 2000.50, "b":1}"#;
    filter.process(
        batch(&[Some(large), Some(r#"{"price":5}"#), Some("{}"), Some("x"), None, Some(large)]),
        &mut out,
    );
    assert_eq!(out.emitted.len(), 1);
    let (port, kept) = &out.emitted[0];
    assert_eq!((*port, values(kept)), (0, vec![(0, large), (5, large)]));
    assert_eq!(out.filtered, 1);
    let causes = [
        (2, "can't compare null with integer"),
        (3, "invalid JSON at byte 0: expected a value"),
        (4, "can't compare null with integer"),
    ];
    assert_eq!(failures(&out), causes);
    assert_eq!((out.settled(), filter.held()), (6, 0));
}

#[test]
fn nothing_is_emitted_when_nothing_is_left() {
    let mut filter = FilterFactory.build(&json!("false"), &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    filter.process(batch(&[Some("{}"), Some("{}")]), &mut out);
    assert_eq!((out.emitted.len(), out.filtered, out.settled()), (0, 2, 2));
    filter.process(batch(&[]), &mut out);
    assert_eq!(out.settled(), 2);
}

#[test]
fn the_digits_example_keeps_whole_images() {
    let mut filter = FilterFactory.build(&json!("length(array!(.pixels)) == 64"), &context()).unwrap();
    let image = |n: usize| json!({ "id": n, "pixels": vec![7; n] }).to_string();
    let (whole, cut) = (image(64), image(63));
    let mut out = Collector::new(Instant::now());
    filter.process(batch(&[Some(&whole), Some(&cut), Some(r#"{"pixels":"none"}"#)]), &mut out);
    assert_eq!(values(&out.emitted[0].1), vec![(0, whole.as_str())]);
    assert_eq!((out.filtered, out.failed.len()), (1, 1));
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let errors = FilterFactory.check(&json!("downcse(.x) == 1"), &context()).unwrap_err();
    assert_eq!((errors[0].pointer.as_str(), errors[0].span.clone()), ("", Some(0..7)));
    assert_eq!(errors[0].hint.as_deref(), Some("did you mean `downcase`?"));
    let errors = FilterFactory.check(&json!(5), &context()).unwrap_err();
    assert_eq!(errors[0].message, "expected a VRL condition as text, got 5");
    let shape = FilterFactory.check(&json!(".a == 1"), &context()).unwrap();
    assert_eq!((shape.ports.len(), shape.rekeys), (0, false));
    assert_eq!(FilterFactory.schema().get("type"), Some(&json!("string")));
}
