//! Lookups against a real HTTP server that is slow, fails, hangs and babbles on request.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use pelton_enrich::EnrichFactory;
use pelton_sdk::{
    Background, BuildContext, Collector, Operator, OperatorFactory, Services, Wake,
    types::{Batch, Partition, Record, Span},
};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::Notify};

#[derive(Clone, Default)]
struct Shop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: Mutex<HashMap<String, usize>>,
    open: Mutex<HashSet<String>>,
    opened: Notify,
    /// Requests that are being answered.
    busy: AtomicUsize,
}

impl Shop {
    fn calls(&self, id: &str) -> usize {
        self.0.calls.lock().unwrap().get(id).copied().unwrap_or(0)
    }
    /// How often it was called before.
    fn count(&self, id: &str) -> usize {
        let mut calls = self.0.calls.lock().unwrap();
        let count = calls.entry(id.to_owned()).or_default();
        *count += 1;
        *count - 1
    }
    /// Let calls to `gate/{id}` through.
    fn open(&self, id: &str) {
        self.0.open.lock().unwrap().insert(id.to_owned());
        self.0.opened.notify_waiters();
    }
}

struct Busy(Shop);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn gate(State(shop): State<Shop>, Path(id): Path<String>) -> Response {
    shop.0.busy.fetch_add(1, Ordering::SeqCst);
    let _busy = Busy(shop.clone());
    shop.count(&id);
    loop {
        let opened = shop.0.opened.notified();
        if shop.0.open.lock().unwrap().contains(&id) {
            return answer(&id);
        }
        opened.await;
    }
}

fn answer(id: &str) -> Response {
    let body = json!({"data": {"name": format!("name of {id}")}}).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What `odd/{id}` answers: by the text before the first dash, and by how often it was asked.
async fn odd(State(shop): State<Shop>, Path(id): Path<String>) -> Response {
    let before = shop.count(&id);
    match id.split('-').next().unwrap() {
        "flaky" if before < 2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "limited" if before < 2 => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response()
        }
        "later" => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "3600")]).into_response(),
        "broken" => StatusCode::BAD_GATEWAY.into_response(),
        "missing" => StatusCode::NOT_FOUND.into_response(),
        "garbage" => "<html>".into_response(),
        "huge" => Body::from(vec![b' '; 3 << 20]).into_response(),
        "moved" => (StatusCode::FOUND, [(header::LOCATION, "/odd/here")]).into_response(),
        "away" => (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.2:1/odd/here")]).into_response(),
        _ => answer(&id),
    }
}

async fn echo(headers: HeaderMap, body: String) -> String {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    json!({"auth": text("authorization"), "kind": text("content-type"), "body": body}).to_string()
}

struct Bench {
    runtime: Runtime,
    shop: Shop,
    address: String,
}

impl Bench {
    fn new() -> Bench {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bench = Bench { runtime, shop: Shop::default(), address };
        bench.serve(listener);
        bench
    }

    fn serve(&self, listener: TcpListener) {
        let router = Router::new()
            .route("/gate/{id}", get(gate))
            .route("/odd/{id}", get(odd))
            .route("/echo", any(echo))
            .with_state(self.shop.clone());
        self.runtime.spawn(async move { axum::serve(listener, router).await });
    }

    fn operator(&self, path: &str, more: &Value) -> Box<dyn Operator> {
        let mut options = json!({
            "url": format!("http://{}/{path}", self.address),
            "into": ".got",
            "retry": {"initial": "1ms", "max": "5ms", "attempts": 3},
        });
        for (name, value) in more.as_object().unwrap() {
            options[name] = value.clone();
        }
        let handle = self.runtime.handle().clone();
        let context = BuildContext {
            wake: Wake::thread(thread::current()),
            background: Background::new(move |work| drop(handle.spawn(work))),
            services: Services::default(),
            ..BuildContext::detached(".")
        };
        EnrichFactory.build(&options, &context).unwrap()
    }

    /// One batch through an operator: values that came out, causes that failed.
    fn run(&self, path: &str, more: &Value, records: &[Value]) -> (Vec<Value>, Vec<String>) {
        let mut operator = self.operator(path, more);
        let mut out = Collector::new(Instant::now());
        operator.process(batch(records), &mut out);
        settle(&mut *operator, &mut out, |operator, _| operator.held() == 0);
        (values(&out), out.failed.iter().map(|f| f.cause.replace(&self.address, "shop")).collect())
    }
}

fn batch(records: &[Value]) -> Batch {
    let mut batch = Batch::new(Partition::new("in", 0));
    for (offset, record) in records.iter().enumerate() {
        let key = batch.put(record["key"].as_str().map(str::as_bytes));
        let value = batch.put(Some(record.to_string().as_bytes()));
        let offset = offset as i64;
        batch.records.push(Record { key, value, headers: Span::NULL, timestamp_ms: 1, offset });
    }
    batch.mark_origin();
    batch
}

