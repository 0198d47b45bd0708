//! What users see: bytes that pass, messages of mistakes, messages of records that fail.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_expr::{Outcome, Path, Program, Scratch};

fn map(source: &str, record: &str) -> Result<String, String> {
    let program = Program::compile_map(source).unwrap();
    let mut out = Vec::new();
    let outcome = program.run_map(&mut Scratch::default(), record.as_bytes(), &mut out)?;
    Ok(match outcome {
        Outcome::Written => String::from_utf8(out).unwrap(),
        other => format!("{other:?}"),
    })
}

fn filter(source: &str, record: &str) -> Result<bool, String> {
    let program = Program::compile_filter(source).unwrap();
    program.run_filter(&mut Scratch::default(), record.as_bytes())
}

#[test]
fn untouched_members_keep_their_bytes_and_their_order() {
    let record = r#" { "z" : 1.50e+2 , "b":{"k" : [1 ,2]}, "é":"\u00e9", "n": 123456789012345678901234567890, "a":1}  "#;
    assert_eq!(
        map(".b = 2\n.new = true", record).unwrap(),
        r#"{"z" : 1.50e+2,"b":2,"é":"\u00e9", "n": 123456789012345678901234567890, "a":1,"new":true}"#
    );
    assert_eq!(map("del(.z)\ndel(.a)", r#"{"z":1,"m": 2 , "a":3}"#).unwrap(), r#"{"m": 2}"#);
    assert_eq!(map("del(.z)", r#"{"z":1}"#).unwrap(), "{}");
    assert_eq!(map(".a = 1", "{}").unwrap(), r#"{"a":1}"#);
}

#[test]
fn a_record_that_nothing_changes_is_left_alone() {
    assert_eq!(map("del(.missing)", r#"{"a": 1}"#).unwrap(), "Unchanged");
    assert_eq!(map("if .a == 2 { .b = 1 }", r#"{"a": 1}"#).unwrap(), "Unchanged");
    assert_eq!(map("del(.a.b.c)", "[1]").unwrap(), "Unchanged");
}

#[test]
fn of_a_member_that_comes_twice_the_last_counts() {
    assert!(filter(".a == 2", r#"{"a":1,"\u0061":2}"#).unwrap());
    assert_eq!(map(".a = 3", r#"{"a":1,"b":0,"\u0061":2}"#).unwrap(), r#"{"b":0,"\u0061":3}"#);
    assert_eq!(map("del(.a)", r#"{"a":1,"b":0,"a":2}"#).unwrap(), r#"{"b":0}"#);
    assert_eq!(map(".b = 1", r#"{"a":1,"b":0,"a":2}"#).unwrap(), r#"{"a":1,"b":1,"a":2}"#);
}

#[test]
fn a_record_that_is_no_json_says_where() {
    let cases = [
        ("", "truncated JSON: the record ends at byte 0, expected an object"),
        (r#"{"a":1"#, "truncated JSON: the record ends at byte 6, expected ',' or '}'"),
        (r#"{"a":"x"#, "truncated JSON: the record ends at byte 7, expected the closing quote of a string"),
        (r#"{"a":[1,,2]}"#, "invalid JSON at byte 8: expected a value"),
        (r#"{"a":{"b":1]}"#, "invalid JSON at byte 11: expected ',' or '}'"),
        (r#"{"a":01}"#, "invalid JSON at byte 6: a number must not begin with 0"),
        (r#"{"a":1.}"#, "invalid JSON at byte 7: expected a digit"),
        (r#"{"a":"\x"}"#, "invalid JSON at byte 7: expected one of \"\\/bfnrtu after a backslash"),
        (r#"{"a":"\u12g4"}"#, "invalid JSON at byte 10: expected four hexadecimal digits after \\u"),
        (
            "{\"a\":\"line\nbreak\"}",
            "invalid JSON at byte 10: a control character in a string must be escaped",
        ),
        (r#"{"a":1} x"#, "invalid JSON at byte 8: more text after the record"),
        (r#"{"b":tru}"#, "invalid JSON at byte 8: expected true, false or null"),
        (r#"{b:1}"#, "invalid JSON at byte 1: expected a key in quotes"),
        ("plain text", "invalid JSON at byte 0: expected a value"),
    ];
    for (record, want) in cases {
        assert_eq!(filter("exists(.a)", record).unwrap_err(), want, "{record}");
    }
}

#[test]
fn what_is_no_text_fails_the_record_that_reads_it_and_passes_elsewhere() {
    let record = &b"{\"ok\":1,\"a\":\"\xff\"}"[..];
    let judge =
        |source: &str| Program::compile_filter(source).unwrap().run_filter(&mut Scratch::default(), record);
    assert_eq!(judge(".ok == 1"), Ok(true));
    assert_eq!(judge(".a == \"x\""), Err("invalid UTF-8 at byte 13".to_owned()));
    let mut out = Vec::new();
    let program = Program::compile_map(".new = 1").unwrap();
    assert_eq!(program.run_map(&mut Scratch::default(), record, &mut out), Ok(Outcome::Written));
    assert_eq!(out, b"{\"ok\":1,\"a\":\"\xff\",\"new\":1}");
    let path: Path = ".a".parse().unwrap();
    assert_eq!(path.get(Some(record)).unwrap_err().to_string(), "invalid UTF-8 at byte 13");
}

#[test]
fn nesting_ends_where_serde_json_ends_it() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    for levels in [126, 127, 128, 129, 100_000] {
        let record = nested(levels);
        let want = serde_json::from_str::<serde_json::Value>(&record).is_ok();
        assert_eq!(filter("exists(.b)", &record).is_ok(), want, "{levels}");
        assert_eq!(filter("exists(.a)", &record).is_ok(), want, "{levels}");
    }
    assert!(filter("exists(.b)", &nested(128)).unwrap_err().ends_with("nested deeper than 127 levels"));
}

#[test]
fn what_only_decoding_shows_fails_the_record_that_reads_it() {
    let record = r#"{"ok": 1, "far": 1e999, "half": "\ud800"}"#;
    assert!(filter(".ok == 1", record).unwrap());
    assert_eq!(filter(".far == 1", record).unwrap_err(), "invalid JSON at byte 21: number out of range");
    assert!(filter(".half == \"\"", record).unwrap_err().starts_with("invalid JSON at byte "));
    assert_eq!(map("del(.ok)", record).unwrap(), r#"{"far": 1e999, "half": "\ud800"}"#);
    assert!(map(".copy = encode_json(.)", record).is_err());
}

#[test]
fn a_record_without_a_value_is_null() {
    let run =
        |source: &str| Program::compile_filter(source).unwrap().run_filter(&mut Scratch::default(), None);
    assert_eq!(run("exists(.a)"), Ok(false));
    assert_eq!(run(".a > 1"), Err("can't compare null with integer".to_owned()));
}

#[test]
fn a_failing_condition_says_why_and_where() {
    assert_eq!(
        filter("\n  int!(.price) > 1", "{}").unwrap_err(),
        "function call error for \"int\" at line 2, column 3 of the program: expected integer, got null"
    );
    assert_eq!(
        filter("length(.a) == 1", r#"{"a":1}"#).unwrap_err(),
        "function call error for \"length\" at line 1, column 1 of the program: expected string, array or object, got integer"
    );
    assert_eq!(filter(".price > 1000", r#"{"price":"x"}"#).unwrap_err(), "can't compare string with integer");
}

#[test]
fn mistakes_in_programs_are_all_reported_with_their_place() {
    let filter = |s: &str| Program::compile_filter(s).unwrap_err();
    let mistakes = |errors: Vec<pelton_expr::CompileError>| -> Vec<(usize, usize, String, String)> {
        errors
            .into_iter()
            .map(|e| (e.span.start, e.span.end, e.message, e.hint.unwrap_or_default()))
            .collect()
    };
    let one = |start, end, message: &str, hint: &str| vec![(start, end, message.to_owned(), hint.to_owned())];
    assert_eq!(
        mistakes(filter("downcse(.x) == 1")),
        one(0, 7, "call to undefined function `downcse`", "did you mean `downcase`?")
    );
    assert_eq!(
        mistakes(filter(".flag")),
        one(
            0,
            5,
            "a condition must be a boolean, this is any",
            "compare it (`.flag == true`), or say that it is one: `bool!(.flag)`"
        )
    );
    assert_eq!(
        mistakes(filter(".a = 1")),
        one(
            0,
            4,
            "mutation of read-only value",
            "a condition cannot change the record; change it in a `map`"
        )
    );
    assert_eq!(
        mistakes(filter(".a >")),
        one(4, 4, "the program ends too early", "a value is expected behind `>`")
    );
    assert_eq!(
        mistakes(filter("get_env_var!(\"HOME\") == 1")),
        one(
            0,
            11,
            "call to undefined function `get_env_var`",
            "this function of VRL is left out: a program must not leave its worker or write its log"
        )
    );
    let unused = filter(".a > 1\n.b > 2");
    assert_eq!((unused.len(), unused[0].span.clone()), (1, 0..6), "{unused:?}");
    assert_eq!(unused[0].hint.as_deref(), Some("join conditions with `&&` or `||`"));
    let several = Program::compile_map(".a = dowcase(.b)\n.c = foo(.d)\n.e = .f * 2").unwrap_err();
    assert_eq!(several.len(), 3, "{several:?}");
    assert_eq!(several[2].span, 35..41);
    let handle = several[2].hint.as_deref().unwrap();
    assert!(handle.contains('!') && handle.contains("??") && handle.contains("schema:"), "{handle}");
    assert_eq!(
        Program::compile_map("%a = 1").unwrap_err()[0].message,
        "`%a` names metadata, which records do not have"
    );
    for empty in ["", " \n", "# only a comment"] {
        assert!(Program::compile_filter(empty).is_err() && Program::compile_map(empty).is_err());
    }
}

#[test]
fn a_scratch_serves_one_program_after_another() {
    let (a, b) = (Program::compile_filter(".a == 1").unwrap(), Program::compile_filter(".b == 1").unwrap());
    let mut scratch = Scratch::default();
    for _ in 0..2 {
        assert_eq!(a.run_filter(&mut scratch, &br#"{"a":1}"#[..]), Ok(true));
        assert_eq!(b.run_filter(&mut scratch, &br#"{"a":1}"#[..]), Ok(false));
    }
}

#[test]
fn paths_are_read_and_wrong_ones_say_why() {
    let get = |path: &str, record: &str| {
        path.parse::<Path>().unwrap().get(Some(record.as_bytes())).unwrap().map(|t| t.into_owned())
    };
    assert_eq!(get(".a.b[1]", r#"{"a":{"b":[0, 1.50]}}"#).as_deref(), Some("1.50"));
    assert_eq!(get(".\"x.y\"", r#"{"x.y":"\u00e9\n"}"#).as_deref(), Some("é\n"));
    assert_eq!(get(".a", r#"{"a":null}"#), None);
    let error = ".a".parse::<Path>().unwrap().get(Some(br#"{"a":[]}"#)).unwrap_err();
    assert_eq!(error.to_string(), "field .a is an array; only a string, a number or a boolean has a text");
    for (path, span) in [
        ("", 0..0),
        ("id", 0..2),
        (".", 0..1),
        (".a..b", 2..3),
        (".a[x]", 2..5),
        (".a b", 2..3),
        (".\"a", 0..3),
    ] {
        assert_eq!(path.parse::<Path>().unwrap_err().span, span, "{path}");
    }
}
