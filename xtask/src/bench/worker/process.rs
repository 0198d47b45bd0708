//! Workers as processes and containers, and what the system says about them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shell;

/// Unit of the times in `/proc/PID/stat`: USER_HZ, 100 on every Linux that Pelton runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has taken.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_mb: f64,
    pub anonymous_mb: f64,
    pub peak_mb: f64,
}

impl Usage {
    /// Of a process that lives.
    pub fn of(pid: u32) -> Result<Usage, String> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|e| format!("process {pid}: {e}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        // The name in brackets may hold blanks; times are the 12th and 13th field behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
        let mb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
            kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
        };
        Ok(Usage {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            resident_mb: mb("VmRSS:"),
            anonymous_mb: mb("RssAnon:"),
            peak_mb: mb("VmHWM:"),
        })
    }
}

/// A process whose output nobody reads. Ends with this value.
pub struct Silent(Child);

impl Silent {
    pub fn start(mut command: Command) -> Result<Silent, String> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Silent).map_err(|cause| format!("{command:?}: {cause}"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// For a role to say where it listens.
const START: Duration = Duration::from_secs(60);

/// A role of `pelton` that listens where there is room and keeps its data in this folder, and what it announced. Its
/// standard input is its lifeline: it ends with the first value.
pub fn role(pelton: &Path, name: &str, data: &Path, arguments: &[&str]) -> Result<(Piped, Value), String> {
    let mut command = Command::new(pelton);
    command.arg(name).args(["--http", "127.0.0.1:0", "--lifeline", "--announce", "--data-dir"]);
    command.arg(data).args(arguments);
    let mut role = Piped::start(command)?;
    let said = role.until_line(START, |line| line.starts_with('{'))?;
    let said = serde_json::from_str(&said).map_err(|cause| format!("{name} said `{said}`: {cause}"))?;
    Ok((role, said))
}

/// A process whose standard output is read line by line.
pub struct Piped {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Piped {
    pub fn start(mut command: Command) -> Result<Piped, String> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|cause| format!("{command:?}: {cause}"))?;
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take();
        std::thread::spawn(move || {
            let lines = output.map(|output| BufReader::new(output).lines());
            // Nobody listens any more: the rest is read, so that the process is not held up.
            lines.into_iter().flatten().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Ok(Piped { child, lines })
    }

    /// The first line that is wanted.
    pub fn until_line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(_) => {}
                Err(_) => return Err(format!("process {} did not say what it should", self.child.id())),
            }
        }
    }

    /// SIGTERM, and wait: what it holds is given back.
    pub fn end(mut self) {
        // A program to send a signal: the standard library sends SIGKILL alone.
        let _ = shell::output(shell::program("kill").arg(self.child.id().to_string()));
        let _ = self.child.wait();
    }
}

/// A container that was started detached. Removed with this value.
pub struct Container {
    id: String,
    peak: Option<PathBuf>,
}

impl Container {
    pub fn start(mut command: Command) -> Result<Container, String> {
        let id = shell::output(&mut command)?;
        let peak = peak_file(&id);
        Ok(Container { id, peak })
    }

    /// Most memory so far as the kernel counts it for the container.
    pub fn peak_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.peak.as_ref()?).ok()?.trim().parse().ok()
    }

    pub fn runs(&self) -> bool {
        self.inspect("{{.State.Running}}") == "true"
    }

    pub fn end(&self) -> String {
        self.inspect("exit code {{.State.ExitCode}}, killed for its memory: {{.State.OOMKilled}}")
    }

    fn inspect(&self, format: &str) -> String {
        shell::output(shell::program("docker").args(["inspect", "-f", format, &self.id])).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = shell::output(shell::program("docker").args(["rm", "--force", "--volumes", &self.id]));
    }
}

/// The file with a container's peak: control groups version 1, and version 2 as the engine names its groups.
fn peak_file(id: &str) -> Option<PathBuf> {
    let all = [
        format!("/sys/fs/cgroup/memory/docker/{id}/memory.max_usage_in_bytes"),
        format!("/sys/fs/cgroup/docker/{id}/memory.peak"),
        format!("/sys/fs/cgroup/system.slice/docker-{id}.scope/memory.peak"),
    ];
    all.into_iter().map(PathBuf::from).find(|file| Path::exists(file))
}
