//! The operator on the example's images, and on records and options that are wrong.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_infer::InferFactory;
use pelton_sdk::{BuildContext, Collector, Operator, OperatorFactory, OptionError, Services, Wake};
use pelton_types::{Batch, Partition, Record, Span};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits")
}

fn context(services: &Services) -> BuildContext {
    BuildContext {
        wake: Wake::thread(thread::current()),
        services: services.clone(),
        ..BuildContext::detached(examples())
    }
}

fn options() -> Value {
    json!({
        "model": "digits.onnx",
        "input": {"field": ".pixels", "scale": 0.0625},
        "output": {"label": ".label", "score": ".score"},
        "maxBatch": 64,
        "maxDelay": "5ms",
    })
}

fn operator(options: &Value) -> Box<dyn Operator> {
    InferFactory.build(options, &context(&Services::default())).unwrap()
}

fn batch<T: AsRef<[u8]>>(partition: i32, first: i64, values: &[T]) -> Batch {
    let mut batch = Batch::new(Partition::new("digits", partition));
    for (offset, value) in (first..).zip(values) {
        let value = batch.put(Some(value.as_ref()));
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
    }
    batch.mark_origin();
    batch
}

/// Wait until the operator holds nothing.
fn settle(operator: &mut dyn Operator, out: &mut Collector) {
    while operator.held() > 0 {
        operator.poll(out);
        if operator.held() > 0 {
            thread::park();
        }
    }
}

fn emitted(out: &Collector) -> Vec<String> {
    let texts = |b: &Batch| {
        b.records.iter().map(|r| String::from_utf8(b.value(r).unwrap().to_vec()).unwrap()).collect()
    };
    out.emitted.iter().flat_map(|(_, b)| -> Vec<String> { texts(b) }).collect()
}

fn images() -> Vec<String> {
    fs::read_to_string(examples().join("images.jsonl")).unwrap().lines().map(str::to_owned).collect()
}

fn image(n: usize) -> String {
    json!({"id": n, "pixels": vec![n % 17; 64]}).to_string()
}

#[test]
fn the_held_out_images_are_recognised_in_order() {
    let truth: HashMap<u64, u64> = fs::read_to_string(examples().join("truth.csv"))
        .unwrap()
        .lines()
        .skip(1)
        .map(|row| {
            row.split_once(',').map(|(id, label)| (id.parse().unwrap(), label.parse().unwrap())).unwrap()
        })
        .collect();
    let (images, mut operator, mut out) = (images(), operator(&options()), Collector::new(Instant::now()));
    assert_eq!((images.len(), truth.len()), (540, 540));
    for (i, chunk) in images.chunks(100).enumerate() {
        operator.process(batch(0, i as i64 * 100, chunk), &mut out);
    }
    operator.flush();
    settle(&mut *operator, &mut out);
    assert!(out.failed.is_empty());
    let results = emitted(&out);
    let mut right = 0;
    for (image, result) in images.iter().zip(&results) {
        // The image's own bytes come first, untouched.
        assert!(result.starts_with(image.strip_suffix('}').unwrap()), "{result}");
        let value: Value = serde_json::from_str(result).unwrap();
        assert!((0.0..=1.0).contains(&value["score"].as_f64().unwrap()));
        right += u32::from(truth[&value["id"].as_u64().unwrap()] == value["label"].as_u64().unwrap());
    }
    assert_eq!(results.len(), 540);
    println!("{right} of 540 right");
    assert!(right >= 520, "only {right} of 540 right");
}

