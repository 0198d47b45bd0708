//! A panic is a log line: a test of its own, because the panic hook belongs to the process.
// Helpers of tests may unwrap as tests may.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_logged_with_its_text_its_place_and_its_thread() {
    let written = Written::default();
    let make = written.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || make.clone()).finish();
    tracing::subscriber::set_global_default(lines).unwrap();
    pelton_telemetry::panics::log_panics();
    let panicking = std::thread::Builder::new().name("executor 3".into());
    let panicking = panicking.spawn(|| panic!("index {} is out of range", 7)).unwrap();
    assert!(panicking.join().is_err());
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    for part in ["ERROR", "pelton::panic", "panic: index 7 is out of range", "executor 3", "tests/panics.rs:"]
    {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}
