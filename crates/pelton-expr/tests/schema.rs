//! Programs over records of which something is known.

use pelton_expr::{CompileError, Outcome, Program, SchemaCheck, Scratch};
use pelton_types::schema::{Field, FieldKind, RecordSchema};

fn schema(fields: &[(&str, FieldKind)]) -> RecordSchema {
    let field = |(name, kind): &(&str, FieldKind)| match name.strip_suffix('?') {
        Some(name) => (name.to_owned(), Field { kind: kind.clone(), optional: true }),
        None => ((*name).to_owned(), Field::required(kind.clone())),
    };
    RecordSchema { fields: fields.iter().map(field).collect(), ..RecordSchema::default() }
}

fn orders() -> RecordSchema {
    schema(&[
        ("price", FieldKind::Float),
        ("quantity", FieldKind::Integer),
        ("customer", FieldKind::String),
        ("placedAt", FieldKind::Timestamp),
        ("note?", FieldKind::String),
        (
            "shipping",
            FieldKind::Object(schema(&[("street", FieldKind::String), ("zip?", FieldKind::String)])),
        ),
        ("tags", FieldKind::Array(Box::new(Field::required(FieldKind::String)))),
        ("extra?", FieldKind::Any),
    ])
}

fn map(source: &str) -> Result<Program, Vec<CompileError>> {
    Program::compile_map_for(source, Some(&orders()))
}

fn filter(source: &str) -> Result<Program, Vec<CompileError>> {
    Program::compile_filter_for(source, Some(&orders()))
}

fn told(mistakes: Vec<CompileError>) -> Vec<(String, String)> {
    mistakes.into_iter().map(|m| (m.message, m.hint.unwrap_or_default())).collect()
}

#[test]
fn fields_with_a_type_need_no_handling_of_errors() {
    for program in [
        ".priceEur = .price * 0.908",
        ".total = .price * .quantity",
        ".customer = upcase(.customer)",
        ".day = slice!(.placedAt, 0, 10)",
        ".street = upcase(.shipping.street)",
        ".first = .tags[0]",
    ] {
        assert!(map(program).is_ok(), "{program}: {:?}", map(program).err());
        assert!(
            program.contains(".tags") || program.contains('!') || Program::compile_map(program).is_err(),
            "{program} needs no schema at all"
        );
    }
}

#[test]
fn a_field_that_may_be_missing_is_not_taken_for_granted() {
    let told = told(map(".note = upcase(.note)").err().unwrap());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(map(".note = upcase(string(.note) ?? \"\")").is_ok());
    assert!(map(".zip = upcase(.shipping.zip)").is_err());
}

#[test]
fn a_misspelt_field_is_named_with_what_was_meant() {
    let found = filter(".prise > 1000").err().unwrap();
    assert_eq!(found[0].span, 0..6);
    assert_eq!(
        told(found),
        [(
            "unknown field `.prise`".into(),
            "did you mean `.price`? Otherwise add `prise?: any` to the `schema`".into()
        )]
    );
    let nested = told(map(".a = .shipping.sreet").err().unwrap());
    assert_eq!(nested[0].0, "unknown field `.shipping.sreet`");
    assert!(nested[0].1.starts_with("did you mean `.shipping.street`?"), "{nested:?}");
    let both = told(map(".a = .prise * 2\n.b = nofunction(.custmer)").err().unwrap());
    assert_eq!(both.len(), 3, "{both:?}");
    let far = told(filter(".zzz == 1").err().unwrap());
    assert!(far[0].1.starts_with("the schema has `.customer`, `.extra`"), "{far:?}");
}

#[test]
fn what_a_program_makes_or_takes_away_it_may_name() {
    for program in [
        "del(.secret)",
        ".new = 1\n.twice = .new * 2",
        ".has = exists(.secret)",
        ".extra.anything = .extra.x",
    ] {
        assert!(map(program).is_ok(), "{program}: {:?}", map(program).err());
    }
    assert!(filter("exists(.secret)").is_ok());
    assert!(map(".a = if .quantity > 1 { [.typo] } else { {\"b\": !bool!(.typo)} }").is_err());
    assert_eq!(
        map(".a = if .quantity > 1 { [.typo] } else { {\"b\": !bool!(.tpo)} }").err().unwrap().len(),
        2
    );
}

