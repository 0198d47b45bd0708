//! Records a second through the operator, beside the rows a second of its model alone: `cargo xtask bench infer`.
//!
//! Both take rows of the same numbers and the same batch, in turns, so that what else the machine does meets both. The
//! operator reads JSON records and writes results on one thread while the model runs on another. Rates are by the clock on
//! the wall; beside them stands what a record costs in time of a processor, which does not depend on the machine's other
//! work. A model that costs less than reading its input cannot run at its own rate: then the bound says what can be had.

// A tool that stops with a message is what one wants of it.
#![allow(clippy::unwrap_used)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pelton_infer::InferFactory;
use pelton_model::{Model, Port, Rows, RtenRuntime, Runtime, Signature, lookup};
use pelton_sdk::{BuildContext, Collector, Operator, OperatorFactory, Wake};
use pelton_types::{Batch, Partition, Record, Span};
use serde_json::json;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long each side is measured in a round.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Records in a batch of the source.
const SOURCE_BATCH: usize = 500;
/// Different records; more would only take memory.
const RECORDS: usize = 2000;

fn main() {
    let mut args = std::env::args().skip(1);
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.onnx");
    let model = args.next().unwrap_or_else(|| digits.display().to_string());
    let max_batch = args.next().unwrap_or_else(|| "auto".into());
    let name = format!("file://{}", std::fs::canonicalize(&model).unwrap().display());
    let bytes = lookup::read(&name, Path::new(".")).unwrap().bytes;
    let mut alone = RtenRuntime.load(bytes).unwrap();
    let input = Port::input(&*alone, None, None).unwrap();
    let output = Port::output(&*alone, None, None).unwrap();
    let signature = Signature::new(&*alone, vec![input], vec![output]).unwrap();
    let values: Vec<f32> =
        (0..signature.input_width() * RECORDS).map(|i| (i * 31 % 17) as f32 / 16.0).collect();
    let rows = Rows::from_values(signature.input_width(), values);
    let records: Vec<String> = (0..RECORDS).map(|i| record(rows.row(i).unwrap_or_default())).collect();

    let size = match max_batch.parse::<usize>() {
        Ok(size) => size,
        Err(_) => best(&mut *alone, &signature, &rows),
    };
    let options = json!({
        "model": name, "input": {"field": ".x", "format": "f32"},
        "output": {"label": ".label", "score": ".score"}, "maxBatch": size,
    });
    let context = BuildContext { wake: Wake::thread(thread::current()), ..BuildContext::detached(".") };
    let mut operator = InferFactory.build(&options, &context).unwrap();
    println!("{model}: {} numbers a row, {size} rows a run", signature.input_width());
    let decode = cost(|| decode(&records));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let alone = cost(|| offline(&mut *alone, &signature, &rows, size));
        let stream = cost(|| stream(&mut *operator, &records));
        println!(
            "model alone {:>10.0}/s   in the stream {:>10.0}/s   ratio {:.3}",
            alone.rate,
            stream.rate,
            stream.rate / alone.rate
        );
        rounds.push((alone, stream));
    }
    let median = |of: &dyn Fn(&(Cost, Cost)) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[ROUNDS / 2]
    };
    let (model, all, own) = (median(&|r| r.0.all), median(&|r| r.1.all), median(&|r| r.1.own));
    println!(
        "a record costs, ns of a processor: model alone {model:.0}, in the stream {all:.0} (executor's thread {own:.0})"
    );
    println!("decoding the input alone, with serde_json and base64: {:.0}", decode.all);
    println!(
        "bound of the ratio: one core {:.3}, two cores {:.3}; with nothing but decoding beside the model {:.3}, {:.3}",
        model / all,
        model / own.max(model),
        model / (model + decode.all),
        model / decode.all.max(model),
    );
    println!("median ratio {:.3}", median(&|r| r.1.rate / r.0.rate));
}

/// What was measured of records or rows.
struct Cost {
    /// So many a second.
    rate: f64,
    /// Nanoseconds of a processor for each, of all threads.
    all: f64,
    /// Of the calling thread.
    own: f64,
}

