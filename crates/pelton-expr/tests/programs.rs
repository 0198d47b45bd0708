//! Random programs over random records: what runs without VRL gives what VRL gives, and what plain VRL gives over a tree.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_expr::{Outcome, Program, Scratch};
use proptest::{collection::vec, prelude::*};
use vrl::{
    compiler::{TargetValueRef, TimeZone, runtime::Runtime, runtime::Terminate},
    value::{Secrets, Value},
};

/// JSON text of one value: scalars mostly, so that programs often get through. Not the lowest integer, whose `abs` makes
/// VRL panic in a debug build.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        1 => Just("null".to_owned()),
        1 => Just("true".to_owned()),
        1 => Just("false".to_owned()),
        3 => (-3i64..4).prop_map(|n| n.to_string()),
        1 => Just("-0".to_owned()),
        1 => Just("0.5".to_owned()),
        1 => Just("-2.75e1".to_owned()),
        1 => Just("9007199254740993".to_owned()),
        1 => Just("9223372036854775807".to_owned()),
        1 => Just("-9223372036854775807".to_owned()),
        1 => Just("18446744073709551615".to_owned()),
        1 => Just("123456789012345678901234567890".to_owned()),
        1 => Just(r#""""#.to_owned()),
        1 => Just(r#""x""#.to_owned()),
        1 => Just(r#""12""#.to_owned()),
        1 => Just(r#""-1.5""#.to_owned()),
        1 => Just(r#"" Ünï Code ""#.to_owned()),
        1 => Just(r#""MiXed and longer than sixteen bytes""#.to_owned()),
        1 => Just(r#""tab\t\u00e9 \ud83d\ude00 \"q\" back\\""#.to_owned()),
    ];
    scalar.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))),
            vec((key(), inner), 0..4).prop_map(|members| object(&members)),
        ]
    })
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just("c"), 1 => Just("\\u0061"), 1 => Just("é"), 1 => Just("other")]
}

fn object(members: &[(&'static str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
    format!("{{{}}}", members.join(" , "))
}

fn record() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => vec((key(), value()), 0..6).prop_map(|members| object(&members)),
        1 => value(),
    ]
}

fn comparison() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("=="), Just("!="), Just(">"), Just(">="), Just("<"), Just("<=")]
}

/// An expression. What can fail may stand anywhere: a program that VRL does not take is thrown away.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => prop_oneof![Just(".a"), Just(".b"), Just(".c"), Just(".a.b"), Just(".a[0]"), Just(".b[-1].a"), Just(".é.a.b")].prop_map(str::to_owned),
        2 => (-3i64..4).prop_map(|n| n.to_string()),
        2 => (comparison(), -3i64..4).prop_map(|(op, n)| format!("(.a {op} {n})")),
        1 => prop_oneof![Just("0.5"), Just("9007199254740992"), Just("true"), Just("false"), Just("null"), Just("\"x\""), Just("\"12\""), Just("s'ünï'"), Just("{\"k\": .a, \"l\": 1}"), Just("[.b, \"x\"]")].prop_map(str::to_owned),
        1 => prop_oneof![Just("exists(.a)"), Just("exists(.b.a)"), Just("del(.c)")].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let operator = prop_oneof![
            Just("=="), Just("!="), Just(">"), Just(">="), Just("<"), Just("<="), Just("+"), Just("-"), Just("*"), Just("/"), Just("&&"), Just("||"), Just("??"),
        ];
        let one = prop_oneof![
            Just("downcase"), Just("upcase"), Just("strip_whitespace"), Just("length"), Just("strlen"), Just("string"), Just("int"), Just("float"), Just("bool"),
            Just("to_string"), Just("to_int"), Just("to_float"), Just("to_bool"), Just("round"), Just("floor"), Just("ceil"), Just("abs"),
            // Beyond the subset.
            Just("encode_json"), Just("sha2"),
        ];
        let is = prop_oneof![
            Just("is_null"), Just("is_string"), Just("is_integer"), Just("is_float"), Just("is_boolean"), Just("is_array"), Just("is_object"),
        ];
        let two = prop_oneof![Just("contains"), Just("starts_with"), Just("ends_with"), Just("mod"), Just("slice"), Just("round"), Just("floor")];
        let bang = prop_oneof![Just("!"), Just("")];
        prop_oneof![
            5 => (inner.clone(), operator, inner.clone()).prop_map(|(l, op, r)| format!("({l} {op} {r})")),
            3 => (one, bang.clone(), inner.clone()).prop_map(|(f, bang, x)| format!("{f}{bang}({x})")),
            1 => (is, inner.clone()).prop_map(|(f, x)| format!("{f}({x})")),
            2 => (two, bang, inner.clone(), inner.clone()).prop_map(|(f, bang, x, y)| format!("{f}{bang}({x}, {y})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(c, x, y)| format!("if bool!({c}) {{ {x} }} else {{ {y} }}")),
            1 => inner.clone().prop_map(|x| format!("!bool!({x})")),
            1 => (inner.clone(), inner).prop_map(|(x, y)| format!("(({x}) ?? ({y}))")),
        ]
    })
}

