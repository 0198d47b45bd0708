//! Child processes of this binary: started with a lifeline, watched, ended.

use crate::exit::{Exit, Failure};
use serde_json::Value;
use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, copy, stdout},
    process::{Child, ChildStdin, Command},
    time::{Instant, timeout},
};

/// A child says where it listens within this time, or it did not start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of a child's log shown when it did not start.
const SHOWN_LINES: usize = 12;

/// A process of this binary.
pub struct Process {
    /// What it is called, in messages and for its log file.
    pub name: String,
    /// What it announced.
    pub announced: Value,
    child: Child,
    /// While this is open the child lives.
    _lifeline: Option<ChildStdin>,
    log: PathBuf,
    /// Length of the log before this start.
    log_from: usize,
}

impl Process {
    /// Start this binary with other arguments, and wait until it says where it listens. Its log goes to
    /// `<logs>/<name>.log`; what it writes to standard output afterwards, a sink's records, to ours.
    ///
    /// # Errors
    /// When it ends before that, with the end of its log.
    pub async fn start(name: &str, logs: &Path, arguments: &[String]) -> Result<Process, Failure> {
        Self::start_with(name, logs, arguments, &[]).await
    }

    /// As [`Process::start`], with environment variables on top of ours.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub async fn start_with(
        name: &str,
        logs: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Process, Failure> {
        std::fs::create_dir_all(logs)
            .map_err(|e| Failure::unexpected(format!("cannot create {}: {e}", logs.display())))?;
        let log = logs.join(format!("{name}.log"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| Failure::unexpected(format!("cannot write {}: {e}", log.display())))?;
        let log_from = file.metadata().map_or(0, |of| usize::try_from(of.len()).unwrap_or(0));
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--lifeline", "--announce"])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // Ctrl-C on the terminal reaches the parent alone: it decides the order in which children end.
            .process_group(0)
            // For the way out through an error: the lifeline would do it too, a moment later.
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Failure::unexpected(format!("cannot start {name}: {e}")))?;
        let lifeline = child.stdin.take();
        let output = child.stdout.take();
        let announced = Value::Null;
        let mut process =
            Process { name: name.to_owned(), announced, child, _lifeline: lifeline, log, log_from };
        let line = match output {
            Some(output) => {
                let mut lines = BufReader::new(output).lines();
                let Ok(Ok(Some(line))) = timeout(START_TIMEOUT, lines.next_line()).await else {
                    return Err(process.failed_start().await);
                };
                // Ends with the child; an output of ours that nobody reads any more ends the copying alone.
                tokio::spawn(async move { copy(&mut lines.into_inner(), &mut stdout()).await });
                line
            }
            None => return Err(process.failed_start().await),
        };
        process.announced = serde_json::from_str(&line)
            .map_err(|e| Failure::unexpected(format!("{name} announced `{line}`, which is not JSON: {e}")))?;
        Ok(process)
    }

    async fn failed_start(&mut self) -> Failure {
        let status = match timeout(Duration::from_secs(1), self.child.wait()).await {
            Ok(Ok(status)) => Some(status),
            _ => None,
        };
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(log.get(self.log_from..).unwrap_or_default());
        let exit = status.and_then(|s| Exit::from_status(s.code()?)).unwrap_or(Exit::Unavailable);
        let status = status.map_or_else(|| format!("silent for {START_TIMEOUT:?}"), |s| s.to_string());
        Failure::new(exit, start_failure(&self.name, &text, &status, &self.log))
    }

    /// A text it announced.
    pub fn address(&self, key: &str) -> String {
        self.announced[key].as_str().unwrap_or_default().to_owned()
    }

    /// Its process id while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(status.to_string()),
            _ => None,
        }
    }

    /// Ask it to finish (SIGTERM).
    pub fn terminate(&self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: kill sends a signal and touches no memory; the child is ours and not reaped, so the id is its.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Wait for its end until the deadline, then kill it. False when it had to be killed.
    pub async fn join(mut self, deadline: Instant) -> bool {
        if let Ok(Ok(_)) = tokio::time::timeout_at(deadline, self.child.wait()).await {
            return true;
        }
        // Already gone is fine.
        let _ = self.child.kill().await;
        false
    }
}