/// Run something that says how many it did.
fn cost(run: impl FnOnce() -> u64) -> Cost {
    let (all, own, start) = (cpu(), on_cpu("/proc/thread-self"), Instant::now());
    let done = run() as f64;
    let seconds = start.elapsed().as_secs_f64();
    Cost {
        rate: done / seconds,
        all: (cpu() - all) as f64 / done,
        own: (on_cpu("/proc/thread-self") - own) as f64 / done,
    }
}

/// Nanoseconds on a processor of all threads of this process.
fn cpu() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| on_cpu(&task.unwrap().path().display().to_string())).sum()
}

fn on_cpu(task: &str) -> u64 {
    let text = std::fs::read_to_string(format!("{task}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The least that whoever feeds a model with such records must do.
fn decode(records: &[String]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Read<'r> {
        x: &'r str,
    }
    let (start, mut done, mut sum) = (Instant::now(), 0, 0.0);
    while start.elapsed() < ROUND / 4 {
        for record in records {
            let read: Read<'_> = serde_json::from_str(record).unwrap();
            let bytes = BASE64_STANDARD.decode(read.x).unwrap();
            let numbers: Vec<f32> =
                bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            sum += numbers[0];
            done += 1;
        }
    }
    assert!(sum >= 0.0);
    done
}

fn record(row: &[f32]) -> String {
    let bytes: Vec<u8> = row.iter().flat_map(|n| n.to_le_bytes()).collect();
    json!({"id": 1, "x": BASE64_STANDARD.encode(bytes)}).to_string()
}

/// The batch with the highest rate, for the fairest comparison: the model's best against the stream.
fn best(model: &mut dyn Model, signature: &Signature, rows: &Rows) -> usize {
    let sizes = [1, 2, 4, 8, 16, 32, 64];
    let rate = |size: usize, model: &mut dyn Model| {
        let batch = rows.slice(0, size);
        let (start, mut done) = (Instant::now(), 0);
        while done == 0 || start.elapsed() < ROUND / 10 {
            model.run(signature, &batch).unwrap();
            done += size;
        }
        done as f64 / start.elapsed().as_secs_f64()
    };
    let rates: Vec<(usize, f64)> = sizes.iter().map(|size| (*size, rate(*size, model))).collect();
    rates.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(1, |(size, _)| size)
}

fn offline(model: &mut dyn Model, signature: &Signature, rows: &Rows, size: usize) -> u64 {
    let batches: Vec<Rows> = (0..RECORDS / size).map(|i| rows.slice(i * size, (i + 1) * size)).collect();
    let (start, mut done) = (Instant::now(), 0);
    for batch in batches.iter().cycle() {
        done += model.run(signature, batch).unwrap().len();
        if start.elapsed() >= ROUND {
            break;
        }
    }
    done as u64
}

fn stream(operator: &mut dyn Operator, records: &[String]) -> u64 {
    let batches: Vec<Batch> = records.chunks(SOURCE_BATCH).map(batch).collect();
    let mut next = batches.iter().cycle();
    let (start, mut done) = (Instant::now(), 0);
    let mut reading = true;
    while reading || operator.held() > 0 {
        let mut out = Collector::new(Instant::now());
        operator.poll(&mut out);
        let mut progressed = out.settled() > 0;
        if reading && operator.ready() {
            operator.process(next.next().unwrap().fork(), &mut out);
            progressed = true;
        }
        assert!(out.failed.is_empty(), "{:?}", out.failed.first().map(|f| &f.cause));
        done += out.settled();
        if reading && start.elapsed() >= ROUND {
            reading = false;
            operator.flush();
        }
        if !progressed {
            thread::park_timeout(Duration::from_millis(100));
        }
    }
    done
}

fn batch(records: &[String]) -> Batch {
    let mut batch = Batch::new(Partition::new("in", 0));
    for (offset, record) in (0..).zip(records) {
        let value = batch.put(Some(record.as_bytes()));
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
    }
    batch.mark_origin();
    batch
}
