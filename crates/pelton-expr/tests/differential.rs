//! Lazy records against the plain way: decode everything with `serde_json`, run VRL over the tree.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_expr::{Outcome, Path, Program, Scratch};
use proptest::{collection::vec, prelude::*};
use serde::de::IgnoredAny;
use std::{cell::RefCell, collections::HashMap};
use vrl::{
    compiler::{TargetValueRef, TimeZone, runtime::Runtime, runtime::Terminate},
    value::{Secrets, Value},
};

const MAPS: &[&str] = &[
    "del(.a)",
    "del(.a.b)",
    "del(.a.b, compact: true)",
    "del(.a[0], compact: true)",
    ".a = 1",
    ".a.b = .b",
    ".a[1] = \"x\"",
    ".a[-1] = .c",
    ".new.deep = [.a, .b]",
    ".b = del(.a)",
    ". = {\"k\": .a, \"n\": .b}",
    ".a = 1\n. = {\"k\": .a}\n.z = .k",
    ".all = encode_json(.)",
    ".a = 2\n.all = encode_json(.)\ndel(.b)\n.again = encode_json(.)",
    "x = .\n.copy = x",
    "if exists(.a) { .seen = true } else { .c = null }",
    "if .a == 1 { abort }\n.d = \"kept\"",
    ".s = upcase!(.a)",
    ".n = (.a * 2) ?? (.b + 1) ?? null",
    ".\"x y\" = .\"é\"",
    ".count = length(.a) ?? 0",
    "for_each(object(.a) ?? {}) -> |k, v| { .k = k\n.v = v }",
    "[0] = 1\n.a = 1",
    "del(.)",
    ". = merge(., {\"merged\": true})",
    ".items = unnest!(.a)",
    ".a.b.c = 1\ndel(.a.b)\n.a.d = 2",
    ".t = to_string!(.b)",
    "true",
    ".e, err = .a + .b\n.err = err != null",
    "y = null\nif .a == null { y = 3 }\n.y = y",
];

const FILTERS: &[(&str, &str)] = &[
    // A condition, and the program that answers the same in plain VRL, or fails.
    (".a > 1", "(.a > 1) ?? \"fails\""),
    (".a == 1 || .b == null", ".a == 1 || .b == null"),
    ("length(array!(.a)) == 2", "length(array!(.a)) == 2"),
    ("exists(.a.b) && .a.b != \"x\"", "exists(.a.b) && .a.b != \"x\""),
    (".\"x y\" + 1 >= 2", "(.\"x y\" + 1 >= 2) ?? \"fails\""),
    ("starts_with(.a, \"x\")", "starts_with(.a, \"x\") ?? \"fails\""),
    ("x = .a\nx == .b", "x = .a\nx == .b"),
    ("is_null(.c) ", "is_null(.c)"),
    ("length(.) > 2", "length(.) > 2"),
    // Conditions that are mostly answered without VRL.
    (".a >= 0 || .b < 100", "(.a >= 0 || .b < 100) ?? \"fails\""),
    (".a <= 500", "(.a <= 500) ?? \"fails\""),
    ("!(.a != 1) && .b == \"x\"", "!(.a != 1) && .b == \"x\""),
    (".a == \"tab\\t\\\"quoted\\\" é 😀 back\\\\\"", ".a == \"tab\\t\\\"quoted\\\" é 😀 back\\\\\""),
    (".a != true", ".a != true"),
    (".a == 9007199254740992", ".a == 9007199254740992"),
    (".b < 9223372036854775807", "(.b < 9223372036854775807) ?? \"fails\""),
    ("(.a > 1) ?? .b == 1", "(.a > 1) ?? .b == 1"),
];

