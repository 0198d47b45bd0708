//! The event log of a run: one JSON object a line, and the same for people.

use serde_json::{Value, json};
use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// See the module.
#[derive(Debug)]
pub struct Events {
    file: File,
    begun: Instant,
}

impl Events {
    /// A log in this file, which is made new.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> std::io::Result<Events> {
        Ok(Events { file: File::create(path)?, begun: Instant::now() })
    }

    /// Note something, and give the time of it.
    pub fn note(&mut self, what: &str, details: Value) -> i64 {
        let now = now_ms();
        let seconds = self.begun.elapsed().as_secs_f64();
        let shown = if details.is_null() { String::new() } else { format!(" {details}") };
        println!("{seconds:8.2} s  {what}{shown}");
        let line = json!({ "ms": now, "seconds": seconds, "event": what, "details": details });
        // The run is not worth less because its log's disk is full.
        let _ = writeln!(self.file, "{line}");
        now
    }
}

/// The system's clock, milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