#[test]
fn types_flow_out_of_a_program() {
    let after = map(
        ".total = .price * .quantity\ndel(.note)\n.n = length(.tags)\n.maybe = if .quantity > 1 { 1 } else { null }",
    );
    let after = after.unwrap().output().cloned().unwrap();
    assert_eq!(after.fields["total"], Field::required(FieldKind::Float));
    assert_eq!(after.fields["n"], Field::required(FieldKind::Integer));
    assert_eq!(after.fields["maybe"], Field { kind: FieldKind::Integer, optional: true });
    assert_eq!(after.fields["placedAt"], Field::required(FieldKind::Timestamp), "untouched, so still a time");
    assert_eq!(after.fields["shipping"], orders().fields["shipping"]);
    assert!(!after.fields.contains_key("note"), "{:?}", after.fields.get("note"));
    let next = told(Program::compile_filter_for(".note == \"x\"", Some(&after)).err().unwrap());
    assert_eq!(next[0].0, "unknown field `.note`");
}

#[test]
fn without_a_schema_only_a_record_made_anew_is_known() {
    assert!(Program::compile_map(".a = 1").unwrap().output().is_none());
    let made = Program::compile_map(". = { \"id\": int!(.id) }").unwrap();
    assert_eq!(made.output().unwrap(), &schema(&[("id", FieldKind::Integer)]));
    assert!(Program::compile_map(". = object!(.inner)").unwrap().output().is_none());
}

#[test]
fn a_record_that_breaks_its_schema_fails_instead_of_lying() {
    let mut scratch = Scratch::default();
    let program = map(".priceEur = .price * 0.908").unwrap();
    let mut out = Vec::new();
    let whole: &[u8] = br#"{"price":1000}"#;
    assert_eq!(program.run_map(&mut scratch, whole, &mut out), Ok(Outcome::Written));
    assert_eq!(out, br#"{"price":1000,"priceEur":908.0}"#);
    let text: &[u8] = br#"{"price":[]}"#;
    assert!(program.run_map(&mut scratch, text, &mut out).is_err());
    let keep = filter(".price > 10").unwrap();
    assert_eq!(keep.run_filter(&mut scratch, whole), Ok(true));
    assert!(keep.run_filter(&mut scratch, None).is_err(), "a record without a value has no price");
}

fn fits(record: &str) -> Result<(), String> {
    SchemaCheck::new(&orders()).check(record.as_bytes()).map_err(|e| e.to_string())
}

fn order(change: (&str, &str)) -> String {
    let whole = r#"{"price": 7, "quantity":2,"customer":"a\"b","placedAt":"2024-05-01T12:00:00Z","shipping":{"street":"x"},"tags":["a"]}"#;
    assert!(whole.contains(change.0));
    whole.replace(change.0, change.1)
}

#[test]
fn a_record_that_fits_passes_whatever_else_it_has() {
    assert_eq!(fits(&order(("", ""))), Ok(()));
    assert_eq!(fits(&order(("{\"price\"", "{\"zzz\":[{}],\"note\":null,\"price\""))), Ok(()));
    assert_eq!(fits(&order(("\"price\": 7", "\"pr\\u0069ce\": -7.5e3"))), Ok(()));
    assert_eq!(fits(&order(("[\"a\"]", "[]"))), Ok(()));
    assert_eq!(fits(&order((":2,", ":9223372036854775807,"))), Ok(()));
}

#[test]
fn a_record_that_does_not_fit_is_told_the_field_what_was_expected_and_what_is_there() {
    for (change, cause) in [
        (("7,", "\"on request\","), "field `.price` must be a float, found the string \"on request\""),
        ((":2,", ":2.5,"), "field `.quantity` must be an integer, found the number 2.5"),
        (
            (":2,", ":9223372036854775808,"),
            "field `.quantity` must be an integer, found the number 9223372036854775808",
        ),
        (("\"quantity\":2,", ""), "field `.quantity` is missing, expected an integer"),
        (("\"x\"", "null"), "field `.shipping.street` must be a string, found null"),
        (("\"street\"", "\"road\""), "field `.shipping.street` is missing, expected a string"),
        (("[\"a\"]", "[\"a\", 3]"), "field `.tags[1]` must be a string, found the number 3"),
        (("[\"a\"]", "{}"), "field `.tags` must be a list, found an object"),
        (
            ("T12", "T25"),
            "field `.placedAt` must be a timestamp (RFC 3339), found the string \"2024-05-01T25:00:00Z\"",
        ),
    ] {
        assert_eq!(fits(&order(change)), Err(cause.to_owned()));
    }
    assert_eq!(fits("[1]"), Err("the record must be an object, found a list".into()));
    assert!(fits("{\"price\":").unwrap_err().starts_with("truncated JSON"));
    assert!(
        fits(&order(("\"quantity\":2,", "\"price\": true,"))).unwrap_err().contains("found the boolean true")
    );
}
