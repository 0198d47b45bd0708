//! Numbers that are read, and what is said of records without them.

use super::*;
use pelton_sdk::member::Path;

fn input(format: Format, dims: &[usize]) -> Input {
    let width = dims.iter().product();
    let source = Source::Record;
    Input { source, scale: 0.5, offset: 1.0, format, image: None, dims: dims.to_vec(), width }
}

fn read_as(input: &mut Input, record: &str, path: &str) -> Result<Vec<f32>, String> {
    let mut out = vec![9.0];
    input.source = Source::Fields(vec![Path::parse(path).unwrap()]);
    read(record.as_bytes(), input, &mut out)?;
    Ok(out.split_off(1))
}

fn numbers(record: &str, path: &str, count: usize) -> Result<Vec<f32>, String> {
    read_as(&mut input(Format::Numbers, &[count]), record, path)
}

#[test]
fn nested_arrays_have_the_shape_of_the_tensor() {
    let mut input = input(Format::Numbers, &[2, 2, 3]);
    let mut read = |json: &str| read_as(&mut input, &format!(r#"{{"x":{json}}}"#), ".x").map(|n| n.len());
    for good in [
        "[[[1,2,3],[4,5,6]],[[1,2,3],[4,5,6]]]",
        "[[1,2,3,4,5,6],[1,2,3,4,5,6]]",
        "[1,2,3,4,5,6,7,8,9,10,11,12]",
    ] {
        assert_eq!(read(good), Ok(12), "{good}");
    }
    for (bad, cause) in [
        (
            "[[[1,2],[3,4],[5,6]],[[1,2],[3,4],[5,6]]]",
            "an array of 2 at depth 3, where the shape [2, 2, 3] has 3",
        ),
        ("[[[1,2,3],[4,5,6]]]", "an array of 1 at depth 1, where the shape [2, 2, 3] has 2"),
        ("[[1,2,3],[4,5,6]]", "an array of 3 at depth 2, where the shape [2, 2, 3] has 6"),
        ("[[[[1,2,3],[4,5,6]]]]", "arrays are nested deeper than the shape [2, 2, 3]"),
    ] {
        assert_eq!(read(bad).unwrap_err(), format!("field .x: {cause}"), "{bad}");
    }
}

#[test]
fn bytes_are_numbers_or_floats() {
    let mut bytes = input(Format::Bytes, &[3]);
    assert_eq!(read_as(&mut bytes, r#"{"x":"AAL/"}"#, ".x").unwrap(), [1.0, 2.0, 128.5]);
    let mut floats = input(Format::F32, &[1]);
    assert_eq!(read_as(&mut floats, r#"{"x":"AAAAQA=="}"#, ".x").unwrap(), [2.0]);
    for (record, cause) in [
        (r#"{"x":"AAL/"}"#, "field .x: 3 bytes are no whole number of 32-bit floats"),
        (r#"{"x":"AADAfw=="}"#, "field .x: number 0 is not finite"),
        (r#"{"x":[1]}"#, "field .x: expected base64 text, found an array"),
        (r#"{"x":"*"}"#, "field .x: no base64: Invalid symbol 42, offset 0."),
    ] {
        assert_eq!(read_as(&mut floats, record, ".x").unwrap_err(), cause);
    }
}

#[test]
fn numbers_are_found_flat_nested_single_and_behind_escapes() {
    assert_eq!(numbers(r#"{"a":1,"x":[2, 4.0,-2e0]}"#, ".x", 3).unwrap(), [2.0, 3.0, 0.0]);
    assert_eq!(numbers(r#"{"i":{"x":[[2],[4,6]]}}"#, ".i.x", 3).unwrap(), [2.0, 3.0, 4.0]);
    assert_eq!(numbers(r#"{"x":8}"#, ".x", 1).unwrap(), [5.0]);
    assert_eq!(numbers(r#"{"x y":[2]}"#, r#"."x y""#, 1).unwrap(), [2.0]);
    assert_eq!(numbers(r#"{"x":[0],"x":[2]}"#, ".x", 1).unwrap(), [2.0], "the last one counts");
}

#[test]
fn what_is_wrong_with_a_record_is_said() {
    for (record, cause) in [
        (r#"{"y":1}"#, "field .i.x is missing"),
        (r#"{"i":{"y":1}}"#, "field .i.x is missing"),
        (r#"{"i":7}"#, "field .i.x: a number is inside, where an object was expected"),
        (r#"{"i":{"x":"7"}}"#, "field .i.x: expected numbers, found a string"),
        (r#"{"i":{"x":null}}"#, "field .i.x: expected numbers, found null"),
        (r#"{"i":{"x":[1,"7"]}}"#, r#"field .i.x: invalid type: string "7", expected a number in place 1"#),
        (r#"{"i":{"x":[1,null]}}"#, "field .i.x: invalid type: null, expected a number in place 1"),
        (r#"{"i":{"x":[1e300]}}"#, &format!("field .i.x: number 0 is {}, beyond what 32 bits hold", 1e300)),
        (r#"{"i":{"x":[NaN]}}"#, "the record is not a JSON object: expected value at line 1 column 12"),
        (
            "[1]",
            "the record is not a JSON object: invalid type: sequence, expected an object at line 1 column 0",
        ),
        ("{\"i\":", "the record is not a JSON object: EOF while parsing a value at line 1 column 5"),
        ("{} {}", "the record is not a JSON object: trailing characters at line 1 column 4"),
    ] {
        assert_eq!(numbers(record, ".i.x", 3).unwrap_err(), cause, "{record}");
    }
    let read = read(b"{\"x\xff\":1}", &input(Format::Numbers, &[1]), &mut vec![]);
    assert_eq!(read.unwrap_err(), "the record: invalid UTF-8 at byte 3");
    assert_eq!(numbers(r#"{"x":[1,2]}"#, ".x", 3).unwrap_err(), "field .x: expected 3 numbers, found 2");
    assert_eq!(numbers(r#"{"x":[1,2]}"#, ".x", 1).unwrap_err(), "field .x: expected 1 number, found 2");
}

#[test]
fn the_value_of_a_record_may_be_the_input_itself() {
    let read = |format, dims: &[usize], record: &[u8]| {
        let mut out = Vec::new();
        read(record, &input(format, dims), &mut out).map(|()| out)
    };
    assert_eq!(read(Format::Numbers, &[2], b" [2, 4] "), Ok(vec![2.0, 3.0]));
    assert_eq!(read(Format::Bytes, &[2], &[0, 255]), Ok(vec![1.0, 128.5]));
    assert_eq!(read(Format::F32, &[1], &2f32.to_le_bytes()), Ok(vec![2.0]));
    for (format, record, cause) in [
        (Format::Numbers, &b"[2, 4"[..], "the record: EOF while parsing a list"),
        (Format::Numbers, b"[2, 4] 5", "the record: trailing characters"),
        (Format::Numbers, b"{}", "the record: expected numbers, found an object"),
        (Format::Bytes, b"abc", "the record: expected 2 numbers, found 3"),
    ] {
        assert_eq!(read(format, &[2], record).unwrap_err(), cause);
    }
}
