//! What `decode` and `encode` make of records, and what they refuse.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_codec::{DecodeFactory, EncodeFactory};
use pelton_sdk::{
    BuildContext, Collector, OperatorFactory, OptionError,
    types::{Batch, Partition, Record, Span, schema::FieldKind},
};
use serde_json::{Value, json};
use std::time::Instant;

fn batch(values: &[Option<&str>]) -> Batch {
    let mut batch = Batch::new(Partition::new("in", 0));
    for (offset, value) in values.iter().enumerate() {
        let value = batch.put(value.map(str::as_bytes));
        let offset = offset as i64;
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: 7, offset });
    }
    batch.mark_origin();
    batch
}

fn context() -> BuildContext {
    BuildContext::detached("models")
}

/// Values that come out, causes of those that fail, and how many are no records.
fn run(
    factory: &dyn OperatorFactory,
    options: &Value,
    values: &[Option<&str>],
) -> (Vec<String>, Vec<String>, u64) {
    let mut operator = factory.build(options, &context()).unwrap();
    let mut out = Collector::new(Instant::now());
    operator.process(batch(values), &mut out);
    assert_eq!(out.settled(), values.len() as u64);
    let text =
        |b: &Batch, r: &Record| b.value(r).map_or("null".into(), |v| String::from_utf8_lossy(v).into_owned());
    let emitted = out.emitted.iter().flat_map(|(_, b)| b.records.iter().map(move |r| text(b, r)));
    (emitted.collect(), out.failed.iter().map(|f| f.cause.clone()).collect(), out.filtered)
}

fn mistakes(factory: &dyn OperatorFactory, options: &Value) -> Vec<(String, String, String)> {
    let errors: Vec<OptionError> = factory.check(options, &context()).unwrap_err();
    errors.into_iter().map(|e| (e.pointer, e.message, e.hint.unwrap_or_default())).collect()
}

#[test]
fn records_that_fit_pass_byte_for_byte_and_others_fail_as_they_came() {
    let options = json!({ "schema": { "price": "float", "note?": "string" } });
    let records = [
        Some(r#"{"price":  1}"#),
        Some(r#"{"price":"x"}"#),
        None,
        Some("{"),
        Some(r#"{"note":1,"price":2}"#),
    ];
    let (passed, causes, _) = run(&DecodeFactory, &options, &records);
    assert_eq!(passed, [r#"{"price":  1}"#, "null"]);
    assert_eq!(causes[0], "field `.price` must be a float, found the string \"x\"");
    assert!(causes[1].starts_with("truncated JSON"), "{causes:?}");
    assert_eq!(causes[2], "field `.note` must be a string, found the number 1");
}

#[test]
fn tables_become_objects_with_the_types_of_the_schema() {
    let options = json!({
        "format": { "csv": { "columns": ["id", "price"], "delimiter": ";" } },
        "schema": { "id": "integer", "price?": "float" },
    });
    let (passed, causes, filtered) =
        run(&DecodeFactory, &options, &[Some("id;price"), Some("1;2.5"), Some("2;"), Some("x;1"), Some("1")]);
    assert_eq!(passed, [r#"{"id":1,"price":2.5}"#, r#"{"id":2,"price":null}"#]);
    assert_eq!((causes.len(), filtered), (2, 1), "{causes:?}");
}

#[test]
fn what_was_read_as_another_form_can_be_written_so_again() {
    let read = json!({ "format": "logfmt" });
    let (passed, ..) = run(&DecodeFactory, &read, &[Some("level=info msg=\"a b\"")]);
    assert_eq!(passed, [r#"{"level":"info","msg":"a b"}"#]);
    let (written, ..) = run(&EncodeFactory, &json!("logfmt"), &[Some(&passed[0])]);
    assert_eq!(written, ["level=info msg=\"a b\""]);
    let csv = json!({ "csv": { "columns": ["msg", "level"] } });
    assert_eq!(run(&EncodeFactory, &csv, &[Some(&passed[0]), None]).0, ["a b,info", "null"]);
    let (text, causes, _) =
        run(&EncodeFactory, &json!({ "text": { "field": ".msg" } }), &[Some(&passed[0]), Some("{}")]);
    assert_eq!((text, causes.len()), (vec!["a b".to_owned()], 1));
}

#[test]
fn strict_refuses_bytes_that_are_no_text() {
    let mut bytes = batch(&[]);
    let value = bytes.put(Some(b"{\"a\":\"\xff\"}"));
    bytes.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: 0, offset: 0 });
    let strict = json!({ "format": { "json": { "utf8": "strict" } } });
    let mut out = Collector::new(Instant::now());
    DecodeFactory.build(&strict, &context()).unwrap().process(bytes, &mut out);
    assert_eq!(out.failed.len(), 1);
}

#[test]
fn every_mistake_of_a_schema_is_named_at_its_place() {
    let schema =
        json!({ "schema": { "a": "flaot", "b": "float?", "c": ["x", "y"], "d": { "e": 7 }, "f": "int" } });
    let found = mistakes(&DecodeFactory, &schema);
    let places: Vec<&str> = found.iter().map(|(at, ..)| at.as_str()).collect();
    assert_eq!(places, ["/schema/a", "/schema/b", "/schema/c", "/schema/d/e", "/schema/f"]);
    let hints: Vec<&str> = found.iter().map(|(.., hint)| hint.as_str()).collect();
    assert_eq!(hints[0], "did you mean `float`?");
    assert_eq!(hints[1], "the `?` stands behind the name: `b?: float`");
    assert_eq!(hints[4], "write `f: integer`");
    for (options, at) in [
        (json!({ "format": "jsno" }), "/format"),
        (json!({ "format": { "csv": { "colums": [] } } }), "/format/csv/colums"),
        (json!({ "format": { "csv": { "columns": ["a", "a"] } } }), "/format/csv/columns"),
        (json!({ "format": { "json": { "utf8": "no" } } }), "/format/json/utf8"),
        (json!({ "schema": {} }), "/schema"),
        (json!({ "schema": { "a?": "any", "a": "any" } }), "/schema/a?"),
        (json!({ "shema": {} }), "/shema"),
    ] {
        assert_eq!(mistakes(&DecodeFactory, &options)[0].0, at, "{options}");
    }
    assert_eq!(
        mistakes(&EncodeFactory, &json!("csv"))[0].1,
        "no columns are named; a CSV encoder needs their names"
    );
}

#[test]
fn what_is_known_flows_on_and_is_added_to() {
    let first =
        DecodeFactory.check(&json!({ "schema": { "a": "integer" } }), &context()).unwrap().output.unwrap();
    let next = context().with_input(Some(first));
    let both = DecodeFactory.check(&json!({ "schema": { "b": ["string"] } }), &next).unwrap().output.unwrap();
    assert_eq!(both.fields["a"].kind, FieldKind::Integer);
    assert!(matches!(both.fields["b"].kind, FieldKind::Array(_)));
    assert!(EncodeFactory.check(&json!("logfmt"), &next).unwrap().output.is_none());
}
