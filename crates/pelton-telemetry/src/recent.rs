//! The newest log lines of this process, kept for whoever asks it over the network.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::broadcast;
use tracing_subscriber::fmt::MakeWriter;

/// Lines kept.
const MOST_LINES: usize = 10_000;
/// Bytes of lines kept.
const MOST_BYTES: usize = 4 << 20;
/// New lines that wait for a slow reader; it then misses some.
const FOLLOW_BACKLOG: usize = 1_024;

/// The newest lines, each a JSON object; bounded in number and bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RecentLines {
    kept: Arc<Mutex<Kept>>,
    fresh: broadcast::Sender<Arc<str>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Default for RecentLines {
    fn default() -> Self {
        Self { kept: Arc::default(), fresh: broadcast::channel(FOLLOW_BACKLOG).0 }
    }
}

impl RecentLines {
    /// What is kept, oldest first, and what comes next: no line is in both, none between them is lost.
    pub fn read(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.lines.iter().cloned().collect(), self.fresh.subscribe())
    }

    fn push(&self, line: &str) {
        let line: Arc<str> = line.trim_end().into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += line.len();
        kept.lines.push_back(line.clone());
        while kept.lines.len() > MOST_LINES || kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
        }
        // Nobody follows: fine.
        let _ = self.fresh.send(line);
    }
}

impl io::Write for RecentLines {
    /// Takes one whole line at a time, as the layer of JSON lines writes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RecentLines {
    type Writer = RecentLines;

    fn make_writer(&'a self) -> RecentLines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_newest_lines_are_kept_and_new_ones_follow_without_a_gap() {
        let mut recent = RecentLines::default();
        for n in 0..MOST_LINES + 5 {
            recent.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        let (kept, mut fresh) = recent.read();
        assert_eq!((kept.len(), &*kept[0]), (MOST_LINES, "5"));
        recent.write_all(b"next\n").unwrap();
        assert_eq!(&*fresh.try_recv().unwrap(), "next");
        assert!(fresh.try_recv().is_err());
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let mut recent = RecentLines::default();
        for _ in 0..10 {
            recent.write_all("x".repeat(MOST_BYTES / 4).as_bytes()).unwrap();
        }
        assert_eq!(recent.read().0.len(), 4);
    }
}
