//! What is counted of calls, and where answers go inside a record.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use pelton_enrich::EnrichFactory;
use pelton_sdk::{
    Background, BuildContext, CallCounter, CallMeter, Calls, OperatorFactory, Wake,
    testing::{Bench, batch, values},
    types::{
        PipelineName,
        schema::{Field, FieldKind, RecordSchema},
    },
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Runtime};

/// Notes what it is told, word by word.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }
    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|note| *note == what).count()
    }
}

struct Shared(Arc<Notes>);

impl CallMeter for Shared {
    fn counter(&self, pipeline: &PipelineName, operator: &str) -> Arc<dyn CallCounter> {
        self.0.note(&format!("{}/{}: {operator}", pipeline.namespace, pipeline.name));
        Arc::new(Shared(self.0.clone()))
    }
}

impl CallCounter for Shared {
    fn ended(&self, ok: bool, took: Duration) {
        assert!(took < Duration::from_secs(60));
        self.0.note(if ok { "answer" } else { "failure" });
    }
    fn retried(&self) {
        self.0.note("retry");
    }
    fn looked_up(&self, hit: bool) {
        self.0.note(if hit { "hit" } else { "miss" });
    }
}

/// Looks records up with a server that fails the first call of all; the values that come out.
fn run(more: &Value, records: &[&str], notes: &Arc<Notes>) -> (Vec<String>, Vec<String>) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        let answer =
            if first { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { "7".into_response() };
        async { answer }
    };
    let router = Router::new().route("/{id}", get(answer));
    runtime.spawn(async move { axum::serve(listener, router).await });
    let mut options = json!({
        "url": format!("http://{address}/{{.id}}"), "into": ".got", "inFlight": 1,
        "retry": {"initial": "1ms"}, "order": "partition",
    });
    for (name, value) in more.as_object().unwrap() {
        options[name] = value.clone();
    }
    let handle = runtime.handle().clone();
    let context = BuildContext {
        wake: Wake::thread(thread::current()),
        background: Background::new(move |work| drop(handle.spawn(work))),
        calls: Calls::new(Arc::new(Shared(notes.clone())))
            .of_pipeline(&PipelineName::new("default", "shop"))
            .of_operator("look"),
        ..BuildContext::detached(".")
    };
    let mut bench = Bench::new(&EnrichFactory, &options, &context);
    let records: Vec<Option<&str>> = records.iter().copied().map(Some).collect();
    let (sent, waited) = (bench.send(batch(&records)), bench.wait());
    let given = [sent, waited];
    let out = given.iter().flat_map(|given| &given.emitted);
    let out = out.flat_map(|(_, batch)| values(batch)).map(|(_, value)| value.to_owned()).collect();
    (out, given.iter().flat_map(|given| &given.failed).map(|failed| failed.cause.clone()).collect())
}

#[test]
fn calls_their_failures_and_the_cache_are_counted() {
    let notes = Arc::default();
    let records = [r#"{"id":"a"}"#, r#"{"id":"a"}"#, r#"{"id":"b"}"#];
    let (out, failed) = run(&json!({"cache": {"ttl": "1h"}}), &records, &notes);
    assert_eq!((out.len(), failed), (3, vec![]));
    assert_eq!(notes.count("default/shop: look"), 1);
    assert_eq!((notes.count("answer"), notes.count("failure"), notes.count("retry")), (2, 1, 1));
    assert_eq!((notes.count("hit"), notes.count("miss")), (1, 2));
}

#[test]
fn an_answer_goes_inside_objects_of_the_record() {
    let records = [
        r#"{"id":"a","user":{"name" : "x"}}"#,
        r#"{"id":"b"}"#,
        r#"{"id":"c","user":null}"#,
        r#"{"id":"d","user":5}"#,
    ];
    let (out, failed) = run(&json!({"into": ".user.info.n"}), &records, &Arc::default());
    assert_eq!(
        out,
        [
            r#"{"id":"a","user":{"name" : "x","info":{"n":7}}}"#,
            r#"{"id":"b","user":{"info":{"n":7}}}"#,
            r#"{"id":"c","user":{"info":{"n":7}}}"#,
        ]
    );
    assert_eq!(failed, ["field .user.info.n: a number is inside, where an object was expected"]);
}

#[test]
fn what_is_known_of_records_stays_known_behind_a_lookup() {
    let schema = RecordSchema::default().with(&["id"], Field::required(FieldKind::String));
    let context = BuildContext::detached(".").with_input(Some(Arc::new(schema)));
    let options = json!({"url": "http://h/{.id}", "into": ".user.info"});
    let output = EnrichFactory.check(&options, &context).unwrap().output.unwrap();
    assert_eq!(output.at(&["id"]), Some(&Field::required(FieldKind::String)));
    assert_eq!(output.at(&["user", "info"]), Some(&Field { kind: FieldKind::Any, optional: true }));
}