#[test]
fn bad_records_fail_alone_and_keep_their_bytes() {
    let short = json!({"id": 1, "pixels": vec![0; 63]}).to_string();
    let word = json!({"id": 1, "pixels": [0, "x"]}).to_string();
    let cases: [(&[u8], &str); 8] = [
        (short.as_bytes(), "field .pixels: expected 64 numbers, found 63"),
        (word.as_bytes(), r#"field .pixels: invalid type: string "x", expected a number in place 1"#),
        (b"{\"id\":1}", "field .pixels is missing"),
        (b"{\"pixels\":\"0,1\"}", "field .pixels: expected numbers, found a string"),
        (b"{\"pixels\":[NaN]}", "the record is not a JSON object: expected value at line 1 column 12"),
        (b"{\"pixels\":[1", "the record is not a JSON object: EOF while parsing a list at line 1 column 12"),
        (b"", "the record is not a JSON object: EOF while parsing a value at line 1 column 0"),
        (b"{\"pixels\":[],\"n\":\"\xff\"}", "invalid UTF-8 at byte 18"),
    ];
    let mut values: Vec<Vec<u8>> = Vec::new();
    for (i, (record, _)) in cases.iter().enumerate() {
        values.push(record.to_vec());
        values.push(image(i).into_bytes());
    }
    let (mut operator, mut out) = (operator(&options()), Collector::new(Instant::now()));
    operator.process(batch(0, 0, &values), &mut out);
    operator.flush();
    settle(&mut *operator, &mut out);
    let good = emitted(&out);
    assert_eq!((good.len(), out.settled()), (8, 16));
    assert!(good.iter().enumerate().all(|(i, text)| text.starts_with(&format!("{{\"id\":{i},"))), "{good:?}");
    for (failed, (record, cause)) in out.failed.iter().zip(cases) {
        assert_eq!(failed.cause, cause);
        assert_eq!(failed.record.value(&failed.record.records[0]), Some(record));
    }
    let mut null = batch(0, 99, &["x"]);
    null.records[0].value = Span::NULL;
    let mut out = Collector::new(Instant::now());
    operator.process(null, &mut out);
    assert_eq!(out.failed[0].cause, "the record has no value");
}

#[test]
fn an_operator_takes_more_only_when_the_service_has_room() {
    let (mut operator, mut out) = (operator(&options()), Collector::new(Instant::now()));
    let many: Vec<String> = (0..2000).map(image).collect();
    operator.process(batch(0, 0, &many), &mut out);
    let accounted = |operator: &dyn Operator, out: &Collector| operator.held() + out.settled();
    assert_eq!(accounted(&*operator, &out), 2000);
    while !operator.ready() {
        thread::park();
        operator.poll(&mut out);
        assert_eq!(accounted(&*operator, &out), 2000);
    }
    operator.process(batch(0, 2000, &many[..10]), &mut out);
    operator.flush();
    settle(&mut *operator, &mut out);
    let offsets: Vec<i64> =
        out.emitted.iter().flat_map(|(_, b)| b.records.iter().map(|r| r.offset)).collect();
    assert_eq!(offsets, (0..2010).collect::<Vec<_>>());
}

#[test]
fn labels_and_all_scores_are_written_where_asked() {
    let mut options = options();
    options["labels"] =
        json!(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "\"nine\""]);
    options["output"] = json!({"label": ".label", "scores": ".all"});
    let (mut operator, mut out) = (operator(&options), Collector::new(Instant::now()));
    operator.process(batch(0, 0, &images()[..1]), &mut out);
    operator.flush();
    settle(&mut *operator, &mut out);
    let value: Value = serde_json::from_str(&emitted(&out)[0]).unwrap();
    assert_eq!(value["label"], json!("one"));
    let sum: f64 = value["all"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{value}");
}

fn mistakes(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut options = options();
    change(&mut options);
    let errors = InferFactory.check(&options, &BuildContext::detached(examples())).unwrap_err();
    let show = |e: OptionError| {
        let hint = e.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}: {}{hint}", e.pointer, e.message)
    };
    errors.into_iter().map(show).collect()
}

