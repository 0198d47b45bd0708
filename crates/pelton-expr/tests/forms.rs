//! Decoders and encoders: what each form becomes, what comes back, and what records that do not fit are told.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_expr::{Converted, Csv, CsvOptions, CsvWriter, Decoder, Encoder, Kind, Utf8};
use proptest::{collection::vec, prelude::*};

fn decode(decoder: &mut Decoder, value: impl AsRef<[u8]>) -> Result<String, String> {
    let mut out = b"before".to_vec();
    let done = decoder.decode(value.as_ref(), &mut out);
    let new = String::from_utf8(out.split_off(6)).unwrap();
    assert_eq!(out, b"before");
    match done {
        Ok(Converted::Written) => Ok(new),
        Ok(other) => Ok(format!("{other:?}{new}")),
        Err(e) => {
            assert_eq!(new, "");
            Err(e.to_string())
        }
    }
}

fn encode(encoder: &Encoder, record: &str) -> Result<String, String> {
    let mut out = b"before".to_vec();
    let done = encoder.encode(record.as_bytes(), &mut out);
    let new = String::from_utf8(out.split_off(6)).unwrap();
    match done {
        Ok(Converted::Written) => Ok(new),
        Ok(other) => Ok(format!("{other:?}{new}")),
        Err(e) => {
            assert_eq!(new, "");
            Err(e.to_string())
        }
    }
}

fn table(columns: &[&str]) -> CsvOptions {
    CsvOptions { columns: columns.iter().map(|c| (*c).to_owned()).collect(), ..CsvOptions::default() }
}

fn csv(options: CsvOptions) -> Decoder {
    Decoder::csv(
        Csv::new(options).unwrap(),
        vec![("n".to_owned(), Kind::Integer), ("ok".to_owned(), Kind::Boolean)],
    )
}

#[test]
fn json_and_bytes_pass_and_strict_json_must_be_text() {
    let broken = b"{\"a\":\"\xff\"}";
    assert_eq!(decode(&mut Decoder::bytes(), broken).unwrap(), "Unchanged");
    assert_eq!(decode(&mut Decoder::json(Utf8::Lazy), broken).unwrap(), "Unchanged");
    assert_eq!(decode(&mut Decoder::json(Utf8::Strict), broken).unwrap_err(), "invalid UTF-8 at byte 6");
    assert!(Decoder::bytes().passes_all() && !Decoder::json(Utf8::Strict).passes_all());
}

