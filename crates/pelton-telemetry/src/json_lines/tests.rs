use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines_of(work: impl FnOnce()) -> Vec<Value> {
    let written = Written::default();
    let make = written.clone();
    let subscriber = tracing_subscriber::registry().with(JsonLines::new(move || make.clone()));
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_carries_the_fields_of_its_spans_and_its_own() {
    let lines = lines_of(|| {
        let worker = tracing::info_span!("worker", worker = "w1").entered();
        let task = tracing::info_span!("task", pipeline = "orders", task = 3, epoch = tracing::field::Empty);
        task.record("epoch", 17_u64);
        task.in_scope(|| tracing::error!(code = "PLT0107", ok = false, "step {} \"failed\"\nbadly", 2));
        drop(worker);
        tracing::info!("outside");
    });
    let first = &lines[0];
    assert_eq!(first["msg"], "step 2 \"failed\"\nbadly");
    assert_eq!(first["level"], "error");
    assert_eq!(first["code"], "PLT0107");
    assert_eq!(first["worker"], "w1");
    assert_eq!(first["pipeline"], "orders");
    assert_eq!(first["task"], 3);
    assert_eq!(first["epoch"], 17);
    assert_eq!(first["ok"], false);
    assert_eq!(lines[1]["msg"], "outside");
    assert!(lines[1].get("worker").is_none(), "{}", lines[1]);
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_line_inside_an_exported_span_names_its_trace() {
    let span =
        crate::batch::parse_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let lines = lines_of(|| {
        let inside = opentelemetry::Context::new().with_remote_span_context(span).attach();
        tracing::info!("inside");
        drop(inside);
        tracing::info!("outside");
    });
    assert_eq!(lines[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(lines[1].get("trace_id").is_none(), "{}", lines[1]);
}

#[test]
fn timestamps_are_rfc_3339_across_leap_days_and_centuries() {
    let at = |seconds: u64, micros: u64| {
        timestamp(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros))
    };
    assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(at(951_782_400, 5), "2000-02-29T00:00:00.000005Z");
    assert_eq!(at(951_868_799, 999_999), "2000-02-29T23:59:59.999999Z");
    assert_eq!(at(951_868_800, 0), "2000-03-01T00:00:00.000000Z");
    assert_eq!(at(1_798_761_599, 1_000), "2026-12-31T23:59:59.001000Z");
    assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
}
