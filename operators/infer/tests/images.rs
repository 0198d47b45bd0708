//! The example's images, drawn as PNG files, and files that are broken.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_infer::InferFactory;
use pelton_sdk::{
    BuildContext, Wake,
    testing::{Bench, Given},
};
use pelton_types::{Batch, Partition, Record, Span};
use serde_json::{Value, json};
use std::{fs, io::Write as _, path::Path, thread};

/// Pixels of the file for each of the eight in a row.
const ENLARGED: usize = 4;

fn bench(options: &Value) -> Bench {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
    let context = BuildContext { wake: Wake::thread(thread::current()), ..BuildContext::detached(models) };
    Bench::new(&InferFactory, options, &context)
}

fn batch(values: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::new(Partition::new("images", 0));
    for (offset, value) in (0..).zip(values) {
        let value = batch.put(Some(value));
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
    }
    batch.mark_origin();
    batch
}

/// What comes of the records.
fn run(options: &Value, values: &[Vec<u8>]) -> (Vec<Value>, Vec<(i64, String)>) {
    let mut bench = bench(options);
    let (first, flushed) = (bench.send(batch(values)), bench.flush());
    let given = [first, flushed, bench.wait()];
    let read = |given: &Given| -> Vec<Value> {
        let batches = given.emitted.iter().map(|(_, batch)| batch);
        batches
            .flat_map(|b| b.records.iter().map(|r| serde_json::from_slice(b.value(r).unwrap()).unwrap()))
            .collect()
    };
    let failed = given.iter().flat_map(|g| &g.failed);
    let failed = failed.map(|f| (f.record.records[0].offset, f.cause.clone())).collect();
    (given.iter().flat_map(read).collect(), failed)
}

/// The pixels of the held-out images, 0 to 16.
fn images() -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/images.jsonl");
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap()["pixels"].clone();
    fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_value(read(line)).unwrap())
        .collect()
}

/// A grey PNG with each pixel as a square.
fn draw(pixels: &[u8]) -> Vec<u8> {
    let side = 8 * ENLARGED;
    let grey = |at: usize| pixels[at / side / ENLARGED * 8 + at % side / ENLARGED].saturating_mul(16);
    let data: Vec<u8> = (0..side * side).map(grey).collect();
    let rows: Vec<u8> = data.chunks(side).flat_map(|row| [&[0], row].concat()).collect();
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&rows).unwrap();
    let size = (side as u32).to_be_bytes();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &[&size[..], &size, &[8, 0, 0, 0, 0]].concat()));
    file.extend(chunk(b"IDAT", &packer.finish().unwrap()));
    file.extend(chunk(b"IEND", b""));
    file
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(content);
    [&(content.len() as u32).to_be_bytes()[..], kind, content, &sum.sum().to_be_bytes()].concat()
}

fn options(resize: &str) -> Value {
    json!({
        "model": "digits",
        "input": {
            "field": ".", "format": "image", "scale": 1.0 / 256.0,
            "image": {"width": 8, "height": 8, "resize": resize},
        },
        "output": {"label": ".label", "score": ".score"},
        "maxBatch": 64,
    })
}

#[test]
fn images_are_recognised_from_files_as_they_are_from_numbers() {
    let images = images();
    let files: Vec<Vec<u8>> = images.iter().map(|pixels| draw(pixels)).collect();
    let numbers: Vec<Vec<u8>> = images.iter().map(|pixels| json!(pixels).to_string().into_bytes()).collect();
    let as_numbers = json!({
        "model": "digits", "input": {"field": ".", "scale": 0.0625},
        "output": {"label": ".label", "score": ".score"}, "maxBatch": 64,
    });
    let (expected, _) = run(&as_numbers, &numbers);
    for (resize, most) in [("nearest", 0), ("bilinear", 27)] {
        let (found, failed) = run(&options(resize), &files);
        assert_eq!((found.len(), failed), (540, vec![]));
        // The whole record is the file, so the results are all that is left.
        assert_eq!(found[0].as_object().unwrap().len(), 2);
        let other = found.iter().zip(&expected).filter(|(a, b)| a["label"] != b["label"]).count();
        assert!(other <= most, "{resize}: {other} of 540 have another label");
    }
}

#[test]
fn a_broken_file_fails_alone_and_in_its_place() {
    let images = images();
    let good = draw(&images[0]);
    let mut values = vec![good.clone(); 200];
    for at in [0, 63, 64, 65, 199] {
        values[at] = good[..good.len() / 2].to_vec();
    }
    let (found, failed) = run(&options("nearest"), &values);
    assert_eq!(found.len(), 195);
    let places: Vec<i64> = failed.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(places, [0, 63, 64, 65, 199]);
    assert!(failed.iter().all(|(_, cause)| cause.starts_with("the record: broken PNG: ")), "{failed:?}");
}