#[test]
fn text_becomes_a_message_and_comes_back() {
    let json = decode(&mut Decoder::text(), "say \"é\"\n\u{1}").unwrap();
    assert_eq!(json, r#"{"message":"say \"é\"\n\u0001"}"#);
    let encoder = Encoder::text(".message".parse().unwrap());
    assert_eq!(encode(&encoder, &json).unwrap(), "say \"é\"\n\u{1}");
    assert_eq!(decode(&mut Decoder::text(), b"a\xffb").unwrap_err(), "invalid UTF-8 at byte 1");
    assert_eq!(
        encode(&encoder, r#"{"other":1}"#).unwrap_err(),
        "field .message is missing or null, and it is what is written"
    );
    assert!(encode(&encoder, r#"{"message":[]}"#).unwrap_err().contains("is an array"));
}

#[test]
fn a_row_of_csv_becomes_an_object_of_strings_unless_a_type_is_known() {
    let mut decoder = csv(table(&["id", "n", "ok"]));
    assert_eq!(decode(&mut decoder, "7,8,true\r\n").unwrap(), r#"{"id":"7","n":8,"ok":true}"#);
    assert_eq!(
        decode(&mut decoder, "\"a,\"\"b\"\"\nc\", ,").unwrap(),
        r#"{"id":"a,\"b\"\nc","n":null,"ok":null}"#
    );
    // The first line of a file.
    assert_eq!(decode(&mut decoder, "id,n,ok").unwrap(), "Skipped");
    assert_eq!(decode(&mut decoder, "x,many,true").unwrap_err(), "field n: `many` is not an integer");
    assert_eq!(decode(&mut decoder, "x,1").unwrap_err(), "the row has 2 fields for 3 columns (id, n, ok)");
    assert_eq!(decode(&mut decoder, "").unwrap_err(), "the value holds no row");
    assert_eq!(
        decode(&mut decoder, "1,2,true\n3,4,true").unwrap_err(),
        "the value holds more than one row; one record is one row"
    );
    let long = "x".repeat(5_000);
    assert_eq!(
        decode(&mut decoder, format!("{long},1,false")).unwrap(),
        format!("{{\"id\":\"{long}\",\"n\":1,\"ok\":false}}")
    );
}

#[test]
fn a_value_may_bring_its_own_header() {
    let mut decoder = csv(CsvOptions { delimiter: b';', quote: b'\'', ..CsvOptions::default() });
    assert_eq!(decode(&mut decoder, "n;x\n1;'a;b'\n").unwrap(), r#"{"n":1,"x":"a;b"}"#);
    assert_eq!(decode(&mut decoder, "only\n1").unwrap(), r#"{"only":"1"}"#);
    assert_eq!(decode(&mut decoder, "n;x").unwrap_err(), "the value holds no row below its header");
    assert_eq!(decode(&mut decoder, "n;n\n1;2").unwrap_err(), "the header row names `n` twice");
}

#[test]
fn options_that_make_no_table_are_refused() {
    let why = |options: CsvOptions| Csv::new(options).unwrap_err().to_string();
    assert_eq!(why(table(&["a", "b", "a"])), "column `a` is named twice");
    assert!(
        why(CsvOptions { delimiter: b'\n', ..CsvOptions::default() })
            .starts_with("`\\n` cannot be the delimiter")
    );
    assert!(why(CsvOptions { delimiter: b'"', ..CsvOptions::default() }).contains("same character"));
    assert!(CsvWriter::new(CsvOptions::default()).is_err());
}

#[test]
fn an_object_becomes_a_row() {
    let writer = CsvWriter::new(table(&["a", "b", "c", "d"])).unwrap();
    let mut header = Vec::new();
    writer.write_header(&mut header);
    assert_eq!(header, b"a,b,c,d");
    let encoder = Encoder::csv(writer);
    assert_eq!(
        encode(&encoder, r#"{"d":[1, 2],"a":"x,\"y\"\n","b":1.50,"a":"last"}"#).unwrap(),
        "last,1.50,,\"[1, 2]\""
    );
    assert_eq!(encode(&encoder, r#"{"a":"x,\"y\"\n"}"#).unwrap(), "\"x,\"\"y\"\"\n\",,,");
    assert_eq!(encode(&encoder, "{}").unwrap(), ",,,");
    assert!(encode(&encoder, "[1]").unwrap_err().contains("expected an object"));
}

#[test]
fn logfmt_goes_both_ways() {
    let mut decoder = Decoder::logfmt(vec![("n".to_owned(), Kind::Integer)]);
    assert_eq!(
        decode(&mut decoder, "level=info msg=\"a \\\"b\\\"\\n=é\" n=5 ready  empty= n=6\n").unwrap(),
        r#"{"level":"info","msg":"a \"b\"\n=é","n":6,"ready":true,"empty":""}"#
    );
    assert_eq!(decode(&mut decoder, " ").unwrap(), "{}");
    for (line, why) in [
        ("=x", "invalid logfmt at byte 0: expected a name before `=`"),
        ("a=\"x", "invalid logfmt at byte 4: the closing quote is missing"),
        ("a=\"x\"y", "invalid logfmt at byte 5: expected a space behind the closing quote"),
        ("a=x\"y", "invalid logfmt at byte 3: a value with a quote in it must be quoted"),
        ("n=x", "field n: `x` is not an integer"),
    ] {
        assert_eq!(decode(&mut decoder, line).unwrap_err(), why, "{line}");
    }
    let encoder = Encoder::logfmt();
    assert_eq!(
        encode(&encoder, r#"{"level":"info","msg":"a \"b\"\n","n":1.50,"no":null,"o":{"x":1}}"#).unwrap(),
        r#"level=info msg="a \"b\"\n" n=1.50 no="" o="{\"x\":1}""#
    );
    assert!(encode(&encoder, r#"{"x y":1}"#).unwrap_err().starts_with("the name `x y` cannot stand"));
}

fn names() -> impl Strategy<Value = Vec<String>> {
    vec("[a-zé_.]{1,6}", 1..6).prop_map(|mut names| {
        names.sort();
        names.dedup();
        names
    })
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_to_the_same(names in names(), texts in vec(any::<String>(), 6)) {
        let object: serde_json::Map<String, serde_json::Value> =
            names.iter().cloned().zip(texts.iter().map(|t| t.clone().into())).collect();
        let json = serde_json::to_string(&object).unwrap();
        let same = |got: Result<String, String>| serde_json::from_str::<serde_json::Map<_, _>>(&got.unwrap()).unwrap() == object;

        let line = encode(&Encoder::logfmt(), &json).unwrap();
        prop_assert!(same(decode(&mut Decoder::logfmt(Vec::new()), &line)), "{:?}", line);

        let mut options = table(&[]);
        options.columns = names;
        let row = encode(&Encoder::csv(CsvWriter::new(options.clone()).unwrap()), &json).unwrap();
        let decoded = decode(&mut Decoder::csv(Csv::new(options).unwrap(), Vec::new()), &row);
        prop_assert!(decoded == Ok("Skipped".to_owned()) || same(decoded), "{:?}", row);

        let text = texts[0].clone();
        let message = decode(&mut Decoder::text(), &text).unwrap();
        prop_assert_eq!(encode(&Encoder::text(".message".parse().unwrap()), &message).unwrap(), text);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(value in vec(any::<u8>(), 0..60)) {
        for mut decoder in [Decoder::text(), Decoder::logfmt(Vec::new()), csv(table(&["a"])), csv(CsvOptions::default())] {
            if let Ok(json) = decode(&mut decoder, &value) {
                prop_assert!(json == "Skipped" || serde_json::from_str::<serde_json::Value>(&json).is_ok());
            }
        }
    }
}
