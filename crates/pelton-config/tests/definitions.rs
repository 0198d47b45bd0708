//! What valid definitions mean, and that no text breaks the reader.

mod common;

use common::{read, registry};
use pelton_config::{Delivery, Document, Input, Kind, chain, diff, from_json, schema, to_json};
use pelton_sdk::BuildContext;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const DIGITS: &str = r#"
apiVersion: pelton.dev/v1
kind: Feed
metadata: { name: digits-feed }
spec:
  sources: { images: { file: { path: images.jsonl }, decode: json } }
  sinks: { digits: { kafka: { topic: digits }, key: .id } }
---
apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: digits, namespace: eyes, labels: { team: vision } }
spec:
  delivery: at-least-once
  commitInterval: 200ms
  tasks: ${TASKS}
  sources: { digits: { kafka: { topics: [digits], start: earliest }, decode: bytes, key: .id } }
  operators:
    - { name: whole, filter: "length(array!(.pixels)) == 64 && \"$${x} ${y}\" != null" }
    - name: recognise
      infer: { model: "${MODEL:digits.onnx}", input: { field: .pixels, scale: 0.0625 }, maxBatch: 64, maxDelay: 5ms }
    - name: sure
      route: { routes: [{ weak: ".score < 0.5 ?? ${w}" }], mode: "${MODE:first}" }
    - { name: slim, map: "del(.pixels)" }
  sinks:
    labels: { kafka: { topic: "labels-${TOPIC}" }, key: .id }
    weak: { stdout: , inputs: [sure.weak, digits] }
  onError: { deadLetter: { kafka: { topic: digits.dlq } } }
"#;

fn one(text: &str) -> Document {
    read("f", text).unwrap_or_else(|report| panic!("{report}")).remove(0)
}

fn pipeline() -> Document {
    read("f", DIGITS).unwrap_or_else(|report| panic!("{report}")).remove(1)
}

#[test]
fn a_file_of_two_documents_means_what_it_says() {
    let documents = read("digits.yaml", DIGITS).unwrap_or_else(|report| panic!("{report}"));
    let [feed, pipeline] = documents.as_slice() else { panic!("{documents:?}") };
    assert_eq!((feed.kind, feed.name().to_string()), (Kind::Feed, "default/digits-feed".into()));
    assert_eq!(feed.spec.commit_interval, Duration::from_secs(1));
    assert_eq!(feed.spec.sources["images"].connector, "file");
    assert_eq!(pipeline.name().group_id(), "pelton.eyes.digits");
    let spec = &pipeline.spec;
    assert_eq!((spec.delivery, spec.commit_interval), (Delivery::AtLeastOnce, Duration::from_millis(200)));
    assert_eq!(spec.tasks, Some(4), "a plain scalar is a number after substitution");
    assert_eq!(
        (spec.sources["digits"].decode.as_str(), spec.sources["digits"].key.as_deref()),
        (Some("bytes"), Some(".id"))
    );
    let names: Vec<_> = spec.operators.iter().map(|o| (o.name.as_str(), o.kind.as_str())).collect();
    assert_eq!(names, [("whole", "filter"), ("recognise", "infer"), ("sure", "route"), ("slim", "map")]);
    assert_eq!(spec.sinks["weak"].options, json!({}), "nothing under a component's key means its defaults");
    assert_eq!(spec.sinks["weak"].inputs, [Input::parse("sure.weak"), Input::parse("digits")]);
}

#[test]
fn environment_goes_into_values_and_never_into_programs() {
    let spec = pipeline().spec;
    assert_eq!(spec.operators[1].options["model"], "digits.onnx");
    assert_eq!(spec.sinks["labels"].options["topic"], "labels-orders");
    assert!(spec.operators[0].options.as_str().unwrap().contains("$${x} ${y}"));
    assert_eq!(spec.operators[2].options["routes"][0]["weak"], ".score < 0.5 ?? ${w}");
    assert_eq!(spec.operators[2].options["mode"], "first");
}

