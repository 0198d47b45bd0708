//! A model with several inputs and outputs, of several types and shapes.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_infer::InferFactory;
use pelton_sdk::{BuildContext, Collector, OperatorFactory, Wake};
use pelton_types::{Batch, Partition, Record, Span};
use serde_json::{Value, json};
use std::{fs, path::Path, thread, time::Instant};

/// Fields of a Protocol Buffers message, as onnx.proto numbers them.
fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    // Every length here fits seven bits, or fourteen.
    match value.len() {
        short @ ..0x80 => out.push(short as u8),
        long => out.extend([(long & 0x7f) as u8 | 0x80, (long >> 7) as u8]),
    }
    out.extend_from_slice(value);
    out
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// A ValueInfoProto: a name, an element type and dimensions; 0 is one that is open.
fn tensor(name: &str, element: u8, dims: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|dim| bytes(1, &if *dim == 0 { bytes(2, b"n") } else { number(1, *dim) }))
        .collect();
    let kind = [number(1, element), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &kind))].concat()
}

fn node(kind: &str, inputs: &[&str], output: &str, more: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    [inputs, bytes(2, output.as_bytes()), bytes(4, kind.as_bytes()), more.to_vec()].concat()
}

/// `sum = a + b`, `product = a * b`, with a as f32 and b as i32, both [n, 2, 2].
fn model() -> Vec<u8> {
    const F32: u8 = 1;
    const I32: u8 = 6;
    // Attribute `to` of Cast: name, value, and its type, field 20, which says integer.
    let to = [bytes(1, b"to"), number(3, F32), vec![0xa0, 0x01, 2]].concat();
    let graph = [
        bytes(1, &node("Cast", &["b"], "c", &bytes(5, &to))),
        bytes(1, &node("Add", &["a", "c"], "sum", &[])),
        bytes(1, &node("Mul", &["a", "c"], "product", &[])),
        bytes(2, b"g"),
        bytes(11, &tensor("a", F32, &[0, 2, 2])),
        bytes(11, &tensor("b", I32, &[0, 2, 0])),
        bytes(12, &tensor("sum", F32, &[0, 2, 2])),
        bytes(12, &tensor("product", F32, &[0, 2, 2])),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

fn run(models: &Path, options: &Value, records: &[Value]) -> Result<(Vec<Value>, Vec<String>), Vec<String>> {
    let context = BuildContext { wake: Wake::thread(thread::current()), ..BuildContext::detached(models) };
    let show = |e: pelton_sdk::OptionError| format!("{}: {}", e.pointer, e.message);
    let built = InferFactory.build(options, &context);
    let mut operator = built.map_err(|errors| errors.into_iter().map(show).collect::<Vec<_>>())?;
    let mut batch = Batch::new(Partition::new("in", 0));
    for (offset, record) in (0..).zip(records) {
        let value = batch.put(Some(record.to_string().as_bytes()));
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
    }
    batch.mark_origin();
    let mut out = Collector::new(Instant::now());
    operator.process(batch, &mut out);
    operator.flush();
    while operator.held() > 0 {
        operator.poll(&mut out);
        if operator.held() > 0 {
            thread::park();
        }
    }
    let read = |b: &Batch| -> Vec<Value> {
        b.records.iter().map(|r| serde_json::from_slice(b.value(r).unwrap()).unwrap()).collect()
    };
    let values = out.emitted.iter().flat_map(|(_, b)| read(b)).collect();
    Ok((values, out.failed.into_iter().map(|f| f.cause).collect()))
}

fn options() -> Value {
    json!({
        "model": "two.onnx",
        "inputs": [
            {"name": "b", "field": ".raw", "format": "bytes", "shape": [2, 2]},
            {"name": "a", "field": ".grid", "scale": 2},
        ],
        "outputs": [
            {"name": "product", "scores": ".product"},
            {"name": "sum", "label": ".label", "score": ".score", "labels": ["p", "q", "r", "s"]},
        ],
        "maxBatch": 8,
    })
}

#[test]
fn several_inputs_and_outputs_are_told_apart_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("two.onnx"), model()).unwrap();
    let records = [
        json!({"grid": [[1, 2], [3, 4]], "raw": "AQIDBA=="}),
        json!({"grid": [[1, 2, 3, 4]], "raw": "AQIDBA=="}),
        json!({"grid": [9, 0, 0, 0], "raw": "AAAA/w=="}),
        json!({"grid": [1, 2, 3, 4], "raw": "AQID"}),
    ];
    let (values, failed) = run(folder.path(), &options(), &records).unwrap();
    assert_eq!(values.len(), 2);
    assert_eq!(values[0]["product"], json!([2.0, 8.0, 18.0, 32.0]));
    assert_eq!((&values[0]["label"], &values[0]["score"]), (&json!("s"), &json!(12.0)));
    assert_eq!((&values[1]["label"], &values[1]["score"]), (&json!("s"), &json!(255.0)));
    assert_eq!(
        failed,
        [
            "field .grid: an array of 4 at depth 2, where the shape [2, 2] has 2",
            "field .raw: expected 4 numbers, found 3",
        ]
    );
}

#[test]
fn inputs_that_are_missing_twice_or_of_another_shape_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("two.onnx"), model()).unwrap();
    let mistakes = |change: &dyn Fn(&mut Value)| {
        let mut options = options();
        change(&mut options);
        run(folder.path(), &options, &[]).unwrap_err()
    };
    for (change, expected) in [
        (
            &(|o: &mut Value| drop(o["inputs"].as_array_mut().unwrap().pop())) as &dyn Fn(&mut Value),
            "/inputs: tensor `a`: expected to be given once, given 0 times",
        ),
        (
            &|o: &mut Value| o["inputs"][0]["shape"] = json!([3, 2]),
            "/inputs/0/shape: tensor `b`: expected what fits b i32[n, 2, n], given shape [3, 2]",
        ),
        (
            &|o: &mut Value| o["inputs"][0]["shape"] = Value::Null,
            "/inputs/0/name: tensor `b`: expected fixed dimensions behind the batch, or `shape`, given b i32[n, 2, n]",
        ),
        (&|o: &mut Value| o["output"] = json!({"label": ".l"}), "/outputs: `output` is given as well"),
        (&|o: &mut Value| o["inputs"] = json!([]), ": `input` is missing"),
        (
            &|o: &mut Value| o["outputs"][1]["label"] = json!(".product"),
            "/outputs/1/label: `.product` is written twice",
        ),
        (
            &|o: &mut Value| o["outputs"][1]["labels"] = json!(["p"]),
            "/outputs/1/labels: 1 labels are given, the model has 4 classes",
        ),
    ] {
        assert_eq!(mistakes(change).first().map(String::as_str), Some(expected));
    }
}