fn settle(
    operator: &mut dyn Operator,
    out: &mut Collector,
    mut done: impl FnMut(&mut dyn Operator, &Collector) -> bool,
) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !done(operator, out) {
        assert!(Instant::now() < limit, "it takes too long: {} held, {out:?}", operator.held());
        operator.poll(out);
        if !done(operator, out) {
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn values(out: &Collector) -> Vec<Value> {
    let read = |b: &Batch| -> Vec<Value> {
        b.records.iter().map(|r| serde_json::from_slice(b.value(r).unwrap()).unwrap()).collect()
    };
    out.emitted.iter().flat_map(|(_, b)| read(b)).collect()
}

fn ids(out: &Collector) -> Vec<String> {
    values(out).iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
}

fn record(id: &str) -> Value {
    json!({"id": id})
}

#[test]
fn each_record_gets_its_answer_and_keeps_its_own_bytes() {
    let bench = Bench::new();
    let records = [record("a/b"), json!({"id": "ü", "got": 1, "n": 1.5}), record("c")];
    let (values, failed) = bench.run(
        "odd/{.id}",
        &json!({"select": ".data.name", "inFlight": 2, "order": "partition"}),
        &records,
    );
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(values[0], json!({"id": "a/b", "got": "name of a/b"}));
    assert_eq!(values[1], json!({"id": "ü", "got": "name of ü", "n": 1.5}));
    assert_eq!(values[2], json!({"id": "c", "got": "name of c"}));
}

#[test]
fn a_method_headers_secrets_and_a_body_are_sent() {
    let bench = Bench::new();
    let secret = std::env::temp_dir().join(format!("pelton-enrich-{}", std::process::id()));
    std::fs::write(&secret, "s3cret\n").unwrap();
    let more = json!({
        "method": "POST", "body": r#"{"who": {.id}}"#, "into": ".got",
        "headers": {"Authorization": {"file": secret.display().to_string(), "prefix": "Bearer "}},
    });
    let (values, _) = bench.run("echo", &more, &[record("me")]);
    std::fs::remove_file(&secret).unwrap();
    let expected = json!({"auth": "Bearer s3cret", "kind": "application/json", "body": r#"{"who": "me"}"#});
    assert_eq!(values[0]["got"], expected);
}

#[test]
fn what_may_get_better_is_tried_again_and_what_will_not_fails_with_its_cause() {
    let bench = Bench::new();
    let records =
        ["flaky-1", "limited-1", "missing-1", "broken-1", "garbage-1", "huge-1", "moved-1", "later-1"]
            .map(record);
    let (values, failed) = bench.run("odd/{.id}", &json!({"select": ".data.name"}), &records);
    // Records without a key promise no order among each other: which pause ends first is chance.
    let mut ids: Vec<_> = values.iter().filter_map(|v| v["id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["flaky-1", "limited-1"]);
    let mut failed: Vec<_> = failed.iter().map(String::as_str).collect();
    failed.sort_unstable();
    assert_eq!(
        failed,
        [
            "http://shop answered 302 Found; it is not followed: see the option `redirects`",
            "http://shop answered 404 Not Found",
            "http://shop answered 502 Bad Gateway (3 attempts)",
            "http://shop answered 503 Service Unavailable, and asks for a pause of 3600 s",
            "http://shop answered more than the 1048576 bytes of `maxResponse`",
            "http://shop answered something that is no JSON: expected value at line 1 column 1",
        ]
    );
    assert_eq!((bench.shop.calls("flaky-1"), bench.shop.calls("missing-1")), (3, 1));
}

#[test]
fn redirects_are_followed_on_the_same_server_only() {
    let bench = Bench::new();
    let more = json!({"redirects": 2, "select": ".data.name", "order": "partition"});
    let (values, failed) = bench.run("odd/{.id}", &more, &[record("moved-2"), record("away-1")]);
    assert_eq!(values[0]["got"], "name of here");
    assert_eq!(failed, ["http://shop answered 302 Found; it is not followed: see the option `redirects`"]);
}

#[test]
fn a_call_that_hangs_ends_with_its_timeout_and_null_may_stand_for_no_answer() {
    let bench = Bench::new();
    let more = json!({"timeout": "20ms", "retry": {"attempts": 2, "initial": "1ms"}});
    let (_, failed) = bench.run("gate/{.id}", &more, &[record("hangs")]);
    assert_eq!(failed, ["http://shop did not answer in time (2 attempts)"]);
    let mut more = json!({"onError": null, "order": "partition"});
    let (values, failed) = bench.run("odd/{.id}", &more, &[record("missing-2"), record("ok")]);
    assert_eq!((values[0]["got"].clone(), failed.len()), (Value::Null, 0));
    assert!(values[1]["got"].is_object());
    more["onError"] = json!("fail");
    let (_, failed) = bench.run("odd/{.id}", &more, &[json!({"name": 1}), json!({"id": [1]})]);
    assert_eq!(failed, ["field .id is missing", "field .id: an array has no place in a URL"]);
}

#[test]
fn results_leave_in_the_order_that_was_promised_and_the_floor_follows() {
    let bench = Bench::new();
    let keyed = |id: &str, key: &str| json!({"id": id, "key": key});
    let partition = Partition::new("in", 0);
    for (order, first, all) in [
        ("key", vec!["b1"], vec!["b1", "a1", "a2"]),
        ("partition", vec![], vec!["a1", "a2", "b1"]),
        ("none", vec!["a2", "b1"], vec!["a2", "b1", "a1"]),
    ] {
        let id = |name: &str| format!("{name}-{order}");
        let mut operator = bench.operator("gate/{.id}", &json!({"order": order}));
        let mut out = Collector::new(Instant::now());
        let records = [keyed(&id("a1"), "a"), keyed(&id("a2"), "a"), keyed(&id("b1"), "b")];
        operator.process(batch(&records), &mut out);
        assert_eq!((operator.held(), operator.floor(&partition)), (3, Some(0)));
        bench.shop.open(&id("a2"));
        settle(&mut *operator, &mut out, |_, out| order != "none" || out.settled() == 1);
        bench.shop.open(&id("b1"));
        let early: Vec<String> = first.into_iter().map(id).collect();
        settle(&mut *operator, &mut out, |_, out| ids(out) == early);
        assert_eq!(operator.floor(&partition), Some(0));
        bench.shop.open(&id("a1"));
        settle(&mut *operator, &mut out, |operator, _| operator.held() == 0);
        assert_eq!(ids(&out), all.into_iter().map(id).collect::<Vec<_>>());
        assert_eq!(operator.floor(&partition), None);
    }
}

#[test]
fn no_more_calls_are_open_than_allowed_and_then_no_more_is_taken() {
    let bench = Bench::new();
    let mut operator = bench.operator("gate/{.id}", &json!({"inFlight": 3, "order": "none"}));
    let mut out = Collector::new(Instant::now());
    let records: Vec<Value> = (0..10).map(|n| record(&format!("n{n}"))).collect();
    operator.process(batch(&records), &mut out);
    let busy = || bench.shop.0.busy.load(Ordering::SeqCst);
    settle(&mut *operator, &mut out, |_, _| busy() == 3);
    assert!(!operator.ready());
    for n in 0..10 {
        bench.shop.open(&format!("n{n}"));
    }
    settle(&mut *operator, &mut out, |operator, _| {
        assert!(busy() <= 3);
        operator.held() == 0
    });
    assert!(operator.ready());
}

#[test]
fn equal_requests_are_one_call_and_answers_are_kept_for_their_time() {
    let bench = Bench::new();
    let mut operator = bench.operator("gate/{.id}", &json!({"cache": {"ttl": "10s"}}));
    let start = Instant::now();
    let mut out = Collector::new(start);
    operator.process(batch(&[record("x"), record("x"), record("x")]), &mut out);
    bench.shop.open("x");
    settle(&mut *operator, &mut out, |operator, _| operator.held() == 0);
    assert_eq!((values(&out).len(), bench.shop.calls("x")), (3, 1));
    let mut soon = Collector::new(start + Duration::from_secs(9));
    operator.process(batch(&[record("x")]), &mut soon);
    assert_eq!((values(&soon).len(), operator.held()), (1, 0), "it is there at once");
    let mut late = Collector::new(start + Duration::from_secs(11));
    operator.process(batch(&[record("x")]), &mut late);
    settle(&mut *operator, &mut late, |operator, _| operator.held() == 0);
    assert_eq!(bench.shop.calls("x"), 2);
}

#[test]
fn a_server_that_is_down_is_waited_for_unless_it_counts_as_a_failure() {
    let mut bench = Bench::new();
    let listener = bench.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    bench.address = address.to_string();
    let more = json!({"retry": {"attempts": 2, "initial": "1ms", "unavailable": "fail"}});
    let (_, failed) = bench.run("odd/{.id}", &more, &[record("a")]);
    assert!(failed[0].starts_with("http://shop cannot be reached: Connection refused"), "{failed:?}");
    let mut operator = bench.operator("odd/{.id}", &json!({}));
    let mut out = Collector::new(Instant::now());
    operator.process(batch(&[record("a")]), &mut out);
    for _ in 0..5 {
        operator.poll(&mut out);
        assert_eq!((operator.held(), out.settled()), (1, 0));
    }
    let listener = bench.runtime.block_on(TcpListener::bind(address)).unwrap();
    bench.serve(listener);
    settle(&mut *operator, &mut out, |operator, _| operator.held() == 0);
    assert_eq!(ids(&out), ["a"]);
}

#[test]
fn calls_end_with_their_operator() {
    let bench = Bench::new();
    let mut operator = bench.operator("gate/{.id}", &json!({}));
    let mut out = Collector::new(Instant::now());
    operator.process(batch(&[record("never")]), &mut out);
    let busy = || bench.shop.0.busy.load(Ordering::SeqCst);
    settle(&mut *operator, &mut out, |_, _| busy() == 1);
    drop(operator);
    let limit = Instant::now() + Duration::from_secs(30);
    while busy() > 0 {
        assert!(Instant::now() < limit, "the call is still open");
        thread::yield_now();
    }
}