#[test]
fn the_topics_of_a_pipeline_are_known() {
    let topics = pipeline().spec.topics();
    assert!(topics.read.iter().eq(["digits"]) && topics.written.iter().eq(["labels-orders"]), "{topics:?}");
    assert_eq!(topics.all().len(), 3);
    assert!(topics.dead_letter.contains("digits.dlq"));
}

#[test]
fn the_wire_form_loses_nothing_and_is_itself_a_definition() {
    for document in read("f", DIGITS).unwrap() {
        let json = to_json(&document);
        assert_eq!(from_json(&json).unwrap(), document);
        let text = serde_json::to_string(&json).unwrap();
        if document.kind == Kind::Feed {
            assert_eq!(one(&text), document);
        }
    }
    let wrong =
        from_json(&json!({ "apiVersion": "pelton.dev/v1", "kind": "Pipeline", "spec": 7 })).unwrap_err();
    assert_eq!(wrong.problems.len(), 2, "{wrong}");
    for broken in [json!(null), json!([]), json!({ "apiVersion": "x", "kind": "y" })] {
        assert!(!from_json(&broken).unwrap_err().problems.is_empty());
    }
}

#[test]
fn the_chain_follows_names_defaults_and_ports() {
    use chain::{Output, Reader};
    let graph = chain::graph(&pipeline().spec, &registry(), &BuildContext::detached("models")).unwrap();
    let inputs: Vec<_> = graph.operators.iter().map(|o| o.inputs.clone()).collect();
    assert_eq!(
        inputs,
        [
            vec![Output::Source(0)],
            vec![Output::Operator(0, 0)],
            vec![Output::Operator(1, 0)],
            vec![Output::Operator(2, 0)],
        ]
    );
    assert_eq!(graph.sinks[0].inputs, [Output::Operator(3, 0)]);
    assert_eq!(graph.sinks[1].inputs, [Output::Operator(2, 1), Output::Source(0)]);
    assert_eq!(graph.readers(Output::Source(0)), [Reader::Operator(0), Reader::Sink(1)]);
}

#[test]
fn operators_may_stand_in_any_order_when_they_name_their_inputs() {
    let text = "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: a }\nspec:\n  sources: { s: { kafka: { topics: [a] } } }\n  operators:\n    - { name: last, map: \"1\", inputs: [first] }\n    - { name: first, map: \"2\", inputs: [s] }\n  sinks: { out: { stdout: {}, inputs: [last] } }\n";
    let graph = chain::graph(&one(text).spec, &registry(), &BuildContext::detached("models")).unwrap();
    let order: Vec<_> = graph.operators.iter().map(|o| (o.name.as_str(), o.def)).collect();
    assert_eq!(order, [("first", 1), ("last", 0)]);
    assert_eq!(graph.sinks[0].inputs, [chain::Output::Operator(1, 0)]);
}

