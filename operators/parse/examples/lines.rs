//! Time for each line of `parse` beside VRL's own functions, on one core: `cargo run --release -p pelton-parse --example
//! lines`, which `cargo xtask bench parse` runs. It prints, and fails by no time.

#![allow(clippy::unwrap_used, reason = "a benchmark stops where something is wrong")]

use pelton_expr::{Program, Scratch};
use pelton_parse::ParseFactory;
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory,
    types::{Batch, Partition, Record, Span},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LINES: usize = 1000;
const PASSES: usize = 30;

/// One format: its options here, and the same in VRL.
struct Case {
    name: &'static str,
    options: Value,
    vrl: &'static str,
    line: fn(usize) -> String,
}

fn access(n: usize) -> String {
    format!(
        "10.0.{}.{} - alice [01/Apr/2021:12:02:{:02} +0000] \"GET /shop/item/{n}?ref=start HTTP/1.1\" 200 {} \
         \"https://shop.example/start\" \"Mozilla/5.0 (X11; Linux x86_64) Firefox/115.0\"",
        n % 250,
        n % 199,
        n % 60,
        n * 7,
    )
}

fn syslog(n: usize) -> String {
    format!(
        "<34>1 2003-10-11T22:14:{:02}.003Z host su {n} ID47 [a@1 iut=\"3\" src=\"App\"] 'su root' failed",
        n % 60
    )
}

fn pairs(n: usize) -> String {
    format!("level=info msg=\"request done\" path=/shop/{n} status=200 took={}.5 user=alice", n % 90)
}

const REGEX: &str = r#"^(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<size>\d+)"#;

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "nginx combined",
            options: json!({ "nginx": "combined" }),
            vrl: r#". = merge!(., parse_nginx_log!(.message, "combined"))"#,
            line: access,
        },
        Case { name: "regex", options: json!({ "regex": REGEX }), vrl: "REGEX", line: access },
        Case {
            name: "grok",
            options: json!({ "grok": "%{COMBINEDAPACHELOG}" }),
            vrl: r#". = merge!(., parse_grok!(.message, "%{COMBINEDAPACHELOG}"))"#,
            line: access,
        },
        Case {
            name: "syslog",
            options: json!({ "syslog": "auto" }),
            vrl: ". = merge!(., parse_syslog!(.message))",
            line: syslog,
        },
        Case {
            name: "key-value",
            options: json!({ "keyValue": true }),
            vrl: ". = merge!(., parse_key_value!(.message))",
            line: pairs,
        },
    ]
}

fn main() {
    println!("{:<16}{:>12}{:>12}{:>8}", "format", "parse, ns", "VRL, ns", "ratio");
    for case in cases() {
        let values: Vec<String> =
            (0..LINES).map(|n| json!({ "message": (case.line)(n) }).to_string()).collect();
        let mut operator = ParseFactory.build(&case.options, &BuildContext::detached(".")).unwrap();
        let vrl = case.vrl.replace("REGEX", &format!(". = merge!(., parse_regex!(.message, r'{REGEX}'))"));
        let program = Program::compile_map(&vrl).unwrap_or_else(|e| panic!("{e:?}"));
        let mut scratch = Scratch::default();
        // In turns, so that what else the machine does meets both alike.
        let passes: Vec<(f64, f64)> = (0..PASSES)
            .map(|_| {
                let each = |time: Duration| time.as_nanos() as f64 / LINES as f64;
                (each(own(&mut *operator, &values)), each(through_vrl(&program, &mut scratch, &values)))
            })
            .collect();
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = passes.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[PASSES / 2]
        };
        println!(
            "{:<16}{:>12.0}{:>12.0}{:>8.1}",
            case.name,
            median(|pass| pass.0),
            median(|pass| pass.1),
            median(|pass| pass.1 / pass.0)
        );
    }
}

fn own(operator: &mut dyn Operator, values: &[String]) -> Duration {
    let mut batch = Batch::new(Partition::new("in", 0));
    for (offset, value) in (0..).zip(values) {
        let value = batch.put(Some(value.as_bytes()));
        batch.records.push(Record { key: Span::NULL, value, headers: Span::NULL, timestamp_ms: -1, offset });
    }
    let mut out = Collector::new(Instant::now());
    let start = Instant::now();
    operator.process(batch, &mut out);
    let took = start.elapsed();
    assert!(out.failed.is_empty(), "{:?}", out.failed.first());
    took
}

fn through_vrl(program: &Program, scratch: &mut Scratch, values: &[String]) -> Duration {
    let mut out = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    for value in values {
        program.run_map(scratch, value.as_bytes(), &mut out).unwrap();
    }
    start.elapsed()
}