fn statement() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        3 => Just(".a"), 3 => Just(".new"), 2 => Just("x"), 1 => Just(".\"é\""), 1 => Just(".a.b"), 1 => Just(".")
    ];
    prop_oneof![
        6 => (target.clone(), expression()).prop_map(|(to, e)| format!("{to} = {e}")),
        2 => (target, expression()).prop_map(|(to, e)| format!("{to}, err = {e}")),
        2 => prop_oneof![Just("del(.a)"), Just("del(.b)"), Just("del(.a.b)"), Just("del(.missing)")].prop_map(str::to_owned),
        1 => expression().prop_map(|e| format!("if is_null({e}) {{ abort }}")),
        1 => expression().prop_map(|e| format!("x = {e}\n.copy = x")),
        1 => (expression(), expression()).prop_map(|(c, e)| format!("if ({c}) == true {{ .a = {e} }} else {{ del(.b) }}")),
    ]
}

fn plain(program: &vrl::compiler::Program, record: &str) -> Result<Option<(Value, Value)>, String> {
    let mut value: Value = serde_json::from_str(record).map_err(|e| e.to_string())?;
    let (mut metadata, mut secrets) = (Value::Null, Secrets::new());
    let mut target = TargetValueRef { value: &mut value, metadata: &mut metadata, secrets: &mut secrets };
    match Runtime::default().resolve(&mut target, program, &TimeZone::parse("UTC").unwrap()) {
        Ok(answer) => Ok(Some((value, answer))),
        Err(Terminate::Abort(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What JSON text means to VRL.
fn meaning(text: &[u8]) -> serde_json::Value {
    let value: Value = serde_json::from_slice(text).unwrap();
    serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap()
}

type Mapped = Result<Option<serde_json::Value>, String>;

fn mapped(program: &Program, scratch: &mut Scratch, record: &str) -> Mapped {
    let mut out = b"before".to_vec();
    let outcome = program.run_map(scratch, record.as_bytes(), &mut out)?;
    Ok(match outcome {
        Outcome::Aborted => None,
        Outcome::Unchanged => Some(meaning(record.as_bytes())),
        Outcome::Written => Some(meaning(&out[6..])),
    })
}

fn check_map(source: &str, records: &[String]) {
    let Ok(oracle) = vrl::compiler::compile(source, &vrl::stdlib::all()) else { return };
    let Ok(fast) = Program::compile_map(source) else { return };
    let slow = fast.clone().through_vrl();
    let (mut scratch, mut other) = (Scratch::default(), Scratch::default());
    for record in records {
        let ours = mapped(&fast, &mut scratch, record);
        // The same outcome and the same words of an error.
        assert_eq!(ours, mapped(&slow, &mut other, record), "{source}\non {record}");
        match (&ours, plain(&oracle.program, record)) {
            (Ok(ours), Ok(want)) => {
                let want = want.map(|(value, _)| meaning(serde_json::to_string(&value).unwrap().as_bytes()));
                assert_eq!(*ours, want, "{source}\non {record}");
            }
            (Err(_), Err(_)) => {}
            (ours, plain) => panic!("{source}\non {record}: {ours:?}, plain VRL {plain:?}"),
        }
    }
}

fn check_filter(source: &str, records: &[String]) {
    let Ok(fast) = Program::compile_filter(source) else { return };
    let slow = fast.clone().through_vrl();
    let (mut scratch, mut other) = (Scratch::default(), Scratch::default());
    let oracle = vrl::compiler::compile(source, &vrl::stdlib::all()).ok();
    for record in records {
        let ours = fast.run_filter(&mut scratch, record.as_bytes());
        assert_eq!(ours, slow.run_filter(&mut other, record.as_bytes()), "{source}\non {record}");
        match (&ours, oracle.as_ref().map(|oracle| plain(&oracle.program, record))) {
            (Ok(ours), Some(Ok(want))) => {
                let want = want.map_or(Value::Boolean(false), |(_, answer)| answer);
                assert_eq!(Value::Boolean(*ours), want, "{source}\non {record}");
            }
            (Ok(_), Some(Err(error))) => panic!("{source}\non {record}: plain VRL fails: {error}"),
            _ => {}
        }
    }
}

/// proptest prints the smallest case that fails and the seed that replays it.
fn config() -> ProptestConfig {
    let cases = std::env::var("PELTON_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(prop::test_runner::FileFailurePersistence::WithSource(
            "regressions",
        ))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_random_map_does_what_vrl_does(statements in vec(statement(), 1..4), records in vec(record(), 6)) {
        // Each alone, so that one that VRL refuses does not hide the others.
        for statement in &statements {
            check_map(statement, &records);
        }
        check_map(&statements.join("\n"), &records);
    }

    #[test]
    fn a_random_condition_answers_what_vrl_answers(expressions in vec(expression(), 3), records in vec(record(), 6)) {
        for expression in &expressions {
            check_filter(expression, &records);
            check_filter(&format!("({expression}) == true"), &records);
            check_filter(&format!("(({expression}) > 3) ?? false"), &records);
        }
    }
}

#[test]
fn what_is_hot_runs_without_vrl_and_the_rest_with_it() {
    let maps = [
        ".price_eur = int!(.price) * 0.908\ndel(.extra)",
        "if exists(.price) { .eur = float!(.price) * 0.9 } else if .a.b[0] == 1 { abort }",
        ". = {\"auction\": .auction, \"channel\": downcase!(.channel), \"item\": slice!(.url, 8, 24)}",
        ".a, err = .b + .c\n.failed = err != null",
        "x = to_int(.n) ?? 0\n.y = [x, round(x / 3, 2)]",
    ];
    for source in maps {
        assert!(Program::compile_map(source).unwrap().is_native(), "{source}");
    }
    for source in [".price > 1000", "(.a.b > 1.5) ?? false", "contains(string!(.a), \"x\") && !is_null(.b)"] {
        assert!(Program::compile_filter(source).unwrap().is_native(), "{source}");
    }
    for source in [".a.b = 1", ".all = encode_json(.)", ".x = parse_json!(.m)", ". = .\n.a = 1", "return .a"]
    {
        assert!(!Program::compile_map(source).unwrap().is_native(), "{source}");
    }
}

/// The functions that are said to run without VRL: all of them do, and give what VRL gives for what they are made for.
#[test]
fn common_functions_of_texts_and_numbers_run_without_vrl() {
    let calls = [
        "downcase!(.t)",
        "upcase!(.t)",
        "strip_whitespace!(.t)",
        "length!(.t)",
        "strlen!(.t)",
        "contains!(.t, \"i\")",
        "starts_with!(.t, \" \")",
        "ends_with!(.t, \"e \")",
        "slice!(.t, 1)",
        "slice!(.t, 1, -1)",
        "string!(.t)",
        "int!(.n)",
        "float!(.f)",
        "bool!(.b)",
        "to_string!(.n)",
        "to_int!(.d)",
        "to_float!(.d)",
        "to_bool!(.b)",
        "round!(.f)",
        "round!(.f, 1)",
        "floor!(.f)",
        "ceil!(.f)",
        "abs!(.n)",
        "mod!(.n, 4)",
        "is_null(.n)",
        "is_string(.t)",
        "is_integer(.n)",
        "is_float(.f)",
        "is_boolean(.b)",
        "is_array(.l)",
        "is_object(.o)",
        "exists(.o.k)",
        "del(.l)",
        ".n + .f",
        ".n - .f",
        ".n * .f",
        ".f / 2",
    ];
    let record = r#"{"t":" Nice ","n":-7,"f":2.75,"b":true,"d":"12","l":[1],"o":{"k":1}}"#;
    for call in calls {
        // What may fail is caught, whatever it is.
        let source = format!(".answer, err = {call}");
        let source = if Program::compile_map(&source).is_ok() { source } else { format!(".answer = {call}") };
        assert!(Program::compile_map(&source).unwrap().is_native(), "{source} is left to VRL");
        check_map(&source, &[record.to_owned()]);
    }
}