/// JSON text of one value, spelled in many ways.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1".to_owned()),
        Just("-0".to_owned()),
        Just("1.50".to_owned()),
        Just("1e3".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        (-1000i64..1000).prop_map(|n| n.to_string()),
        Just(r#""""#.to_owned()),
        Just(r#""x""#.to_owned()),
        Just(r#""tab\t\"quoted\" \u00e9 \ud83d\ude00 back\\""#.to_owned()),
        Just("\"é😀 a longer text that fills more than sixteen bytes, with } and ] in it\"".to_owned()),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(" , "))),
            vec((key(), inner), 0..3).prop_map(|members| object(&members)),
        ]
    })
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => Just("a"), 2 => Just("b"), 1 => Just("c"), 1 => Just("\\u0061"), 1 => Just("é"), 1 => Just("x y"),
        1 => Just("quote\\\""), 1 => Just("a member name of more than sixteen bytes"),
    ]
}

fn object(members: &[(&'static str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(k, v)| format!("\"{k}\" :\t{v}")).collect();
    format!("{{ {} }}", members.join(",\n"))
}

fn record() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => vec((key(), value()), 0..6).prop_map(|members| object(&members)),
        1 => value().prop_map(|v| format!(" {v}\n")),
    ]
}

/// The plain way: the record after the program, `None` when it aborted, and the program's value.
fn plain(source: &str, record: &str) -> Result<Option<(Value, Value)>, String> {
    let program = ORACLES.with(|oracles| {
        let compile =
            || vrl::compiler::compile(source, &vrl::stdlib::all()).map_err(|_| "compile").unwrap().program;
        oracles.borrow_mut().entry(source.to_owned()).or_insert_with(compile).clone()
    });
    let mut value: Value = serde_json::from_str(record).map_err(|e| e.to_string())?;
    let (mut metadata, mut secrets) = (Value::Null, Secrets::new());
    let mut target = TargetValueRef { value: &mut value, metadata: &mut metadata, secrets: &mut secrets };
    match Runtime::default().resolve(&mut target, &program, &TimeZone::parse("UTC").unwrap()) {
        Ok(answer) => Ok(Some((value, answer))),
        Err(Terminate::Abort(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// As JSON text shows it: VRL's own comparison would take a timestamp for something else than its text.
fn shown(value: &Value) -> serde_json::Value {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

fn maps() -> Vec<(&'static str, Program)> {
    let compiles = |source: &&&str| vrl::compiler::compile(source, &vrl::stdlib::all()).is_ok();
    MAPS.iter()
        .filter(compiles)
        .map(|s| (*s, Program::compile_map(s).unwrap_or_else(|e| panic!("{s}: {e:?}"))))
        .collect()
}

#[test]
fn most_map_programs_compile_in_plain_vrl() {
    assert!(maps().len() >= MAPS.len() - 3, "{} of {}", maps().len(), MAPS.len());
}

thread_local! {
    static ORACLES: RefCell<HashMap<String, vrl::compiler::Program>> = RefCell::default();
    static COMPILED: Vec<(&'static str, Program)> = maps();
    static CONDITIONS: Vec<(&'static str, Program)> =
        FILTERS.iter().map(|(c, oracle)| (*oracle, Program::compile_filter(c).unwrap_or_else(|e| panic!("{c}: {e:?}")))).collect();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: Some(Box::new(prop::test_runner::FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn a_map_gives_what_plain_vrl_gives(record in record(), next in record()) {
        COMPILED.with(|programs| for (source, program) in programs {
            let mut scratch = Scratch::default();
            // The second record shows what the first left behind.
            for text in [&record, &next, &record] {
                let mut out = b"before".to_vec();
                let ours = program.run_map(&mut scratch, text.as_bytes(), &mut out);
                let (before, out) = out.split_at(6);
                assert_eq!(before, b"before");
                match (ours, plain(source, text)) {
                    (Ok(Outcome::Aborted), Ok(None)) => assert!(out.is_empty()),
                    (Ok(Outcome::Unchanged), Ok(Some((want, _)))) => {
                        assert!(out.is_empty());
                        let same: Value = serde_json::from_str(text).unwrap();
                        assert_eq!(shown(&same), shown(&want), "{source} on {text}");
                    }
                    (Ok(Outcome::Written), Ok(Some((want, _)))) => {
                        let got: serde_json::Value = serde_json::from_slice(out).unwrap();
                        // Spelled numbers pass: compare what they mean to VRL.
                        let got = shown(&serde_json::from_value::<Value>(got).unwrap());
                        assert_eq!(got, shown(&want), "{source} on {text}: {}", String::from_utf8_lossy(out));
                    }
                    (Err(_), Err(_)) => assert!(out.is_empty()),
                    (ours, plain) => panic!("{source} on {text}: {ours:?}, plain VRL {plain:?}"),
                }
            }
        });
    }

    #[test]
    fn a_condition_answers_what_plain_vrl_answers(record in record(), next in record()) {
        CONDITIONS.with(|programs| for (oracle, program) in programs {
            let mut scratch = Scratch::default();
            for text in [&record, &next] {
                let ours = program.run_filter(&mut scratch, text.as_bytes());
                match (&ours, plain(oracle, text)) {
                    (Ok(ours), Ok(Some((_, Value::Boolean(want))))) => assert_eq!(*ours, want, "{oracle} on {text}"),
                    (Err(_), Err(_)) => {}
                    (Err(_), Ok(Some((_, answer)))) if answer == Value::from("fails") => {}
                    (_, plain) => panic!("{oracle} on {text}: {ours:?}, plain VRL {plain:?}"),
                }
            }
        });
    }

    #[test]
    fn what_is_json_is_decided_as_serde_json_decides(record in record(), cut in any::<prop::sample::Index>(),
                                                     put in any::<Option<(prop::sample::Index, u8)>>()) {
        let mut bytes = record.into_bytes();
        bytes.truncate(cut.index(bytes.len() + 1));
        if let (Some((at, byte)), false) = (put, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Bytes that are no UTF-8 are looked at where they are read, by both.
        let want = serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
        let path: Path = ".missing".parse().unwrap();
        let got = path.get(Some(&bytes));
        // Half a surrogate pair in a key shows when the key is compared.
        let surrogate = got.as_ref().is_err_and(|e| e.to_string().contains("surrogate") || e.to_string().contains("hex escape"));
        prop_assert!(got.is_ok() == want || surrogate, "{:?}: {:?}", String::from_utf8_lossy(&bytes), got);
        let condition = Program::compile_filter("exists(.missing)").unwrap();
        let filtered = condition.run_filter(&mut Scratch::default(), &bytes[..]);
        // A root that is no object is decoded as a whole, which also finds numbers out of range.
        prop_assert!(filtered.is_ok() == got.is_ok() || bytes.trim_ascii_start().first() != Some(&b'{'), "{:?}", filtered);
    }

    #[test]
    fn a_path_gives_the_text_of_what_serde_json_finds(record in record()) {
        let whole: serde_json::Value = serde_json::from_str(&record).unwrap();
        for (path, pointer) in [(".a", "/a"), (".a.b", "/a/b"), (".a[1]", "/a/1"), (".\"x y\"", "/x y"), (".é.a", "/é/a")] {
            let found = whole.pointer(pointer).filter(|_| pointer != "/a/1" || whole["a"].is_array());
            let got = path.parse::<Path>().unwrap().get(Some(record.as_bytes()));
            match (found, got) {
                (None | Some(serde_json::Value::Null), Ok(None)) => {}
                (Some(serde_json::Value::String(want)), Ok(Some(got))) => prop_assert_eq!(want, &got),
                (Some(serde_json::Value::Bool(want)), Ok(Some(got))) => prop_assert_eq!(want.to_string(), got),
                (Some(serde_json::Value::Number(want)), Ok(Some(got))) => {
                    let got: serde_json::Number = serde_json::from_str(&got).unwrap();
                    prop_assert_eq!(want, &got);
                }
                (Some(serde_json::Value::Array(_) | serde_json::Value::Object(_)), Err(_)) => {}
                (found, got) => prop_assert!(false, "{} of {}: {:?}, found {:?}", path, record, got, found),
            }
        }
    }
}