#[test]
fn mistakes_in_options_are_found_together_with_what_to_do() {
    let models = examples().display().to_string();
    assert_eq!(
        mistakes(|o| o["model"] = json!("cats")),
        [format!(
            "/model: model `cats` is not in {models}: there are `digits.onnx` (put the file there, or give its place as file:///...)"
        )]
    );
    assert_eq!(
        mistakes(|o| {
            o["input"] = json!({"field": "pixels", "name": "image"});
            o["output"] = json!({"label": ".a.b", "name": "logit"});
            o["maxBatch"] = json!(0);
            o["maxDelay"] = json!("5 minutes");
        }),
        [
            "/input/field: `pixels` is not a path to a member (a path is written `.pixels` or `.image.pixels`)",
            "/output/label: `.a.b` lies inside another member; infer writes members of the record itself (write `.label`, and move it with a `map` behind this step)",
            "/maxBatch: 0 is not between 1 and 4096",
            "/maxDelay: `5 minutes` is not a duration (write `500us`, `5ms` or `1s`)",
            "/input/name: the model has no input `image`; it has `x` (use the input's name in the model)",
            "/output/name: the model has no output `logit`; it has `prob` (use the output's name in the model)",
        ]
    );
    assert_eq!(
        mistakes(|o| {
            o["input"]["field"] = json!([".a", ".b"]);
            o["labels"] = json!(["yes", "no"]);
        }),
        [
            "/input/field: 2 fields are given, the model takes 64 numbers (its input is `x f32[batch, 64]`)",
            "/labels: 2 labels are given, the model has 10 classes (its output is `prob f32[batch, 10]`)",
        ]
    );
    assert_eq!(
        mistakes(|o| o["model"] = json!("truth.csv")),
        [format!("/model: model `truth.csv` ({models}/truth.csv): not an ONNX model: it looks like text")]
    );
    assert!(mistakes(|o| o["modle"] = json!(1))[0].contains("unknown field `modle`"));
    assert!(
        mistakes(|o| o["output"] = json!({}))[0].starts_with("/output: nothing of the result is written")
    );
    assert!(
        mistakes(|o| o["model"] = json!("../digits/digits.onnx"))[0]
            .contains("leads out of the models directory")
    );
}

#[test]
fn the_best_classes_are_listed_and_scores_may_be_made_shares() {
    let mut options = options();
    options["output"] = json!({"top": ".best", "k": 3, "softmax": true, "score": ".s"});
    options["maxBatch"] = json!("auto");
    let (mut operator, mut out) = (operator(&options), Collector::new(Instant::now()));
    operator.process(batch(0, 0, &images()[..1]), &mut out);
    operator.flush();
    settle(&mut *operator, &mut out);
    let value: Value = serde_json::from_str(&emitted(&out)[0]).unwrap();
    let best = value["best"].as_array().unwrap();
    assert_eq!((best.len(), &best[0]["label"], &best[0]["score"]), (3, &json!(1), &value["s"]));
    let scores: Vec<f64> = best.iter().map(|b| b["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores.iter().sum::<f64>() < 1.0, "{value}");
}

#[test]
fn two_models_stand_one_behind_the_other() {
    let mut second = options();
    second["output"] = json!({"label": ".again"});
    let (mut first, mut second) = (operator(&options()), operator(&second));
    let (mut between, mut out) = (Collector::new(Instant::now()), Collector::new(Instant::now()));
    first.process(batch(0, 0, &images()[..50]), &mut between);
    first.flush();
    settle(&mut *first, &mut between);
    for (_, batch) in std::mem::take(&mut between.emitted) {
        second.process(batch, &mut out);
    }
    second.flush();
    settle(&mut *second, &mut out);
    let values: Vec<Value> = emitted(&out).iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(values.len(), 50);
    assert!(values.iter().all(|v| v["label"] == v["again"]));
}

#[test]
fn the_floor_is_the_lowest_offset_that_is_held_and_partitions_do_not_wait_for_each_other() {
    let mut options = options();
    options["maxDelay"] = json!("10s");
    let (mut operator, mut out) = (operator(&options), Collector::new(Instant::now()));
    let (zero, one) = (Partition::new("digits", 0), Partition::new("digits", 1));
    operator.process(batch(0, 7, &[image(1)]), &mut out);
    assert_eq!((operator.floor(&zero), operator.floor(&one)), (Some(7), None));
    // Nothing in this batch is for the model, so it is complete at once.
    operator.process(batch(1, 0, &["x"]), &mut out);
    assert_eq!((out.failed.len(), operator.held()), (1, 1));
    operator.process(batch(0, 8, &["x"]), &mut out);
    assert_eq!((out.failed.len(), operator.held()), (1, 2), "its partition has an earlier record");
    operator.flush();
    settle(&mut *operator, &mut out);
    assert_eq!((out.failed.len(), operator.floor(&zero)), (2, None));
}

#[test]
fn the_page_of_help_names_every_option() {
    let schema = serde_json::to_value(InferFactory.schema()).unwrap();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(InferFactory.help().contains(&format!("`{name}`")), "{name} is not described");
    }
}
