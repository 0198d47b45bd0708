//! Records per second of a filter and a map, against VRL over a decoded tree.
//! `cargo run --release -p pelton-expr --example chain_bench`

use pelton_expr::{Program, Scratch};
use std::{hint::black_box, time::Instant};
use vrl::{
    compiler::{TargetValueRef, TimeZone, runtime::Runtime},
    value::{Secrets, Value},
};

const RECORDS: usize = 2_000;
const PASSES: usize = 60;

/// Flat records of about 280 bytes, as bids of an auction.
fn records() -> Vec<Vec<u8>> {
    let record = |n: usize| {
        format!(
            r#"{{"auction":{},"bidder":{},"price":{},"channel":"channel-{}","url":"https://auction.example/item.htm?query=1&channel_id={}","date_time":{},"extra":"{}"}}"#,
            1000 + n % 97,
            2000 + n * 7 % 1013,
            n * 7919 % 3_000_000,
            n % 50,
            n * 31,
            1_700_000_000_000u64 + n as u64,
            "abcdefghijklmnopqrstuvwxyz".repeat(4)
        )
        .into_bytes()
    };
    (0..RECORDS).map(record).collect()
}

/// Best of several passes, in records per second.
fn rate(records: &[Vec<u8>], mut each: impl FnMut(&[u8])) -> f64 {
    let pass = |_| {
        let start = Instant::now();
        records.iter().for_each(|r| each(r));
        records.len() as f64 / start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(pass).fold(0.0, f64::max)
}

fn plain(source: &str) -> impl FnMut(&[u8]) -> (Value, Value) + use<> {
    let compiled = vrl::compiler::compile(source, &vrl::stdlib::all());
    let program = compiled.unwrap_or_else(|_| panic!("{source} does not compile")).program;
    let (mut runtime, zone) = (Runtime::default(), TimeZone::default());
    move |record| {
        let mut value: Value = serde_json::from_slice(record).unwrap_or(Value::Null);
        let (mut metadata, mut secrets) = (Value::Null, Secrets::new());
        let mut target = TargetValueRef { value: &mut value, metadata: &mut metadata, secrets: &mut secrets };
        runtime.clear();
        let answer = runtime.resolve(&mut target, &program, &zone).unwrap_or(Value::Null);
        (value, answer)
    }
}

fn main() {
    let records = records();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!("{} records of {} bytes, best of {PASSES} passes", records.len(), bytes / records.len());
    let condition = ".price > 1000000";
    let program = Program::compile_filter(condition).unwrap_or_else(|e| panic!("{e:?}"));
    let mut scratch = Scratch::default();
    let lazy = rate(&records, |r| {
        let _ = black_box(program.run_filter(&mut scratch, r));
    });
    let mut tree = plain("(.price > 1000000) ?? false");
    let plain_filter = rate(&records, |r| {
        black_box(tree(r));
    });
    println!("filter {lazy:>12.0} rec/s, plain VRL {plain_filter:>12.0}, ratio {:.1}", lazy / plain_filter);

    let change = ".price_eur = int!(.price) * 0.908\ndel(.extra)";
    let program = Program::compile_map(change).unwrap_or_else(|e| panic!("{e:?}"));
    let mut out = Vec::new();
    let lazy = rate(&records, |r| {
        out.clear();
        let _ = black_box(program.run_map(&mut scratch, r, &mut out));
    });
    let mut tree = plain(change);
    let plain_map = rate(&records, |r| {
        out.clear();
        let _ = black_box(serde_json::to_writer(&mut out, &tree(r).0));
    });
    println!("map    {lazy:>12.0} rec/s, plain VRL {plain_map:>12.0}, ratio {:.1}", lazy / plain_map);
}