/// Why a child did not start: its own last word if it said one, else the end of its log.
fn start_failure(name: &str, log: &str, status: &str, file: &Path) -> String {
    if let Some((_, reason)) = log.rsplit_once("error: ") {
        return format!("the {name} did not start: {}", reason.trim_end());
    }
    let lines: Vec<&str> = log.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
    format!("the {name} did not start ({status}); the end of {}:\n  {shown}", file.display())
}

/// Worker processes that are started again when they end.
pub struct Workers {
    logs: PathBuf,
    arguments: Vec<String>,
    slots: Vec<Slot>,
    started: usize,
}

struct Slot {
    name: String,
    process: Option<Process>,
    start_at: Instant,
    failures: u32,
}

/// First pause before a worker that ended is started again; doubles.
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// Longest such pause.
const RESTART_LONGEST: Duration = Duration::from_secs(10);
/// A worker that lived this long starts anew with the first pause.
const STABLE_AFTER: Duration = Duration::from_secs(30);

impl Workers {
    /// So many workers with these arguments; none is started yet.
    pub fn new(count: usize, logs: PathBuf, arguments: Vec<String>) -> Workers {
        let slot = |index: usize| Slot {
            name: format!("worker-{}", index + 1),
            process: None,
            start_at: Instant::now(),
            failures: 0,
        };
        Workers { logs, arguments, slots: (0..count).map(slot).collect(), started: 0 }
    }

    /// Start what is not running and due. Returns what happened, a line each.
    ///
    /// # Errors
    /// When a worker does not start the first time: it will not later either.
    pub async fn keep(&mut self) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        for slot in &mut self.slots {
            if let Some(status) = slot.process.as_mut().and_then(Process::ended) {
                lines.push(format!(
                    "{} ended ({status}); its tasks go to the others, it is started again",
                    slot.name
                ));
                let lived = slot.start_at.elapsed();
                slot.failures = if lived > STABLE_AFTER { 0 } else { slot.failures + 1 };
                let pause = RESTART_FIRST * 2_u32.pow(slot.failures.min(10));
                slot.start_at = Instant::now() + pause.min(RESTART_LONGEST);
                slot.process = None;
            }
        }
        let due: Vec<usize> = (0..self.slots.len())
            .filter(|i| self.slots[*i].process.is_none() && Instant::now() >= self.slots[*i].start_at)
            .collect();
        for index in due {
            let name = self.slots[index].name.clone();
            let mut arguments = self.arguments.clone();
            arguments.extend(["--id".into(), name.clone()]);
            match Process::start(&name, &self.logs, &arguments).await {
                Ok(process) => {
                    self.started += 1;
                    self.slots[index].process = Some(process);
                    self.slots[index].start_at = Instant::now();
                }
                Err(failure) if self.started < self.slots.len() => return Err(failure),
                Err(failure) => {
                    lines.push(failure.message);
                    self.slots[index].start_at = Instant::now() + RESTART_LONGEST;
                }
            }
        }
        Ok(lines)
    }

    /// Process ids by name, of those that live.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let pid = |slot: &Slot| Some((slot.name.clone(), slot.process.as_ref()?.pid()?));
        self.slots.iter().filter_map(pid).collect()
    }

    /// Ask all to finish and wait for it; the names of those that had to be killed.
    pub async fn stop(&mut self, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        let running: Vec<Process> = self.slots.iter_mut().filter_map(|slot| slot.process.take()).collect();
        running.iter().for_each(Process::terminate);
        let mut killed = Vec::new();
        for process in running {
            let name = process.name.clone();
            if !process.join(deadline).await {
                killed.push(name);
            }
        }
        killed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_says_why_it_did_not_start_is_quoted() {
        let log = "{\"level\":\"INFO\"}\nerror: HTTP cannot listen on 127.0.0.1:1: denied\n";
        assert_eq!(
            start_failure("queue", log, "exit status: 69", Path::new("queue.log")),
            "the queue did not start: HTTP cannot listen on 127.0.0.1:1: denied"
        );
    }

    #[test]
    fn of_a_child_that_says_nothing_the_end_of_its_log_is_shown() {
        let log: String = (0..30).map(|n| format!("line {n}\n")).collect();
        let text = start_failure("worker-1", &log, "signal: 9 (SIGKILL)", Path::new("worker-1.log"));
        assert!(
            text.starts_with("the worker-1 did not start (signal: 9 (SIGKILL)); the end of worker-1.log:")
        );
        assert!(text.ends_with("line 28\n  line 29") && !text.contains("line 17\n"), "{text}");
    }
}
