//! Any bytes as a record, for programs of every kind: nothing panics, and what runs without VRL does what VRL does.

use pelton_expr::{Outcome, Path, Program, Scratch};
use std::cell::RefCell;
use vrl::value::Value;

/// Programs that touch each part of the fast path.
const MAPS: [&str; 9] = [
    "if exists(.a) { .e = int!(.a) * 0.908 }\ndel(.b)",
    ". = {\"k\": .a.b, \"n\": downcase(.b) ?? \"none\", \"l\": [.c[0], .c[-1]]}",
    ".a = .b\n.b = .c\ndel(.c)",
    ".n = length(.a) ?? 0\n.u = upcase(.b) ?? .c",
    ".s = slice(.a, 1, -1) ?? to_string(.b) ?? \"\"",
    ".f = to_float(.a) ?? 0.0\n.i = to_int(.b) ?? 0\n.r = round(.f, 1)",
    "x, err = .a + .b\n.sum = x\n.failed = err != null",
    "if (.a > 1) ?? false { abort }\n.seen = .a == .b",
    ".new = del(.a)\n.\"é\" = strip_whitespace(.b) ?? null",
];
const FILTERS: [&str; 5] = [
    "(.a > 1) ?? false",
    ".a >= 0 || .b == \"x\"",
    "exists(.a.b[0]) && !is_null(.c)",
    "contains(string!(.a), \"x\") && ends_with(string!(.b), \"y\")",
    ".a.b == .c[1]",
];

/// Records to start from.
pub const SEEDS: [&str; 8] = [
    r#"{"a":2,"b":"x","c":[1,{"a":true}]}"#,
    r#"{"a":{"b":[0,"é\u00e9"]},"b":-0.5e3,"c":[]}"#,
    r#"{ "a" : "xy" , "a":"\ud83d\ude00 \"q\"", "b" : "12" }"#,
    r#"{"\u0061":18446744073709551615,"b":123456789012345678901234567890}"#,
    r#"{"b":" Trim Me ","a":1.50,"é":null,"c":{"a":{}}}"#,
    r#"{"a":1e400,"b":"\ud800","c":[[[[1]]]]}"#,
    "{}",
    "[1,\"x\"]",
];

struct Pair {
    fast: Program,
    slow: Program,
    scratch: RefCell<(Scratch, Scratch)>,
}

impl Pair {
    fn of(fast: Program) -> Self {
        let slow = fast.clone().through_vrl();
        Self { fast, slow, scratch: RefCell::default() }
    }
}

thread_local! {
    static PAIRS: (Vec<Pair>, Vec<Pair>) = (
        MAPS.iter().map(|s| Pair::of(Program::compile_map(s).unwrap_or_else(|e| panic!("{s}: {e:?}")))).collect(),
        FILTERS.iter().map(|s| Pair::of(Program::compile_filter(s).unwrap_or_else(|e| panic!("{s}: {e:?}")))).collect(),
    );
}

/// Fails where a fast program and its slow twin disagree on this record.
pub fn check(record: &[u8]) {
    PAIRS.with(|(maps, filters)| {
        for pair in maps {
            let mut scratch = pair.scratch.borrow_mut();
            let fast = map(&pair.fast, &mut scratch.0, record);
            let slow = map(&pair.slow, &mut scratch.1, record);
            same(&pair.fast, record, fast, slow);
        }
        for pair in filters {
            let mut scratch = pair.scratch.borrow_mut();
            let fast = pair.fast.run_filter(&mut scratch.0, record);
            let slow = pair.slow.run_filter(&mut scratch.1, record);
            same(&pair.fast, record, fast, slow);
        }
    });
    for path in [".a", ".a.b[0]", ".c[1].a"] {
        let path: Path = path.parse().unwrap_or_else(|e| panic!("{e}"));
        let _ = path.get(Some(record));
    }
}

/// The same outcome, and the same words of an error. Only a record that cannot be decoded as a whole may pass where VRL,
/// which decodes whole members, stumbles over a part that the program does not read.
fn same<T: PartialEq + std::fmt::Debug>(
    program: &Program,
    record: &[u8],
    fast: Result<T, String>,
    slow: Result<T, String>,
) {
    let decodes = serde_json::from_slice::<Value>(record).is_ok();
    if decodes || fast.is_err() {
        assert_eq!(fast, slow, "{}\non {}", program.source(), record.escape_ascii());
    }
}

/// What a map gave, by its meaning: untouched members may be no UTF-8 and beyond what can be decoded.
fn map(program: &Program, scratch: &mut Scratch, record: &[u8]) -> Result<(Outcome, Option<Value>), String> {
    let mut out = Vec::new();
    let outcome = program.run_map(scratch, record, &mut out)?;
    Ok((outcome, serde_json::from_str(&String::from_utf8_lossy(&out)).ok()))
}