#[test]
fn a_diff_says_what_a_person_would() {
    let old = pipeline();
    assert!(diff(&old, &old).is_empty());
    let mut new = old.clone();
    new.spec.commit_interval = Duration::from_secs(2);
    new.spec.tasks = None;
    new.spec.operators.swap(0, 1);
    new.spec.operators[1].options = json!(".a\n.b\n");
    new.spec.operators[3].name = "thin".into();
    new.spec.on_error.dead_letter = None;
    assert_eq!(
        diff(&old, &new),
        [
            "commitInterval: \"200ms\" -> \"2s\"",
            "onError: removed",
            "operators.slim: removed",
            "operators.thin: added, {\"map\":\"del(.pixels)\"}",
            "operators.whole.filter: \"length(array!(.pixels)) == 64 && \\\"$${x} ${y}\\\" != null\" -> a text of 2 lines",
            "tasks: removed",
            "operators: order whole, recognise, sure, slim -> recognise, whole, sure, thin",
        ]
    );
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses() {
    let schema = schema(&registry());
    let validator = jsonschema::options().build(&schema).unwrap();
    for document in read("f", DIGITS).unwrap() {
        let errors: Vec<_> = validator.iter_errors(&to_json(&document)).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let good = to_json(&pipeline());
    for (pointer, value) in [
        ("/kind", json!("Pod")),
        ("/metadata/name", json!("No_Good")),
        ("/spec/sinks", json!({})),
        ("/spec/delivery", json!("at-most-once")),
        ("/spec/commitInterval", json!("1 minute")),
        ("/spec/sources/digits", json!({ "kafka": { "topics": ["a"] }, "file": { "path": "a" } })),
        ("/spec/sources/digits/kafka/start", json!("never")),
        ("/spec/sources/digits/key", json!("id")),
        ("/spec/operators/1/infer/input", json!({ "feild": ".a" })),
        ("/spec/operators/0", json!({ "filter": "true" })),
        ("/spec/onError/deadLetter", json!({})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
        assert!(read("f", &bad.to_string()).is_err(), "{pointer}");
    }
}

#[test]
fn a_report_draws_the_line() {
    let text = "apiVersion: pelton.dev/v1\nkind: Pipelin\nmetadata: { name: a }\nspec: {}\n";
    let shown = read("f", text).unwrap_err().render(text);
    assert!(
        shown.contains("  2 | kind: Pipelin\n    |       ^\n  hint: did you mean `Pipeline`?\n"),
        "{shown}"
    );
}

#[test]
fn limits_hold() {
    let long = format!("a: {}", "x".repeat(1 << 20));
    assert!(read("f", &long).unwrap_err().to_string().contains("the limit is 1048576"));
    let keys: String = (0..50_000).map(|i| format!("key{i}: 1\n")).collect();
    assert!(read("f", &keys).unwrap_err().problems.len() <= 200);
    let head = "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: a }\nspec:\n  sources: { s: { stdin: {} } }\n";
    let inputs: String = (0..50_000).map(|i| format!("reference{i}, ")).collect();
    let many = format!(
        "{head}  operators: [{{ name: a, map: x, inputs: [{inputs}] }}]\n  sinks: {{ o: {{ stdout: {{}} }} }}\n"
    );
    assert!(
        read("f", &many.replace("stdin: {}", "kafka: { topics: [t] }")).unwrap_err().problems.len() <= 200
    );
    let files: String = (0..5000).map(|i| format!("    s{i}: {{ file: {{ path: a }} }}\n")).collect();
    let sinks = format!("{head}  sinks:\n{files}");
    assert!(read("f", &sinks).unwrap_err().to_string().contains("has 5000 entries, the limit is 1000"));
    assert!(read("f", &"---\na: 1\n".repeat(1000)).unwrap_err().to_string().contains("holds 1000 documents"));
    let wide = format!("a: [{}", "{b: [".repeat(2000));
    assert_eq!(read("f", &wide).unwrap_err().problems.len(), 1);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_no_mistake() {
    let text = format!("\u{feff}{}", DIGITS.trim_start().replace('\n', "\r\n"));
    assert_eq!(read("f", &text).unwrap_or_else(|r| panic!("{r}")), read("f", DIGITS).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// A failure prints the edits that replay it.
    #[test]
    fn no_text_breaks_the_reader(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, 0usize..20), 1..6),
    ) {
        let pieces = [
            "", ": ", "- ", "{", "}", "[", "]", "\"", "'", "|\n", "&a ", "*a", "\n---\n", "${", "\u{e9}", "\t", "!!int ",
            "<<: ", "? ", "9e999",
        ];
        let mut text: Vec<char> = DIGITS.chars().collect();
        for (at, remove, piece) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, pieces[piece].chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(report) = read("f", &text) {
            prop_assert!(!report.problems.is_empty());
            let lines = text.split('\n').count();
            for problem in &report.problems {
                prop_assert!(problem.line >= 1 && problem.line <= lines + 1, "{problem}");
            }
            let _ = report.render(&text);
        }
    }

    #[test]
    fn any_json_is_answered(keys in prop::collection::vec("(apiVersion|kind|metadata|spec|sources|operators|name|kafka|inputs)", 0..8)) {
        let mut value = json!({ "kind": "Pipeline" });
        for key in keys {
            value = match value {
                Value::Object(mut map) if map.len() < 3 => { map.insert(key, json!(["x", null, 1])); Value::Object(map) }
                other => json!({ key: other }),
            };
        }
        prop_assert!(from_json(&value).is_err());
    }
}
