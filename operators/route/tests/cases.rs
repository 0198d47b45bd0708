//! Which output `route` sends a record to.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_route::RouteFactory;
use pelton_sdk::{
    Collector, OperatorFactory,
    testing::{batch, context, failures, golden_cases, values},
};
use serde_json::json;
use std::time::Instant;

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&RouteFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

const RECORDS: [Option<&str>; 5] = [
    Some(r#"{"status":500,"ms":9}"#),
    Some(r#"{"status":200,"ms":2000}"#),
    Some(r#"{"status":503,"ms":3000}"#),
    Some(r#"{"status":200,"ms":1}"#),
    Some(r#"{"status":"x"}"#),
];

fn routed(options: &serde_json::Value) -> (Collector, Vec<(usize, Vec<i64>)>) {
    let mut route = RouteFactory.build(options, &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    route.process(batch(&RECORDS), &mut out);
    let mut ports: Vec<_> =
        out.emitted.iter().map(|(port, b)| (*port, values(b).iter().map(|v| v.0).collect())).collect();
    ports.sort();
    (out, ports)
}

#[test]
fn with_first_a_record_goes_where_the_first_true_condition_says() {
    let options = json!({ "routes": [{ "slow": ".ms > 1000" }, { "errors": ".status >= 500" }] });
    let shape = RouteFactory.check(&options, &context()).unwrap();
    assert_eq!(shape.ports, ["slow", "errors"]);
    let (out, ports) = routed(&options);
    assert_eq!(ports, [(0, vec![3]), (1, vec![1, 2]), (2, vec![0])]);
    assert_eq!(failures(&out), [(4, "can't compare null with integer")]);
    assert_eq!((out.expanded, out.settled()), (0, 5));
}

#[test]
fn with_all_a_record_goes_to_every_output_and_copies_count_as_expanded() {
    let options = json!({ "mode": "all", "routes": { "errors": ".status >= 500", "slow": ".ms > 1000" } });
    let (out, ports) = routed(&options);
    assert_eq!(ports, [(0, vec![3]), (1, vec![0, 2]), (2, vec![1, 2])]);
    assert_eq!((out.failed.len(), out.expanded, out.settled()), (1, 1, 5));
}

#[test]
fn a_batch_that_goes_one_way_is_handed_on_whole() {
    let mut route = RouteFactory
        .build(&json!({ "mode": "all", "routes": { "a": "true", "b": "true" } }), &context())
        .unwrap();
    let mut out = Collector::new(Instant::now());
    route.process(batch(&[Some("{}"), Some("[]"), None]), &mut out);
    let mut ports: Vec<_> = out.emitted.iter().map(|(port, b)| (*port, b.len())).collect();
    ports.sort_unstable();
    assert_eq!((ports, out.expanded, out.settled()), (vec![(1, 3), (2, 3)], 3, 3));
    route.process(batch(&[]), &mut out);
    assert_eq!(out.settled(), 3);
}

#[test]
fn all_mistakes_are_found_with_their_place() {
    let places = |options: serde_json::Value| -> Vec<(String, String)> {
        let errors = RouteFactory.check(&options, &context()).unwrap_err();
        errors.into_iter().map(|e| (e.pointer, e.message)).collect()
    };
    let place = |pointer: &str, message: &str| (pointer.to_owned(), message.to_owned());
    assert_eq!(
        places(
            json!({ "mode": "some", "els": 1, "routes": [{ "a b": "true" }, { "ok": ".x" }, { "ok": "true" }, 5] })
        ),
        [
            place("/els", "unknown option `els`"),
            place("/mode", "expected one of `first`, `all`, got \"some\""),
            place("/routes/3", "expected one `name: condition`, got 5"),
            place("/routes/0/a b", "`a b` is no name for an output"),
            place("/routes/1/ok", "a condition must be a boolean, this is any"),
            place("/routes/2/ok", "there are two outputs `ok`"),
        ]
    );
    assert_eq!(places(json!("x")), [place("", "expected options, got \"x\"")]);
    assert_eq!(places(json!({})), [place("", "`routes` is missing, or `to` with `outputs`")]);
    assert_eq!(places(json!({ "routes": [] })), [place("/routes", "there are no routes")]);
    assert_eq!(
        places(json!({ "routes": { "a": "true", "b": "true" } })),
        [place("/routes", "a map has no order, and `mode: first` goes by the order")]
    );
    assert_eq!(
        places(json!({ "routes": { "default": "true" } })),
        [place("/routes/default", "`default` cannot be the name of an output")]
    );
    let errors = RouteFactory.check(&json!({ "routes": { "a": ".x > foo" } }), &context()).unwrap_err();
    assert_eq!(errors[0].span, Some(5..8));
}
